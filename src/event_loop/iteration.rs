//! An iteration: events and due timers become ready entries, one batch runs, writes are flushed.
//!
//! The order is asyncio's: what was ready, then I/O, then timers that came due, each first in
//! first out; what a callback schedules runs in the next batch. Before each batch the loop asks
//! the kernel for events, as asyncio does, if any descriptor of the user's could have one. That is one
//! system call with the GIL held. The driver itself is polled without the GIL: when there are events,
//! when the loop has nothing else to do, and at least every `BETWEEN_POLLS`.

use pyo3::ffi;
use pyo3::prelude::*;

use super::dispatch;
use super::instrumentation;
use super::sources::Event;
use super::watching;
use super::{Entry, NativeLoop};
use crate::driver::reactor::PollMode;
use crate::event_loop::timers::alarm::monotonic;

/// Callbacks after which the clock is read, to see whether the driver has to be polled.
const CALLBACKS_PER_CLOCK: usize = 32;

/// Seconds after which the driver is polled even while more callbacks are ready and no descriptor
/// has an event: other threads may want the GIL, and the runtime may have timers of its own.
const BETWEEN_POLLS: f64 = 40e-6;

/// After this many timers in one batch it is looked at whether most of them are due.
const MANY_TIMERS: usize = 64;

/// When the driver is polled next, while more and more callbacks are ready.
#[derive(Default)]
struct Pace {
    /// Callbacks since the clock was read.
    ran: usize,
    /// The loop's time to poll at; not known before the clock was read once.
    due: Option<f64>,
}

impl Pace {
    /// Whether to poll now that `ran` more callbacks have run. Reads the clock at most every
    /// `callbacks_per_clock` callbacks.
    fn is_due(&mut self, ran: usize, callbacks_per_clock: usize) -> bool {
        self.ran += ran;
        if self.ran < callbacks_per_clock {
            return false;
        }
        self.ran = 0;
        let now = monotonic();
        now >= *self.due.get_or_insert(now + BETWEEN_POLLS)
    }
}

/// What follows an iteration.
pub(super) enum Next {
    Stop,
    Poll(PollMode),
}

/// The result of asking for events.
enum Found {
    /// All events are ready entries by now.
    All,
    /// The driver has events, and has to be polled without the GIL: futures run meanwhile.
    MoreToPoll,
}

impl NativeLoop {
    /// Runs batches until the driver has to be polled without the GIL, or the loop to stop.
    pub(super) fn iterate(&self, py: Python<'_>) -> PyResult<Next> {
        self.start_iteration(py)?;
        let mut pace = Pace::default();
        loop {
            let ran = self.run_batch(py);
            // Also after an error: the loop may not run again, and written data must be sent.
            let flushed = self.flush(py);
            let ran = ran?;
            flushed?;
            if self.state.stopping.get(py) {
                return Ok(Next::Stop);
            }
            if self.ready.with(py, |ready| ready.len()) == 0 {
                break;
            }
            let shared = self.wakeups.runtime_is_shared(py);
            let callbacks_per_clock = if shared { 1 } else { CALLBACKS_PER_CLOCK };
            if pace.is_due(ran, callbacks_per_clock) {
                return Ok(Next::Poll(PollMode::NonBlocking));
            }
            if let Found::MoreToPoll = self.look_for_events(py, shared)? {
                return Ok(Next::Poll(PollMode::NonBlocking));
            }
        }
        // First: what follows may run Python code and let other threads run, and what becomes ready
        // meanwhile must end the sleep.
        self.wakeups.fall_asleep(py);
        if !self.may_block(py)? {
            return Ok(Next::Poll(PollMode::NonBlocking));
        }
        self.ready.with(py, |ready| ready.trim());
        self.contexts.forget(py);
        Ok(Next::Poll(self.wakeups.block(py)))
    }

    /// Handles the signals and events that came while the driver was polled.
    pub(super) fn start_iteration(&self, py: Python<'_>) -> PyResult<()> {
        // SAFETY: the GIL is held. Runs Python-level signal handlers, in the main thread only.
        if unsafe { ffi::PyErr_CheckSignals() } != 0 {
            return Err(PyErr::fetch(py));
        }
        self.collect_events(py)
    }

    /// Runs the ready entries, and none that they schedule; returns how many there were.
    pub(super) fn run_batch(&self, py: Python<'_>) -> PyResult<usize> {
        self.collect_timers(py)?;
        self.collect_woken(py);
        let batch = self.ready.with(py, |ready| ready.len());
        let inner = self.is_inner_run(py);
        let instrumented = instrumentation::is_on(py)?;
        for _ in 0..batch {
            if inner {
                self.prepare_to_hold(py)?;
            }
            let mut next = self.ready.with(py, |ready| ready.pop(py));
            if inner {
                let Some(entry) = next.take() else { break };
                next = self.hold_if_entered(py, entry);
                if next.is_none() {
                    continue;
                }
            }
            // Most are calls, which stay where they are until they have run: to move one takes a good part
            // of the time that it takes to run it.
            match next {
                Some(Entry::Call(ref mut call)) if !instrumented && !self.is_debug(py) => {
                    if !call.call(py, &self.contexts)
                        && let Some(Entry::Call(call)) = next
                    {
                        self.call_failed(py, call)?;
                    }
                }
                Some(entry) if instrumented => self.run_instrumented(py, entry)?,
                Some(entry) => self.run_entry(py, entry)?,
                None => break,
            }
        }
        Ok(batch)
    }

