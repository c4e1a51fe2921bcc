//! Lends memory of ours to a C function of Python's that wants a buffer object.
//!
//! A window has an address only during `lend`, whose caller vouches for the memory and for the callee:
//! a function that releases every view before it returns. So it is only ever passed to `_ssl`'s own types.
//! Code that gets hold of a window otherwise, or keeps it, finds it empty. The one spare window is out
//! of its slot while it is lent: a call inside of a call gets another one.

use std::cell::Cell;
use std::ffi::{c_int, c_void};
use std::ptr::null_mut;

use pyo3::exceptions::PyBufferError;
use pyo3::ffi;
use pyo3::prelude::*;

use crate::ffi::gil::PySlot;

/// A buffer object over memory that it does not own. Empty but while it is lent.
#[pyclass(frozen, module = "tokioloop._core")]
pub(super) struct Window {
    start: Cell<*mut u8>,
    length: Cell<usize>,
}

// SAFETY: the cells are only reached with the GIL held: by `lend`, and by `__getbuffer__`, which CPython
// calls. The caller of `lend` answers for the memory behind them.
unsafe impl Sync for Window {}
// SAFETY: two plain values, which are dropped without a look at what they point to.
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
        // SAFETY: CPython's own view, to be filled in. The memory is `lend`'s argument, which is there
        // as long as `start` is set; the callee releases the view before the call ends.
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

/// Calls `f` with a buffer object over the memory. `f` must pass it only to functions that release
/// it before they return; afterwards it is empty.
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
