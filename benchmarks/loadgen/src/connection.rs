//! One connection with one message in flight; over UDP, a socket with one datagram.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{Ipv4Addr, TcpStream, UdpSocket};
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::net::UnixStream;
use std::time::Instant;

use crate::args::Target;

enum Stream {
    Tcp(TcpStream),
    Udp(UdpSocket),
    Unix(UnixStream),
}

pub struct Connection {
    stream: Stream,
    started: Instant,
    sent: usize,
    received: usize,
    /// Contents are compared in the first exchange only; after that, bytes are counted.
    compared: bool,
}

/// The message: one line, so that servers that read lines can echo it too.
pub fn message(size: usize) -> Vec<u8> {
    let mut bytes: Vec<u8> = (b'a'..=b'z').cycle().take(size - 1).collect();
    bytes.push(b'\n');
    bytes
}

impl Connection {
    pub fn open(target: &Target) -> Result<Self, String> {
        let stream = match target {
            Target::Tcp(address) => TcpStream::connect(address)
                .and_then(|stream| {
                    stream.set_nodelay(true)?;
                    stream.set_nonblocking(true)?;
                    Ok(Stream::Tcp(stream))
                })
                .map_err(|error| format!("cannot connect to {address}: {error}"))?,
            // A datagram that is lost is not sent again: the run ends as stuck. Over the loopback
            // interface none is, with one in flight a socket.
            Target::Udp(address) => UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))
                .and_then(|socket| {
                    socket.connect(address)?;
                    socket.set_nonblocking(true)?;
                    Ok(Stream::Udp(socket))
                })
                .map_err(|error| format!("cannot connect to {address}: {error}"))?,
            Target::Unix(path) => UnixStream::connect(path)
                .and_then(|stream| {
                    stream.set_nonblocking(true)?;
                    Ok(Stream::Unix(stream))
                })
                .map_err(|error| format!("cannot connect to {}: {error}", path.display()))?,
        };
        Ok(Self { stream, started: Instant::now(), sent: 0, received: 0, compared: false })
    }

    pub fn fd(&self) -> RawFd {
        match &self.stream {
            Stream::Tcp(stream) => stream.as_raw_fd(),
            Stream::Udp(socket) => socket.as_raw_fd(),
            Stream::Unix(stream) => stream.as_raw_fd(),
        }
    }

    /// Takes what has arrived and sends what fits; returns how many bytes arrived.
    ///
    /// Pushes the latency of a completed exchange and starts the next one. Readiness is
    /// edge-triggered, but one read is enough: `scratch` holds more than can be in flight, so
    /// the read leaves nothing behind, and whatever arrives later is announced anew.
    pub fn drive(
        &mut self,
        message: &[u8],
        scratch: &mut [u8],
        latencies: &mut Vec<u32>,
    ) -> Result<u64, String> {
        self.send(message)?;
        let count = match again(self.stream.receive(scratch))? {
            Some(0) => return Err("the server closed a connection".into()),
            Some(count) => count,
            None => return Ok(0),
        };
        self.take(&scratch[..count], message)?;
        if self.received == message.len() {
            let now = Instant::now();
            let nanos = (now - self.started).as_nanos();
            latencies.push(u32::try_from(nanos).unwrap_or(u32::MAX));
            self.compared = true;
            self.started = now;
            self.sent = 0;
            self.received = 0;
            self.send(message)?;
        }
        Ok(count as u64)
    }

    /// Sends the rest of the message, or as much of it as the socket takes.
    fn send(&mut self, message: &[u8]) -> Result<(), String> {
        while self.sent < message.len() {
            match again(self.stream.send(&message[self.sent..]))? {
                Some(0) => return Err("a write was taken for nothing".into()),
                Some(count) => self.sent += count,
                None => break,
            }
        }
        Ok(())
    }

    /// Accounts for `bytes` of the echo.
    fn take(&mut self, bytes: &[u8], message: &[u8]) -> Result<(), String> {
        let end = self.received + bytes.len();
        if end > self.sent {
            return Err(format!(
                "the server returned {end} bytes of a message of which {} were sent",
                self.sent
            ));
        }
        if !self.compared && bytes != &message[self.received..end] {
            return Err("the server returned other bytes than were sent".into());
        }
        self.received = end;
        Ok(())
    }
}

impl Stream {
    fn send(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Tcp(stream) => stream.write(bytes),
            Self::Udp(socket) => socket.send(bytes),
            Self::Unix(stream) => stream.write(bytes),
        }
    }

    fn receive(&mut self, scratch: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Tcp(stream) => stream.read(scratch),
            Self::Udp(socket) => socket.recv(scratch),
            Self::Unix(stream) => stream.read(scratch),
        }
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
