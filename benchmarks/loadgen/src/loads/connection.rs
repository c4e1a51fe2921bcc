//! One connection with one request in flight; over UDP, a socket with one datagram.

use std::os::fd::RawFd;
use std::time::Instant;

use crate::args::Target;
use crate::channels::Channel;
use crate::protocols::Protocol;

pub struct Connection<P: Protocol> {
    channel: Channel,
    started: Instant,
    sent: usize,
    answer: P::Answer,
    /// Contents are compared in the first exchange only; after that, bytes are counted.
    compared: bool,
}

pub struct Advance {
    pub bytes: u64,
    /// The request is answered; `begin` starts the next.
    pub done: bool,
}

impl<P: Protocol> Connection<P> {
    pub fn open(target: &Target, number: usize, protocol: &P) -> Result<Self, String> {
        let started = Instant::now();
        let mut channel = Channel::open(target, number)?;
        protocol.open(&mut channel)?;
        channel.unblock()?;
        Ok(Self { channel, started, sent: 0, answer: P::Answer::default(), compared: false })
    }

    /// Connects, and leaves a handshake to go on beside the first exchange, whose time runs.
    pub fn connect(target: &Target, number: usize) -> Result<Self, String> {
        let started = Instant::now();
        let channel = Channel::connect(target, number)?;
        channel.unblock()?;
        Ok(Self { channel, started, sent: 0, answer: P::Answer::default(), compared: false })
    }

    pub fn into_channel(self) -> Channel {
        self.channel
    }

    pub fn fd(&self) -> RawFd {
        self.channel.fd()
    }

    /// Starts the next exchange.
    pub fn begin(&mut self, protocol: &P) -> Result<(), String> {
        self.started = Instant::now();
        self.resume(protocol)
    }

    /// Sends the request of an exchange whose time runs already.
    pub fn resume(&mut self, protocol: &P) -> Result<(), String> {
        self.sent = 0;
        self.answer = P::Answer::default();
        self.send(protocol)
    }

    /// Since the exchange began, in nanoseconds.
    pub fn elapsed(&self) -> u32 {
        u32::try_from(self.started.elapsed().as_nanos()).unwrap_or(u32::MAX)
    }

    /// Sends what fits and takes what has arrived.
    ///
    /// Readiness is edge-triggered, but one read is enough: `scratch` holds more than can be in
    /// flight, so the read leaves nothing behind, and whatever arrives later is announced anew.
    pub fn advance(&mut self, protocol: &P, scratch: &mut [u8]) -> Result<Advance, String> {
        self.send(protocol)?;
        let count = match self.channel.receive(scratch)? {
            Some(0) => return Err("the server closed a connection".into()),
            Some(count) => count,
            None => return Ok(Advance { bytes: 0, done: false }),
        };
        let compare = !self.compared;
        let done = protocol.take(&mut self.answer, &scratch[..count], self.sent, compare)?;
        self.compared |= done;
        Ok(Advance { bytes: count as u64, done })
    }

    /// Sends the rest of the request, or as much of it as the socket takes.
    fn send(&mut self, protocol: &P) -> Result<(), String> {
        let request = protocol.request();
        if self.sent == request.len() {
            // TLS may hold back what the socket did not take.
            self.channel.send(&[])?;
        }
        while self.sent < request.len() {
            match self.channel.send(&request[self.sent..])? {
                Some(0) => return Err("a write was taken for nothing".into()),
                Some(count) => self.sent += count,
                None => break,
            }
        }
        Ok(())
    }
}
