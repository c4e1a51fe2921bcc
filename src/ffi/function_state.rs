//! Functions in Python whose work the core does, as long as no tool has changed them.
//!
//! A tool puts another function in the place of one, or other code into the function itself (as ddtrace
//! does), which stays the same object then.

use pyo3::ffi;
use pyo3::prelude::*;

/// A function, and the code that it had at some time.
pub(crate) struct FunctionState {
    function: Py<PyAny>,
    /// `None` for a callable that is no function in Python, and never changes from within.
    code: Option<Py<PyAny>>,
}

impl FunctionState {
    pub(crate) fn of(function: Bound<'_, PyAny>) -> Self {
        let py = function.py();
        // SAFETY: a live object, looked at with the GIL held; the code is a borrowed reference.
        let code = unsafe { Bound::from_borrowed_ptr_or_opt(py, code_of(function.as_ptr())) };
        Self { code: code.map(Bound::unbind), function: function.unbind() }
    }

    /// Whether the function has that code still.
    #[inline]
    pub(crate) fn is_current(&self, _py: Python<'_>) -> bool {
        // SAFETY: a live object, looked at with the GIL held. Both codes are alive while they are
        // compared.
        let now = unsafe { code_of(self.function.as_ptr()) };
        self.code.as_ref().map_or(std::ptr::null_mut(), Py::as_ptr) == now
    }

    /// Whether this is the function.
    pub(crate) fn is_of(&self, function: &Bound<'_, PyAny>) -> bool {
        self.function.is(function)
    }
}

/// The code of a function in Python, borrowed; null for any other object.
///
/// # Safety
/// `object` must be alive, and the GIL held.
#[inline]
unsafe fn code_of(object: *mut ffi::PyObject) -> *mut ffi::PyObject {
    // SAFETY: the caller's promise; the second is for functions only, and cannot fail for them.
    unsafe {
        if ffi::PyFunction_Check(object) != 0 {
            ffi::PyFunction_GetCode(object)
        } else {
            std::ptr::null_mut()
        }
    }
}
