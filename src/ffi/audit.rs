//! Audit events (`sys.addaudithook`), for what the core does in the place of Python's own methods.

use std::ffi::{CStr, c_char, c_int, c_void};
use std::ptr::null_mut;

use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;

use crate::ffi::finalizing;
use crate::ffi::object::{self, Object};

unsafe extern "C" {
    /// Of CPython's API, and not of PyO3's.
    fn PySys_Audit(event: *const c_char, format: *const c_char, ...) -> c_int;
}

/// Raises an event with two objects. Without an audit hook CPython only looks at a pointer.
pub(crate) fn event(
    event: &CStr,
    first: &Bound<'_, PyAny>,
    second: &Bound<'_, PyAny>,
) -> PyResult<()> {
    // SAFETY: the format asks for two objects, which live through the call; the GIL is held.
    let result =
        unsafe { PySys_Audit(event.as_ptr(), c"OO".as_ptr(), first.as_ptr(), second.as_ptr()) };
    if result == 0 { Ok(()) } else { Err(object::fetch(first.py())) }
}

/// Whether there is any audit hook. No hook is called for that.
pub(crate) fn has_hooks(py: Python<'_>) -> bool {
    /// Called for the event's argument, which is only made where a hook would get it.
    extern "C" fn refuse(_: *mut c_void) -> Object {
        finalizing::guard();
        // SAFETY: CPython calls this, and holds the GIL.
        let py = unsafe { Python::assume_attached() };
        PyRuntimeError::new_err("not raised").restore(py);
        null_mut()
    }
    let refuse: extern "C" fn(*mut c_void) -> Object = refuse;
    // SAFETY: the format asks for a function of this kind and its argument, which it does not read; the
    // GIL is held.
    let result = unsafe {
        PySys_Audit(c"tokioloop.audited".as_ptr(), c"O&".as_ptr(), refuse, null_mut::<c_void>())
    };
    if result != 0 {
        drop(PyErr::take(py));
    }
    result != 0
}
