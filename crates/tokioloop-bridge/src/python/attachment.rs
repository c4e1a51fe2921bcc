//! Threads of which PyO3 knows, for a while, that they hold the GIL.
//!
//! PyO3 counts, a thread, how often it was told that the thread holds the GIL. Where the count is 0 a
//! [`Py`] that is dropped is not released at once, but when a thread next attaches. So each function
//! that CPython calls has to raise the count and to lower it again, which looks up thread-local
//! variables, four times. In a shared library that is dear: as much as the rest of a short method.
//!
//! A loop that runs is inside of a call of PyO3's all the time, and so the count of its thread is
//! raised all the time, but for the moments in which it polls without the GIL. It says so here.
//! The functions that Python code calls in that thread then leave the count as it is.

use std::sync::atomic::{AtomicUsize, Ordering};

use pyo3::ffi;
use pyo3::prelude::*;

/// The thread whose count is raised, or 0. Only threads that hold the GIL read or write it.
static COUNTED: AtomicUsize = AtomicUsize::new(0);

#[inline]
fn this_thread() -> usize {
    // SAFETY: no arguments; answers in any thread.
    unsafe { ffi::PyThread_get_thread_ident() as usize }
}

/// Whether the count of this thread, which holds the GIL, is raised for certain.
#[inline]
pub(super) fn is_counted(_held: Python<'_>) -> bool {
    // Where no loop runs, as in an extension without one, the thread need not be asked for.
    let counted = COUNTED.load(Ordering::Relaxed);
    counted != 0 && counted == this_thread()
}

/// From now on the count of this thread is raised, until `end`. For a thread that is inside of a function
/// whose frame raises it, and that ends this before it leaves the function, and before it releases the
/// GIL through PyO3 for code that may come to run Python code.
///
/// Other threads may take the place: then this one's functions raise the count themselves.
#[inline]
pub fn begin(_py: Python<'_>) {
    COUNTED.store(this_thread(), Ordering::Relaxed);
}

/// Takes back what `begin` said, if it still stands.
#[inline]
pub fn end(py: Python<'_>) {
    if is_counted(py) {
        COUNTED.store(0, Ordering::Relaxed);
    }
}
