//! Threads that CPython ends while the interpreter goes down.
//!
//! # The trap
//!
//! Python code that a Rust frame called may release the GIL. If the interpreter is finalizing when
//! the thread wants it back, CPython before 3.14 ends the thread with `pthread_exit`, and glibc then
//! unwinds its stack: it runs the destructors of Rust values without the GIL, and aborts the process
//! at the first frame that may not be unwound (an `extern "C"` function, a `catch_unwind`). Threads of
//! tokio's that run Python code meet this, and so does every other thread with a frame of Rust on its
//! stack. CPython 3.14 leaves such a thread hanging instead, and so does this module before 3.14.
//!
//! # The mechanism
//!
//! [`guard`] registers one cleanup handler a thread with libc, when the thread first comes here. The
//! handler parks the thread for ever if the interpreter is finalizing; otherwise (some other code ended
//! the thread) it returns, and the thread ends as it would have without it. So no call of Python code
//! has to do anything, and none can forget it: `trampoline::enter` and `trampoline::destroy` register
//! the thread, and so does each method that PyO3 writes the frame of.
//!
//! The handler runs before the first frame is unwound: see `sys::thread_exit`. Where threads end
//! without unwinding (macOS, Windows) there is nothing to do.

use pyo3::ffi;
use pyo3::prelude::*;

use crate::sys;

/// Whether the interpreter goes down, or is down: a thread that is not attached must not attach.
pub fn has_begun() -> bool {
    // SAFETY: may be called at any time, in any thread.
    unsafe { ffi::Py_IsInitialized() == 0 || sys::finalizing::is_finalizing() }
}

/// Whether this thread holds the GIL. `PyGILState_Check` says so of every thread once the process
/// has had a sub-interpreter; it is right where it says no.
pub fn is_attached() -> bool {
    // SAFETY: may be called at any time, in any thread.
    unsafe { sys::finalizing::is_attached() }
}

/// [`Python::try_attach`] for threads that nothing else guards, such as tokio's; None once the
/// interpreter goes down.
///
/// CPython leaves those threads hanging that have a thread state when it stops the world to go down.
/// One that asks for its first at that moment gets it afterwards, and the GIL as soon as the main
/// thread releases it: at the latest when nothing is left that the GIL protects. Hence the second
/// check; such a thread releases the GIL, for which the main thread may wait, and hangs.
pub fn try_attach<R>(body: impl FnOnce(Python<'_>) -> R) -> Option<R> {
    guard();
    if is_attached() {
        // Perhaps the thread that takes the interpreter down, which may run Python code.
        return Python::try_attach(body);
    }
    if has_begun() {
        return None;
    }
    Python::try_attach(|py| {
        if has_begun() {
            py.detach(|| park());
        }
        body(py)
    })
}

/// [`try_attach`] for callers that cannot go on without it: once the interpreter goes down the thread hangs.
pub fn attach<R>(body: impl FnOnce(Python<'_>) -> R) -> R {
    try_attach(body).unwrap_or_else(|| park())
}

fn park() -> ! {
    loop {
        std::thread::park();
    }
}

/// From now on this thread parks when CPython ends it.
#[inline]
pub fn guard() {
    sys::finalizing::guard();
}
