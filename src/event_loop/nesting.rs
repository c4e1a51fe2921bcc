//! Runs of the loop inside of one of its own callbacks, for programs that ask for them.
//!
//! asyncio refuses such a run. Where the program allows it (`nest_asyncio.apply()`,
//! `new_event_loop(nested=True)`) the inner run serves the same queue and the same descriptors as the
//! outer one, whose callback waits on the stack. A call in a context that this callback has entered has
//! to wait for it, because no context can be entered twice. The inner run puts it aside when it comes to
//! it; at the end of the run what is aside is first in the queue again. There is room aside before an
//! entry is taken out of the queue. Where memory is exhausted the inner run raises a `MemoryError`, and
//! the queue stays as it is for the outer run.
//!
//! Sources look after themselves. A transport that is delivering when an inner run begins delivers
//! nothing more until the protocol returns, but goes on sending. An event of a descriptor whose handle
//! is being called is dropped (`watching::collect`): the kernel reports it again after the run.

use pyo3::prelude::*;

use super::{Entry, NativeLoop};
use crate::event_loop::queue::Ready;
use crate::ffi::memory;

impl NativeLoop {
    /// Begins a run inside of a callback of this loop.
    pub(super) fn begin_inner_run(&self, py: Python<'_>) {
        self.state.inner_runs.set(py, self.state.inner_runs.get(py) + 1);
    }

    /// Ends it. What had to wait for the callback is ready for the outer run, or for the next one in
    /// between to put aside again.
    pub(super) fn end_inner_run(&self, py: Python<'_>) {
        self.state.inner_runs.set(py, self.state.inner_runs.get(py) - 1);
        self.ready.with(py, Ready::release);
        self.descriptors.with(py, |descriptors| descriptors.ask_again());
    }

    /// Makes room to put an entry aside.
    pub(super) fn prepare_to_hold(&self, py: Python<'_>) -> PyResult<()> {
        if self.ready.with(py, Ready::make_room_aside) { Ok(()) } else { Err(memory::exhausted()) }
    }

    /// Puts an entry aside that has to wait for a callback of an outer run; the others come back.
    pub(super) fn hold_if_entered(&self, py: Python<'_>, entry: Entry) -> Option<Entry> {
        let waits = match &entry {
            Entry::Call(call) => call.is_context_entered(py),
            Entry::Handle(handle) => handle.is_context_entered(py),
            Entry::Io(_) | Entry::Native(..) => false,
        };
        if !waits {
            return Some(entry);
        }
        if let Some(entry) = self.ready.with(py, |ready| ready.hold(entry)) {
            // The question allocates where the answer is yes. So it may have run the collector, and a
            // finalizer that ran the loop, which took the room.
            self.push(py, entry);
        }
        None
    }
}
