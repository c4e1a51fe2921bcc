//! Entries come into the ready queue and into the heap of timers; the loop's clock.

use pyo3::exceptions::PyMemoryError;
use pyo3::prelude::*;

use super::NativeLoop;
use super::queue::{Callback, Entry, Handle, Queued, Ready, Ticket};
use super::timers::Timer;
use super::timers::alarm::monotonic;

impl NativeLoop {
    /// Puts an entry at the end of the ready queue, and wakes the loop to run it.
    #[inline]
    pub fn push(&self, py: Python<'_>, entry: Entry) {
        self.ready.with(py, |ready| ready.push(entry));
        self.wake(py);
    }

    /// `push` of a call that no code has looked at, whose ticket is the handle.
    #[inline]
    pub fn push_call(
        &self,
        py: Python<'_>,
        handle: &Handle,
        fill: impl FnOnce(&mut Queued),
    ) -> PyResult<()> {
        // Again: to make the handle may have run the collector, and a finalizer closed the loop.
        self.check_closed(py)?;
        if !self.ready.with(py, |ready| ready.push_call(py, handle, fill)) {
            return Err(PyMemoryError::new_err(()));
        }
        if !self.state.in_run.get(py) {
            // The loop may become garbage, and the ticket with it.
            handle.track_new();
        }
        self.wake(py);
        Ok(())
    }

    /// `push_call` with the ticket that was given out last, if nobody has that any more, the loop is
    /// awake and there is room: so it cannot fail, nor panic.
    #[inline(always)]
    pub fn push_call_again(
        &self,
        py: Python<'_>,
        fill: impl FnOnce(&mut Queued),
    ) -> Option<Handle> {
        if self.wakeups.is_asleep(py) {
            return None;
        }
        self.ready.try_with(py, |ready| ready.push_call_again(py, fill)).flatten()
    }

    /// Keeps a ticket that is given out, so that the next call can have it. Only while the loop runs: else
    /// it would keep the loop alive.
    pub fn keep_ticket(&self, py: Python<'_>, handle: &Handle) {
        if self.state.in_run.get(py) {
            let handle = handle.clone_ref(py);
            drop(self.ready.with(py, |ready| ready.keep_ticket(handle)));
        }
    }

    /// `push` of a handle that was made for the user.
    pub fn push_handle(&self, py: Python<'_>, handle: Handle) -> PyResult<()> {
        self.check_closed(py)?;
        if !self.ready.with(py, Ready::make_room) {
            return Err(PyMemoryError::new_err(()));
        }
        self.push(py, Entry::Handle(handle));
        Ok(())
    }

    /// Gives the loop its turn, if another thread than the loop's has just scheduled more than the
    /// loop gets to.
    #[inline]
    pub fn apply_backpressure(&self, py: Python<'_>) {
        let pause = self.ready.with(py, |ready| self.backpressure.pause(py, ready));
        if let Some(pause) = pause
            && self.is_running(py)
            && !self.runs_in_this_thread(py)
        {
            py.detach(|| std::thread::sleep(pause));
        }
    }

    /// The handle with this ticket takes its call over.
    pub fn claim(&self, py: Python<'_>, ticket: Ticket) {
        self.ready.with(py, |ready| ready.claim(py, ticket));
    }

    /// The handle with this ticket dies; its call is the queue's.
    #[inline]
    pub fn give_up(&self, py: Python<'_>, ticket: Ticket) {
        self.ready.with(py, |ready| ready.give_up(ticket));
    }

    pub fn add_timer(&self, py: Python<'_>, timer: Timer, when: f64) -> PyResult<()> {
        self.check_closed(py)?;
        if let Some(timer) = self.timers.with(py, |timers| timers.push(py, timer, when)) {
            drop(timer);
            return Err(PyMemoryError::new_err(()));
        }
        self.wake(py);
        Ok(())
    }

    /// A timer in the heap was cancelled.
    pub fn timer_cancelled(&self, py: Python<'_>) {
        drop(self.timers.with(py, |timers| timers.count_cancelled(py)));
    }

    /// When the first timer is due.
    pub fn first_timer(&self, py: Python<'_>) -> Option<f64> {
        self.timers.with(py, |timers| timers.next())
    }

    /// `self.time()`, without the call unless it is overridden.
    pub fn now(&self, py: Python<'_>) -> PyResult<f64> {
        if self.has_custom_time(py) { self.time(py)?.extract() } else { Ok(monotonic()) }
    }

    /// `self.time()`, whatever it gives.
    pub fn time<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        if self.has_custom_time(py) {
            self.bind(py).call_method0(pyo3::intern!(py, "time"))
        } else {
            Ok(monotonic().into_pyobject(py)?.into_any())
        }
    }

    #[inline]
    pub fn has_custom_time(&self, py: Python<'_>) -> bool {
        self.overrides.has_time(self.borrowed(py))
    }

    /// Whether `call_later` must call `time()` or `call_at()` as a method.
    #[inline]
    pub fn has_custom_timers(&self, py: Python<'_>) -> bool {
        self.overrides.has_any_timers(self.borrowed(py))
    }

    /// Whether `call_later` must call `call_at()` as a method.
    pub fn has_custom_call_at(&self, py: Python<'_>) -> bool {
        self.overrides.has_call_at(self.borrowed(py))
    }

    /// Whether a scheduling method, `create_future` or `create_task` was replaced on the instance.
    #[inline]
    pub fn has_own_methods(&self, py: Python<'_>) -> bool {
        self.overrides.are_on_instance(py)
    }

    #[inline]
    pub fn has_task_factory(&self, py: Python<'_>) -> bool {
        self.overrides.have_task_factory(py)
    }

    /// Has the loop call `flush` with the transport at the end of the batch, and wakes the loop for
    /// it.
    ///
    /// # Safety
    /// `flush` must be made for objects of the transport's kind.
    #[inline]
    pub unsafe fn flush_later(&self, py: Python<'_>, transport: Py<PyAny>, flush: Callback) {
        self.unflushed.push(py, transport, flush);
        self.wake(py);
    }
}
