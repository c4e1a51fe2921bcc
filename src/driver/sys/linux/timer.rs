//! A `timerfd`.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::ptr::null_mut;

use super::{check, owned};

const NANOS: i64 = 1_000_000_000;

pub(crate) struct KernelTimer(OwnedFd);

impl KernelTimer {
    pub(crate) fn new() -> io::Result<Self> {
        let flags = libc::TFD_NONBLOCK | libc::TFD_CLOEXEC;
        // SAFETY: no pointers; a new descriptor or an error.
        unsafe { owned(libc::timerfd_create(libc::CLOCK_MONOTONIC, flags)) }.map(Self)
    }

    /// Setting it resets the count of expirations, which makes the descriptor unreadable.
    pub(crate) fn set(&self, deadline: i64) -> io::Result<()> {
        let at = libc::itimerspec {
            it_interval: libc::timespec { tv_sec: 0, tv_nsec: 0 },
            it_value: libc::timespec { tv_sec: deadline / NANOS, tv_nsec: deadline % NANOS },
        };
        // SAFETY: this timer's descriptor, a local value, and null for the old value, which is not
        // needed.
        let result = unsafe {
            libc::timerfd_settime(self.as_raw_fd(), libc::TFD_TIMER_ABSTIME, &at, null_mut())
        };
        check(result as isize).map(drop)
    }
}

impl AsRawFd for KernelTimer {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_raw_fd()
    }
}
