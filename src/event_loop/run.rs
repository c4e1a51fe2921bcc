//! `run_forever`: iterations, and polls of the driver between them.
//!
//! Callbacks run outside of tokio's `block_on`, which is entered for each poll. So a callback may
//! do what asyncio allows it: fork and run another loop in the child, or drive another loop here.

use pyo3::exceptions::PyRuntimeError;
use pyo3::ffi;
use pyo3::prelude::*;

use super::NativeLoop;
use super::iteration::Next;
use super::queue::Ready;
use crate::driver::reactor::{Patience, PollMode, Reactor};
use crate::event_loop::handles::Handle;
use crate::ffi::attachment;
use crate::ffi::trampoline::without_panics;

impl NativeLoop {
    /// Runs until `stop()`, or until a callback or a signal handler raises `SystemExit` or
    /// `KeyboardInterrupt`. Each iteration calls `run_once`, if the program has a method of its own for
    /// that.
    pub(super) fn run(&self, py: Python<'_>, run_once: Option<&Bound<'_, PyAny>>) -> PyResult<()> {
        if tokio::runtime::Handle::try_current().is_ok() {
            return Err(PyRuntimeError::new_err(
                "Cannot run the event loop while a tokio runtime is running in this thread",
            ));
        }
        let outer = self.state.in_run.get(py);
        self.state.in_run.set(py, true);
        if outer {
            self.begin_inner_run(py);
        }
        attachment::begin(py);
        // A panic, too, ends the run and not what it has begun.
        let result = without_panics(py, || match run_once {
            None => self.run_natively(py),
            Some(run_once) => self.run_by(run_once),
        });
        attachment::end(py);
        if outer {
            self.end_inner_run(py);
        }
        // From here on the loop may become garbage.
        self.state.in_run.set(py, outer);
        drop(self.ready.with(py, Ready::take_ticket));
        self.ready.with(py, |ready| ready.track_shared());
        self.timers.with(py, |timers| timers.handles().for_each(Handle::track_if_shared));
        self.descriptors.with(py, |watched| watched.handles().for_each(Handle::track_if_shared));
        result
    }

    fn run_natively(&self, py: Python<'_>) -> PyResult<()> {
        // asyncio looks at its descriptors before the first batch.
        let mut poll = PollMode::NonBlocking;
        loop {
            match self.poll_and_iterate(py, poll)? {
                Next::Poll(next) => poll = next,
                Next::Stop => return Ok(()),
            }
        }
    }

    fn run_by(&self, run_once: &Bound<'_, PyAny>) -> PyResult<()> {
        loop {
            run_once.call0()?;
            if self.state.stopping.get(run_once.py()) {
                return Ok(());
            }
        }
    }

    /// One iteration, for `_run_once`: blocks until an entry is ready if none is.
    pub(super) fn run_once(&self, py: Python<'_>) -> PyResult<()> {
        // As in `iterate`: first.
        self.wakeups.fall_asleep(py);
        let ready = self.ready.with(py, |ready| ready.len()) > 0;
        let poll = if ready || !self.may_block(py)? {
            PollMode::NonBlocking
        } else {
            self.wakeups.block(py)
        };
        self.poll_driver(py, poll)?;
        self.start_iteration(py)?;
        let ran = self.run_batch(py);
        let flushed = self.flush(py);
        ran.and(flushed)
    }

    fn poll_and_iterate(&self, py: Python<'_>, poll: PollMode) -> PyResult<Next> {
        self.poll_driver(py, poll)?;
        self.iterate(py)
    }

    fn poll_driver(&self, py: Python<'_>, poll: PollMode) -> PyResult<()> {
        let polled = match poll {
            PollMode::Blocking(patience) => self.sleep(py, patience),
            PollMode::NonBlocking => self.leave_python(py, |reactor| reactor.poll(poll)),
        };
        self.wakeups.wake_up(py);
        self.wake_targets.sleep_is_over(py);
        polled?;
        if matches!(poll, PollMode::Blocking(_)) && self.state.virtual_time.get(py) {
            self.was_blocked_in_virtual_time(py)?;
        }
        Ok(())
    }

    /// Polls the driver until something happens. A signal counts if it lands on this thread, as on
    /// asyncio, whose system call it interrupts.
    fn sleep(&self, py: Python<'_>, mut patience: Patience) -> PyResult<()> {
        if patience == Patience::Eager && self.reactor(py)?.is_brisk() {
            if self.leave_python(py, Reactor::spin)? {
                return Ok(());
            }
            patience = Patience::Spent;
        }
        // A signal that came before the system call does not interrupt it: this is the last moment
        // to hear of one.
        // SAFETY: the GIL is held. Runs Python-level signal handlers, in the main thread only.
        if unsafe { ffi::PyErr_CheckSignals() } != 0 {
            return Err(PyErr::fetch(py));
        }
        let poll = if self.state.stopping.get(py) {
            PollMode::NonBlocking
        } else {
            PollMode::Blocking(patience)
        };
        self.leave_python(py, |reactor| reactor.poll(poll))
    }

    fn leave_python<R: Send>(
        &self,
        py: Python<'_>,
        call: impl FnOnce(&Reactor) -> R + Send,
    ) -> PyResult<R> {
        // Asked for each time: a callback may have forked, and this be the child.
        let reactor = self.reactor(py)?;
        // The GIL is held through a whole iteration and released only here.
        attachment::end(py);
        let result = py.detach(|| call(&reactor));
        // Any thread may call `_run_once`, outside of a run as well.
        if self.state.in_run.get(py) && self.runs_in_this_thread(py) {
            attachment::begin(py);
        }
        Ok(result)
    }
}
