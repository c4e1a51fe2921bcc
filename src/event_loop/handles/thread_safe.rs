//! Handles of `call_soon_threadsafe`, seen from other threads.
//!
//! Since CPython 3.14 `cancel()` and `cancelled()` from another thread wait while the callback is
//! being called, so that their answer is final.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Condvar, Mutex};
use std::time::Duration;

use pyo3::prelude::*;

use crate::event_loop::queue::{HandleObject, Run};

static WAITING: AtomicUsize = AtomicUsize::new(0);
static LOCK: Mutex<()> = Mutex::new(());
static FINISHED: Condvar = Condvar::new();

/// A callback is done: who waits for one looks whether it was theirs.
pub(super) fn finished() {
    if WAITING.load(Ordering::Relaxed) > 0 {
        FINISHED.notify_all();
    }
}

/// Waits, without the GIL, while another thread calls the handle's callback.
///
/// # Safety
/// `handle` must be alive for the call.
pub(super) unsafe fn wait_until_done(py: Python<'_>, handle: *mut HandleObject) {
    // SAFETY: the caller's promise; the fields are read with the GIL held.
    let busy = || unsafe {
        (*handle).thread_safe
            && (*handle).run != Run::No
            && (*handle).runner != libc::pthread_self()
    };
    while busy() {
        WAITING.fetch_add(1, Ordering::Relaxed);
        py.detach(|| {
            // Never waited for: in a forked child a thread that is not there may hold it.
            match LOCK.try_lock() {
                // Bounded: the callback may have ended between our look and the wait.
                Ok(lock) => drop(FINISHED.wait_timeout(lock, Duration::from_millis(10))),
                Err(_) => std::thread::sleep(Duration::from_millis(1)),
            }
        });
        WAITING.fetch_sub(1, Ordering::Relaxed);
    }
}
