//! The ready queue: what runs in the next batch, first in, first out.

use std::collections::VecDeque;

use pyo3::prelude::*;
use pyo3::{PyTraverseError, PyVisit};

use crate::handles::Handle;
use crate::reactor::Key;

/// A stage in a transport's life that waits for its turn.
#[derive(Clone, Copy)]
pub enum Step {
    Made,
    Lost,
}

pub enum Entry {
    Handle(Handle),
    /// A source is ready (or may be: handlers check).
    Io(Key),
    Transport(Py<PyAny>, Step),
}

#[derive(Default)]
pub struct Ready(VecDeque<Entry>);

impl Ready {
    #[inline]
    pub fn push(&mut self, entry: Entry) {
        self.0.push_back(entry);
    }

    #[inline]
    pub fn pop(&mut self) -> Option<Entry> {
        self.0.pop_front()
    }

    #[inline]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    pub fn handles<'py>(&self, py: Python<'py>) -> Vec<Bound<'py, PyAny>> {
        let handle = |entry: &Entry| match entry {
            Entry::Handle(handle) => Some(handle.bind(py).clone()),
            Entry::Io(_) | Entry::Transport(..) => None,
        };
        self.0.iter().filter_map(handle).collect()
    }

    pub fn track_shared(&self) {
        for entry in &self.0 {
            if let Entry::Handle(handle) = entry {
                handle.track_if_shared();
            }
        }
    }

    /// Gives back the memory of a burst.
    pub fn trim(&mut self) {
        if self.0.is_empty() && self.0.capacity() > 16_384 {
            self.0.shrink_to(1024);
        }
    }

    pub fn traverse(&self, visit: &PyVisit<'_>) -> Result<(), PyTraverseError> {
        for entry in &self.0 {
            match entry {
                Entry::Handle(handle) => handle.traverse(visit)?,
                Entry::Transport(transport, _) => visit.call(transport)?,
                Entry::Io(_) => {}
            }
        }
        Ok(())
    }
}
