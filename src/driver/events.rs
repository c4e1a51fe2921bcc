//! What happened while nobody looked: the list of ready sources, and the end of the loop's sleep.

use std::task::{Context, Poll, Waker};

#[cfg(loom)]
use loom::sync::{Mutex, MutexGuard};
use std::sync::PoisonError;
#[cfg(not(loom))]
use std::sync::{Mutex, MutexGuard};

/// Which source an event is for; an index into the loop's table.
pub(crate) type Key = u32;

/// Keys of sources that became ready, in the order the kernel told of them.
#[derive(Default)]
pub struct Events(Mutex<Pending>);

#[derive(Default)]
struct Pending {
    keys: Vec<Key>,
    /// Somebody wants the loop's attention for something else.
    called: bool,
    /// What ends a look that waits.
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

    /// Ends a look that waits, or the next one; from any thread.
    pub fn call(&self) {
        let mut pending = self.lock();
        pending.called = true;
        pending.wake();
    }

    /// Whether a look that waits ends here.
    pub fn is_over(&self) -> bool {
        self.lock().is_over()
    }

    /// Ready once something happened; until then `context` is woken by what does.
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
