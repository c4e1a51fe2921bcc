//! Letters from any thread to one owner.
//!
//! The owner parks before it blocks. If there are letters by then it does not block; otherwise the
//! first letter that comes finds the inbox parked, and its poster wakes the owner. Letters behind
//! that one wake nothing.
//!
//! `tests/loom` runs this file through the orders in which threads can meet.

#[cfg(loom)]
use loom::sync::atomic::{AtomicBool, Ordering};
#[cfg(not(loom))]
use std::sync::atomic::{AtomicBool, Ordering};

use super::fork::Mutex;

/// The poster's duty after it has posted a letter.
#[must_use]
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Posted {
    /// Wake the owner, which has parked.
    OwnerSleeps,
    /// Nothing: the owner finds the letter by itself, or has closed the inbox.
    Delivered,
}

/// Whether the owner of an inbox may block.
#[must_use]
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Park {
    /// The inbox is empty, and the poster of the next letter wakes the owner.
    Sleep,
    /// There are letters.
    Mail,
}

/// Letters that were posted and not yet taken, first in, first out.
pub struct Inbox<T> {
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
    pub fn post(&self, letter: T) -> Posted {
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
    pub fn take(&self, into: &mut Vec<T>) -> bool {
        if !self.filled.load(Ordering::Acquire) {
            return false;
        }
        let mut inside = self.inside.lock();
        self.filled.store(false, Ordering::Release);
        std::mem::swap(&mut inside.letters, into);
        !into.is_empty()
    }

    /// The owner is about to block.
    pub fn park(&self) -> Park {
        let mut inside = self.inside.lock();
        inside.parked = inside.letters.is_empty();
        if inside.parked { Park::Sleep } else { Park::Mail }
    }

    /// The owner could not be woken: the poster of the next letter is to try again.
    pub fn repark(&self) {
        self.inside.lock().parked = true;
    }

    /// The owner blocks no longer.
    pub fn unpark(&self) {
        self.inside.lock().parked = false;
    }

    /// Drops all letters, and those that are posted from now on.
    pub fn close(&self) {
        let mut inside = self.inside.lock();
        inside.closed = true;
        let letters = std::mem::take(&mut inside.letters);
        drop(inside);
        drop(letters);
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
