//! The clock, and an alarm that wakes a loop which blocks, at a deadline.
//!
//! tokio's own timers have a millisecond's grain; the platform's timer in its reactor has the
//! kernel's. The loop sets it only when it is about to block and the head of the heap is nearer
//! than what is set already, so timers that are cancelled or renewed in time cost no system call.

use std::io;
use std::os::fd::{AsRawFd, RawFd};

use crate::driver::sys::clock::monotonic_nanos;
use crate::driver::sys::timer::KernelTimer;

const NANOS: f64 = 1e9;

/// `time.monotonic()`: the same clock, rounded to a float the same way.
#[inline]
pub(crate) fn monotonic() -> f64 {
    monotonic_nanos() as f64 / NANOS
}

pub(crate) struct Alarm {
    timer: KernelTimer,
    /// The deadline that the timer is set to, in nanoseconds of the monotonic clock.
    armed: Option<i64>,
}

impl Alarm {
    pub(crate) fn new() -> io::Result<Self> {
        Ok(Self { timer: KernelTimer::new()?, armed: None })
    }

    /// Makes sure that the loop wakes within `seconds` from now (a negative time means at once).
    pub(crate) fn wake_within(&mut self, seconds: f64) -> io::Result<()> {
        // Rounded up: early is a bug, a nanosecond late is not. Far deadlines are cut to a day.
        let wait = (seconds * NANOS).ceil().clamp(1.0, 86_400.0 * NANOS) as i64;
        let deadline = monotonic_nanos() + wait;
        // A nearer alarm stays: it wakes the loop, which then arms again.
        if self.armed.is_some_and(|armed| armed <= deadline) {
            return Ok(());
        }
        self.timer.set(deadline)?;
        self.armed = Some(deadline);
        Ok(())
    }

    /// The timer fired.
    pub(crate) fn fired(&mut self) {
        self.armed = None;
    }
}

impl AsRawFd for Alarm {
    fn as_raw_fd(&self) -> RawFd {
        self.timer.as_raw_fd()
    }
}
