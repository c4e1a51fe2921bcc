//! One request after the other on each connection.

use super::connection::Connection;
use super::{Progress, SCRATCH, measure};
use crate::args::LoadArgs;
use crate::epoll::{EDGES, Epoll};
use crate::protocols::Protocol;
use crate::report::Report;

pub fn run<P: Protocol>(args: &LoadArgs, protocol: &P) -> Result<Report, String> {
    let mut scratch = vec![0_u8; SCRATCH.max(2 * args.size)];
    let mut epoll = Epoll::spinning()?;
    let mut connections = Vec::with_capacity(args.connections);
    for token in 0..args.connections {
        let connection = Connection::open(&args.target, 0, protocol)?;
        epoll.watch(connection.fd(), token, EDGES)?;
        connections.push(connection);
    }
    saturate(args, protocol, &mut epoll, &mut connections, &mut scratch)
}

/// Keeps a request in flight on each of the connections; at the end one still is.
pub fn saturate<P: Protocol>(
    args: &LoadArgs,
    protocol: &P,
    epoll: &mut Epoll,
    connections: &mut [Connection<P>],
    scratch: &mut [u8],
) -> Result<Report, String> {
    for connection in connections.iter_mut() {
        connection.begin(protocol)?;
    }
    let mut latencies: Vec<u32> = Vec::with_capacity(1 << 20);
    let report = measure(args, epoll, |_, token, counts| {
        let connection = &mut connections[token];
        let advance = connection.advance(protocol, scratch)?;
        if advance.done {
            if counts {
                latencies.push(connection.elapsed());
            }
            connection.begin(protocol)?;
        }
        Ok(Progress { bytes: advance.bytes, requests: u64::from(advance.done) })
    })?;
    Ok(Report { latencies, ..report })
}
