//! Events for the loop from any thread: sources that became ready, and calls for its attention.
//!
//! Wakers add keys from any thread, the loop drains them. A loop that blocks does so in `poll`,
//! which leaves the waker of its reactor's task in here; the next key or call wakes that.
//!
//! `tests/loom` runs this file through the orders in which threads can meet.

use std::task::{Context, Poll, Waker};

#[cfg(loom)]
use loom::sync::{Mutex, MutexGuard};
use std::sync::PoisonError;
#[cfg(not(loom))]
use std::sync::{Mutex, MutexGuard};

/// Which source an event is of: an index into the loop's table of sources.
pub(crate) type Key = u32;

/// Keys of sources that became ready, in the order in which the kernel reported them.
#[derive(Default)]
pub struct Events(Mutex<Pending>);

#[derive(Default)]
struct Pending {
    keys: Vec<Key>,
    /// A thread called, and no poll has ended for it yet.
    called: bool,
    /// Wakes the poll that blocks.
    sleeper: Option<Waker>,
}

impl Events {
    fn lock(&self) -> MutexGuard<'_, Pending> {
        // Nothing in here panics halfway, so a poisoned list is still a good list.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A source became ready.
    pub fn notify(&self, key: Key) {
        let mut pending = self.lock();
        pending.keys.push(key);
        if pending.keys.len() == 1 {
            pending.wake();
        }
    }

    /// Swaps the list with an empty one.
    pub fn drain(&self, into: &mut Vec<Key>) {
        std::mem::swap(&mut self.lock().keys, into);
    }

    /// Ends the poll that blocks, or else the next one; from any thread.
    pub fn call(&self) {
        let mut pending = self.lock();
        pending.called = true;
        pending.wake();
    }

    /// Whether a poll that blocks has a reason to end. Takes a call back.
    pub fn is_over(&self) -> bool {
        self.lock().is_over()
    }

    /// Ready once there is a key or a call; until then the next one wakes the task of `context`.
    pub fn poll(&self, context: &Context<'_>) -> Poll<()> {
        let mut pending = self.lock();
        if pending.is_over() {
            return Poll::Ready(());
        }
        pending.sleeper = Some(context.waker().clone());
        Poll::Pending
    }
}

impl Pending {
    fn is_over(&mut self) -> bool {
        std::mem::take(&mut self.called) || !self.keys.is_empty()
    }

    fn wake(&mut self) {
        if let Some(sleeper) = self.sleeper.take() {
            sleeper.wake();
        }
    }
}
