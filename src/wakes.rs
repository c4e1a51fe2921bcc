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

use crate::events::Events;
use crate::forks::{self, Mutex};

/// Somebody polls right now.
const POLLING: u8 = 1;
/// A poll is due: somebody was told, and tells nobody else.
const WOKEN: u8 = 2;

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

    /// The poll ended without a result. `true`: woken meanwhile, and nobody was told; who polls
    /// must see to the next poll.
    pub fn finish(&self) -> bool {
        self.0.fetch_and(!POLLING, Ordering::AcqRel) & WOKEN != 0
    }

    /// `true`: whoever polls must be told.
    pub fn wake(&self) -> bool {
        self.0.fetch_or(WOKEN, Ordering::AcqRel) == 0
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
    /// Puts something in. `true`: the owner sleeps, and must be woken.
    pub(crate) fn post(&self, item: T) -> bool {
        let mut inside = self.inside.lock();
        if inside.closed {
            drop(inside);
            // Dropped without the lock.
            return false;
        }
        inside.woken.push(item);
        self.filled.store(true, Ordering::Release);
        std::mem::take(&mut inside.parked)
    }

    /// Swaps what is there with an empty list. `false`: nothing is there.
    pub(crate) fn take(&self, into: &mut Vec<T>) -> bool {
        if !self.filled.load(Ordering::Acquire) {
            return false;
        }
        let mut inside = self.inside.lock();
        self.filled.store(false, Ordering::Release);
        std::mem::swap(&mut inside.woken, into);
        !into.is_empty()
    }

    /// The owner is about to sleep. `false`: it must not, something is there.
    pub(crate) fn park(&self) -> bool {
        let mut inside = self.inside.lock();
        inside.parked = inside.woken.is_empty();
        inside.parked
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
pub struct Mailbox<T> {
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
    pub fn attach(&self, events: &Arc<Events>) {
        let old = self.events.lock().replace((Arc::clone(events), forks::count()));
        drop(old);
    }

    /// From any thread.
    pub fn post(&self, item: T) {
        // Not in a forked child before its loop has events of its own: nobody sleeps there, and the
        // parent's may be locked by a thread that is not here.
        if self.inbox.post(item)
            && let Some((events, forks)) = &*self.events.lock()
            && *forks == forks::count()
        {
            events.call();
        }
    }

    /// See `Inbox::take`.
    pub fn take(&self, into: &mut Vec<T>) -> bool {
        self.inbox.take(into)
    }

    /// See `Inbox::park`.
    pub fn park(&self) -> bool {
        self.inbox.park()
    }

    /// See `Inbox::unpark`.
    pub fn unpark(&self) {
        self.inbox.unpark();
    }

    /// Nobody is woken from now on. Wakers that live on must not keep the runtime's descriptors.
    pub fn close(&self) {
        self.inbox.close();
        let events = self.events.lock().take();
        drop(events);
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::{Inbox, Marks};

    #[test]
    fn only_the_first_wake_tells_somebody() {
        let marks = Marks::default();
        assert!(marks.wake());
        assert!(!marks.wake());
        marks.begin();
        assert!(!marks.finish());
        assert!(marks.wake());
    }

    #[test]
    fn a_wake_during_the_poll_is_left_to_who_polls() {
        let marks = Marks::default();
        marks.begin();
        assert!(!marks.wake());
        assert!(marks.finish());
        // The next poll is coming anyway.
        assert!(!marks.wake());
        marks.begin();
        assert!(!marks.finish());
    }

    #[test]
    fn who_parks_is_woken_once_and_only_with_nothing_there() {
        let inbox = Inbox::default();
        assert!(inbox.park());
        assert!(inbox.post(1));
        assert!(!inbox.post(2));
        assert!(!inbox.park());
        let mut woken = Vec::new();
        assert!(inbox.take(&mut woken));
        assert_eq!(woken, [1, 2]);
        assert!(!inbox.take(&mut woken));
        assert!(inbox.park());
        inbox.unpark();
        assert!(!inbox.post(3));
    }

    #[test]
    fn a_closed_inbox_keeps_nothing() {
        let inbox = Inbox::default();
        let item = std::sync::Arc::new(());
        inbox.post(item.clone());
        inbox.close();
        assert!(!inbox.post(item.clone()));
        assert_eq!(std::sync::Arc::strong_count(&item), 1);
    }
}
