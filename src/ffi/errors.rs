//! Operating system errors as Python exceptions.

use std::io;

use pyo3::exceptions::PyOSError;
use pyo3::prelude::*;

use crate::ffi::{memory, object};

/// `OSError(errno, strerror)`, of the subclass that Python gives this number; `MemoryError` for a lack of
/// memory that the kernel has not reported.
pub(crate) fn os_error(py: Python<'_>, error: &io::Error) -> PyErr {
    if error.raw_os_error().is_none() && error.kind() == io::ErrorKind::OutOfMemory {
        return memory::exhausted();
    }
    let Some(number) = error.raw_os_error() else {
        return made(py, PyOSError::new_err(error.to_string()));
    };
    let text = error.to_string();
    let text = text.strip_suffix(&format!(" (os error {number})")).unwrap_or(&text);
    made(py, PyOSError::new_err((number, text.to_owned())))
}

/// The error with its exception object made.
///
/// PyO3 makes the object when it is first needed, and attaches to the interpreter anew for that, which
/// panics while the interpreter goes down and destructors still call into the core. Raising the error
/// makes the object by CPython alone. No other exception may be set.
pub(crate) fn made(py: Python<'_>, error: PyErr) -> PyErr {
    error.restore(py);
    object::fetch(py)
}
