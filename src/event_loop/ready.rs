//! The ready queue: what runs in the next batch, first in, first out.

use std::collections::VecDeque;

use pyo3::prelude::*;
use pyo3::{PyTraverseError, PyVisit};

use crate::handles::{Handle, Queued, Ticket};
use crate::reactor::Key;

/// Something of the core's own that waits for its turn.
pub type Step = fn(Python<'_>, &Py<PyAny>) -> PyResult<()>;

pub enum Entry {
    /// A call whose handle nobody has looked at.
    Call(Queued),
    Handle(Handle),
    /// A source is ready (or may be: handlers check).
    Io(Key),
    Native(Py<PyAny>, Step),
}

#[derive(Default)]
pub struct Ready {
    entries: VecDeque<Entry>,
    /// The ticket of the entry that was taken out last.
    served: Ticket,
}

impl Ready {
    #[inline]
    pub fn push(&mut self, entry: Entry) {
        self.entries.push_back(entry);
    }

    #[inline]
    pub fn push_call(&mut self, py: Python<'_>, call: Queued) {
        call.placed(py, self.served + self.entries.len() as Ticket + 1);
        self.entries.push_back(Entry::Call(call));
    }

    #[inline]
    pub fn pop(&mut self) -> Option<Entry> {
        self.served += 1;
        self.entries.pop_front()
    }

    #[inline]
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    #[inline]
    fn at(&mut self, ticket: Ticket) -> Option<&mut Entry> {
        self.entries.get_mut((ticket - self.served - 1) as usize)
    }

    /// Has the handle of the call at this place take it over. Runs no Python code.
    pub fn claim(&mut self, py: Python<'_>, ticket: Ticket) {
        if let Some(entry) = self.at(ticket) {
            settle(py, entry);
        }
    }

    /// The handle of the call at this place dies.
    #[inline]
    pub fn give_up(&mut self, ticket: Ticket) {
        if let Some(Entry::Call(call)) = self.at(ticket) {
            call.forget_handle();
        }
    }

    /// How many calls have no handle any more.
    pub fn without_handle(&self) -> usize {
        self.entries
            .iter()
            .filter(|entry| matches!(entry, Entry::Call(call) if !call.has_handle()))
            .count()
    }

    /// The handles of what is to be called; `spare` ones for calls without.
    pub fn handles<'py>(&mut self, py: Python<'py>, spare: &[Handle]) -> Vec<Bound<'py, PyAny>> {
        let mut spare = spare.iter();
        for (entry, ticket) in self.entries.iter_mut().zip(self.served + 1..) {
            if let Entry::Call(call) = entry
                && !call.has_handle()
                && let Some(handle) = spare.next()
            {
                call.adopt(py, handle, ticket);
            }
        }
        let handle = |entry: &Entry| match entry {
            Entry::Call(call) => call.handle(py),
            Entry::Handle(handle) => Some(handle.bind(py).clone()),
            Entry::Io(_) | Entry::Native(..) => None,
        };
        self.entries.iter().filter_map(handle).collect()
    }

    /// Makes handles that somebody has objects of their own to the collector.
    pub fn track_shared(&mut self, py: Python<'_>) {
        for entry in &mut self.entries {
            settle(py, entry);
            if let Entry::Handle(handle) = entry {
                handle.track_if_shared();
            }
        }
    }

    /// Gives back the memory of a burst.
    pub fn trim(&mut self) {
        if self.entries.is_empty() && self.entries.capacity() > 16_384 {
            self.entries.shrink_to(1024);
        }
    }

    pub fn traverse(&self, visit: &PyVisit<'_>) -> Result<(), PyTraverseError> {
        for entry in &self.entries {
            match entry {
                Entry::Call(call) => call.traverse(visit)?,
                Entry::Handle(handle) => handle.traverse(visit)?,
                Entry::Native(object, _) => visit.call(object)?,
                Entry::Io(_) => {}
            }
        }
        Ok(())
    }
}

/// Makes a call with a handle the handle's.
fn settle(py: Python<'_>, entry: &mut Entry) {
    if !matches!(entry, Entry::Call(call) if call.has_handle()) {
        return;
    }
    // Something that holds nothing, for the moment in between.
    if let Entry::Call(call) = std::mem::replace(entry, Entry::Io(Key::MAX)) {
        *entry = match call.into_handle(py) {
            Ok(handle) => Entry::Handle(handle),
            Err(call) => Entry::Call(call),
        };
    }
}
