//! The command line.

use std::path::PathBuf;
use std::time::Duration;

const USAGE: &str = "usage:
  loadgen TARGET [--load requests|churn|idle|schedule|handshakes|send|receive]
          [--protocol echo|http|websocket] [--connections N] [--size BYTES] [--seconds S] [--warmup S]
          [--percent N[,N...]] [--core N] [--server-pid PID]
    TARGET is tcp:HOST:PORT, tls:HOST:PORT, udp:HOST:PORT or unix:PATH
  loadgen serve (echo|sink|source|http) (tcp|udp|unix:PATH) [--size BYTES] [--core N] [--spin]";

pub enum Command {
    Load(LoadArgs),
    Serve(ServeArgs),
}

/// Where the server listens.
#[derive(Debug, Clone)]
pub enum Target {
    Tcp(String),
    Tls(String),
    Udp(String),
    Unix(PathBuf),
}

#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Load {
    /// One request after the other on each connection.
    Requests,
    /// A connection for each request.
    Churn,
    /// Many connections that all say something at once, now and then.
    Idle,
    /// What the server can take, then parts of that by schedule.
    Schedule,
    /// Connections that all come at once, until each has an answer.
    Handshakes,
    /// Bytes to the server, as fast as it takes them.
    Send,
    /// Bytes from the server, as fast as they come.
    Receive,
}

#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Speech {
    Echo,
    Http,
    Websocket,
}

#[derive(Debug)]
pub struct LoadArgs {
    pub target: Target,
    pub load: Load,
    pub protocol: Speech,
    pub connections: usize,
    pub size: usize,
    pub seconds: Duration,
    /// Time spent before anything is counted.
    pub warmup: Duration,
    /// The parts of what the server can take that it is given by schedule.
    pub percent: Vec<f64>,
    /// The core to spin on.
    pub core: Option<usize>,
    /// The process whose processor time and memory are measured over the same span.
    pub server_pid: Option<i32>,
}

#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Service {
    Echo,
    /// Reads and forgets.
    Sink,
    /// Writes without end.
    Source,
    Http,
}

#[derive(Debug)]
pub enum Listen {
    Tcp,
    Udp,
    Unix(PathBuf),
}

#[derive(Debug)]
pub struct ServeArgs {
    pub service: Service,
    pub listen: Listen,
    /// The body of an HTTP answer, in bytes.
    pub size: usize,
    pub core: Option<usize>,
    /// Ask for events without waiting, as the peer of a client that is measured.
    pub spin: bool,
}

pub fn parse(words: impl Iterator<Item = String>) -> Result<Command, String> {
    let mut words = words.peekable();
    if words.next_if(|word| word == "serve").is_some() {
        return parse_serve(words).map(Command::Serve);
    }
    parse_load(words).map(Command::Load)
}

fn parse_load(mut words: impl Iterator<Item = String>) -> Result<LoadArgs, String> {
    let target = words.next().ok_or(USAGE)?;
    let mut args = LoadArgs {
        target: parse_target(&target)?,
        load: Load::Requests,
        protocol: Speech::Echo,
        connections: 10,
        size: 1024,
        seconds: Duration::from_secs(2),
        warmup: Duration::from_millis(300),
        percent: vec![50.0, 90.0],
        core: None,
        server_pid: None,
    };
    while let Some(word) = words.next() {
        let value = value_of(&word, words.next())?;
        match word.as_str() {
            "--load" => {
                args.load = match value.as_str() {
                    "requests" => Load::Requests,
                    "churn" => Load::Churn,
                    "idle" => Load::Idle,
                    "schedule" => Load::Schedule,
                    "handshakes" => Load::Handshakes,
                    "send" => Load::Send,
                    "receive" => Load::Receive,
                    _ => return Err(unknown(&value)),
                }
            }
            "--protocol" => {
                args.protocol = match value.as_str() {
                    "echo" => Speech::Echo,
                    "http" => Speech::Http,
                    "websocket" => Speech::Websocket,
                    _ => return Err(unknown(&value)),
                }
            }
            "--connections" => args.connections = number(&word, &value)?,
            "--size" => args.size = number(&word, &value)?,
            "--seconds" => args.seconds = seconds(&word, &value)?,
            "--warmup" => args.warmup = seconds(&word, &value)?,
            "--percent" => {
                args.percent =
                    value.split(',').map(|part| number(&word, part)).collect::<Result<_, _>>()?;
            }
            "--core" => args.core = Some(number(&word, &value)?),
            "--server-pid" => args.server_pid = Some(number(&word, &value)?),
            _ => return Err(unknown(&word)),
        }
    }
    if args.connections == 0 || args.size == 0 {
        return Err("--connections and --size must be at least 1".into());
    }
    if !args.percent.iter().all(|part| part.is_finite() && *part > 0.0) {
        return Err("--percent must be more than 0".into());
    }
    Ok(args)
}

fn parse_serve(mut words: impl Iterator<Item = String>) -> Result<ServeArgs, String> {
    let service = match words.next().as_deref() {
        Some("echo") => Service::Echo,
        Some("sink") => Service::Sink,
        Some("source") => Service::Source,
        Some("http") => Service::Http,
        _ => return Err(USAGE.into()),
    };
    let listen = match words.next().as_deref() {
        Some("tcp") => Listen::Tcp,
        Some("udp") if service == Service::Echo => Listen::Udp,
        Some(word) => match word.strip_prefix("unix:") {
            Some(path) => Listen::Unix(path.into()),
            None => return Err(unknown(word)),
        },
        None => return Err(USAGE.into()),
    };
    let mut args = ServeArgs { service, listen, size: 13, core: None, spin: false };
    while let Some(word) = words.next() {
        if word == "--spin" {
            args.spin = true;
            continue;
        }
        let value = value_of(&word, words.next())?;
        match word.as_str() {
            "--size" => args.size = number(&word, &value)?,
            "--core" => args.core = Some(number(&word, &value)?),
            _ => return Err(unknown(&word)),
        }
    }
    Ok(args)
}

fn parse_target(word: &str) -> Result<Target, String> {
    let (kind, place) = word.split_once(':').ok_or_else(|| unknown(word))?;
    Ok(match kind {
        "tcp" => Target::Tcp(place.to_owned()),
        "tls" => Target::Tls(place.to_owned()),
        "udp" => Target::Udp(place.to_owned()),
        "unix" => Target::Unix(place.into()),
        _ => return Err(unknown(word)),
    })
}

fn unknown(word: &str) -> String {
    format!("{word}: not understood\n{USAGE}")
}

fn value_of(option: &str, value: Option<String>) -> Result<String, String> {
    value.ok_or_else(|| format!("{option}: a value is missing\n{USAGE}"))
}

fn number<T: std::str::FromStr>(option: &str, value: &str) -> Result<T, String> {
    value.parse().map_err(|_| format!("{option}: '{value}' is not a number it can take"))
}

fn seconds(option: &str, value: &str) -> Result<Duration, String> {
    Duration::try_from_secs_f64(number(option, value)?)
        .map_err(|error| format!("{option}: '{value}': {error}"))
}
