//! The ways of loading a server, and what they share.

mod bulk;
mod churn;
mod connection;
mod idle;
mod requests;

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

/// Calls `drive` for every ready connection: for the time of the warm-up, then, counting, for
/// that of the measurement. `drive` is told whether it counts.
fn measure(
    args: &LoadArgs,
    epoll: &mut Epoll,
    mut drive: impl FnMut(&mut Epoll, usize, bool) -> Result<Progress, String>,
) -> Result<Report, String> {
    let mut spin = |span: Duration, counts: bool| -> Result<(f64, Progress), String> {
        let started = Instant::now();
        let mut last_progress = started;
        let mut total = Progress::default();
        loop {
            let now = Instant::now();
            if now - started >= span {
                return Ok(((now - started).as_secs_f64(), total));
            }
            for index in 0..epoll.poll()? {
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
        }
    };
    if spin(args.warmup, false)?.1.bytes == 0 && !args.warmup.is_zero() {
        return Err("nothing came while warming up".into());
    }
    let cpu_before = args.server_pid.map(system::cpu_seconds).transpose()?;
    let (seconds, total) = spin(args.seconds, true)?;
    let cpu_after = args.server_pid.map(system::cpu_seconds).transpose()?;
    Ok(Report {
        seconds,
        requests: total.requests,
        bytes: total.bytes,
        server_cpu: cpu_before.zip(cpu_after).map(|(before, after)| after - before),
        ..Report::default()
    })
}
