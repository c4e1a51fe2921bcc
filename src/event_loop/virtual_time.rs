//! A loop whose time is virtual: instead of blocking it may move its clock to the next timer.
//!
//! The clock, and what it does when, are Python's (`tokioloop.testing`): such a loop overrides
//! `time()`. The core asks it before it blocks, tells it when a block is over, and counts what the
//! loop waits for. A loop without virtual time reads one flag each time it blocks.

use pyo3::intern;
use pyo3::prelude::*;

use super::NativeLoop;
use super::dispatch;

#[pymethods]
impl NativeLoop {
    /// From now on calls `_before_blocking()` and `_after_blocking()` of the loop.
    fn _use_virtual_time(slf: &Bound<'_, Self>) {
        Self::entered(slf).state.virtual_time.set(slf.py(), true);
    }

    /// When the first timer is due, on the loop's clock. One that was cancelled counts until the
    /// next batch.
    fn _next_timer(slf: &Bound<'_, Self>) -> Option<f64> {
        Self::entered(slf).first_timer(slf.py())
    }

    /// What may make an entry ready from outside: how many descriptors are watched for the user, how
    /// many transports and listeners wait for the kernel, and how many Rust futures for a wake.
    fn _outstanding(slf: &Bound<'_, Self>) -> (usize, usize, usize) {
        let (py, this) = (slf.py(), Self::entered(slf));
        let descriptors = this.descriptors.with(py, |descriptors| descriptors.awaited());
        let sources = this.sources.with(py, |sources| sources.waiting());
        let tasks = match this.wakeups.reactor(py) {
            Some(reactor) if this.wakeups.runtime_is_shared(py) => reactor.alive_tasks(),
            _ => 0,
        };
        (descriptors, sources, this.wake_targets.parked(py) + tasks)
    }
}

impl NativeLoop {
    /// `may_block` of a loop whose time is virtual. The alarm is armed for as long as the loop is
    /// willing to block.
    #[cold]
    pub(super) fn may_block_in_virtual_time(&self, py: Python<'_>) -> PyResult<bool> {
        let ran = self.ready.with(py, |ready| ready.served());
        let wait: Option<f64> =
            self.bind(py).call_method1(intern!(py, "_before_blocking"), (ran,))?.extract()?;
        // That was Python code: other threads may have run, and scheduled something.
        if self.ready.with(py, |ready| ready.len()) > 0 {
            return Ok(false);
        }
        match wait {
            Some(wait) if wait <= 0.0 => return Ok(false),
            Some(wait) => dispatch::arm_alarm(py, self, wait)?,
            None => {}
        }
        Ok(self.wake_targets.allow_sleep(py))
    }

    /// A block is over.
    #[cold]
    pub(super) fn was_blocked_in_virtual_time(&self, py: Python<'_>) -> PyResult<()> {
        self.bind(py).call_method0(intern!(py, "_after_blocking")).map(drop)
    }
}