    /// Collects the events of descriptors between two batches, with the GIL held.
    fn look_for_events(&self, py: Python<'_>, shared: bool) -> PyResult<Found> {
        if self.sources.with(py, |sources| sources.has_objects()) {
            // A callback may have forked. In the child this makes the child's own reactor.
            let reactor = self.reactor(py)?;
            if self.wakeups.expects_events(py, &reactor) {
                if shared {
                    return Ok(Found::MoreToPoll);
                }
                reactor.poll(PollMode::NonBlocking);
                return self.start_iteration(py).map(|()| Found::All);
            }
            // An event of a user's descriptor is one of the driver's, too: what is left is only what
            // was told of already, and lasts.
            watching::collect(py, self)?;
        } else if self.descriptors.with(py, |descriptors| descriptors.is_watching()) {
            watching::poll(py, self)?;
        }
        Ok(Found::All)
    }

    #[inline]
    fn run_entry(&self, py: Python<'_>, entry: Entry) -> PyResult<()> {
        match entry {
            Entry::Call(call) => match call.into_handle(py, self) {
                Ok(handle) => self.run_in_debug(py, &handle),
                // No memory for it: better run without a log than lost.
                Err(call) => self.run_call(py, call),
            },
            Entry::Handle(handle) => {
                if handle.is_cancelled(py) {
                    return Ok(());
                }
                if self.is_debug(py) {
                    return self.run_in_debug(py, &handle);
                }
                self.run_handle(py, &handle)
            }
            entry if self.is_debug(py) => {
                let started = monotonic();
                let result = self.run_native(py, entry);
                result.and(self.log_if_slow(py, monotonic() - started, None))
            }
            entry => self.run_native(py, entry),
        }
    }

    /// Runs an entry that needs no handle. Transports report the errors of their protocols themselves;
    /// any other error is reported here, and the loop goes on.
    #[inline]
    pub(super) fn run_native(&self, py: Python<'_>, entry: Entry) -> PyResult<()> {
        let result = match entry {
            Entry::Io(key) => dispatch::deliver(py, self, key),
            // SAFETY: the two were queued together.
            Entry::Native(object, step) => unsafe { step(py, &object) },
            Entry::Handle(handle) => self.run_handle(py, &handle),
            Entry::Call(call) => self.run_call(py, call),
        };
        result.or_else(|error| self.report(py, "Exception in a transport's callback", error, &[]))
    }

    fn collect_events(&self, py: Python<'_>) -> PyResult<()> {
        let Some(reactor) = self.wakeups.reactor(py) else {
            return Ok(());
        };
        self.wakeups.drain(py, &reactor, |fired| {
            for key in fired {
                match self.sources.with(py, |sources| sources.event(*key)) {
                    None => {}
                    Some(Event::Alarm) => dispatch::alarm_fired(py, self),
                    Some(Event::Descriptors) => {
                        self.descriptors.with(py, |descriptors| descriptors.set_pending());
                    }
                    Some(Event::Object) => {
                        self.ready.with(py, |ready| ready.push(Entry::Io(*key)));
                    }
                }
            }
        });
        watching::collect(py, self)
    }

    fn collect_timers(&self, py: Python<'_>) -> PyResult<()> {
        if self.timers.with(py, |timers| timers.is_empty()) {
            return Ok(());
        }
        let now = self.now(py)?;
        // Cancelled timers come along, to be dropped where that may run Python code.
        self.timers.with(py, |timers| {
            self.ready.with(py, |ready| {
                // Timers that there is no memory for stay for the next batch.
                let mut taken = 0;
                while ready.make_room()
                    && let Some(timer) = timers.pop_due(py, now)
                {
                    ready.push(timer.into_entry());
                    taken += 1;
                    if taken == MANY_TIMERS {
                        timers.sort_due(now);
                    }
                }
            });
        });
        Ok(())
    }

    /// Sends what transports wrote since the last flush.
    #[inline(always)]
    pub(super) fn flush(&self, py: Python<'_>) -> PyResult<()> {
        if self.unflushed.is_empty(py) { Ok(()) } else { self.flush_all(py) }
    }

    #[inline(never)]
    fn flush_all(&self, py: Python<'_>) -> PyResult<()> {
        let unflushed = self.unflushed.take(py);
        self.set_answered(py, true);
        let mut result = Ok(());
        for (transport, flush) in unflushed {
            // A transport whose error ends the loop does not keep the others' bytes back.
            // SAFETY: the two were listed together.
            result = result.and(unsafe { flush(py, &transport) });
            drop(transport.into_bound(py));
        }
        result
    }

    /// Whether the loop may block. Then the alarm is armed for the next timer.
    ///
    /// Only for a loop that has fallen asleep already: a clock that is overridden is Python code, and
    /// even the first look for one lets other threads run.
    pub(super) fn may_block(&self, py: Python<'_>) -> PyResult<bool> {
        if self.descriptors.with(py, |descriptors| descriptors.is_pending()) {
            return Ok(false);
        }
        if self.state.virtual_time.get(py) {
            return self.may_block_in_virtual_time(py);
        }
        if let Some(when) = self.timers.with(py, |timers| timers.next()) {
            let wait = when - self.now(py)?;
            if wait <= 0.0 {
                return Ok(false);
            }
            dispatch::arm_alarm(py, self, wait)?;
        }
        Ok(self.wake_targets.allow_sleep(py))
    }
}
