//! References to Python objects as C passes them.

use pyo3::ffi;
use pyo3::prelude::*;

pub type Object = *mut ffi::PyObject;

/// The exception that a C call raised.
pub fn fetch(py: Python<'_>) -> PyErr {
    PyErr::fetch(py)
}

/// Makes a C call's new reference an owned object, and the exception that it raised an `Err`.
///
/// # Safety
/// `object` must be a new reference, or null with an exception set.
#[inline]
pub unsafe fn owned<'py>(py: Python<'py>, object: Object) -> PyResult<Bound<'py, PyAny>> {
    // SAFETY: the caller's promise.
    unsafe { Bound::from_owned_ptr_or_err(py, object) }
}
