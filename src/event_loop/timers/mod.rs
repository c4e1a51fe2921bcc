//! Timers: a heap by deadline beside a run in order, and the alarm that wakes a loop for the first of them.
//!
//! A timer whose deadline is no earlier than the last one of the run goes to the end of the run: so do
//! all timers of a program that has one time-out. The others go into the heap. Where very many timers
//! of the heap are due at once they are sorted, and become the run: that takes less than to take them
//! out one by one.

pub(crate) mod alarm;

use std::cmp::Ordering;
use std::collections::{BinaryHeap, VecDeque};

use pyo3::prelude::*;
use pyo3::{PyTraverseError, PyVisit};

use crate::event_loop::handles::Handle;
use crate::event_loop::{Callback, Entry as ReadyEntry};

/// With fewer entries, cancelled ones stay until they expire.
const WORTH_COMPACTING: usize = 64;

/// A heap or a run with room for fewer keeps its room.
const WORTH_SHRINKING: usize = 1024;

/// With fewer entries a heap is not sorted.
const WORTH_SORTING: usize = 1024;

/// How many entries tell whether most of a heap is due.
const SAMPLE: usize = 64;

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
    /// In order: the first is due first.
    run: VecDeque<Entry>,
    heap: BinaryHeap<Entry>,
    asked: u64,
    cancelled: usize,
}

impl Timers {
    /// Takes a timer. It comes back if there is no memory for it.
    pub(crate) fn push(&mut self, py: Python<'_>, timer: Timer, when: f64) -> Option<Timer> {
        // Zero has two signs, which are the same time.
        let when = when + 0.0;
        let in_order = self.run.back().is_none_or(|last| last.when <= when);
        let room = if in_order { self.run.try_reserve(1) } else { self.heap.try_reserve(1) };
        if room.is_err() {
            return Some(timer);
        }
        timer.scheduled(py);
        self.asked += 1;
        let entry = Entry { when, order: self.asked, timer };
        if in_order {
            self.run.push_back(entry)
        } else {
            self.heap.push(entry)
        }
        None
    }

    pub(crate) fn len(&self) -> usize {
        self.run.len() + self.heap.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Counts a cancellation. When most entries are cancelled these come back, to be dropped by a
    /// caller that holds no borrow.
    pub(crate) fn count_cancelled(&mut self, py: Python<'_>) -> Vec<Timer> {
        self.cancelled += 1;
        if self.len() < WORTH_COMPACTING || self.cancelled * 2 < self.len() {
            return Vec::new();
        }
        let mut dead = Vec::new();
        if dead.try_reserve_exact(self.cancelled).is_err() {
            // They expire, each in its time.
            return dead;
        }
        self.cancelled = 0;
        // The count may be short of some, which stay for the next time.
        let is_dead = |entry: &Entry, dead: &Vec<Timer>| {
            dead.len() < dead.capacity() && entry.timer.is_cancelled(py)
        };
        // Once around, so that those that stay keep their order.
        for _ in 0..self.run.len() {
            match self.run.pop_front() {
                Some(entry) if is_dead(&entry, &dead) => dead.push(entry.timer),
                kept => self.run.extend(kept),
            }
        }
        let mut entries = std::mem::take(&mut self.heap).into_vec();
        let mut at = 0;
        while at < entries.len() {
            if is_dead(&entries[at], &dead) {
                dead.push(entries.swap_remove(at).timer);
            } else {
                at += 1;
            }
        }
        dead.iter().for_each(|timer| timer.unscheduled(py));
        if entries.capacity() > WORTH_SHRINKING {
            entries.shrink_to(2 * entries.len());
        }
        if self.run.capacity() > WORTH_SHRINKING {
            self.run.shrink_to(2 * self.run.len());
        }
        self.heap = BinaryHeap::from(entries);
        dead
    }

    /// Whether the first of the run comes before the first of the heap.
    fn run_is_first(&self) -> bool {
        match (self.run.front(), self.heap.peek()) {
            // Reversed, as in the heap: the earlier one is the greater.
            (Some(run), Some(heap)) => run > heap,
            (run, _) => run.is_some(),
        }
    }

    fn head(&self) -> Option<&Entry> {
        if self.run_is_first() { self.run.front() } else { self.heap.peek() }
    }

    /// The next timer due at `now`, cancelled ones included (their caller drops them).
    pub(crate) fn pop_due(&mut self, py: Python<'_>, now: f64) -> Option<Timer> {
        let run_is_first = self.run_is_first();
        let head = if run_is_first { self.run.front() } else { self.heap.peek() }?;
        if head.when > now && !head.timer.is_cancelled(py) {
            return None;
        }
        let entry = if run_is_first { self.pop_run() } else { self.heap.pop() }?;
        if entry.timer.is_cancelled(py) {
            self.cancelled = self.cancelled.saturating_sub(1);
        }
        entry.timer.unscheduled(py);
        Some(entry.timer)
    }

    fn pop_run(&mut self) -> Option<Entry> {
        let entry = self.run.pop_front();
        if self.run.is_empty() && self.run.capacity() > WORTH_SHRINKING {
            self.run = VecDeque::new();
        }
        entry
    }

    /// Sorts what is due at `now`, if that is most of a large heap. For a caller that has found many.
    pub(crate) fn sort_due(&mut self, now: f64) {
        let entries = self.heap.as_slice();
        if entries.len() < WORTH_SORTING {
            return;
        }
        let sample = entries.iter().step_by(entries.len() / SAMPLE).take(SAMPLE);
        if sample.filter(|entry| entry.when <= now).count() < SAMPLE / 2 {
            return;
        }
        let mut entries = std::mem::take(&mut self.heap).into_vec();
        let mut later = 0;
        for at in 0..entries.len() {
            if entries[at].when > now {
                entries.swap(at, later);
                later += 1;
            }
        }
        let due = entries.len() - later;
        // A run that is much longer is sorted for too little.
        if self.run.len() <= due && self.run.try_reserve(due).is_ok() {
            self.run.extend(entries.drain(later..));
            self.run.make_contiguous().sort_unstable_by(|one, other| other.cmp(one));
        }
        self.heap = BinaryHeap::from(entries);
    }

    /// The deadline of the head.
    pub(crate) fn next(&self) -> Option<f64> {
        self.head().map(|entry| entry.when)
    }

    /// Takes everything, for closing. No timer knows its place, so all may go at once.
    pub(crate) fn take(&mut self) -> Self {
        std::mem::take(self)
    }

    fn iter(&self) -> impl Iterator<Item = &Entry> {
        self.run.iter().chain(&self.heap)
    }

    pub(crate) fn handles(&self) -> impl Iterator<Item = &Handle> {
        self.iter().filter_map(|entry| match &entry.timer {
            Timer::Handle(handle) => Some(handle),
            Timer::Native(..) => None,
        })
    }

    pub(crate) fn traverse(&self, visit: &PyVisit<'_>) -> Result<(), PyTraverseError> {
        self.iter().try_for_each(|entry| match &entry.timer {
            Timer::Handle(handle) => handle.traverse(visit),
            Timer::Native(object, _) => visit.call(object),
        })
    }
}
