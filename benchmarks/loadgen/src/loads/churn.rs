//! A connection for each request: connect, ask, read the answer, close.

use super::connection::Connection;
use super::{Progress, SCRATCH, measure};
use crate::args::LoadArgs;
use crate::epoll::{EDGES, Epoll};
use crate::protocols::Protocol;
use crate::report::Report;

pub fn run<P: Protocol>(args: &LoadArgs, protocol: &P) -> Result<Report, String> {
    let mut scratch = vec![0_u8; SCRATCH.max(2 * args.size)];
    let mut epoll = Epoll::spinning()?;
    let mut opened = 0;
    // The time of an exchange runs from before it connects.
    let mut open = |epoll: &Epoll, token: usize| -> Result<Connection<P>, String> {
        opened += 1;
        let mut connection = Connection::open(&args.target, opened, protocol)?;
        connection.resume(protocol)?;
        epoll.watch(connection.fd(), token, EDGES)?;
        Ok(connection)
    };
    let mut connections = Vec::with_capacity(args.connections);
    for token in 0..args.connections {
        connections.push(open(&epoll, token)?);
    }

    let mut latencies: Vec<u32> = Vec::with_capacity(1 << 18);
    let report = measure(args, &mut epoll, |epoll, token, counts| {
        let connection = &mut connections[token];
        let advance = connection.advance(protocol, &mut scratch)?;
        if advance.done {
            if counts {
                latencies.push(connection.elapsed());
            }
            // The old connection is closed here. An event it may still have in this batch finds
            // the new one with nothing to read, which does no harm.
            *connection = open(epoll, token)?;
        }
        Ok(Progress { bytes: advance.bytes, requests: u64::from(advance.done) })
    })?;
    Ok(Report { latencies, ..report })
}
