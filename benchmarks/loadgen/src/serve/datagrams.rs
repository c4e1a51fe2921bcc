//! The datagram echo: several datagrams a system call in both directions.

use std::io::{self, ErrorKind};
use std::mem;
use std::net::UdpSocket;
use std::os::fd::AsRawFd;

use crate::epoll::{Epoll, READ};

/// Datagrams a system call.
const BURST: usize = 16;
/// More than a datagram can hold.
const LARGEST: usize = 64 * 1024;

pub fn echo(mut epoll: Epoll, socket: &UdpSocket) -> Result<(), String> {
    socket.set_nonblocking(true).map_err(|error| error.to_string())?;
    let fd = socket.as_raw_fd();
    epoll.watch(fd, 0, READ)?;
    let mut buffers = vec![0_u8; BURST * LARGEST];
    // SAFETY: all-zero values of these plain C structures are valid.
    let mut peers: [libc::sockaddr_storage; BURST] = unsafe { mem::zeroed() };
    loop {
        if epoll.poll()? == 0 {
            continue;
        }
        // Nothing below moves `buffers` or `peers`, which the headers point into.
        let base = buffers.as_mut_ptr();
        let mut parts: [libc::iovec; BURST] = std::array::from_fn(|index| libc::iovec {
            iov_base: base.wrapping_add(index * LARGEST).cast(),
            iov_len: LARGEST,
        });
        // SAFETY: all-zero values of these plain C structures are valid.
        let mut headers: [libc::mmsghdr; BURST] = unsafe { mem::zeroed() };
        for ((header, part), peer) in headers.iter_mut().zip(&mut parts).zip(&mut peers) {
            header.msg_hdr.msg_name = (&raw mut *peer).cast();
            header.msg_hdr.msg_namelen = mem::size_of_val(peer) as libc::socklen_t;
            header.msg_hdr.msg_iov = part;
            header.msg_hdr.msg_iovlen = 1;
        }
        // SAFETY: each header describes one buffer and one address of its own, all of which live
        // and are not touched otherwise until the call returns.
        let received = unsafe {
            libc::recvmmsg(fd, headers.as_mut_ptr(), BURST as u32, 0, std::ptr::null_mut())
        };
        let Some(received) = count("recvmmsg", received)? else { continue };
        for (header, part) in headers.iter().zip(&mut parts).take(received) {
            part.iov_len = header.msg_len as usize;
        }
        // SAFETY: as above; the kernel has filled in the first `received` headers.
        let sent = unsafe { libc::sendmmsg(fd, headers.as_mut_ptr(), received as u32, 0) };
        count("sendmmsg", sent)?;
    }
}

/// `None` for "not now".
fn count(call: &str, result: i32) -> Result<Option<usize>, String> {
    if result >= 0 {
        return Ok(Some(result as usize));
    }
    let error = io::Error::last_os_error();
    match error.kind() {
        ErrorKind::WouldBlock | ErrorKind::Interrupted | ErrorKind::ConnectionRefused => Ok(None),
        _ => Err(format!("{call}: {error}")),
    }
}
