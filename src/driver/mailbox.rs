//! Letters to a loop from any thread, and the end of the loop's sleep.
//!
//! An [`Inbox`] is a list that any thread posts to and its owner takes from. A [`Mailbox`] is the
//! inbox of a loop: a letter that comes while the loop blocks in its reactor ends the poll there.
//!
//! The owner parks before it blocks. If there are letters by then it does not block; otherwise the
//! first letter that comes finds the inbox parked, and its poster wakes the owner. Letters behind
//! that one wake nothing.
//!
//! `tests/loom` runs this file through the orders in which threads can meet.

#[cfg(loom)]
use loom::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};
#[cfg(not(loom))]
use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use super::events::Events;
use super::fork::{self, Mutex};

/// The poster's duty after it has posted a letter.
#[must_use]
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Posted {
    /// Wake the owner, which has parked.
    OwnerSleeps,
    /// Nothing: the owner finds the letter by itself, or has closed the inbox.
    Delivered,
}

/// Whether the owner of an inbox may block.
#[must_use]
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Park {
    /// The inbox is empty, and the poster of the next letter wakes the owner.
    Sleep,
    /// There are letters.
    Mail,
}

/// Letters that were posted and not yet taken, first in, first out.
pub(crate) struct Inbox<T> {
    inside: Mutex<Inside<T>>,
    /// Whether there are letters: so an empty inbox costs its owner no lock. Written with the lock
    /// held.
    filled: AtomicBool,
}

struct Inside<T> {
    letters: Vec<T>,
    /// The owner is about to block, or blocks.
    parked: bool,
    closed: bool,
}

impl<T> Default for Inbox<T> {
    fn default() -> Self {
        let inside = Inside { letters: Vec::new(), parked: false, closed: false };
        Self { inside: Mutex::new(inside), filled: AtomicBool::new(false) }
    }
}

impl<T> Inbox<T> {
    /// Posts a letter, from any thread. A closed inbox drops it.
    pub(crate) fn post(&self, letter: T) -> Posted {
        let mut inside = self.inside.lock();
        if inside.closed {
            // The letter is dropped without the lock.
            drop(inside);
            return Posted::Delivered;
        }
        inside.letters.push(letter);
        self.filled.store(true, Ordering::Release);
        if std::mem::take(&mut inside.parked) { Posted::OwnerSleeps } else { Posted::Delivered }
    }

    /// Swaps the letters with an empty list; whether there were any.
    pub(crate) fn take(&self, into: &mut Vec<T>) -> bool {
        if !self.filled.load(Ordering::Acquire) {
            return false;
        }
        let mut inside = self.inside.lock();
        self.filled.store(false, Ordering::Release);
        std::mem::swap(&mut inside.letters, into);
        !into.is_empty()
    }

    /// The owner is about to block.
    pub(crate) fn park(&self) -> Park {
        let mut inside = self.inside.lock();
        inside.parked = inside.letters.is_empty();
        if inside.parked { Park::Sleep } else { Park::Mail }
    }

    /// The owner could not be woken: the poster of the next letter is to try again.
    pub(crate) fn repark(&self) {
        self.inside.lock().parked = true;
    }

    /// The owner blocks no longer.
    pub(crate) fn unpark(&self) {
        self.inside.lock().parked = false;
    }

    /// Drops all letters, and those that are posted from now on.
    pub(crate) fn close(&self) {
        let mut inside = self.inside.lock();
        inside.closed = true;
        let letters = std::mem::take(&mut inside.letters);
        drop(inside);
        drop(letters);
    }
}

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

#[cfg(all(test, not(loom)))]
mod tests {
    use super::{Inbox, Park, Posted};

    #[test]
    fn a_parked_owner_is_woken_once_and_never_parks_with_mail() {
        let inbox = Inbox::default();
        assert_eq!(inbox.park(), Park::Sleep);
        assert_eq!(inbox.post(1), Posted::OwnerSleeps);
        assert_eq!(inbox.post(2), Posted::Delivered);
        assert_eq!(inbox.park(), Park::Mail);
        let mut letters = Vec::new();
        assert!(inbox.take(&mut letters));
        assert_eq!(letters, [1, 2]);
        assert!(!inbox.take(&mut letters));
        assert_eq!(inbox.park(), Park::Sleep);
        inbox.unpark();
        assert_eq!(inbox.post(3), Posted::Delivered);
    }

    #[test]
    fn a_closed_inbox_keeps_nothing() {
        let inbox = Inbox::default();
        let letter = std::sync::Arc::new(());
        assert_eq!(inbox.post(letter.clone()), Posted::Delivered);
        inbox.close();
        assert_eq!(inbox.post(letter.clone()), Posted::Delivered);
        assert_eq!(std::sync::Arc::strong_count(&letter), 1);
    }
}
