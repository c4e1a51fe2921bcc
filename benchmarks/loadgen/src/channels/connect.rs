//! TCP connections from several local addresses.
//!
//! Each closed connection keeps its pair of ports for a minute; on one local address the ports
//! would run out in a second or two of connections that are opened and closed.

use std::io;
use std::mem;
use std::net::{Ipv4Addr, SocketAddr, TcpStream, ToSocketAddrs};
use std::os::fd::{AsRawFd, FromRawFd};

/// 127.0.0.1 to 127.0.0.`ADDRESSES`.
const ADDRESSES: usize = 200;

pub fn tcp(address: &str, number: usize) -> Result<TcpStream, String> {
    let failed = |error: io::Error| format!("cannot connect to {address}: {error}");
    let peer = address
        .to_socket_addrs()
        .map_err(failed)?
        .next()
        .ok_or_else(|| format!("{address} is no address"))?;
    let stream = match peer {
        SocketAddr::V4(peer) if peer.ip().is_loopback() => {
            let local = Ipv4Addr::new(127, 0, 0, (number % ADDRESSES) as u8 + 1);
            from_address(local, *peer.ip(), peer.port())
        }
        _ => TcpStream::connect(peer),
    }
    .map_err(failed)?;
    stream.set_nodelay(true).map_err(failed)?;
    Ok(stream)
}

fn from_address(local: Ipv4Addr, peer: Ipv4Addr, port: u16) -> io::Result<TcpStream> {
    // SAFETY: no memory is passed; the result is checked before it is owned.
    let fd = unsafe { libc::socket(libc::AF_INET, libc::SOCK_STREAM | libc::SOCK_CLOEXEC, 0) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the call above has just returned this descriptor; nobody else owns it.
    let stream = unsafe { TcpStream::from_raw_fd(fd) };
    let fd = stream.as_raw_fd();
    let on: libc::c_int = 1;
    let (from, to) = (sockaddr(local, 0), sockaddr(peer, port));
    let length = mem::size_of::<libc::sockaddr_in>() as libc::socklen_t;
    // The port is chosen by `connect`, which knows the peer and so has all of them to choose from.
    // SAFETY: all pointers are to locals that live through the calls, with their sizes beside them.
    let connected = unsafe {
        libc::setsockopt(
            fd,
            libc::IPPROTO_IP,
            libc::IP_BIND_ADDRESS_NO_PORT,
            (&raw const on).cast(),
            mem::size_of_val(&on) as libc::socklen_t,
        ) == 0
            && libc::bind(fd, (&raw const from).cast(), length) == 0
            && libc::connect(fd, (&raw const to).cast(), length) == 0
    };
    if connected { Ok(stream) } else { Err(io::Error::last_os_error()) }
}

fn sockaddr(address: Ipv4Addr, port: u16) -> libc::sockaddr_in {
    libc::sockaddr_in {
        sin_family: libc::AF_INET as libc::sa_family_t,
        sin_port: port.to_be(),
        sin_addr: libc::in_addr { s_addr: u32::from(address).to_be() },
        sin_zero: [0; 8],
    }
}
