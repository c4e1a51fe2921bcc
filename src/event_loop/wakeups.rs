//! The loop's sleep, and what ends it: the reactor, other threads, woken Rust futures.

use std::sync::Arc;

use pyo3::prelude::*;

use crate::driver::reactor::{Key, Patience, PollMode, Reactor};
use crate::ffi::gil::{GilCell, GilFlag};

/// After so many looks in a row that found events the next ones are expected to.
const SURE: u8 = 3;

/// So many of those, before the reactor is asked again.
const UNASKED: u8 = 3;

pub(super) struct Wakeups {
    /// Made at first need, and made anew in a forked child.
    reactor: GilCell<Option<Arc<Reactor>>>,
    /// The loop sleeps: a thread that makes something ready must wake it.
    idle: GilFlag<bool>,
    /// A peer was answered since the loop last blocked, and may ask again at once.
    answered: GilFlag<bool>,
    /// Rust futures use the runtime: it may have tasks and timers, which no descriptor shows.
    runtime_is_shared: GilFlag<bool>,
    /// How many looks in a row found events.
    found: GilFlag<u8>,
    /// Room for the keys of events, kept from poll to poll.
    fired: GilCell<Vec<Key>>,
}

impl Wakeups {
    pub(super) const fn new() -> Self {
        Self {
            reactor: GilCell::new(None),
            idle: GilFlag::new(false),
            answered: GilFlag::new(false),
            runtime_is_shared: GilFlag::new(false),
            found: GilFlag::new(0),
            fired: GilCell::new(Vec::new()),
        }
    }

    /// The reactor, if there is one, which may be the parent's in a forked child.
    pub(super) fn reactor(&self, py: Python<'_>) -> Option<Arc<Reactor>> {
        self.reactor.with(py, |reactor| reactor.clone())
    }

    pub(super) fn take_reactor(&self, py: Python<'_>) -> Option<Arc<Reactor>> {
        self.reactor.take(py)
    }

    pub(super) fn runtime_is_shared(&self, py: Python<'_>) -> bool {
        self.runtime_is_shared.get(py)
    }

    /// Whether polling the driver is likely to collect something. Where the last looks all did the reactor
    /// is not asked before some of the next, which saves a busy server a system call.
    pub(super) fn expects_events(&self, py: Python<'_>, reactor: &Reactor) -> bool {
        let found = self.found.get(py);
        let asks = !(SURE..SURE + UNASKED).contains(&found);
        let expected = !asks || reactor.has_events();
        self.found.set(
            py,
            match expected {
                true if found == SURE + UNASKED => SURE,
                true => found + 1,
                false => 0,
            },
        );
        expected
    }

    pub(super) fn fall_asleep(&self, py: Python<'_>) {
        self.idle.set(py, true);
    }

    pub(super) fn wake_up(&self, py: Python<'_>) {
        self.idle.set(py, false);
    }

    /// Runs `f` with the keys of the events that `reactor` has collected.
    pub(super) fn drain<R>(
        &self,
        py: Python<'_>,
        reactor: &Reactor,
        f: impl FnOnce(&[Key]) -> R,
    ) -> R {
        let mut fired = self.fired.take(py);
        fired.clear();
        reactor.events.drain(&mut fired);
        let result = f(&fired);
        self.fired.with(py, |slot| *slot = fired);
        result
    }

    /// How a loop with nothing to do polls the driver.
    pub(super) fn block(&self, py: Python<'_>) -> PollMode {
        let patience = if self.answered.get(py) { Patience::Eager } else { Patience::Relaxed };
        self.answered.set(py, false);
        PollMode::Blocking(patience)
    }

    /// Puts a reactor in the place of the one before, which comes back.
    pub(super) fn replace_reactor(
        &self,
        py: Python<'_>,
        reactor: Arc<Reactor>,
    ) -> Option<Arc<Reactor>> {
        self.reactor.with(py, |slot| slot.replace(reactor))
    }

    pub(super) fn share_runtime(&self, py: Python<'_>) {
        self.runtime_is_shared.set(py, true);
    }

    #[inline]
    pub(super) fn is_asleep(&self, py: Python<'_>) -> bool {
        self.idle.get(py)
    }

    /// Ends the loop's sleep.
    #[inline]
    pub(super) fn wake(&self, py: Python<'_>) {
        if self.idle.get(py) {
            self.idle.set(py, false);
            self.reactor.with(py, |reactor| {
                if let Some(reactor) = reactor {
                    reactor.wake();
                }
            });
        }
    }

    #[inline]
    pub(super) fn set_answered(&self, py: Python<'_>, answered: bool) {
        self.answered.set(py, answered);
    }
}
