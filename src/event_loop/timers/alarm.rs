//! The clock, and a `timerfd` that wakes a parked loop at a deadline.
//!
//! tokio's own timers have a millisecond's grain; a `timerfd` in its reactor has the kernel's. It
//! is armed only when the loop is about to park and the head of the heap is nearer than what is
//! armed already, so timers that are cancelled or renewed in time cost no system call.

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};

const NANOS: i64 = 1_000_000_000;

/// `time.monotonic()`: the same clock, rounded to a float the same way.
#[inline]
pub(crate) fn monotonic() -> f64 {
    nanos_now() as f64 / NANOS as f64
}

#[inline]
fn nanos_now() -> i64 {
    let mut now = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: writes to a local; this clock always exists.
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &mut now) };
    now.tv_sec * NANOS + now.tv_nsec
}

pub(crate) struct Alarm {
    fd: OwnedFd,
    /// What the kernel will fire at, in nanoseconds of the monotonic clock.
    armed: Option<i64>,
}

impl Alarm {
    pub(crate) fn new() -> io::Result<Self> {
        // SAFETY: no pointers; the result is checked.
        let fd = unsafe {
            libc::timerfd_create(libc::CLOCK_MONOTONIC, libc::TFD_NONBLOCK | libc::TFD_CLOEXEC)
        };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: a fresh descriptor that nobody else owns.
        Ok(Self { fd: unsafe { OwnedFd::from_raw_fd(fd) }, armed: None })
    }

    /// Makes sure that the loop wakes within `seconds` from now (a negative time means at once).
    pub(crate) fn wake_within(&mut self, seconds: f64) -> io::Result<()> {
        // Rounded up: early is a bug, a nanosecond late is not. Far deadlines are cut to a day.
        let wait = (seconds * NANOS as f64).ceil().clamp(1.0, 86_400.0 * NANOS as f64) as i64;
        let deadline = nanos_now() + wait;
        // A nearer alarm stays: it wakes the loop, which then arms again.
        if self.armed.is_some_and(|armed| armed <= deadline) {
            return Ok(());
        }
        let spec = libc::itimerspec {
            it_interval: libc::timespec { tv_sec: 0, tv_nsec: 0 },
            it_value: libc::timespec { tv_sec: deadline / NANOS, tv_nsec: deadline % NANOS },
        };
        // SAFETY: our own descriptor, a local spec, and null for the old value we do not want.
        let result = unsafe {
            libc::timerfd_settime(
                self.fd.as_raw_fd(),
                libc::TFD_TIMER_ABSTIME,
                &spec,
                std::ptr::null_mut(),
            )
        };
        if result < 0 {
            return Err(io::Error::last_os_error());
        }
        self.armed = Some(deadline);
        Ok(())
    }

    /// The kernel fired. (Arming again resets the count, so nothing needs to be read.)
    pub(crate) fn fired(&mut self) {
        self.armed = None;
    }
}

impl AsRawFd for Alarm {
    fn as_raw_fd(&self) -> RawFd {
        self.fd.as_raw_fd()
    }
}
