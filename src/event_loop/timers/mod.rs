//! Timers: a heap by deadline, and the alarm that wakes a loop for the first of them.

pub(crate) mod alarm;

use std::cmp::Ordering;
use std::collections::BinaryHeap;

use pyo3::prelude::*;
use pyo3::{PyTraverseError, PyVisit};

use crate::event_loop::handles::Handle;
use crate::event_loop::{Callback, Entry as ReadyEntry};

/// With fewer entries, cancelled ones stay until they expire.
const WORTH_COMPACTING: usize = 64;

/// A heap with room for fewer keeps its room.
const WORTH_SHRINKING: usize = 1024;

/// The functions of the core's own timers. Only `fire` runs Python code.
///
/// Each may be called with an object that came into the heap with it only, and with the GIL held.
pub struct NativeTimer {
    pub fire: Callback,
    pub is_cancelled: unsafe fn(&Py<PyAny>) -> bool,
    /// The heap has it.
    pub scheduled: unsafe fn(&Py<PyAny>),
    /// The heap let go of it.
    pub unscheduled: unsafe fn(&Py<PyAny>),
}

pub enum Timer {
    Handle(Handle),
    Native(Py<PyAny>, &'static NativeTimer),
}

impl Timer {
    fn is_cancelled(&self, py: Python<'_>) -> bool {
        match self {
            Self::Handle(handle) => handle.is_cancelled(py),
            // SAFETY: the two came together; the GIL is held, as `py` says.
            Self::Native(object, kind) => unsafe { (kind.is_cancelled)(object) },
        }
    }

    fn scheduled(&self, py: Python<'_>) {
        match self {
            Self::Handle(handle) => handle.scheduled(py),
            // SAFETY: the two came together; the GIL is held, as `py` says.
            Self::Native(object, kind) => unsafe { (kind.scheduled)(object) },
        }
    }

    fn unscheduled(&self, py: Python<'_>) {
        match self {
            Self::Handle(handle) => handle.unscheduled(py),
            // SAFETY: the two came together; the GIL is held, as `py` says.
            Self::Native(object, kind) => unsafe { (kind.unscheduled)(object) },
        }
    }

    /// The entry to run when the timer is due. A cancelled one does nothing.
    pub fn into_entry(self) -> ReadyEntry {
        match self {
            Self::Handle(handle) => ReadyEntry::Handle(handle),
            Self::Native(object, kind) => ReadyEntry::Native(object, kind.fire),
        }
    }
}

struct Entry {
    when: f64,
    /// Timers with equal deadlines fire in the order in which they were scheduled.
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
pub(crate) struct Timers {
    heap: BinaryHeap<Entry>,
    asked: u64,
    cancelled: usize,
}

impl Timers {
    /// Takes a timer. It comes back if there is no memory for it.
    pub(crate) fn push(&mut self, py: Python<'_>, timer: Timer, when: f64) -> Option<Timer> {
        if self.heap.len() == self.heap.capacity() && self.heap.try_reserve(1).is_err() {
            return Some(timer);
        }
        timer.scheduled(py);
        self.asked += 1;
        // Zero has two signs, which are the same time.
        self.heap.push(Entry { when: when + 0.0, order: self.asked, timer });
        None
    }

    pub(crate) fn len(&self) -> usize {
        self.heap.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.heap.is_empty()
    }

    /// Counts a cancellation. When most entries are cancelled these come back, to be dropped by a
    /// caller that holds no borrow.
    pub(crate) fn count_cancelled(&mut self, py: Python<'_>) -> Vec<Timer> {
        self.cancelled += 1;
        if self.heap.len() < WORTH_COMPACTING || self.cancelled * 2 < self.heap.len() {
            return Vec::new();
        }
        let mut dead = Vec::new();
        if dead.try_reserve_exact(self.cancelled).is_err() {
            // They expire, each in its time.
            return dead;
        }
        self.cancelled = 0;
        let mut entries = std::mem::take(&mut self.heap).into_vec();
        let mut at = 0;
        while at < entries.len() {
            // The count may be short of some, which stay for the next time.
            if entries[at].timer.is_cancelled(py) && dead.len() < dead.capacity() {
                let timer = entries.swap_remove(at).timer;
                timer.unscheduled(py);
                dead.push(timer);
            } else {
                at += 1;
            }
        }
        if entries.capacity() > WORTH_SHRINKING {
            entries.shrink_to(2 * entries.len());
        }
        self.heap = BinaryHeap::from(entries);
        dead
    }

    /// The next timer due at `now`, cancelled ones included (their caller drops them).
    pub(crate) fn pop_due(&mut self, py: Python<'_>, now: f64) -> Option<Timer> {
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
    pub(crate) fn next(&self) -> Option<f64> {
        self.heap.peek().map(|entry| entry.when)
    }

    /// Takes everything, for closing. No timer knows its place, so all may go at once.
    pub(crate) fn take(&mut self) -> Self {
        std::mem::take(self)
    }

    pub(crate) fn handles(&self) -> impl Iterator<Item = &Handle> {
        self.heap.iter().filter_map(|entry| match &entry.timer {
            Timer::Handle(handle) => Some(handle),
            Timer::Native(..) => None,
        })
    }

    pub(crate) fn traverse(&self, visit: &PyVisit<'_>) -> Result<(), PyTraverseError> {
        self.heap.iter().try_for_each(|entry| match &entry.timer {
            Timer::Handle(handle) => handle.traverse(visit),
            Timer::Native(object, _) => visit.call(object),
        })
    }
}
