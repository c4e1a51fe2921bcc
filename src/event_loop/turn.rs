//! A turn: events and timers become ready entries, batches run, writes leave, then tokio.
//!
//! The order is asyncio's: what was ready, then I/O, then timers that came due, each first in
//! first out; what a callback schedules runs in the next batch. Several batches may pass between
//! two looks at the reactor, because a look costs a system call.

use pyo3::ffi;
use pyo3::prelude::*;

use super::run::Next;
use super::{Entry, NativeLoop};
use crate::cached;
use crate::handles::Handle;
use crate::reactor::Look;
use crate::sources::{self, Event};
use crate::timers::Timers;
use crate::timers::alarm::monotonic;

/// Callbacks after which what was written leaves, and the clock is read: or, if they were called
/// for what one descriptor had, the reactor is looked at.
const CALLBACKS_PER_FLUSH: usize = 32;

/// Seconds after which the reactor is looked at, even while more callbacks are ready. A look takes
/// about a microsecond.
const BETWEEN_LOOKS: f64 = 40e-6;

impl NativeLoop {
    pub(super) fn turn(&self, py: Python<'_>) -> PyResult<Next> {
        // SAFETY: the GIL is held. Runs Python-level signal handlers, in the main thread only.
        if unsafe { ffi::PyErr_CheckSignals() } != 0 {
            return Err(PyErr::fetch(py));
        }
        self.collect_events(py)?;
        self.also_ran.set(py, 0);
        let mut until = None;
        loop {
            let stopped = self.batches(py, &mut until);
            // Also after an error: nobody may run the loop again, and what was written must leave.
            let flushed = self.flush(py);
            if stopped? {
                return flushed.map(|()| Next::Stop);
            }
            flushed?;
            // What comes in by itself does not keep the loop from looking at the others.
            if self.ready.with(py, |ready| ready.len()) == 0
                || self.also_ran.get(py) >= CALLBACKS_PER_FLUSH
            {
                break;
            }
            let now = monotonic();
            if now >= *until.get_or_insert(now + BETWEEN_LOOKS) {
                break;
            }
        }
        if self.ready.with(py, |ready| ready.len()) > 0
            || !self.prepare_to_park(py)?
            || !self.park_mailbox(py)
        {
            return Ok(Next::Look(Look::Glance));
        }
        self.ready.with(py, |ready| ready.trim());
        // First: what lets go of a context may run Python code, which must find that the loop
        // sleeps if it makes something ready.
        self.idle.set(py, true);
        self.contexts.forget(py);
        Ok(Next::Look(self.wait(py)))
    }

    /// Runs what is ready. `true`: `stop()` was called. `until`: when to look at the reactor.
    fn batches(&self, py: Python<'_>, until: &mut Option<f64>) -> PyResult<bool> {
        self.collect_timers(py)?;
        self.collect_woken(py);
        let mut ran = 0;
        for number in 1.. {
            let batch = self.ready.with(py, |ready| ready.len());
            for _ in 0..batch {
                let Some(entry) = self.ready.with(py, |ready| ready.pop(py)) else {
                    break;
                };
                self.run_entry(py, entry)?;
            }
            if self.stopping.get(py) {
                return Ok(true);
            }
            self.collect_woken(py);
            ran += batch;
            if batch == 0 || ran + self.also_ran.get(py) >= CALLBACKS_PER_FLUSH {
                break;
            }
            // Most turns have no more than two, and no need of the time.
            if number == 2 {
                until.get_or_insert_with(|| monotonic() + BETWEEN_LOOKS);
            }
            if self.timer_due.get(py) {
                self.collect_timers(py)?;
            }
        }
        Ok(false)
    }

    #[inline]
    fn run_entry(&self, py: Python<'_>, entry: Entry) -> PyResult<()> {
        match entry {
            Entry::Call(call) if !self.debug.get(py) => self.run_call(py, call),
            Entry::Call(call) => {
                let handle = call.into_new_handle(py, self)?;
                self.run_in_debug(py, &handle)
            }
            Entry::Handle(handle) => {
                if handle.is_cancelled(py) {
                    return Ok(());
                }
                if self.debug.get(py) {
                    return self.run_in_debug(py, &handle);
                }
                self.run_handle(py, &handle)
            }
            entry if self.debug.get(py) => {
                let started = monotonic();
                let result = self.run_native(py, entry);
                self.log_if_slow(py, monotonic() - started)?;
                result
            }
            entry => self.run_native(py, entry),
        }
    }

