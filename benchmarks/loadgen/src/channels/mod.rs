//! How bytes get to the server and back: TCP, Unix sockets, datagrams, TLS.
//!
//! A channel is opened blocking, so that handshakes read like prose, and does not block from
//! `Channel::unblock` on.

mod connect;
mod tls;

use std::io::{self, ErrorKind, Read, Write};
use std::net::{Ipv4Addr, TcpStream, UdpSocket};
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::net::UnixStream;

use crate::args::Target;
use tls::TlsStream;

pub enum Channel {
    Tcp(TcpStream),
    Tls(Box<TlsStream>),
    Udp(UdpSocket),
    Unix(UnixStream),
}

impl Channel {
    /// `number` distinguishes the connections of a run: they come from several local addresses.
    pub fn open(target: &Target, number: usize) -> Result<Self, String> {
        match target {
            Target::Tcp(address) => connect::tcp(address, number).map(Self::Tcp),
            Target::Tls(address) => connect::tcp(address, number)
                .and_then(|stream| TlsStream::shaken(stream).map(Box::new))
                .map(Self::Tls),
            // A datagram that is lost is not sent again: the run ends as stuck. Over the loopback
            // interface none is, with one in flight a socket.
            Target::Udp(address) => UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))
                .and_then(|socket| socket.connect(address).map(|()| Self::Udp(socket)))
                .map_err(|error| format!("cannot connect to {address}: {error}")),
            Target::Unix(path) => UnixStream::connect(path)
                .map(Self::Unix)
                .map_err(|error| format!("cannot connect to {}: {error}", path.display())),
        }
    }

    /// Opened like the others, but a handshake is left to go on as bytes are sent and received.
    pub fn connect(target: &Target, number: usize) -> Result<Self, String> {
        match target {
            Target::Tls(address) => connect::tcp(address, number)
                .and_then(|stream| TlsStream::new(stream).map(Box::new))
                .map(Self::Tls),
            _ => Self::open(target, number),
        }
    }

    pub fn unblock(&self) -> Result<(), String> {
        match self {
            Self::Tcp(stream) => stream.set_nonblocking(true),
            Self::Tls(stream) => stream.socket().set_nonblocking(true),
            Self::Udp(socket) => socket.set_nonblocking(true),
            Self::Unix(stream) => stream.set_nonblocking(true),
        }
        .map_err(|error| format!("cannot make a socket non-blocking: {error}"))
    }

    pub fn fd(&self) -> RawFd {
        match self {
            Self::Tcp(stream) => stream.as_raw_fd(),
            Self::Tls(stream) => stream.socket().as_raw_fd(),
            Self::Udp(socket) => socket.as_raw_fd(),
            Self::Unix(stream) => stream.as_raw_fd(),
        }
    }

    /// Sends some of `bytes`; `None` for "not now". With no bytes, what is buffered goes on.
    pub fn send(&mut self, bytes: &[u8]) -> Result<Option<usize>, String> {
        again(match self {
            Self::Tls(stream) => stream.send(bytes),
            _ if bytes.is_empty() => return Ok(None),
            Self::Tcp(stream) => stream.write(bytes),
            Self::Udp(socket) => socket.send(bytes),
            Self::Unix(stream) => stream.write(bytes),
        })
    }

    /// Reads what has arrived; `None` for "nothing now", 0 for an end.
    pub fn receive(&mut self, scratch: &mut [u8]) -> Result<Option<usize>, String> {
        again(match self {
            Self::Tcp(stream) => stream.read(scratch),
            Self::Tls(stream) => stream.receive(scratch),
            Self::Udp(socket) => socket.recv(scratch),
            Self::Unix(stream) => stream.read(scratch),
        })
    }
}

/// `None` for "not now", an error for what cannot be repaired.
fn again(outcome: io::Result<usize>) -> Result<Option<usize>, String> {
    match outcome {
        Ok(count) => Ok(Some(count)),
        Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => {
            Ok(None)
        }
        Err(error) => Err(format!("a connection failed: {error}")),
    }
}
