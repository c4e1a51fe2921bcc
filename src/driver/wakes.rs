//! Wakes without the GIL: what a waker may touch on any thread.
//!
//! Nothing in here knows Python. `Marks` says whether a future that is polled by hand has to be
//! polled again; a `Mailbox` carries those that must to the loop's thread, and ends its sleep.
//!
//! `tests/loom` runs this file through the orders in which threads can meet.

#[cfg(loom)]
use loom::sync::{
    Arc,
    atomic::{AtomicBool, AtomicU8, Ordering},
};
#[cfg(not(loom))]
use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicU8, Ordering},
};

use super::events::Events;
use super::fork::{self, Mutex};

/// Somebody polls right now.
const POLLING: u8 = 1;
/// A poll is due: somebody was told, and tells nobody else.
const WOKEN: u8 = 2;

/// What a wake asks of whoever caused it.
#[must_use]
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Wake {
    /// The owner must be notified.
    Notify,
    /// A poll goes on, or is due already: its end takes care of this wake.
    Coalesced,
}

/// How a poll without a result ended.
#[must_use]
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Polled {
    /// The next wake notifies the owner.
    Pending = 0,
    /// It was woken meanwhile, and nobody was notified: the poller sees to the next poll.
    Woken = 1,
}

/// What posting a letter asks of the poster.
#[must_use]
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Posted {
    /// The owner sleeps, and must be woken.
    OwnerSleeps,
    /// The owner finds the letter by itself, or has closed the inbox.
    Delivered,
}

/// Whether the owner of an inbox may sleep.
#[must_use]
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Park {
    /// The inbox is empty: the next letter wakes the owner.
    Sleep,
    /// There are letters.
    Mail,
}

/// Two bits shared by who polls and who wakes.
///
/// Both sides only ever read, change and write in one go: who finds `WOKEN` set already has
/// published what was written before to the poll that will clear it.
#[derive(Default)]
pub struct Marks(AtomicU8);

impl Marks {
    /// A poll begins; what woke it is dealt with.
    pub fn begin(&self) {
        self.0.swap(POLLING, Ordering::AcqRel);
    }

    /// The poll ended without a result.
    pub fn finish(&self) -> Polled {
        match self.0.fetch_and(!POLLING, Ordering::AcqRel) & WOKEN {
            0 => Polled::Pending,
            _ => Polled::Woken,
        }
    }

    /// Asks for a poll, from any thread.
    pub fn wake(&self) -> Wake {
        match self.0.fetch_or(WOKEN, Ordering::AcqRel) {
            0 => Wake::Notify,
            _ => Wake::Coalesced,
        }
    }
}

/// What was woken and not yet looked at, first in, first out.
pub(crate) struct Inbox<T> {
    inside: Mutex<Inside<T>>,
    /// So that an empty inbox costs no lock. Written with the lock held.
    filled: AtomicBool,
}

struct Inside<T> {
    woken: Vec<T>,
    /// The owner is about to sleep, or sleeps.
    parked: bool,
    closed: bool,
}

impl<T> Default for Inbox<T> {
    fn default() -> Self {
        let inside = Inside { woken: Vec::new(), parked: false, closed: false };
        Self { inside: Mutex::new(inside), filled: AtomicBool::new(false) }
    }
}

impl<T> Inbox<T> {
    /// Puts something in.
    pub(crate) fn post(&self, item: T) -> Posted {
        let mut inside = self.inside.lock();
        if inside.closed {
            drop(inside);
            // Dropped without the lock.
            return Posted::Delivered;
        }
        inside.woken.push(item);
        self.filled.store(true, Ordering::Release);
        if std::mem::take(&mut inside.parked) { Posted::OwnerSleeps } else { Posted::Delivered }
    }

    /// Swaps what is there with an empty list; whether there was anything.
    pub(crate) fn take(&self, into: &mut Vec<T>) -> bool {
        if !self.filled.load(Ordering::Acquire) {
            return false;
        }
        let mut inside = self.inside.lock();
        self.filled.store(false, Ordering::Release);
        std::mem::swap(&mut inside.woken, into);
        !into.is_empty()
    }

