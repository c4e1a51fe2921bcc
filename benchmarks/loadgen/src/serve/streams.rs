//! Stream services: level-triggered, one read and one write a request, no more.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::net::{UnixListener, UnixStream};

use crate::args::{ServeArgs, Service};
use crate::epoll::{Epoll, READ, WRITE};

const SCRATCH: usize = 256 * 1024;
const END_OF_REQUEST: &[u8] = b"\r\n\r\n";

pub enum Listener {
    Tcp(TcpListener),
    Unix(UnixListener),
}

enum Stream {
    Tcp(TcpStream),
    Unix(UnixStream),
}

struct Peer {
    stream: Stream,
    /// What the socket has not taken yet; while there is some, nothing is read.
    unsent: Vec<u8>,
    /// How much of `END_OF_REQUEST` the last read ended with.
    matched: usize,
}

struct Server {
    epoll: Epoll,
    service: Service,
    /// What HTTP requests are answered with.
    answer: Vec<u8>,
    scratch: Vec<u8>,
}

pub fn serve(args: &ServeArgs, epoll: Epoll, listener: Listener) -> Result<(), String> {
    let mut answer = format!(
        "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: {}\r\n\r\n",
        args.size
    )
    .into_bytes();
    answer.resize(answer.len() + args.size, b'x');
    let mut server = Server { epoll, service: args.service, answer, scratch: vec![b'x'; SCRATCH] };
    listener.unblock().map_err(|error| error.to_string())?;
    let door = listener.fd() as usize;
    server.epoll.watch(listener.fd(), door, READ)?;
    // By descriptor.
    let mut peers: Vec<Option<Peer>> = Vec::new();
    loop {
        for index in 0..server.epoll.poll()? {
            let token = server.epoll.token(index);
            if token == door {
                server.accept(&listener, &mut peers)?;
            } else if let Some(peer) = peers.get_mut(token).and_then(Option::as_mut) {
                // A peer that is gone, in whatever way, is forgotten, which closes its socket.
                match server.serve(peer) {
                    Ok(true) => (),
                    Ok(false) | Err(_) => peers[token] = None,
                }
            }
        }
    }
}

impl Server {
    fn accept(&self, listener: &Listener, peers: &mut Vec<Option<Peer>>) -> Result<(), String> {
        loop {
            let stream = match listener.accept() {
                Ok(stream) => stream,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == ErrorKind::ConnectionAborted => continue,
                Err(error) => return Err(format!("accept: {error}")),
            };
            let fd = stream.fd();
            let interest = if self.service == Service::Source { WRITE } else { READ };
            self.epoll.watch(fd, fd as usize, interest)?;
            if peers.len() <= fd as usize {
                peers.resize_with(fd as usize + 1, || None);
            }
            peers[fd as usize] = Some(Peer { stream, unsent: Vec::new(), matched: 0 });
        }
    }

    /// Does what a ready peer is ready for; false when it has left.
    fn serve(&mut self, peer: &mut Peer) -> io::Result<bool> {
        if self.service == Service::Source {
            return match peer.stream.write(&self.scratch) {
                Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(true),
                outcome => outcome.map(|_| true),
            };
        }
        if !peer.unsent.is_empty() {
            return self.resume(peer).map(|()| true);
        }
        let count = match peer.stream.read(&mut self.scratch) {
            Ok(0) => return Ok(false),
            Ok(count) => count,
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(true),
            Err(error) => return Err(error),
        };
        let received = &self.scratch[..count];
        match self.service {
            Service::Echo => send(&self.epoll, peer, received)?,
            Service::Http => {
                for _ in 0..requests_in(received, &mut peer.matched) {
                    send(&self.epoll, peer, &self.answer)?;
                }
            }
            Service::Sink | Service::Source => (),
        }
        Ok(true)
    }

    /// Sends what was left, and goes back to reading when that was all.
    fn resume(&self, peer: &mut Peer) -> io::Result<()> {
        let sent = match peer.stream.write(&peer.unsent) {
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
            outcome => outcome?,
        };
        peer.unsent.drain(..sent);
        if peer.unsent.is_empty() {
            let fd = peer.stream.fd();
            self.epoll.change(fd, fd as usize, READ).map_err(io::Error::other)?;
        }
        Ok(())
    }
}

fn send(epoll: &Epoll, peer: &mut Peer, bytes: &[u8]) -> io::Result<()> {
    if !peer.unsent.is_empty() {
        peer.unsent.extend_from_slice(bytes);
        return Ok(());
    }
    let sent = match peer.stream.write(bytes) {
        Ok(sent) => sent,
        Err(error) if error.kind() == ErrorKind::WouldBlock => 0,
        Err(error) => return Err(error),
    };
    if sent < bytes.len() {
        peer.unsent.extend_from_slice(&bytes[sent..]);
        let fd = peer.stream.fd();
        epoll.change(fd, fd as usize, WRITE).map_err(io::Error::other)?;
    }
    Ok(())
}

/// How many requests without a body end in `bytes`; `matched` is carried from read to read.
fn requests_in(bytes: &[u8], matched: &mut usize) -> usize {
    let mut ends = 0;
    for &byte in bytes {
        *matched = match byte {
            _ if byte == END_OF_REQUEST[*matched] => *matched + 1,
            b'\r' => 1,
            _ => 0,
        };
        if *matched == END_OF_REQUEST.len() {
            ends += 1;
            *matched = 0;
        }
    }
    ends
}

impl Listener {
    fn unblock(&self) -> io::Result<()> {
        match self {
            Self::Tcp(listener) => listener.set_nonblocking(true),
            Self::Unix(listener) => listener.set_nonblocking(true),
        }
    }

    fn fd(&self) -> RawFd {
        match self {
            Self::Tcp(listener) => listener.as_raw_fd(),
            Self::Unix(listener) => listener.as_raw_fd(),
        }
    }

    fn accept(&self) -> io::Result<Stream> {
        match self {
            Self::Tcp(listener) => {
                let (stream, _) = listener.accept()?;
                stream.set_nonblocking(true)?;
                stream.set_nodelay(true)?;
                Ok(Stream::Tcp(stream))
            }
            Self::Unix(listener) => {
                let (stream, _) = listener.accept()?;
                stream.set_nonblocking(true)?;
                Ok(Stream::Unix(stream))
            }
        }
    }
}

impl Stream {
    fn fd(&self) -> RawFd {
        match self {
            Self::Tcp(stream) => stream.as_raw_fd(),
            Self::Unix(stream) => stream.as_raw_fd(),
        }
    }

    fn read(&mut self, scratch: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Tcp(stream) => stream.read(scratch),
            Self::Unix(stream) => stream.read(scratch),
        }
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Tcp(stream) => stream.write(bytes),
            Self::Unix(stream) => stream.write(bytes),
        }
    }
}
