//! The end of a loop: it releases everything that it holds.

use pyo3::prelude::*;

use super::NativeLoop;
use super::dispatch;
use super::queue::Ready;
use super::timers::Timers;

#[pymethods]
impl NativeLoop {
    fn __clear__(slf: &Bound<'_, Self>) {
        let this = Self::entered(slf);
        if !this.is_made(slf.py()) {
            return;
        }
        // The finalizer had its time to close the loop. What still reaches it, out of the
        // destructors of its own garbage, finds it closed.
        this.mark_closed(slf.py(), true);
        this.release_all(slf.py());
    }
}

impl NativeLoop {
    /// Releases everything. The loop is closed already, so nothing is scheduled any more.
    ///
    /// Each step may run destructors, which may call this again, use the loop, drop handles, or pass
    /// the GIL to a thread that does. So each value is taken out of the loop before it is dropped.
    pub(super) fn release_all(&self, py: Python<'_>) {
        self.wake_targets.close(&self.bind(py));
        self.contexts.forget(py);
        // What an inner run holds, too: a program may have set `_closed` in there.
        self.ready.with(py, Ready::release);
        // One at a time, and never as a whole: `ready` says why.
        while let Some(entry) = self.ready.with(py, |ready| ready.pop(py)) {
            drop(entry);
        }
        self.ready.with(py, Ready::trim);
        drop(self.timers.with(py, Timers::take));
        drop(self.unflushed.take(py));
        // Out of reach first: nothing is registered any more. It goes last.
        let reactor = self.wakeups.take_reactor(py);
        dispatch::detach_all(py, self);
        drop(self.sources.take(py));
        drop(self.descriptors.take(py));
        drop(reactor);
        self.scratch.release(py);
    }
}
