//! Timers: a heap of handles by deadline, and the alarm that ends a park for its head.

pub mod alarm;

use std::cmp::Ordering;
use std::collections::BinaryHeap;

use pyo3::prelude::*;

use crate::handles::Handle;

/// Below this many entries cancelled ones are left to expire.
const WORTH_COMPACTING: usize = 64;

struct Entry {
    when: f64,
    /// Equal deadlines fire in the order they were asked for.
    order: u64,
    handle: Handle,
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
    pub fn push(&mut self, handle: Handle, when: f64) {
        self.asked += 1;
        self.heap.push(Entry { when, order: self.asked, handle });
    }

    pub fn is_empty(&self) -> bool {
        self.heap.is_empty()
    }

    /// Counts a cancellation. When most entries are dead weight they come back, to be dropped by
    /// a caller who holds no borrow.
    pub fn count_cancelled(&mut self, py: Python<'_>) -> Vec<Handle> {
        self.cancelled += 1;
        if self.heap.len() < WORTH_COMPACTING || self.cancelled * 2 < self.heap.len() {
            return Vec::new();
        }
        self.cancelled = 0;
        let (dead, alive) = std::mem::take(&mut self.heap)
            .into_vec()
            .into_iter()
            .partition::<Vec<_>, _>(|entry| entry.handle.is_cancelled(py));
        self.heap = BinaryHeap::from(alive);
        dead.into_iter()
            .map(|entry| {
                entry.handle.unscheduled(py);
                entry.handle
            })
            .collect()
    }

    /// The next timer due at `now`, cancelled ones included (their caller drops them).
    pub fn pop_due(&mut self, py: Python<'_>, now: f64) -> Option<Handle> {
        let head = self.heap.peek()?;
        if head.when > now && !head.handle.is_cancelled(py) {
            return None;
        }
        let entry = self.heap.pop()?;
        if entry.handle.is_cancelled(py) {
            self.cancelled = self.cancelled.saturating_sub(1);
        }
        entry.handle.unscheduled(py);
        Some(entry.handle)
    }

    /// The deadline of the head.
    pub fn next(&self) -> Option<f64> {
        self.heap.peek().map(|entry| entry.when)
    }

    /// Everything, for closing.
    pub fn clear(&mut self) -> Vec<Handle> {
        self.cancelled = 0;
        std::mem::take(&mut self.heap).into_iter().map(|entry| entry.handle).collect()
    }

    pub fn handles(&self) -> impl Iterator<Item = &Handle> {
        self.heap.iter().map(|entry| &entry.handle)
    }
}
