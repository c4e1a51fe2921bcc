//! The frame of each function that CPython calls: it guards the thread, raises errors, and makes a panic
//! an exception before it can reach a C frame.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::ptr::null_mut;

use pyo3::exceptions::PyRuntimeError;
use pyo3::ffi;
use pyo3::prelude::*;

use super::{attachment, finalizing};

/// Runs the body of a C-level function: errors are raised, a panic becomes a `RuntimeError`.
///
/// `held` proves that the caller, a function that CPython calls, holds the GIL. PyO3 takes that as
/// given and does not ask CPython: destructors call methods even while the interpreter exits, when
/// `Python::attach` panics (and a panic here ends the process).
#[inline]
pub fn enter<R>(held: Python<'_>, failed: R, body: impl FnOnce(Python<'_>) -> PyResult<R>) -> R {
    if attachment::is_counted(held) {
        return framed(held, failed, body);
    }
    // SAFETY: the GIL is held, as `held` proves, so there is an interpreter to attach to.
    unsafe { Python::attach_unchecked(|py| framed(py, failed, body)) }
}

#[inline(always)]
fn framed<R>(py: Python<'_>, failed: R, body: impl FnOnce(Python<'_>) -> PyResult<R>) -> R {
    finalizing::guard();
    // Raising an error may panic as well, because that makes its text, a Python string.
    let raised = || match body(py) {
        Ok(value) => Some(value),
        Err(error) => {
            error.restore(py);
            None
        }
    };
    match catch_unwind(AssertUnwindSafe(raised)) {
        Ok(value) => value.unwrap_or(failed),
        Err(payload) => {
            raise_panic(py, &*payload);
            failed
        }
    }
}

/// Runs the body of a destructor. An exception that is being raised is saved and restored around it;
/// a panic is reported as unraisable, like an exception in a `__del__`. Python objects that Rust
/// values drop in the body are released at once, not when a thread next attaches.
///
/// The saved exception does not become a `PyErr`: PyO3 would resume a panic that was raised as a
/// Python exception.
///
/// # Safety
/// As for `enter`: the GIL must be held.
pub unsafe fn destroy(body: impl FnOnce(Python<'_>)) {
    let (mut kind, mut value, mut traceback) = (null_mut(), null_mut(), null_mut());
    let attached = |py: Python<'_>| {
        finalizing::guard();
        if let Err(payload) = catch_unwind(AssertUnwindSafe(|| body(py))) {
            raise_panic(py, &*payload);
            // SAFETY: the GIL is held, and an exception is set; no object is named.
            unsafe { ffi::PyErr_WriteUnraisable(null_mut()) };
        }
    };
    // SAFETY: the caller's promise. The three references that are fetched are restored.
    #[allow(deprecated, reason = "CPython before 3.12 has no other functions for this")]
    unsafe {
        ffi::PyErr_Fetch(&mut kind, &mut value, &mut traceback);
        Python::attach_unchecked(attached);
        ffi::PyErr_Restore(kind, value, traceback);
    }
}

/// Raises the exception that a panic stands for.
///
/// Where CPython cannot make an object, mostly because memory is exhausted, PyO3 often panics instead
/// of returning an error, and leaves CPython's exception set. That exception is then the cause, and
/// stays: making another one would fail in the same way, where nothing catches a panic any more.
#[cold]
pub fn raise_panic(py: Python<'_>, payload: &(dyn Any + Send)) {
    // SAFETY: the GIL is held.
    let is_raised = || unsafe { !ffi::PyErr_Occurred().is_null() };
    if is_raised() {
        return;
    }
    let raised = catch_unwind(AssertUnwindSafe(|| panic_error(payload).restore(py)));
    if raised.is_err() && !is_raised() {
        // SAFETY: the GIL is held. Needs no memory: CPython keeps `MemoryError`s ready.
        unsafe { ffi::PyErr_NoMemory() };
    }
}

/// A panic of the core's as a `RuntimeError`.
pub fn panic_error(payload: &(dyn Any + Send)) -> PyErr {
    let text = panic_text(payload).unwrap_or("unknown panic");
    PyRuntimeError::new_err(format!("tokioloop internal error: {text}"))
}

/// The text of a panic, if it has one.
pub fn panic_text(payload: &(dyn Any + Send)) -> Option<&str> {
    let text = payload.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| payload.downcast_ref::<&str>().copied())
}

/// Defines a `METH_FASTCALL | METH_KEYWORDS` function, as CPython calls it:
/// `fast_function!(name, |py, slf, args| body)`, where `slf` is the object or module that it was called
/// on, alive for the call, and the body gives a `PyResult<Bound<...>>`.
#[doc(hidden)]
#[macro_export]
macro_rules! fast_function {
    ($(#[$doc:meta])* $visibility:vis $name:ident $(<$generic:ident: $bound:path>)?,
     |$py:ident, $slf:ident, $args:ident| $body:expr) => {
        $(#[$doc])*
        $visibility unsafe extern "C" fn $name$(<$generic: $bound>)?(
            $slf: $crate::python::object::Object,
            args: *const $crate::python::object::Object,
            count: pyo3::ffi::Py_ssize_t,
            names: $crate::python::object::Object,
        ) -> $crate::python::object::Object {
            // SAFETY: CPython calls this, and holds the GIL.
            let held = unsafe { pyo3::Python::assume_attached() };
            $crate::python::trampoline::enter(held, std::ptr::null_mut(), |$py| {
                // SAFETY: CPython's own arguments, which it keeps for the call.
                let $args = unsafe { $crate::python::arguments::Args::new($py, args, count, names) };
                let body = || -> pyo3::PyResult<pyo3::Bound<'_, _>> { $body };
                body().map(pyo3::Bound::into_ptr)
            })
        }
    };
}
pub use crate::fast_function;
