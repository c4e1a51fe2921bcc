//! The loop's sleep, and what ends it: the reactor, other threads, woken Rust futures.

use std::sync::Arc;

use pyo3::prelude::*;

use super::NativeLoop;
use super::dispatch;
use super::queue::Entry;
use super::targets::{self, TableAddress, Target};
use crate::driver::reactor::{Key, Patience, Poll, Reactor};
use crate::ffi::errors::os_error;
use crate::ffi::gil::{GilCell, GilFlag};
use crate::ffi::object::Object;

pub(super) struct Wakeups {
    /// Made at first need, and made anew in a forked child.
    reactor: GilCell<Option<Arc<Reactor>>>,
    /// The loop sleeps: a thread that makes something ready must wake it.
    idle: GilFlag<bool>,
    /// A peer was answered since the loop last blocked, and may ask again at once.
    answered: GilFlag<bool>,
    /// Rust futures use the runtime: it may have tasks and timers, which no descriptor shows.
    runtime_is_shared: GilFlag<bool>,
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
    pub(super) fn block(&self, py: Python<'_>) -> Poll {
        let patience = if self.answered.get(py) { Patience::Eager } else { Patience::Relaxed };
        self.answered.set(py, false);
        Poll::Blocking(patience)
    }
}

impl NativeLoop {
    /// Ends the loop's sleep. Needed after each change that the loop has to see.
    #[inline]
    pub fn wake(&self, py: Python<'_>) {
        if self.wakeups.idle.get(py) {
            self.wakeups.idle.set(py, false);
            self.wakeups.reactor.with(py, |reactor| {
                if let Some(reactor) = reactor {
                    reactor.wake();
                }
            });
        }
    }

    /// A peer was answered, and may ask again at once: the next sleep begins with a short spin.
    #[inline]
    pub fn set_answered(&self, py: Python<'_>, answered: bool) {
        self.wakeups.answered.set(py, answered);
    }

    /// The runtime, made at first need and made anew in a forked child.
    pub fn reactor(&self, py: Python<'_>) -> PyResult<Arc<Reactor>> {
        if let Some(reactor) = self.wakeups.reactor(py)
            && !reactor.is_forked()
        {
            return Ok(reactor);
        }
        self.check_closed(py)?;
        let reactor = Arc::new(Reactor::new().map_err(|error| os_error(py, &error))?);
        self.targets.attach(&reactor);
        let inherited = self.wakeups.reactor.with(py, |slot| slot.replace(Arc::clone(&reactor)));
        if inherited.is_some() {
            drop(inherited);
            dispatch::move_to(py, self, &reactor)?;
        }
        // A loop that has run out of descriptors needs timers, to go on later. If there is none
        // left now, the first timer tries again.
        drop(dispatch::prepare_alarm(py, self));
        Ok(reactor)
    }

    /// The runtime, for futures that use it: from now on it is polled for their sake, too.
    pub fn shared_reactor(&self, py: Python<'_>) -> PyResult<Arc<Reactor>> {
        self.wakeups.runtime_is_shared.set(py, true);
        self.reactor(py)
    }

    /// Makes ready entries of the targets that were woken.
    #[inline]
    pub(super) fn collect_woken(&self, py: Python<'_>) {
        if self.targets.are_used(py) {
            self.collect_woken_targets(py);
        }
    }

    fn collect_woken_targets(&self, py: Python<'_>) {
        self.targets.collect(py, |object| {
            // The thread that woke it may be asked again, and wake again at once.
            self.set_answered(py, true);
            self.push(py, Entry::Native(object.unbind(), targets::call));
        });
    }

    /// A target whose wakes this loop carries.
    pub fn new_target(&self, py: Python<'_>, table: TableAddress) -> PyResult<Arc<Target>> {
        self.check_closed(py)?;
        Ok(self.targets.add(py, table))
    }

    /// From now on a wake calls `object`, which is borrowed until `release_target`.
    ///
    /// # Safety
    /// `object` must stay alive until `release_target`, or until the loop closes and calls it.
    pub unsafe fn park_target(&self, py: Python<'_>, target: &Arc<Target>, object: Object) {
        // SAFETY: the caller's promise.
        unsafe { self.targets.park(py, target, object) };
    }

    /// The object goes; wakes from now on call nothing.
    pub fn release_target(&self, py: Python<'_>, target: &Arc<Target>) {
        self.targets.release(py, target);
    }
}
