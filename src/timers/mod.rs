//! Timers: a heap by deadline, and the alarm that ends a park for its head.

pub mod alarm;

use std::cmp::Ordering;
use std::collections::BinaryHeap;

use pyo3::prelude::*;
use pyo3::{PyTraverseError, PyVisit};

use crate::event_loop::{Entry as ReadyEntry, Step};
use crate::handles::Handle;

/// Below this many entries cancelled ones are left to expire.
const WORTH_COMPACTING: usize = 64;

/// What a timer of the core's own does. None of these runs Python code, save `fire`.
pub struct NativeTimer {
    pub fire: Step,
    pub is_cancelled: fn(&Py<PyAny>) -> bool,
    /// The heap let go of it.
    pub unscheduled: fn(&Py<PyAny>),
}

pub enum Timer {
    Handle(Handle),
    Native(Py<PyAny>, &'static NativeTimer),
}

impl Timer {
    fn is_cancelled(&self, py: Python<'_>) -> bool {
        match self {
            Self::Handle(handle) => handle.is_cancelled(py),
            Self::Native(object, kind) => (kind.is_cancelled)(object),
        }
    }

    fn unscheduled(&self, py: Python<'_>) {
        match self {
            Self::Handle(handle) => handle.unscheduled(py),
            Self::Native(object, kind) => (kind.unscheduled)(object),
        }
    }

    /// What is to run now that the time has come. A cancelled one does nothing.
    pub fn into_entry(self) -> ReadyEntry {
        match self {
            Self::Handle(handle) => ReadyEntry::Handle(handle),
            Self::Native(object, kind) => ReadyEntry::Native(object, kind.fire),
        }
    }
}

struct Entry {
    when: f64,
    /// Equal deadlines fire in the order they were asked for.
    order: u64,
    timer: Timer,
}

impl Ord for Entry {
    fn cmp(&self, other: &Self) -> Ordering {
        // Reversed: `BinaryHeap` gives the greatest first. NaN never gets in.
        other.when.total_cmp(&self.when).then(other.order.cmp(&self.order))
    }
}

impl PartialOrd for Entry {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Entry {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Entry {}

#[derive(Default)]
pub struct Timers {
    heap: BinaryHeap<Entry>,
    asked: u64,
    cancelled: usize,
}

impl Timers {
    pub fn push(&mut self, timer: Timer, when: f64) {
        self.asked += 1;
        self.heap.push(Entry { when, order: self.asked, timer });
    }

    pub fn is_empty(&self) -> bool {
        self.heap.is_empty()
    }

    /// Counts a cancellation. When most entries are dead weight they come back, to be dropped by
    /// a caller who holds no borrow.
    pub fn count_cancelled(&mut self, py: Python<'_>) -> Vec<Timer> {
        self.cancelled += 1;
        if self.heap.len() < WORTH_COMPACTING || self.cancelled * 2 < self.heap.len() {
            return Vec::new();
        }
        self.cancelled = 0;
        let (dead, alive) = std::mem::take(&mut self.heap)
            .into_vec()
            .into_iter()
            .partition::<Vec<_>, _>(|entry| entry.timer.is_cancelled(py));
        self.heap = BinaryHeap::from(alive);
        dead.into_iter()
            .map(|entry| {
                entry.timer.unscheduled(py);
                entry.timer
            })
            .collect()
    }

    /// The next timer due at `now`, cancelled ones included (their caller drops them).
    pub fn pop_due(&mut self, py: Python<'_>, now: f64) -> Option<Timer> {
        let head = self.heap.peek()?;
        if head.when > now && !head.timer.is_cancelled(py) {
            return None;
        }
        let entry = self.heap.pop()?;
        if entry.timer.is_cancelled(py) {
            self.cancelled = self.cancelled.saturating_sub(1);
        }
        entry.timer.unscheduled(py);
        Some(entry.timer)
    }

    /// The deadline of the head.
    pub fn next(&self) -> Option<f64> {
        self.heap.peek().map(|entry| entry.when)
    }

    /// Everything, for closing.
    pub fn clear(&mut self) -> Vec<Timer> {
        self.cancelled = 0;
        std::mem::take(&mut self.heap).into_iter().map(|entry| entry.timer).collect()
    }

    pub fn handles(&self) -> impl Iterator<Item = &Handle> {
        self.heap.iter().filter_map(|entry| match &entry.timer {
            Timer::Handle(handle) => Some(handle),
            Timer::Native(..) => None,
        })
    }

    pub fn traverse(&self, visit: &PyVisit<'_>) -> Result<(), PyTraverseError> {
        self.heap.iter().try_for_each(|entry| match &entry.timer {
            Timer::Handle(handle) => handle.traverse(visit),
            Timer::Native(object, _) => visit.call(object),
        })
    }
}
