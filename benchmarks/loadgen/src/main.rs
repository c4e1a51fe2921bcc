//! An echo client that never sleeps.
//!
//! It keeps one message in flight on each of N connections, checks what comes back, and prints
//! one line of JSON. It spins on `epoll_wait` with a timeout of zero because a client that
//! sleeps must be woken, and on a virtual machine that wake-up (an interrupt sent to another
//! core) is paid for by whoever sends the data: the server that is being measured.

mod args;
mod connection;
mod epoll;
mod system;

use std::process::ExitCode;
use std::time::{Duration, Instant};

use args::Args;
use connection::Connection;
use epoll::Epoll;

/// A server that completes nothing for this long is reported as stuck.
const STALL: Duration = Duration::from_secs(10);

/// What one run measured, without its warm-up.
struct Report {
    seconds: f64,
    server_cpu: Option<f64>,
    /// One entry per completed request, in nanoseconds, sorted.
    latencies: Vec<u32>,
}

fn main() -> ExitCode {
    let outcome = Args::parse(std::env::args().skip(1)).and_then(|args| {
        let report = run(&args)?;
        Ok(report.to_json(&args))
    });
    match outcome {
        Ok(json) => {
            println!("{json}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("loadgen: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(args: &Args) -> Result<Report, String> {
    if let Some(core) = args.core {
        system::pin_to_core(core)?;
    }
    let message = connection::message(args.size);
    // One byte more than the message: a server that echoes too much must not go unnoticed.
    let mut scratch = vec![0_u8; args.size.max(64 * 1024) + 1];
    let mut epoll = Epoll::new()?;
    let mut connections = Vec::with_capacity(args.connections);
    for token in 0..args.connections {
        let connection = Connection::open(&args.target)?;
        epoll.watch(connection.fd(), token as u64)?;
        connections.push(connection);
    }

    let mut latencies: Vec<u32> = Vec::with_capacity(1 << 20);
    for connection in &mut connections {
        connection.drive(&message, &mut scratch, &mut latencies)?;
    }
    spin(args.warmup, &mut epoll, |token| {
        connections[token].drive(&message, &mut scratch, &mut latencies)
    })?;
    if latencies.is_empty() {
        return Err("the server answered nothing while warming up".into());
    }

    latencies.clear();
    let cpu_before = args.server_pid.map(system::cpu_seconds).transpose()?;
    let seconds = spin(args.seconds, &mut epoll, |token| {
        connections[token].drive(&message, &mut scratch, &mut latencies)
    })?;
    let cpu_after = args.server_pid.map(system::cpu_seconds).transpose()?;

    latencies.sort_unstable();
    Ok(Report {
        seconds,
        server_cpu: cpu_before.zip(cpu_after).map(|(before, after)| after - before),
        latencies,
    })
}

/// Calls `drive` for every ready connection until `span` has passed; returns the seconds taken.
fn spin(
    span: Duration,
    epoll: &mut Epoll,
    mut drive: impl FnMut(usize) -> Result<u64, String>,
) -> Result<f64, String> {
    let started = Instant::now();
    let mut last_progress = started;
    loop {
        let now = Instant::now();
        if now - started >= span {
            return Ok((now - started).as_secs_f64());
        }
        for token in epoll.poll()? {
            if drive(token as usize)? > 0 {
                last_progress = now;
            }
        }
        if now - last_progress > STALL {
            return Err(format!("no answer from the server for {} s", STALL.as_secs()));
        }
    }
}

impl Report {
    fn percentile(&self, fraction: f64) -> f64 {
        if self.latencies.is_empty() {
            return 0.0;
        }
        let index = (self.latencies.len() as f64 * fraction) as usize;
        f64::from(self.latencies[index.min(self.latencies.len() - 1)]) / 1000.0
    }

    fn to_json(&self, args: &Args) -> String {
        let server_cpu = match self.server_cpu {
            Some(seconds) => format!("{seconds:.6}"),
            None => "null".to_owned(),
        };
        format!(
            "{{\"requests\": {}, \"seconds\": {:.6}, \"p50_us\": {:.2}, \"p99_us\": {:.2}, \
             \"server_cpu_seconds\": {server_cpu}, \"connections\": {}, \"size\": {}}}",
            self.latencies.len(),
            self.seconds,
            self.percentile(0.50),
            self.percentile(0.99),
            args.connections,
            args.size,
        )
    }
}
