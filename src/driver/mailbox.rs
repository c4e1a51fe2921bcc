//! Letters to a loop from any thread, and the end of the loop's sleep.
//!
//! A [`Mailbox`] is an [`Inbox`] whose owner is a loop: a letter that comes while the loop blocks in its
//! reactor ends the poll there.
//!
//! `tests/loom` runs this file through the orders in which threads can meet.

#[cfg(loom)]
use loom::sync::Arc;
#[cfg(not(loom))]
use std::sync::Arc;

use super::events::Events;
use super::fork::{self, Mutex};
use super::inbox::Inbox;
pub(crate) use super::inbox::{Park, Posted};

/// The inbox of a loop, and the events that the loop blocks on.
pub(crate) struct Mailbox<T> {
    inbox: Inbox<T>,
    /// With the count of forks at the time they were attached: see `post`.
    events: Mutex<Option<(Arc<Events>, u32)>>,
}

impl<T> Default for Mailbox<T> {
    fn default() -> Self {
        Self { inbox: Inbox::default(), events: Mutex::new(None) }
    }
}

impl<T> Mailbox<T> {
    /// From now on the loop blocks on these events.
    pub(crate) fn attach(&self, events: &Arc<Events>) {
        let old = self.events.lock().replace((Arc::clone(events), fork::count()));
        drop(old);
    }

    /// Posts a letter, and wakes the loop if it has parked; from any thread.
    pub(crate) fn post(&self, letter: T) {
        // Not in a forked child before its loop has attached events of its own: no loop blocks
        // there, and the parent's events may be locked by a thread that the child does not have.
        if self.inbox.post(letter) == Posted::OwnerSleeps
            && let Some((events, forks)) = &*self.events.lock()
            && *forks == fork::count()
        {
            events.call();
        }
    }

    /// See `Inbox::take`.
    pub(crate) fn take(&self, into: &mut Vec<T>) -> bool {
        self.inbox.take(into)
    }

    /// See `Inbox::park`.
    pub(crate) fn park(&self) -> Park {
        self.inbox.park()
    }

    /// See `Inbox::unpark`.
    pub(crate) fn unpark(&self) {
        self.inbox.unpark();
    }

    /// From now on letters are dropped and wake no loop. The events go too: a waker that lives on
    /// must not keep the descriptors of the runtime open.
    pub(crate) fn close(&self) {
        self.inbox.close();
        let events = self.events.lock().take();
        drop(events);
    }
}
