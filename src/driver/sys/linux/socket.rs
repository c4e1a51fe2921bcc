//! System calls of sockets.

use std::ffi::c_int;
use std::io::{self, IoSlice};
use std::os::fd::{OwnedFd, RawFd};
use std::ptr::null;

use super::super::Connecting;
use super::address::SockAddr;
use super::{check, owned};

/// `SO_SELECT_ERR_QUEUE` of `asm-generic/socket.h`, which `libc` leaves out.
const SELECT_ERR_QUEUE: c_int = 45;

pub(crate) fn open_stream(family: c_int) -> io::Result<OwnedFd> {
    let kind = libc::SOCK_STREAM | libc::SOCK_NONBLOCK | libc::SOCK_CLOEXEC;
    // SAFETY: no pointers; a new descriptor or an error.
    unsafe { owned(libc::socket(family, kind, libc::IPPROTO_TCP)) }
}

pub(crate) fn accept(fd: RawFd) -> io::Result<(OwnedFd, SockAddr)> {
    let mut peer = SockAddr::new();
    let (address, length) = peer.as_mut_ptrs();
    let flags = libc::SOCK_NONBLOCK | libc::SOCK_CLOEXEC;
    // SAFETY: room for an address, and how much, both of `peer`; a new descriptor or an error.
    let accepted = unsafe { owned(libc::accept4(fd, address, length, flags))? };
    Ok((accepted, peer))
}

pub(crate) fn connect(fd: RawFd, to: &SockAddr) -> io::Result<Connecting> {
    let to = to.as_bytes();
    // SAFETY: the kernel only reads the address, before the call returns.
    let result = unsafe { libc::connect(fd, to.as_ptr().cast(), to.len() as libc::socklen_t) };
    match check(result as isize) {
        Ok(_) => Ok(Connecting::Done),
        Err(error) => match error.raw_os_error() {
            Some(libc::EINPROGRESS | libc::EINTR | libc::EAGAIN | libc::EALREADY) => {
                Ok(Connecting::InProgress)
            }
            _ => Err(error),
        },
    }
}

/// # Safety
/// `at` must be valid for writes of `room` bytes. (They may be a program's buffer, which other
/// threads reach as well: hence no slice.)
#[inline]
pub(crate) unsafe fn receive(fd: RawFd, at: *mut u8, room: usize) -> io::Result<usize> {
    // SAFETY: the caller's promise.
    check(unsafe { libc::recv(fd, at.cast(), room, libc::MSG_DONTWAIT) })
}

#[inline]
pub(crate) fn send(fd: RawFd, data: &[u8]) -> io::Result<usize> {
    let (start, length) = (data.as_ptr().cast(), data.len());
    // SAFETY: the kernel only reads the borrowed bytes, before the call returns.
    check(unsafe { libc::send(fd, start, length, libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL) })
}

#[inline]
pub(crate) fn send_vectored(fd: RawFd, data: &[IoSlice<'_>]) -> io::Result<usize> {
    // SAFETY: all zeros is a valid `msghdr`. An `IoSlice` is laid out as an `iovec`; the kernel
    // only reads them and the borrowed bytes, before the call returns.
    check(unsafe {
        let mut message: libc::msghdr = std::mem::zeroed();
        message.msg_iov = data.as_ptr().cast_mut().cast();
        message.msg_iovlen = data.len() as _;
        libc::sendmsg(fd, &message, libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL)
    })
}

#[inline]
pub(crate) fn send_to(fd: RawFd, data: &[u8], to: &[u8]) -> io::Result<usize> {
    let (start, length) = (data.as_ptr().cast(), data.len());
    let address = if to.is_empty() { null() } else { to.as_ptr().cast() };
    let flags = libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL;
    // SAFETY: the kernel only reads both, of these lengths, before the call returns.
    check(unsafe { libc::sendto(fd, start, length, flags, address, to.len() as libc::socklen_t) })
}

pub(crate) fn shut_down_writing(fd: RawFd) -> io::Result<()> {
    // SAFETY: no pointers; a bad descriptor is an error.
    check(unsafe { libc::shutdown(fd, libc::SHUT_WR) } as isize).map(drop)
}

pub(crate) fn local(fd: RawFd) -> Option<SockAddr> {
    let mut name = SockAddr::new();
    let (address, length) = name.as_mut_ptrs();
    // SAFETY: room for an address, and how much, both of `name`.
    (unsafe { libc::getsockname(fd, address, length) } == 0).then_some(name)
}

pub(crate) fn remote(fd: RawFd) -> Option<SockAddr> {
    let mut name = SockAddr::new();
    let (address, length) = name.as_mut_ptrs();
    // SAFETY: room for an address, and how much, both of `name`.
    (unsafe { libc::getpeername(fd, address, length) } == 0).then_some(name)
}

pub(crate) fn family(fd: RawFd) -> io::Result<c_int> {
    option(fd, libc::SO_DOMAIN)
}

pub(crate) fn take_error(fd: RawFd) -> io::Result<c_int> {
    option(fd, libc::SO_ERROR)
}

pub(crate) fn send_at_once(fd: RawFd) {
    // Fails on sockets that are not TCP, which have no such delay.
    let _ = set_option(fd, libc::IPPROTO_TCP, libc::TCP_NODELAY, 1);
}

/// The kernel then calls an error an exceptional condition; otherwise it says just "error", which
/// tokio takes for readiness to write.
pub(crate) fn announce_errors(fd: RawFd) {
    let _ = set_option(fd, libc::SOL_SOCKET, SELECT_ERR_QUEUE, 1);
}

fn option(fd: RawFd, name: c_int) -> io::Result<c_int> {
    let mut value: c_int = 0;
    let mut length = size_of_val(&value) as libc::socklen_t;
    // SAFETY: a local integer and its size.
    check(unsafe {
        libc::getsockopt(fd, libc::SOL_SOCKET, name, (&raw mut value).cast(), &raw mut length)
    } as isize)?;
    Ok(value)
}

fn set_option(fd: RawFd, level: c_int, name: c_int, value: c_int) -> io::Result<()> {
    let length = size_of_val(&value) as libc::socklen_t;
    // SAFETY: the kernel reads a local integer of the size that it is told.
    check(unsafe { libc::setsockopt(fd, level, name, (&raw const value).cast(), length) } as isize)
        .map(drop)
}
