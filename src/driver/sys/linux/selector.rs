//! An epoll instance.
//!
//! The kernel keeps one entry for each pair of a number and an open file, and drops it when the
//! file is closed. Changing an entry fails if the number is another file's by now, so the kernel
//! itself tells whether a number still means the file that was added.

use std::io;
use std::mem::MaybeUninit;
use std::ops::{BitOr, BitOrAssign};
use std::os::fd::{AsRawFd, OwnedFd, RawFd};

use super::super::{SelectorEvent, Token};
use super::{check, owned};

#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub(crate) struct EventMask(u32);

impl EventMask {
    pub(crate) const NONE: Self = Self(0);
    pub(crate) const READ: Self = Self(libc::EPOLLIN as u32);
    pub(crate) const WRITE: Self = Self(libc::EPOLLOUT as u32);
    pub(crate) const ONCE: Self = Self(libc::EPOLLONESHOT as u32);

    #[inline]
    pub(crate) fn is_once(self) -> bool {
        self.0 & Self::ONCE.0 != 0
    }
}

impl BitOr for EventMask {
    type Output = Self;

    #[inline]
    fn bitor(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

impl BitOrAssign for EventMask {
    #[inline]
    fn bitor_assign(&mut self, other: Self) {
        *self = *self | other;
    }
}

pub(crate) struct Selector(OwnedFd);

impl Selector {
    pub(crate) fn new() -> io::Result<Self> {
        // SAFETY: no pointers; a new descriptor or an error.
        unsafe { owned(libc::epoll_create1(libc::EPOLL_CLOEXEC)) }.map(Self)
    }

    pub(crate) fn add(&self, fd: RawFd, mask: EventMask, token: Token) -> io::Result<()> {
        match self.control(libc::EPOLL_CTL_ADD, fd, mask, token) {
            // A copy of a file that was added before has come back under this number.
            Err(error) if error.raw_os_error() == Some(libc::EEXIST) => {
                self.control(libc::EPOLL_CTL_MOD, fd, mask, token)
            }
            result => result,
        }
    }

    #[inline]
    pub(crate) fn change(&self, fd: RawFd, mask: EventMask, token: Token) -> io::Result<()> {
        self.control(libc::EPOLL_CTL_MOD, fd, mask, token)
    }

    pub(crate) fn remove(&self, fd: RawFd) -> io::Result<()> {
        self.control(libc::EPOLL_CTL_DEL, fd, EventMask::NONE, Token(0))
    }

    fn control(&self, what: i32, fd: RawFd, mask: EventMask, token: Token) -> io::Result<()> {
        let data = u64::from(token.0) << 32 | u64::from(fd as u32);
        let mut event = libc::epoll_event { events: mask.0, u64: data };
        // SAFETY: this instance's descriptor and a local event.
        check(unsafe { libc::epoll_ctl(self.as_raw_fd(), what, fd, &mut event) } as isize).map(drop)
    }

    #[inline]
    pub(crate) fn select<'a>(
        &self,
        room: &'a mut Room,
    ) -> impl Iterator<Item = SelectorEvent> + use<'a> {
        let events = room.all();
        let most = i32::try_from(events.len()).unwrap_or(i32::MAX);
        let at = events.as_mut_ptr().cast();
        // SAFETY: room for as many events as the kernel is offered; a time-out of 0 never blocks.
        let count = unsafe { libc::epoll_wait(self.as_raw_fd(), at, most, 0) };
        room.filled = usize::try_from(count).unwrap_or(0);
        room.events()
    }
}

impl AsRawFd for Selector {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_raw_fd()
    }
}

type Event = MaybeUninit<libc::epoll_event>;

/// Room for the events of one `select`, and what that has found.
pub(crate) struct Room {
    few: [Event; Self::EVENTS],
    /// Used if it is not empty.
    many: Vec<Event>,
    /// How many the kernel has written.
    filled: usize,
}

impl Room {
    const EVENTS: usize = 256;

    pub(crate) const fn new() -> Self {
        Self { few: [const { Event::uninit() }; Self::EVENTS], many: Vec::new(), filled: 0 }
    }

    pub(crate) fn of(events: usize) -> Self {
        let mut room = Self::new();
        if events > Self::EVENTS && room.many.try_reserve_exact(events).is_ok() {
            room.many.resize(events, Event::uninit());
        }
        room
    }

    pub(crate) fn is_full(&self) -> bool {
        self.filled == self.many.len().max(Self::EVENTS)
    }

    fn all(&mut self) -> &mut [Event] {
        if self.many.is_empty() { &mut self.few } else { &mut self.many }
    }

    /// What the last `select` has found.
    pub(crate) fn events(&self) -> impl Iterator<Item = SelectorEvent> + use<'_> {
        let all = if self.many.is_empty() { &self.few[..] } else { &self.many };
        all[..self.filled].iter().map(|event| {
            // SAFETY: the kernel has written as many as it says.
            let event = unsafe { event.assume_init() };
            let mask = event.events;
            SelectorEvent {
                fd: event.u64 as u32 as RawFd,
                token: Token((event.u64 >> 32) as u32),
                reading: mask & !EventMask::WRITE.0 != 0,
                writing: mask & !EventMask::READ.0 != 0,
            }
        })
    }
}
