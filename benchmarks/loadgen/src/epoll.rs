//! An epoll instance, for the clients that never wait and the servers that do.

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};

pub const READ: u32 = libc::EPOLLIN as u32;
pub const WRITE: u32 = libc::EPOLLOUT as u32;
/// Both directions, each told of once: a spinning client asks for nothing more.
pub const EDGES: u32 = READ | WRITE | libc::EPOLLET as u32;

pub struct Epoll {
    fd: OwnedFd,
    events: Vec<libc::epoll_event>,
    /// In milliseconds; 0 to ask only, -1 to wait.
    timeout: i32,
}

impl Epoll {
    pub fn spinning() -> Result<Self, String> {
        Self::new(0)
    }

    pub fn waiting() -> Result<Self, String> {
        Self::new(-1)
    }

    fn new(timeout: i32) -> Result<Self, String> {
        // SAFETY: no memory is passed; the result is checked before it is owned.
        let fd = unsafe { libc::epoll_create1(libc::EPOLL_CLOEXEC) };
        if fd < 0 {
            return Err(format!("epoll_create1: {}", io::Error::last_os_error()));
        }
        Ok(Self {
            // SAFETY: the call above has just returned this descriptor; nobody else owns it.
            fd: unsafe { OwnedFd::from_raw_fd(fd) },
            events: vec![libc::epoll_event { events: 0, u64: 0 }; 256],
            timeout,
        })
    }

    pub fn watch(&self, fd: RawFd, token: usize, interest: u32) -> Result<(), String> {
        self.control(libc::EPOLL_CTL_ADD, fd, token, interest)
    }

    pub fn change(&self, fd: RawFd, token: usize, interest: u32) -> Result<(), String> {
        self.control(libc::EPOLL_CTL_MOD, fd, token, interest)
    }

    fn control(&self, what: i32, fd: RawFd, token: usize, interest: u32) -> Result<(), String> {
        let mut event = libc::epoll_event { events: interest, u64: token as u64 };
        // SAFETY: `event` is valid for the length of the call.
        let result = unsafe { libc::epoll_ctl(self.fd.as_raw_fd(), what, fd, &mut event) };
        if result < 0 {
            return Err(format!("epoll_ctl: {}", io::Error::last_os_error()));
        }
        Ok(())
    }

    /// Looks for events; returns how many there are for `token`.
    pub fn poll(&mut self) -> Result<usize, String> {
        // SAFETY: the pointer and the length describe `self.events`.
        let count = unsafe {
            libc::epoll_wait(
                self.fd.as_raw_fd(),
                self.events.as_mut_ptr(),
                self.events.len() as i32,
                self.timeout,
            )
        };
        if count < 0 {
            let error = io::Error::last_os_error();
            if error.kind() != io::ErrorKind::Interrupted {
                return Err(format!("epoll_wait: {error}"));
            }
            return Ok(0);
        }
        Ok(count as usize)
    }

    /// The token of one of the events that `poll` found.
    pub fn token(&self, index: usize) -> usize {
        self.events[index].u64 as usize
    }
}
