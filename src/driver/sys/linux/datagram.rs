//! `recvmmsg`: several datagrams a system call.

use std::io;
use std::os::fd::RawFd;
use std::ptr::null_mut;

use tokio::io::Interest;

use super::address::SockAddr;
use super::check;

/// Readable, or with an error that `socket::announce_errors` makes an exceptional condition.
pub(crate) const INTEREST: Interest = Interest::READABLE.add(Interest::PRIORITY);

/// Datagrams that one system call takes.
pub(crate) const AT_ONCE: usize = 16;

/// Boxed, because it points into itself and into `room`, neither of which ever moves or grows.
pub(crate) struct Batch {
    room: Vec<u8>,
    stride: usize,
    names: [SockAddr; AT_ONCE],
    vectors: [libc::iovec; AT_ONCE],
    headers: [libc::mmsghdr; AT_ONCE],
}

impl Batch {
    /// Panics unless `room` has `AT_ONCE` times `stride` bytes, and `stride` at least `largest`.
    pub(crate) fn new(room: Vec<u8>, stride: usize, largest: usize) -> Box<Self> {
        assert!(largest <= stride && room.len() / stride >= AT_ONCE);
        // SAFETY: all zeros is a valid value of these plain C structs.
        let mut batch = Box::new(unsafe {
            Self {
                room,
                stride,
                names: [SockAddr::new(); AT_ONCE],
                vectors: std::mem::zeroed(),
                headers: std::mem::zeroed(),
            }
        });
        for at in 0..AT_ONCE {
            batch.vectors[at].iov_base = batch.room[at * stride..].as_mut_ptr().cast();
            batch.vectors[at].iov_len = largest;
            batch.headers[at].msg_hdr.msg_iov = &raw mut batch.vectors[at];
            batch.headers[at].msg_hdr.msg_iovlen = 1;
            batch.headers[at].msg_hdr.msg_name = batch.names[at].as_mut_ptrs().0.cast();
            batch.headers[at].msg_hdr.msg_namelen = SockAddr::ROOM;
        }
        batch
    }

    pub(crate) fn receive(&mut self, fd: RawFd) -> io::Result<usize> {
        // SAFETY: as many headers as the kernel is told, which point to room of the lengths that
        // they say: all of it in this box and its `room`, neither of which ever moves or grows.
        check(unsafe {
            libc::recvmmsg(
                fd,
                self.headers.as_mut_ptr(),
                AT_ONCE as libc::c_uint,
                libc::MSG_DONTWAIT as _,
                null_mut(),
            )
        } as isize)
    }

    #[inline]
    pub(crate) fn take(&mut self, at: usize) -> (&[u8], &SockAddr) {
        let header = &mut self.headers[at];
        self.names[at].set_length(header.msg_hdr.msg_namelen);
        // As it was: the kernel reads the room for the name here the next time.
        header.msg_hdr.msg_namelen = SockAddr::ROOM;
        (&self.room[at * self.stride..][..header.msg_len as usize], &self.names[at])
    }
}
