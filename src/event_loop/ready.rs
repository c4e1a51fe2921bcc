//! The ready queue: what runs in the next batch, first in, first out.

use std::collections::VecDeque;

use pyo3::prelude::*;
use pyo3::{PyTraverseError, PyVisit};

use crate::handles::Handle;
use crate::reactor::Key;

/// Something of the core's own that waits for its turn.
pub type Step = fn(Python<'_>, &Py<PyAny>) -> PyResult<()>;

pub enum Entry {
    Handle(Handle),
    /// A source is ready (or may be: handlers check).
    Io(Key),
    Native(Py<PyAny>, Step),
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
            Entry::Io(_) | Entry::Native(..) => None,
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
                Entry::Native(object, _) => visit.call(object)?,
                Entry::Io(_) => {}
            }
        }
        Ok(())
    }
}
