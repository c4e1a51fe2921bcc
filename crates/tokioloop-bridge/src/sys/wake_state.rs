//! Whether a future that is polled by hand has to be polled again.
//!
//! Two bits, which the poller and any number of wakers change. Each change reads and writes both in
//! one step, so every wake is seen by exactly one side: by the waker that finds the state at rest
//! and notifies the owner, or by the poller, whose poll ends as [`Polled::Woken`].
//!
//! `tests/loom` runs this file through the orders in which threads can meet.

#[cfg(loom)]
use loom::sync::atomic::{AtomicU8, Ordering};
#[cfg(not(loom))]
use std::sync::atomic::{AtomicU8, Ordering};

/// The future is being polled.
const POLLING: u8 = 1;
/// A poll is due, of which the owner knows or the poller will learn.
const WOKEN: u8 = 2;

/// The waker's duty after a wake.
#[must_use]
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Wake {
    /// Notify the owner.
    Notify,
    /// Nothing: a poll goes on, whose end takes care of this wake, or one is due already.
    Coalesced,
}

/// How a poll without a result ended.
#[must_use]
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Polled {
    /// The next wake notifies the owner.
    Pending = 0,
    /// It was woken meanwhile, and the owner was not notified: the poller polls again.
    Woken = 1,
}

/// The state that the poller and the wakers of one future share.
///
/// A waker that finds `WOKEN` set already has published what it wrote before, to the poll that will
/// clear it.
#[derive(Default)]
pub struct WakeState(AtomicU8);

impl WakeState {
    /// A poll begins, which takes care of all wakes so far.
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

    /// Whether a poll is due.
    pub fn is_woken(&self) -> bool {
        self.0.load(Ordering::Acquire) & WOKEN != 0
    }

    /// Asks for a poll, from any thread.
    pub fn wake(&self) -> Wake {
        match self.0.fetch_or(WOKEN, Ordering::AcqRel) {
            0 => Wake::Notify,
            _ => Wake::Coalesced,
        }
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::{Polled, Wake, WakeState};

    #[test]
    fn only_the_first_wake_notifies_the_owner() {
        let state = WakeState::default();
        assert_eq!(state.wake(), Wake::Notify);
        assert_eq!(state.wake(), Wake::Coalesced);
        assert!(state.is_woken());
        state.begin();
        assert!(!state.is_woken());
        assert_eq!(state.finish(), Polled::Pending);
        assert_eq!(state.wake(), Wake::Notify);
    }

    #[test]
    fn a_wake_during_the_poll_is_left_to_the_poller() {
        let state = WakeState::default();
        state.begin();
        assert_eq!(state.wake(), Wake::Coalesced);
        assert_eq!(state.finish(), Polled::Woken);
        // The next poll is due anyway.
        assert_eq!(state.wake(), Wake::Coalesced);
        state.begin();
        assert_eq!(state.finish(), Polled::Pending);
    }
}
