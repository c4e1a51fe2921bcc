//! Linux, with glibc or musl.

pub(crate) mod address;
pub(crate) mod clock;
pub(crate) mod datagram;
pub(crate) mod descriptor;
pub(crate) mod errno;
pub(crate) mod memory;
pub(crate) mod process;
pub(crate) mod readiness;
pub(crate) mod resolver;
pub(crate) mod selector;
pub(crate) mod shared_library;
pub(crate) mod socket;
pub(crate) mod timer;

use std::io;
use std::os::fd::{FromRawFd, OwnedFd, RawFd};

/// A system call's result, of which `-1` means `errno`.
#[inline]
fn check(result: isize) -> io::Result<usize> {
    usize::try_from(result).map_err(|_| io::Error::last_os_error())
}

/// A system call's result that is a descriptor.
///
/// # Safety
/// If `fd` is not negative it must be a descriptor that was made just now and that nothing else
/// owns.
#[inline]
unsafe fn owned(fd: RawFd) -> io::Result<OwnedFd> {
    check(fd as isize)?;
    // SAFETY: the caller's promise; not negative, as was just seen.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}
