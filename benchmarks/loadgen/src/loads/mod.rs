//! The ways of loading a server, and what they share.

mod bulk;
mod churn;
mod connection;
mod crowd;
mod handshakes;
mod idle;
mod requests;
mod schedule;

use std::time::{Duration, Instant};

use crate::args::{Load, LoadArgs, Speech};
use crate::epoll::Epoll;
use crate::protocols::{Echo, Http, Protocol, Websocket};
use crate::report::Report;
use crate::system;

/// A server that completes nothing for this long is reported as stuck.
const STALL: Duration = Duration::from_secs(10);
/// More than is ever in flight on a connection, so that one read takes what has arrived.
const SCRATCH: usize = 512 * 1024;

pub fn run(args: &LoadArgs) -> Result<Report, String> {
    if let Some(core) = args.core {
        system::pin_to_core(core)?;
    }
    system::raise_file_limit();
    match args.protocol {
        Speech::Echo => speak(args, &Echo::new(args.size)),
        Speech::Http => speak(args, &Http::new(args.size)),
        Speech::Websocket => speak(args, &Websocket::new(args.size)),
    }
}

fn speak(args: &LoadArgs, protocol: &impl Protocol) -> Result<Report, String> {
    let mut report = match args.load {
        Load::Requests => requests::run(args, protocol),
        Load::Churn => churn::run(args, protocol),
        Load::Idle => idle::run(args, protocol),
        Load::Schedule => schedule::run(args, protocol),
        Load::Handshakes => handshakes::run(args, protocol),
        Load::Send => bulk::send(args),
        Load::Receive => bulk::receive(args),
    }?;
    report.server_rss = args.server_pid.map(system::resident_bytes).transpose()?;
    Ok(report)
}

/// What a ready connection did.
#[derive(Default)]
struct Progress {
    bytes: u64,
    requests: u64,
}

/// What all of them did in a span of time.
#[derive(Default)]
struct Total {
    seconds: f64,
    /// The time in which no connection was ready.
    idle: f64,
    bytes: u64,
    requests: u64,
}

/// Calls `drive` for every ready connection: for the time of the warm-up, then, counting, for
/// that of the measurement. `drive` is told whether it counts.
fn measure(
    args: &LoadArgs,
    epoll: &mut Epoll,
    mut drive: impl FnMut(&mut Epoll, usize, bool) -> Result<Progress, String>,
) -> Result<Report, String> {
    let mut spin = |span: Duration, counts: bool| -> Result<Total, String> {
        let started = Instant::now();
        let mut last_progress = started;
        let mut now = started;
        let mut idle = Duration::ZERO;
        let mut total = Total::default();
        loop {
            // Not over before something has come: on a busy machine a server may have to wait.
            if now - started >= span && total.bytes > 0 {
                total.seconds = (now - started).as_secs_f64();
                total.idle = idle.as_secs_f64();
                return Ok(total);
            }
            let events = epoll.poll()?;
            for index in 0..events {
                let token = epoll.token(index);
                let progress = drive(epoll, token, counts)?;
                if progress.bytes > 0 {
                    last_progress = now;
                }
                total.bytes += progress.bytes;
                total.requests += progress.requests;
            }
            if now - last_progress > STALL {
                return Err(format!("no answer from the server for {} s", STALL.as_secs()));
            }
            let before = std::mem::replace(&mut now, Instant::now());
            if events == 0 {
                idle += now - before;
            }
        }
    };
    spin(args.warmup, false)?;
    let cpu_before = args.server_pid.map(system::cpu_seconds).transpose()?;
    let total = spin(args.seconds, true)?;
    let cpu_after = args.server_pid.map(system::cpu_seconds).transpose()?;
    Ok(Report {
        seconds: total.seconds,
        requests: total.requests,
        bytes: total.bytes,
        client_busy: Some(1.0 - total.idle / total.seconds),
        server_cpu: cpu_before.zip(cpu_after).map(|(before, after)| after - before),
        ..Report::default()
    })
}
