//! Connections that all come at once: connected, over TLS shaken hands, and each answered once.

use std::time::{Duration, Instant};

use super::connection::Connection;
use super::{SCRATCH, STALL};
use crate::args::LoadArgs;
use crate::epoll::{EDGES, Epoll};
use crate::protocols::Protocol;
use crate::report::Report;
use crate::system;

/// A server that does nothing for this long has done what there was to do.
const QUIET: Duration = Duration::from_millis(5);
const NEVER_QUIET: Duration = Duration::from_secs(5);

pub fn run<P: Protocol>(args: &LoadArgs, protocol: &P) -> Result<Report, String> {
    let mut report = Report::default();
    let mut scratch = vec![0_u8; SCRATCH.max(2 * args.size)];
    // The first ones make what the server keeps.
    crowd(args, protocol, &mut scratch, &mut Report::default())?;
    settle(args)?;
    while report.requests == 0 || report.seconds < args.seconds.as_secs_f64() {
        crowd(args, protocol, &mut scratch, &mut report)?;
        settle(args)?;
    }
    Ok(report)
}

/// All connections at once; adds what they took, without their end, to `report`.
fn crowd<P: Protocol>(
    args: &LoadArgs,
    protocol: &P,
    scratch: &mut [u8],
    report: &mut Report,
) -> Result<(), String> {
    let mut epoll = Epoll::spinning()?;
    let mut connections: Vec<Connection<P>> = Vec::with_capacity(args.connections);
    let cpu_before = args.server_pid.map(system::cpu_seconds).transpose()?;
    let started = Instant::now();
    for token in 0..args.connections {
        let mut connection = Connection::connect(&args.target, token)?;
        epoll.watch(connection.fd(), token, EDGES)?;
        connection.resume(protocol)?;
        connections.push(connection);
    }
    let mut left = connections.len();
    let mut last_progress = Instant::now();
    while left > 0 {
        for index in 0..epoll.poll()? {
            let connection = &mut connections[epoll.token(index)];
            if connection.advance(protocol, scratch)?.done {
                left -= 1;
                report.latencies.push(connection.elapsed());
                last_progress = Instant::now();
            }
        }
        if last_progress.elapsed() > STALL {
            return Err(format!("{left} connections without an answer"));
        }
    }
    report.seconds += started.elapsed().as_secs_f64();
    report.requests += connections.len() as u64;
    report.bytes += (connections.len() * protocol.request().len()) as u64;
    // The kernel tells of a process that runs what it had used at some earlier moment.
    settle(args)?;
    let cpu_after = args.server_pid.map(system::cpu_seconds).transpose()?;
    if let Some((before, after)) = cpu_before.zip(cpu_after) {
        *report.server_cpu.get_or_insert(0.0) += after - before;
    }
    Ok(())
}

/// Until the server has done all that it was given, such as to close its side of connections.
fn settle(args: &LoadArgs) -> Result<(), String> {
    let Some(pid) = args.server_pid else { return Ok(()) };
    let started = Instant::now();
    let (mut cpu, mut since) = (system::cpu_seconds(pid)?, started);
    while since.elapsed() < QUIET && started.elapsed() < NEVER_QUIET {
        let now = system::cpu_seconds(pid)?;
        if now != cpu {
            (cpu, since) = (now, Instant::now());
        }
    }
    Ok(())
}
