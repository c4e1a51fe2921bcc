//! Operating system errors as Python tells them.

use std::io;

use pyo3::exceptions::PyOSError;
use pyo3::prelude::*;

use crate::ffi::object;

/// `OSError(errno, strerror)`, of the subclass that Python gives this number.
pub(crate) fn os_error(py: Python<'_>, error: &io::Error) -> PyErr {
    let Some(number) = error.raw_os_error() else {
        return made(py, PyOSError::new_err(error.to_string()));
    };
    let text = error.to_string();
    let text = text.strip_suffix(&format!(" (os error {number})")).unwrap_or(&text);
    made(py, PyOSError::new_err((number, text.to_owned())))
}

/// An error whose exception object is there.
///
/// PyO3 makes it when it is first asked for, and attaches to the interpreter anew for that: it panics
/// while the interpreter goes down, when destructors still call into the core. To raise it is the way
/// that only asks CPython. No other exception may be set.
pub(crate) fn made(py: Python<'_>, error: PyErr) -> PyErr {
    error.restore(py);
    object::fetch(py)
}
