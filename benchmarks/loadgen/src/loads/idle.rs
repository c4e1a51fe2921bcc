//! Many connections that say nothing: what one costs in memory, and what it costs to wake all.

use std::time::Instant;

use super::crowd::Crowd;
use crate::args::LoadArgs;
use crate::protocols::Protocol;
use crate::report::Report;
use crate::system;

pub fn run<P: Protocol>(args: &LoadArgs, protocol: &P) -> Result<Report, String> {
    let (mut crowd, bytes_per_connection) = Crowd::assemble(args, protocol)?;
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
