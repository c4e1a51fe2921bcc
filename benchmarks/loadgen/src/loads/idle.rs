//! Many connections that say nothing: what one costs in memory, and what it costs to wake all.

use std::time::Instant;

use super::connection::Connection;
use super::{SCRATCH, STALL};
use crate::args::LoadArgs;
use crate::epoll::{EDGES, Epoll};
use crate::protocols::Protocol;
use crate::report::Report;
use crate::system;

/// Opened at a time, so that the server's backlog never runs over; the first ones are what the
/// server has made its buffers for before its memory is looked at.
const BATCH: usize = 100;

pub fn run<P: Protocol>(args: &LoadArgs, protocol: &P) -> Result<Report, String> {
    let mut crowd = Crowd {
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
    let bytes_per_connection = match (before, after) {
        (Some(before), Some(after)) if many > few => {
            Some((after as f64 - before as f64) / (many - few) as f64)
        }
        _ => None,
    };

    crowd.wake(0)?;
    crowd.latencies.clear();
    let cpu_before = args.server_pid.map(system::cpu_seconds).transpose()?;
    let started = Instant::now();
    while started.elapsed() < args.seconds {
        crowd.wake(0)?;
    }
    let seconds = started.elapsed().as_secs_f64();
    let cpu_after = args.server_pid.map(system::cpu_seconds).transpose()?;
    let requests = crowd.latencies.len() as u64;
    Ok(Report {
        seconds,
        requests,
        bytes: requests * protocol.request().len() as u64,
        server_cpu: cpu_before.zip(cpu_after).map(|(before, after)| after - before),
        bytes_per_connection,
        latencies: crowd.latencies,
        ..Report::default()
    })
}

struct Crowd<'a, P: Protocol> {
    protocol: &'a P,
    epoll: Epoll,
    connections: Vec<Connection<P>>,
    scratch: Vec<u8>,
    latencies: Vec<u32>,
}

impl<P: Protocol> Crowd<'_, P> {
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
    fn wake(&mut self, first: usize) -> Result<(), String> {
        for connection in &mut self.connections[first..] {
            connection.begin(self.protocol)?;
        }
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
