//! Lends memory of ours to a C function of Python's that wants a buffer object.

use std::cell::Cell;
use std::ffi::{c_int, c_void};
use std::ptr::null_mut;

use pyo3::exceptions::PyBufferError;
use pyo3::ffi;
use pyo3::prelude::*;

use crate::gil::PySlot;

/// A buffer object over memory that it does not own. Empty but while it is lent.
#[pyclass(frozen, module = "tokioloop._core")]
pub(super) struct Window {
    start: Cell<*mut u8>,
    length: Cell<usize>,
}

// SAFETY: reached with the GIL held only; the memory behind it is looked at through the buffer
// protocol while the thread that lent it waits for the call.
unsafe impl Sync for Window {}
// SAFETY: as above.
unsafe impl Send for Window {}

#[pymethods]
impl Window {
    unsafe fn __getbuffer__(
        slf: Bound<'_, Self>,
        view: *mut ffi::Py_buffer,
        flags: c_int,
    ) -> PyResult<()> {
        let this = slf.get();
        if this.start.get().is_null() {
            return Err(PyBufferError::new_err("this memory was only lent for a call"));
        }
        // SAFETY: CPython's own view; the memory is `lend`'s argument, alive for its call.
        let result = unsafe {
            ffi::PyBuffer_FillInfo(
                view,
                slf.as_ptr(),
                this.start.get().cast::<c_void>(),
                this.length.get() as ffi::Py_ssize_t,
                0,
                flags,
            )
        };
        if result != 0 { Err(PyErr::fetch(slf.py())) } else { Ok(()) }
    }
}

/// Calls `f` with a buffer object over the memory. `f` must hand it only to functions that let
/// go of it before they return; afterwards it is empty.
///
/// # Safety
/// `start` must be valid for `length` bytes until the call returns: for reads, and for writes if
/// what `f` calls writes.
pub(super) unsafe fn lend<R>(
    py: Python<'_>,
    start: *mut u8,
    length: usize,
    f: impl FnOnce(&Bound<'_, PyAny>) -> PyResult<R>,
) -> PyResult<R> {
    /// One is nearly always enough: made once, out of the slot while it is lent.
    static SPARE: PySlot = PySlot::empty();
    let window = match SPARE.take(py) {
        Some(window) => window.into_bound(py).cast_into::<Window>()?,
        None => Bound::new(py, Window { start: Cell::new(null_mut()), length: 0.into() })?,
    };
    window.get().start.set(start);
    window.get().length.set(length);
    let result = f(window.as_any());
    window.get().start.set(null_mut());
    SPARE.set(py, Some(window.into_any().unbind()));
    result
}
