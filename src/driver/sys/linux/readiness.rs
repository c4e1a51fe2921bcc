//! Whether tokio's driver has events, for the price of one system call.
//!
//! Polling the driver without blocking means entering the runtime, which takes three times as long
//! as the kernel needs to say that nothing happened. So each reactor has an epoll instance with one
//! member, tokio's own instance. That entry is level-triggered, and asking it takes no event from
//! tokio.
//!
//! tokio does not give out the number of its instance. `find` registers a fresh descriptor, the
//! probe, with the runtime, and then tries to change the probe's entry in each descriptor that can
//! be the runtime's instance. That succeeds in the one instance which has the probe, and changes
//! nothing anywhere else, so every number may be tried.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};

use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::runtime::Runtime;

use super::owned;

/// Numbers to try, from the lowest free one on, which the runtime usually gets.
const CANDIDATES: RawFd = 1024;

pub(crate) struct Readiness(OwnedFd);

impl Readiness {
    /// Builds a runtime, and finds its epoll instance.
    pub(crate) fn with_runtime(
        build: impl FnOnce() -> io::Result<Runtime>,
    ) -> io::Result<(Runtime, Option<Self>)> {
        // SAFETY: no pointers; a new descriptor or an error.
        let probe = unsafe { owned(libc::eventfd(0, libc::EFD_CLOEXEC | libc::EFD_NONBLOCK))? };
        let lowest_free = probe.try_clone()?.as_raw_fd();
        let runtime = build()?;
        let readiness = Self::find(&runtime, &probe, lowest_free);
        Ok((runtime, readiness))
    }

    fn find(runtime: &Runtime, probe: &OwnedFd, lowest_free: RawFd) -> Option<Self> {
        let _entered = runtime.enter();
        // SAFETY: the registration is dropped at the end of this function, before the probe.
        let registered =
            unsafe { AsyncFd::register_with_interest(probe.as_raw_fd(), Interest::READABLE) };
        let _registered = registered.ok()?;
        // Other threads open and close descriptors meanwhile: the number that was the lowest free
        // one is neither free nor the lowest for certain.
        let mut candidates =
            (lowest_free..lowest_free.saturating_add(CANDIDATES)).chain((0..lowest_free).rev());
        let fd = candidates.find(|fd| has_member(*fd, probe))?;
        // SAFETY: no pointers; a new descriptor or an error.
        let outer = unsafe { owned(libc::epoll_create1(libc::EPOLL_CLOEXEC)).ok()? };
        let mut event = libc::epoll_event { events: libc::EPOLLIN as u32, u64: 0 };
        // SAFETY: the descriptor of the instance that was just made, and a local event.
        let added =
            unsafe { libc::epoll_ctl(outer.as_raw_fd(), libc::EPOLL_CTL_ADD, fd, &mut event) };
        (added == 0).then_some(Self(outer))
    }

    /// Whether polling the driver would find something.
    #[inline]
    pub(crate) fn has_events(&self) -> bool {
        let mut event = libc::epoll_event { events: 0, u64: 0 };
        // SAFETY: room for the one event that is asked for; the time-out of 0 never blocks.
        // An error counts as readiness: polling the driver then reports what is wrong.
        unsafe { libc::epoll_wait(self.0.as_raw_fd(), &mut event, 1, 0) != 0 }
    }
}

/// Whether `fd` is an epoll instance that has `member`; if so, it reports no more events of it.
fn has_member(fd: RawFd, member: &OwnedFd) -> bool {
    // tokio ignores events with this token, should there ever be one.
    let mut event = libc::epoll_event { events: 0, u64: 0 };
    // SAFETY: a local event. On anything but an instance with this member the call only fails.
    unsafe { libc::epoll_ctl(fd, libc::EPOLL_CTL_MOD, member.as_raw_fd(), &mut event) == 0 }
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::os::unix::net::UnixStream;

    use tokio::runtime::Builder;

    use super::*;

    fn build() -> io::Result<Runtime> {
        Builder::new_current_thread().enable_io().enable_time().build()
    }

    #[test]
    fn says_when_the_driver_has_events_and_takes_none_of_them() {
        let (runtime, readiness) = Readiness::with_runtime(build).unwrap();
        let readiness = readiness.expect("the runtime's epoll instance is found");
        let (mut near, far) = UnixStream::pair().unwrap();
        far.set_nonblocking(true).unwrap();
        let entered = runtime.enter();
        let far = tokio::net::UnixStream::from_std(far).unwrap();
        drop(entered);
        // The first poll reports that the socket is writable.
        runtime.block_on(tokio::task::yield_now());
        assert!(!readiness.has_events());
        near.write_all(b"x").unwrap();
        assert!(readiness.has_events());
        assert!(readiness.has_events());
        runtime.block_on(far.readable()).unwrap();
        assert!(!readiness.has_events());
    }

    /// The runtime gets lower numbers than those that were free, or much higher ones.
    #[test]
    fn what_other_threads_do_to_descriptors_does_not_hide_the_runtimes() {
        // SAFETY: no pointers; a new descriptor or an error.
        let open = || unsafe { owned(libc::eventfd(0, libc::EFD_CLOEXEC)).unwrap() };
        let mut below: Vec<_> = (0..40).map(|_| open()).collect();
        let (_runtime, found) = Readiness::with_runtime(|| {
            below.clear();
            build()
        })
        .unwrap();
        assert!(found.is_some());
        let mut above = Vec::new();
        let (_runtime, found) = Readiness::with_runtime(|| {
            above.extend((0..40).map(|_| open()));
            build()
        })
        .unwrap();
        assert!(found.is_some());
    }

    #[test]
    fn another_instance_is_not_taken_for_the_runtimes() {
        // SAFETY: no pointers; a new descriptor or an error.
        let other = unsafe { owned(libc::epoll_create1(libc::EPOLL_CLOEXEC)).unwrap() };
        // SAFETY: no pointers; a new descriptor or an error.
        let probe = unsafe { owned(libc::eventfd(0, libc::EFD_CLOEXEC)).unwrap() };
        assert!(!has_member(other.as_raw_fd(), &probe));
        assert!(!has_member(probe.as_raw_fd(), &other));
        assert!(!has_member(-1, &probe));
    }
}
