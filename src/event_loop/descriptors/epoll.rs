//! The epoll instance of the users' descriptors, and what it knows of a number's file.
//!
//! The kernel keeps one entry for each pair of a number and an open file, and drops it when the
//! file is closed. So whether a number still means the file that was registered is not to be
//! remembered but to be asked: changing an entry fails if the number is another file's by now.
//! Each entry gets a token, which its events carry: a file that is open elsewhere goes on being
//! reported under a number that was closed here, and nothing can take that entry back.

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};

use pyo3::prelude::*;

use crate::driver::reactor::{Direction, Key, Registration};
use crate::event_loop::NativeLoop;
use crate::event_loop::Source;
use crate::ffi::errors::{check, os_error};

pub(in crate::event_loop) const READ: u32 = libc::EPOLLIN as u32;
pub(in crate::event_loop) const WRITE: u32 = libc::EPOLLOUT as u32;
/// For waits of `sock_*`: one event, then silence without another system call.
pub(in crate::event_loop) const ONCE: u32 = libc::EPOLLONESHOT as u32;

/// Which entry of the instance; no two have the same.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(in crate::event_loop) struct Token(u32);

/// What the kernel reports of an entry.
#[derive(Clone, Copy)]
pub(in crate::event_loop) struct Event {
    pub fd: RawFd,
    pub token: Token,
    pub mask: u32,
}

pub(in crate::event_loop) struct Epoll {
    /// With the reactor; dropped before the descriptor is closed, as fields are in order.
    registration: Registration,
    pub key: Key,
    fd: OwnedFd,
    tokens: u32,
}

impl Epoll {
    pub(in crate::event_loop) fn new(py: Python<'_>, event_loop: &NativeLoop) -> PyResult<Self> {
        // SAFETY: no pointers; the result is checked.
        let fd = check(unsafe { libc::epoll_create1(libc::EPOLL_CLOEXEC) } as isize)
            .map_err(|error| os_error(py, &error))?;
        // SAFETY: a descriptor that was made above, which nothing else owns.
        let fd = unsafe { OwnedFd::from_raw_fd(fd as RawFd) };
        let (key, registration) = event_loop.add_source(py, fd.as_raw_fd(), Source::Descriptors)?;
        registration.arm(Direction::Read);
        Ok(Self { registration, key, fd, tokens: 0 })
    }

    fn control(&self, what: i32, fd: RawFd, events: u32, token: Token) -> io::Result<()> {
        if self.registration.is_forked() {
            // The parent's, too. A child that runs the loop gets its own, see `move_to`.
            return Ok(());
        }
        let data = u64::from(token.0) << 32 | u64::from(fd as u32);
        let mut event = libc::epoll_event { events, u64: data };
        // SAFETY: our own epoll descriptor and a local event.
        check(unsafe { libc::epoll_ctl(self.fd.as_raw_fd(), what, fd, &mut event) } as isize)?;
        Ok(())
    }

    /// Makes an entry for the file that `fd` is now.
    pub(in crate::event_loop) fn add(&mut self, fd: RawFd, events: u32) -> io::Result<Token> {
        self.tokens = self.tokens.wrapping_add(1);
        let token = Token(self.tokens);
        match self.control(libc::EPOLL_CTL_ADD, fd, events, token) {
            // An entry of old: a copy of the same file has come back under this number.
            Err(error) if error.raw_os_error() == Some(libc::EEXIST) => {
                self.control(libc::EPOLL_CTL_MOD, fd, events, token)?;
            }
            result => result?,
        }
        Ok(token)
    }

    /// Changes an entry. Fails with `ENOENT` if `fd` is another file now, `EBADF` if it is none.
    pub(in crate::event_loop) fn change(
        &self,
        fd: RawFd,
        events: u32,
        token: Token,
    ) -> io::Result<()> {
        self.control(libc::EPOLL_CTL_MOD, fd, events, token)
    }

    /// Removes an entry, if `fd` is still its file.
    pub(in crate::event_loop) fn remove(&self, fd: RawFd, token: Token) {
        let _ = self.control(libc::EPOLL_CTL_DEL, fd, 0, token);
    }

    /// Collects what is ready, without waiting.
    pub(in crate::event_loop) fn ready<'a>(
        &self,
        room: &'a mut Room,
    ) -> impl Iterator<Item = Event> + use<'a> {
        let (at, most) = (room.0.as_mut_ptr().cast(), Room::EVENTS as i32);
        // SAFETY: room for as many events as we say; the time-out of 0 never waits.
        let count = unsafe { libc::epoll_wait(self.fd.as_raw_fd(), at, most, 0) };
        room.0[..usize::try_from(count).unwrap_or(0)].iter().map(|event| {
            // SAFETY: the kernel has written as many as it says.
            let event = unsafe { event.assume_init() };
            let fd = event.u64 as u32 as RawFd;
            Event { fd, token: Token((event.u64 >> 32) as u32), mask: event.events }
        })
    }

    /// Asks the reactor to say when something is ready again.
    pub(in crate::event_loop) fn arm(&self) {
        self.registration.blocked(Direction::Read);
    }
}

/// Room for the events of one look.
pub(in crate::event_loop) struct Room([MaybeUninit<libc::epoll_event>; Self::EVENTS]);

impl Room {
    pub(in crate::event_loop) const EVENTS: usize = 256;

    pub(in crate::event_loop) const fn new() -> Self {
        Self([const { MaybeUninit::uninit() }; Self::EVENTS])
    }
}
