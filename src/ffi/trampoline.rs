//! The frame of each function that CPython calls: it guards the thread, raises errors, and makes a panic
//! an exception before it can reach a C frame.

use std::panic::{AssertUnwindSafe, catch_unwind};

use pyo3::prelude::*;
use tokioloop_bridge::python::trampoline::raise_panic;
pub(crate) use tokioloop_bridge::python::trampoline::{destroy, enter, fast_function};

/// Runs the body of a `#[pymethods]` function as `enter` does: PyO3 would raise a `PanicException`,
/// which `except Exception` does not catch.
pub(crate) fn without_panics<R>(py: Python<'_>, body: impl FnOnce() -> PyResult<R>) -> PyResult<R> {
    catch_unwind(AssertUnwindSafe(body)).unwrap_or_else(|payload| {
        raise_panic(py, &*payload);
        Err(PyErr::fetch(py))
    })
}

/// Defines a vectorcall function, as CPython calls it: `vectorcall!(name, |py, slf, args| body)`; as
/// [`fast_function`].
macro_rules! vectorcall {
    ($name:ident, |$py:ident, $slf:ident, $args:ident| $body:expr) => {
        pub(super) unsafe extern "C" fn $name(
            $slf: $crate::ffi::object::Object,
            args: *const $crate::ffi::object::Object,
            count: usize,
            names: $crate::ffi::object::Object,
        ) -> $crate::ffi::object::Object {
            // SAFETY: CPython calls this, and holds the GIL.
            let held = unsafe { pyo3::Python::assume_attached() };
            $crate::ffi::trampoline::enter(held, std::ptr::null_mut(), |$py| {
                // SAFETY: CPython's own arguments, which it keeps for the call, behind a count whose
                // flag is taken off.
                let $args = unsafe {
                    let count = pyo3::ffi::PyVectorcall_NARGS(count);
                    $crate::ffi::arguments::Args::new($py, args, count, names)
                };
                let body = || -> pyo3::PyResult<pyo3::Bound<'_, _>> { $body };
                body().map(pyo3::Bound::into_ptr)
            })
        }
    };
}
pub(crate) use vectorcall;
