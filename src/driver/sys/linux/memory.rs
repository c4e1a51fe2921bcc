//! Memory of which it is not known whether it is there.

use std::io;
use std::mem::size_of_val;
use std::os::fd::{AsRawFd, RawFd};

use super::{check, owned};

pub(crate) fn words_at(address: usize, words: &mut [usize]) -> io::Result<usize> {
    let mut ends: [RawFd; 2] = [-1; 2];
    // SAFETY: room for two descriptors.
    check(unsafe { libc::pipe2(ends.as_mut_ptr(), libc::O_CLOEXEC | libc::O_NONBLOCK) } as isize)?;
    // SAFETY: both were made just now.
    let (read_end, write_end) = unsafe { (owned(ends[0])?, owned(ends[1])?) };
    let size = size_of_val(words);
    // SAFETY: the kernel reads at the address, and fails where nothing is mapped. (Without libc's
    // `write`: tools that watch memory take that for an access of the program's.)
    let written =
        unsafe { libc::syscall(libc::SYS_write, write_end.as_raw_fd(), address, size) } as isize;
    let Ok(written) = check(written) else { return Ok(0) };
    // SAFETY: the words are at least as long as what was written.
    let read =
        unsafe { libc::read(read_end.as_raw_fd(), words.as_mut_ptr().cast(), written.min(size)) };
    Ok(check(read)? / size_of::<usize>())
}
