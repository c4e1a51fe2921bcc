//! The command line.

use std::path::PathBuf;
use std::time::Duration;

const USAGE: &str = "usage: loadgen (tcp:HOST:PORT | udp:HOST:PORT | unix:PATH) [--connections N] [--size BYTES] \
     [--seconds S] [--warmup S] [--core N] [--server-pid PID]";

/// Where the echo server listens.
#[derive(Debug)]
pub enum Target {
    Tcp(String),
    Udp(String),
    Unix(PathBuf),
}

#[derive(Debug)]
pub struct Args {
    pub target: Target,
    pub connections: usize,
    pub size: usize,
    pub seconds: Duration,
    /// Time spent before anything is counted.
    pub warmup: Duration,
    /// The core to spin on.
    pub core: Option<usize>,
    /// The process whose processor time is measured over the same span as the requests.
    pub server_pid: Option<i32>,
}

impl Args {
    pub fn parse(words: impl Iterator<Item = String>) -> Result<Self, String> {
        let mut words = words;
        let mut target = None;
        let mut args = Self {
            target: Target::Tcp(String::new()),
            connections: 10,
            size: 1024,
            seconds: Duration::from_secs(2),
            warmup: Duration::from_millis(300),
            core: None,
            server_pid: None,
        };
        while let Some(word) = words.next() {
            if let Some(address) = word.strip_prefix("tcp:") {
                target = Some(Target::Tcp(address.to_owned()));
                continue;
            }
            if let Some(address) = word.strip_prefix("udp:") {
                target = Some(Target::Udp(address.to_owned()));
                continue;
            }
            if let Some(path) = word.strip_prefix("unix:") {
                target = Some(Target::Unix(path.into()));
                continue;
            }
            let value =
                words.next().ok_or_else(|| format!("{word}: a value is missing\n{USAGE}"))?;
            match word.as_str() {
                "--connections" => args.connections = number(&word, &value)?,
                "--size" => args.size = number(&word, &value)?,
                "--seconds" => args.seconds = seconds(&word, &value)?,
                "--warmup" => args.warmup = seconds(&word, &value)?,
                "--core" => args.core = Some(number(&word, &value)?),
                "--server-pid" => args.server_pid = Some(number(&word, &value)?),
                _ => return Err(format!("{word}: unknown option\n{USAGE}")),
            }
        }
        if args.connections == 0 || args.size == 0 {
            return Err("--connections and --size must be at least 1".into());
        }
        args.target = target.ok_or(USAGE)?;
        Ok(args)
    }
}

fn number<T: std::str::FromStr>(option: &str, value: &str) -> Result<T, String> {
    value.parse().map_err(|_| format!("{option}: '{value}' is not a number it can take"))
}

fn seconds(option: &str, value: &str) -> Result<Duration, String> {
    Duration::try_from_secs_f64(number(option, value)?)
        .map_err(|error| format!("{option}: '{value}': {error}"))
}