    /// The owner is about to sleep.
    pub(crate) fn park(&self) -> Park {
        let mut inside = self.inside.lock();
        inside.parked = inside.woken.is_empty();
        if inside.parked { Park::Sleep } else { Park::Mail }
    }

    /// The owner sleeps no longer.
    pub(crate) fn unpark(&self) {
        self.inside.lock().parked = false;
    }

    /// What is there, and what comes from now on, is dropped.
    pub(crate) fn close(&self) {
        let mut inside = self.inside.lock();
        inside.closed = true;
        let woken = std::mem::take(&mut inside.woken);
        drop(inside);
        drop(woken);
    }
}

/// What was woken on a loop, and the loop's sleep that this ends.
pub(crate) struct Mailbox<T> {
    inbox: Inbox<T>,
    /// And the count of forks at that time: see `post`.
    events: Mutex<Option<(Arc<Events>, u32)>>,
}

impl<T> Default for Mailbox<T> {
    fn default() -> Self {
        Self { inbox: Inbox::default(), events: Mutex::new(None) }
    }
}

impl<T> Mailbox<T> {
    /// From now on the loop sleeps there.
    pub(crate) fn attach(&self, events: &Arc<Events>) {
        let old = self.events.lock().replace((Arc::clone(events), fork::count()));
        drop(old);
    }

    /// From any thread.
    pub(crate) fn post(&self, item: T) {
        // Not in a forked child before its loop has events of its own: nobody sleeps there, and the
        // parent's may be locked by a thread that is not here.
        if self.inbox.post(item) == Posted::OwnerSleeps
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

    /// Nobody is woken from now on. Wakers that live on must not keep the runtime's descriptors.
    pub(crate) fn close(&self) {
        self.inbox.close();
        let events = self.events.lock().take();
        drop(events);
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::{Inbox, Marks, Park, Polled, Posted, Wake};

    #[test]
    fn only_the_first_wake_tells_somebody() {
        let marks = Marks::default();
        assert_eq!(marks.wake(), Wake::Notify);
        assert_eq!(marks.wake(), Wake::Coalesced);
        marks.begin();
        assert_eq!(marks.finish(), Polled::Pending);
        assert_eq!(marks.wake(), Wake::Notify);
    }

    #[test]
    fn a_wake_during_the_poll_is_left_to_who_polls() {
        let marks = Marks::default();
        marks.begin();
        assert_eq!(marks.wake(), Wake::Coalesced);
        assert_eq!(marks.finish(), Polled::Woken);
        // The next poll is coming anyway.
        assert_eq!(marks.wake(), Wake::Coalesced);
        marks.begin();
        assert_eq!(marks.finish(), Polled::Pending);
    }

    #[test]
    fn who_parks_is_woken_once_and_only_with_nothing_there() {
        let inbox = Inbox::default();
        assert_eq!(inbox.park(), Park::Sleep);
        assert_eq!(inbox.post(1), Posted::OwnerSleeps);
        assert_eq!(inbox.post(2), Posted::Delivered);
        assert_eq!(inbox.park(), Park::Mail);
        let mut woken = Vec::new();
        assert!(inbox.take(&mut woken));
        assert_eq!(woken, [1, 2]);
        assert!(!inbox.take(&mut woken));
        assert_eq!(inbox.park(), Park::Sleep);
        inbox.unpark();
        assert_eq!(inbox.post(3), Posted::Delivered);
    }

    #[test]
    fn a_closed_inbox_keeps_nothing() {
        let inbox = Inbox::default();
        let item = std::sync::Arc::new(());
        assert_eq!(inbox.post(item.clone()), Posted::Delivered);
        inbox.close();
        assert_eq!(inbox.post(item.clone()), Posted::Delivered);
        assert_eq!(std::sync::Arc::strong_count(&item), 1);
    }
}
