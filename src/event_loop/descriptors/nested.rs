//! The selector of the users' descriptors, nested in the reactor.
//!
//! Whether a number still means the file that was registered is not remembered but asked of the
//! selector: changing an entry fails if the number is another file's by now. Each entry gets a
//! token, which its events carry. For a file that is open elsewhere goes on being reported under a
//! number that was closed here, and no call takes that entry back.

use std::io;
use std::os::fd::RawFd;

use crate::driver::reactor::{Direction, Key, Registration};
use crate::driver::sys::selector::{EventMask, Room, Selector};
use crate::driver::sys::{SelectorEvent, Token};

pub(in crate::event_loop) struct NestedSelector {
    /// With the reactor; dropped before the selector is closed, as fields are in order.
    registration: Registration,
    pub key: Key,
    selector: Selector,
    /// The token that was given out last.
    latest: u32,
}

impl NestedSelector {
    /// A selector without entries, with its registration and the key of that.
    pub(in crate::event_loop) fn new(
        selector: Selector,
        key: Key,
        registration: Registration,
    ) -> Self {
        registration.arm(Direction::Read);
        Self { registration, key, selector, latest: 0 }
    }

    /// Whether this is a child process's copy, which may be the parent's too: then its entries stay
    /// as they are. A child that runs the loop gets a selector of its own, see `move_to`.
    fn is_forked(&self) -> bool {
        self.registration.is_forked()
    }

    /// Makes an entry for the file that `fd` is now.
    pub(in crate::event_loop) fn add(&mut self, fd: RawFd, mask: EventMask) -> io::Result<Token> {
        self.latest = self.latest.wrapping_add(1);
        let token = Token(self.latest);
        if !self.is_forked() {
            self.selector.add(fd, mask, token)?;
        }
        Ok(token)
    }

    /// Changes an entry. Fails with `ENOENT` if `fd` is another file now, `EBADF` if it is none.
    pub(in crate::event_loop) fn change(
        &self,
        fd: RawFd,
        mask: EventMask,
        token: Token,
    ) -> io::Result<()> {
        if self.is_forked() { Ok(()) } else { self.selector.change(fd, mask, token) }
    }

    /// Removes an entry, if `fd` is still its file.
    pub(in crate::event_loop) fn remove(&self, fd: RawFd) {
        if !self.is_forked() {
            let _ = self.selector.remove(fd);
        }
    }

    /// Collects what is ready, without blocking.
    pub(in crate::event_loop) fn ready<'a>(
        &self,
        room: &'a mut Room,
    ) -> impl Iterator<Item = SelectorEvent> + use<'a> {
        self.selector.select(room)
    }

    /// Has the reactor report when something is ready again.
    pub(in crate::event_loop) fn arm(&self) {
        self.registration.blocked(Direction::Read);
    }
}