    /// What needs no handle. It reports its protocols' errors itself; one that is left over is
    /// reported here, and the loop lives on.
    #[inline]
    fn run_native(&self, py: Python<'_>, entry: Entry) -> PyResult<()> {
        let result = match entry {
            Entry::Io(key) => sources::dispatch(py, self, key),
            Entry::Native(object, step) => step(py, &object),
            Entry::Handle(handle) => self.run_handle(py, &handle),
            Entry::Call(call) => self.run_call(py, call),
        };
        result.or_else(|error| self.report(py, "Exception in a transport's callback", error, &[]))
    }

    #[cold]
    fn log_if_slow(&self, py: Python<'_>, took: f64) -> PyResult<()> {
        let helpers = cached::helpers(py)?.bind(py);
        helpers.call_method1("log_if_slow", (self.bind(py), took)).map(drop)
    }

    /// asyncio's debug mode: the handle in hand is known, and a slow one is logged.
    #[cold]
    fn run_in_debug(&self, py: Python<'_>, handle: &Handle) -> PyResult<()> {
        cached::helpers(py)?
            .bind(py)
            .call_method1("run_in_debug", (self.bind(py), handle.bind(py)))?;
        Ok(())
    }

    fn collect_events(&self, py: Python<'_>) -> PyResult<()> {
        let Some(reactor) = self.reactor.with(py, |reactor| reactor.clone()) else {
            return Ok(());
        };
        let mut fired = self.fired.take(py);
        fired.clear();
        reactor.events.drain(&mut fired);
        for key in &fired {
            match self.sources.with(py, |sources| sources.event(*key)) {
                None => {}
                Some(Event::Alarm) => sources::alarm_fired(py, self),
                Some(Event::Descriptors) => {
                    self.descriptors.with(py, |descriptors| descriptors.set_pending());
                }
                Some(Event::Object) => self.ready.with(py, |ready| ready.push(Entry::Io(*key))),
            }
        }
        self.fired.with(py, |slot| *slot = fired);
        crate::descriptors::collect(py, self)
    }

    fn collect_timers(&self, py: Python<'_>) -> PyResult<()> {
        self.timer_due.set(py, false);
        if self.timers.with(py, |timers| timers.is_empty()) {
            return Ok(());
        }
        let now = self.now(py)?;
        // Cancelled ones come along, to be dropped where that may run Python code.
        self.timers.with(py, |timers| {
            self.ready.with(py, |ready| {
                // Those that there is no memory for stay for the next batch.
                while ready.make_room()
                    && let Some(timer) = timers.pop_due(py, now)
                {
                    ready.push(timer.into_entry());
                }
            });
        });
        Ok(())
    }

    /// Sends what transports wrote since the last flush.
    fn flush(&self, py: Python<'_>) -> PyResult<()> {
        let unflushed = self.unflushed.take(py);
        if !unflushed.is_empty() {
            self.answered.set(py, true);
        }
        let mut result = Ok(());
        for (transport, flush) in unflushed {
            // One that ends the loop does not keep the others' bytes back.
            result = result.and(flush(py, &transport));
        }
        result
    }

    /// What a loop with nothing to do does.
    pub(super) fn wait(&self, py: Python<'_>) -> Look {
        let eagerly = self.answered.get(py);
        self.answered.set(py, false);
        Look::Wait { eagerly }
    }

    /// Arms the alarm for the next timer. `false`: something is due already.
    pub(super) fn prepare_to_park(&self, py: Python<'_>) -> PyResult<bool> {
        if self.descriptors.with(py, |descriptors| descriptors.is_pending()) {
            return Ok(false);
        }
        let Some(when) = self.timers.with(py, |timers: &mut Timers| timers.next()) else {
            return Ok(true);
        };
        let wait = when - self.now(py)?;
        if wait <= 0.0 {
            return Ok(false);
        }
        sources::arm_alarm(py, self, wait)?;
        Ok(true)
    }
}
