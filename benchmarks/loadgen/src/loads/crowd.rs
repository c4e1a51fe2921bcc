//! Connections that are held, each of which the server has answered once.

use std::time::Instant;

use super::connection::Connection;
use super::{SCRATCH, STALL};
use crate::args::LoadArgs;
use crate::epoll::{EDGES, Epoll};
use crate::protocols::Protocol;
use crate::system;

/// Opened at a time, so that the server's backlog never runs over; the first ones are what the
/// server has made its buffers for before its memory is looked at.
const BATCH: usize = 100;

pub struct Crowd<'a, P: Protocol> {
    protocol: &'a P,
    pub epoll: Epoll,
    pub connections: Vec<Connection<P>>,
    pub scratch: Vec<u8>,
    pub latencies: Vec<u32>,
}

impl<'a, P: Protocol> Crowd<'a, P> {
    /// All connections, and the server's memory for one, if they are enough to tell.
    pub fn assemble(args: &LoadArgs, protocol: &'a P) -> Result<(Self, Option<f64>), String> {
        let mut crowd = Self {
            protocol,
            epoll: Epoll::spinning()?,
            connections: Vec::with_capacity(args.connections),
            scratch: vec![0; SCRATCH.max(2 * args.size)],
            latencies: Vec::new(),
        };
        let resident = || args.server_pid.map(system::resident_bytes).transpose();
        crowd.grow(args, BATCH.min(args.connections))?;
        let (few, before) = (crowd.connections.len(), resident()?);
        crowd.grow(args, args.connections)?;
        let (many, after) = (crowd.connections.len(), resident()?);
        let each = match (before, after) {
            (Some(before), Some(after)) if many > few => {
                Some((after as f64 - before as f64) / (many - few) as f64)
            }
            _ => None,
        };
        Ok((crowd, each))
    }

    /// Opens connections until there are `count`; each has one answer, so the server knows it.
    fn grow(&mut self, args: &LoadArgs, count: usize) -> Result<(), String> {
        while self.connections.len() < count {
            let first = self.connections.len();
            for token in first..count.min(first + BATCH) {
                let connection = Connection::open(&args.target, token, self.protocol)?;
                self.epoll.watch(connection.fd(), token, EDGES)?;
                self.connections.push(connection);
            }
            self.wake(first)?;
        }
        Ok(())
    }

    /// One request on each connection from `first` on, all at once, until all are answered.
    pub fn wake(&mut self, first: usize) -> Result<(), String> {
        for connection in &mut self.connections[first..] {
            connection.begin(self.protocol)?;
        }
        self.finish(first)
    }

    /// Waits for the answers on each connection from `first` on.
    pub fn finish(&mut self, first: usize) -> Result<(), String> {
        let mut left = self.connections.len() - first;
        let mut last_progress = Instant::now();
        while left > 0 {
            for index in 0..self.epoll.poll()? {
                let connection = &mut self.connections[self.epoll.token(index)];
                let advance = connection.advance(self.protocol, &mut self.scratch)?;
                if advance.done {
                    left -= 1;
                    self.latencies.push(connection.elapsed());
                    last_progress = Instant::now();
                }
            }
            if last_progress.elapsed() > STALL {
                return Err(format!("{left} connections without an answer"));
            }
        }
        Ok(())
    }
}
