//! Runs of the loop inside of one of its own callbacks, for programs that ask for them.
//!
//! asyncio refuses such a run. Where the program allows it (`nest_asyncio.apply()`,
//! `new_event_loop(nested=True)`) the inner run serves the same queue and the same descriptors as the
//! outer one, whose callback waits on the stack. Two kinds of entries have to wait for that callback:
//! calls in a context that it has entered, which cannot be entered twice, and events of the source that
//! it was called for, whose data it may not have finished with. The inner run puts them aside, and back
//! into the queue at its end.

use std::mem;

use pyo3::prelude::*;
use pyo3::{PyTraverseError, PyVisit};

use super::{Entry, NativeLoop};
use crate::driver::reactor::Key;
use crate::ffi::gil::{GilCell, GilFlag};

/// What inner and outer runs know of each other.
pub(super) struct Nesting {
    /// The source whose event is being delivered.
    delivering: GilFlag<Option<Key>>,
    /// The sources whose events outer runs are delivering. One for each inner run.
    outer: GilCell<Vec<Option<Key>>>,
    deferred: GilCell<Vec<Entry>>,
}

impl Nesting {
    pub(super) const fn new() -> Self {
        Self {
            delivering: GilFlag::new(None),
            outer: GilCell::new(Vec::new()),
            deferred: GilCell::new(Vec::new()),
        }
    }

    /// Notes that an event of this source is being delivered; the one that was before.
    #[inline]
    pub(super) fn deliver(&self, py: Python<'_>, key: Option<Key>) -> Option<Key> {
        let before = self.delivering.get(py);
        self.delivering.set(py, key);
        before
    }

    /// Whether an inner run serves the queue.
    #[inline]
    pub(super) fn is_inner(&self, py: Python<'_>) -> bool {
        self.outer.with(py, |outer| !outer.is_empty())
    }

    fn delivers_outside(&self, py: Python<'_>, key: Key) -> bool {
        self.outer.with(py, |outer| outer.contains(&Some(key)))
    }

    pub(super) fn traverse(&self, visit: &PyVisit<'_>) -> Result<(), PyTraverseError> {
        match self.deferred.peek(visit) {
            Some(deferred) => deferred.iter().try_for_each(|entry| entry.traverse(visit)),
            None => Ok(()),
        }
    }
}

impl NativeLoop {
    /// Begins a run inside of a callback of this loop.
    pub(super) fn begin_inner_run(&self, py: Python<'_>) {
        let delivering = self.nesting.deliver(py, None);
        self.nesting.outer.with(py, |outer| outer.push(delivering));
    }

    /// Ends it. What had to wait for the callback is ready for the outer run, or for the next one in
    /// between to put aside again.
    pub(super) fn end_inner_run(&self, py: Python<'_>) {
        let delivering = self.nesting.outer.with(py, Vec::pop).flatten();
        self.nesting.deliver(py, delivering);
        for entry in self.nesting.deferred.with(py, mem::take) {
            self.push(py, entry);
        }
    }

    /// Puts an entry aside that has to wait for a callback of an outer run; the others come back.
    pub(super) fn defer(&self, py: Python<'_>, entry: Entry) -> PyResult<Option<Entry>> {
        let waits = match &entry {
            Entry::Io(key) => self.nesting.delivers_outside(py, *key),
            Entry::Call(call) => call.is_context_entered(py),
            Entry::Handle(handle) => handle.is_context_entered(py),
            Entry::Native(..) => false,
        };
        if !waits {
            return Ok(Some(entry));
        }
        // A call becomes its handle's: the queue's tickets are for what is in the queue.
        let entry = match entry {
            Entry::Call(call) => Entry::Handle(call.into_new_handle(py, self)?),
            entry => entry,
        };
        self.nesting.deferred.with(py, |deferred| deferred.push(entry));
        Ok(None)
    }
}
