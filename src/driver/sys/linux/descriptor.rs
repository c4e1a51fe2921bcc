//! Files of any kind, by their descriptors.

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::RawFd;

use super::super::FileKind;
use super::check;

pub(crate) fn is_open(fd: RawFd) -> bool {
    // SAFETY: no pointers; a number that is not in use is an error.
    unsafe { libc::fcntl(fd, libc::F_GETFD) >= 0 }
}

pub(crate) fn is_non_blocking(fd: RawFd) -> io::Result<bool> {
    Ok(flags(fd)? & libc::O_NONBLOCK != 0)
}

pub(crate) fn set_non_blocking(fd: RawFd) -> io::Result<()> {
    let mut on: libc::c_int = 1;
    // SAFETY: a local integer; a bad descriptor is an error.
    check(unsafe { libc::ioctl(fd, libc::FIONBIO, &raw mut on) } as isize).map(drop)
}

fn flags(fd: RawFd) -> io::Result<i32> {
    // SAFETY: no pointers; a bad descriptor is an error.
    let flags = unsafe { libc::fcntl(fd, libc::F_GETFL) };
    check(flags as isize).map(|_| flags)
}

pub(crate) fn kind(fd: RawFd) -> io::Result<Option<FileKind>> {
    let mut status = MaybeUninit::<libc::stat>::uninit();
    // SAFETY: room for the kernel's answer, which is read only if there is one.
    let mode = unsafe {
        check(libc::fstat(fd, status.as_mut_ptr()) as isize)?;
        status.assume_init().st_mode
    };
    Ok(match mode & libc::S_IFMT {
        libc::S_IFIFO => Some(FileKind::Fifo),
        libc::S_IFSOCK => Some(FileKind::Socket),
        libc::S_IFCHR => Some(FileKind::CharacterDevice),
        _ => None,
    })
}

/// # Safety
/// `at` must be valid for writes of `room` bytes.
pub(crate) unsafe fn read(fd: RawFd, at: *mut u8, room: usize) -> io::Result<usize> {
    // SAFETY: the caller's promise.
    check(unsafe { libc::read(fd, at.cast(), room) })
}

pub(crate) fn write(fd: RawFd, data: &[u8]) -> io::Result<usize> {
    // SAFETY: the kernel only reads the borrowed bytes, before the call returns.
    check(unsafe { libc::write(fd, data.as_ptr().cast(), data.len()) })
}

pub(crate) fn bytes_waiting(fd: RawFd) -> usize {
    let mut count: libc::c_int = 0;
    // SAFETY: a local integer; a bad descriptor is an error.
    let result = unsafe { libc::ioctl(fd, libc::FIONREAD, &raw mut count) };
    if result == 0 { usize::try_from(count).unwrap_or(0) } else { 0 }
}
