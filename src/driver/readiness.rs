//! Whether tokio's driver has events, for the price of one system call.
//!
//! Polling the driver without blocking means entering the runtime: three times what the kernel needs
//! to say that nothing happened. So the loop keeps an epoll instance with one member, tokio's own.
//! It is level-triggered and only ever asked, so nothing that is meant for tokio is taken from it.
//!
//! tokio does not give out its instance's number. A fresh descriptor is registered with the runtime,
//! and the numbers that the runtime's descriptors can have are asked for it: changing the entry of
//! a descriptor succeeds in the one instance that has it, and changes nothing anywhere else. So it
//! does no harm to ask any number.

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};

use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::runtime::Runtime;

/// Numbers to ask from the lowest free one on, which the runtime usually gets.
const CANDIDATES: RawFd = 1024;

pub(super) struct Readiness(OwnedFd);

impl Readiness {
    /// Builds a runtime, and finds its epoll instance. `None`: it could not be found, so the
    /// driver itself has to be polled.
    pub(super) fn with_runtime(
        build: impl FnOnce() -> io::Result<Runtime>,
    ) -> io::Result<(Runtime, Option<Self>)> {
        // SAFETY: no pointers; the result is checked.
        let probe = owned(unsafe { libc::eventfd(0, libc::EFD_CLOEXEC | libc::EFD_NONBLOCK) })?;
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
        // Other threads open and close descriptors meanwhile: what was the lowest free number is
        // neither free nor the lowest for certain.
        let mut candidates =
            (lowest_free..lowest_free.saturating_add(CANDIDATES)).chain((0..lowest_free).rev());
        let fd = candidates.find(|fd| has_member(*fd, probe))?;
        // SAFETY: no pointers; the result is checked.
        let outer = owned(unsafe { libc::epoll_create1(libc::EPOLL_CLOEXEC) }).ok()?;
        let mut event = libc::epoll_event { events: libc::EPOLLIN as u32, u64: 0 };
        // SAFETY: our own epoll descriptor and a local event.
        let added =
            unsafe { libc::epoll_ctl(outer.as_raw_fd(), libc::EPOLL_CTL_ADD, fd, &mut event) };
        (added == 0).then_some(Self(outer))
    }

    /// Whether polling the driver would find something.
    pub(super) fn has_events(&self) -> bool {
        let mut event = libc::epoll_event { events: 0, u64: 0 };
        // SAFETY: room for the one event that is asked for; the time-out of 0 never blocks.
        // An error counts as readiness: polling the driver tells what is wrong.
        unsafe { libc::epoll_wait(self.0.as_raw_fd(), &mut event, 1, 0) != 0 }
    }
}

/// Whether `fd` is an epoll instance that has `member`; if so, it hears no more of it.
fn has_member(fd: RawFd, member: &OwnedFd) -> bool {
    // tokio ignores events with this token, should there ever be one.
    let mut event = libc::epoll_event { events: 0, u64: 0 };
    // SAFETY: a local event. On anything but an instance with this member the call only fails.
    unsafe { libc::epoll_ctl(fd, libc::EPOLL_CTL_MOD, member.as_raw_fd(), &mut event) == 0 }
}

fn owned(fd: RawFd) -> io::Result<OwnedFd> {
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: a fresh descriptor that nothing else owns.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
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
        // SAFETY: no pointers.
        let open = || owned(unsafe { libc::eventfd(0, libc::EFD_CLOEXEC) }).unwrap();
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
    fn an_instance_of_somebody_else_is_not_taken_for_the_runtimes() {
        // SAFETY: no pointers.
        let other = owned(unsafe { libc::epoll_create1(libc::EPOLL_CLOEXEC) }).unwrap();
        // SAFETY: no pointers.
        let probe = owned(unsafe { libc::eventfd(0, 0) }).unwrap();
        assert!(!has_member(other.as_raw_fd(), &probe));
        assert!(!has_member(probe.as_raw_fd(), &other));
        assert!(!has_member(-1, &probe));
    }
}
