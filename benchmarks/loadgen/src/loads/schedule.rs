//! What a server can take, and how long its answers take at parts of that load.
//!
//! First each connection asks as soon as it is answered, and the server is never without work: that
//! rate is all of its load. Then requests are sent by schedule, whether earlier ones are answered or
//! not, and an answer's time counts from when its request should have been sent. A client that waits
//! for answers would send less while the server is slow, and so leave out the requests that would
//! have waited longest.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use super::crowd::Crowd;
use super::{STALL, requests};
use crate::args::LoadArgs;
use crate::channels::Channel;
use crate::epoll::Epoll;
use crate::protocols::Protocol;
use crate::report::{Part, Report};
use crate::system;

/// Requests that are sent before answers are looked for again, where many are due.
const BURST: usize = 32;

pub fn run<P: Protocol>(args: &LoadArgs, protocol: &P) -> Result<Report, String> {
    let (mut crowd, bytes_per_connection) = Crowd::assemble(args, protocol)?;
    let Crowd { epoll, connections, scratch, .. } = &mut crowd;
    let full = requests::saturate(args, protocol, epoll, connections, scratch)?;
    crowd.finish(0)?;
    let Crowd { mut epoll, connections, mut scratch, .. } = crowd;
    let message = protocol.request();
    let mut lines: Vec<Line> =
        connections.into_iter().map(|connection| Line::new(connection.into_channel())).collect();
    let rate = full.requests as f64 / full.seconds;
    let mut parts = Vec::new();
    for &percent in &args.percent {
        let schedule = Schedule::new(rate * percent / 100.0, args.warmup, args.seconds);
        let mut part = keep_to(schedule, args, &mut epoll, &mut lines, message, &mut scratch)?;
        part.percent = percent;
        parts.push(part);
    }
    Ok(Report { bytes_per_connection, parts, ..full })
}

/// Sends by `schedule` over all lines in turn, until everything is answered.
fn keep_to(
    mut schedule: Schedule,
    args: &LoadArgs,
    epoll: &mut Epoll,
    lines: &mut [Line],
    message: &[u8],
    scratch: &mut [u8],
) -> Result<Part, String> {
    let mut latencies = Vec::with_capacity((schedule.end - schedule.begin) as usize);
    let mut answered = 0;
    let mut idle = Duration::ZERO;
    let mut counting: Option<(Duration, Option<f64>)> = None;
    let started = Instant::now();
    let (mut now, mut last_progress) = (Duration::ZERO, Duration::ZERO);
    while answered < schedule.end {
        let mut busy = false;
        for _ in 0..BURST {
            let Some((number, due)) = schedule.next(now) else { break };
            if number == schedule.begin {
                counting = Some((now, args.server_pid.map(system::cpu_seconds).transpose()?));
            }
            let line = (number % lines.len() as u64) as usize;
            lines[line].ask(due, message)?;
            busy = true;
        }
        let events = epoll.poll()?;
        let count_from = schedule.due(schedule.begin);
        for index in 0..events {
            lines[epoll.token(index)].answer(message, scratch, |due| {
                answered += 1;
                last_progress = now;
                if due >= count_from {
                    let late = (started.elapsed() - due).as_nanos();
                    latencies.push(u32::try_from(late).unwrap_or(u32::MAX));
                }
            })?;
        }
        if now.saturating_sub(last_progress) > STALL {
            let left = schedule.end - answered;
            return Err(format!(
                "{left} requests without an answer at {:.0} a second",
                schedule.rate
            ));
        }
        let before = std::mem::replace(&mut now, started.elapsed());
        if counting.is_some() && !busy && events == 0 {
            idle += now - before;
        }
    }
    let cpu_after = args.server_pid.map(system::cpu_seconds).transpose()?;
    let (begun, cpu_before) = counting.ok_or("no request was due")?;
    let seconds = (now - begun).as_secs_f64();
    Ok(Part {
        percent: 0.0,
        rate: schedule.rate,
        requests: latencies.len() as u64,
        seconds,
        client_busy: 1.0 - idle.as_secs_f64() / seconds,
        server_cpu: cpu_before.zip(cpu_after).map(|(before, after)| after - before),
        latencies,
    })
}

/// When requests are due: at even distances, whatever the server does.
struct Schedule {
    /// Requests a second.
    rate: f64,
    next: u64,
    /// The first request that counts.
    begin: u64,
    end: u64,
}

impl Schedule {
    fn new(rate: f64, warmup: Duration, span: Duration) -> Self {
        let begin = (rate * warmup.as_secs_f64()) as u64;
        // At least one counts.
        let end = begin + ((rate * span.as_secs_f64()) as u64).max(1);
        Self { rate, next: 0, begin, end }
    }

    /// After the start.
    fn due(&self, number: u64) -> Duration {
        Duration::from_secs_f64(number as f64 / self.rate)
    }

    /// The next request and when it was due, if that is not later than `now`.
    fn next(&mut self, now: Duration) -> Option<(u64, Duration)> {
        let (number, due) = (self.next, self.due(self.next));
        if number == self.end || due > now {
            return None;
        }
        self.next += 1;
        Some((number, due))
    }
}

/// A connection on which requests are sent without waiting for answers to the earlier ones.
struct Line {
    channel: Channel,
    /// Of the requests without an answer, oldest first.
    due: VecDeque<Duration>,
    /// Bytes that the socket has not taken yet.
    unsent: usize,
    /// Bytes of the oldest request's answer.
    received: usize,
}

impl Line {
    fn new(channel: Channel) -> Self {
        Self { channel, due: VecDeque::new(), unsent: 0, received: 0 }
    }

    fn ask(&mut self, due: Duration, message: &[u8]) -> Result<(), String> {
        self.due.push_back(due);
        self.unsent += message.len();
        self.send(message)
    }

    /// Sends what waits, and calls `answered` for each request whose answer is complete. One read
    /// takes what has arrived, as in `Connection::advance`, save where very much is in flight.
    fn answer(
        &mut self,
        message: &[u8],
        scratch: &mut [u8],
        mut answered: impl FnMut(Duration),
    ) -> Result<(), String> {
        self.send(message)?;
        loop {
            let count = match self.channel.receive(scratch)? {
                Some(0) => return Err("the server closed a connection".into()),
                Some(count) => count,
                None => return Ok(()),
            };
            self.received += count;
            while self.received >= message.len() {
                let due = self.due.pop_front().ok_or("the server returned more than was sent")?;
                self.received -= message.len();
                answered(due);
            }
            if count < scratch.len() {
                return Ok(());
            }
        }
    }

    fn send(&mut self, message: &[u8]) -> Result<(), String> {
        while self.unsent > 0 {
            // Messages are alike: what comes next follows from how much of the last one is unsent.
            let rest = (self.unsent - 1) % message.len() + 1;
            match self.channel.send(&message[message.len() - rest..])? {
                Some(0) => return Err("a write was taken for nothing".into()),
                Some(count) => self.unsent -= count,
                None => break,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::TcpListener;

    use super::*;
    use crate::args::Target;

    fn seconds(number: f64) -> Duration {
        Duration::from_secs_f64(number)
    }

    #[test]
    fn requests_are_due_at_even_distances_and_not_before() {
        let mut schedule = Schedule::new(10.0, seconds(0.2), seconds(0.3));
        assert_eq!((schedule.begin, schedule.end), (2, 5));
        assert_eq!(schedule.next(seconds(0.0)), Some((0, seconds(0.0))));
        assert_eq!(schedule.next(seconds(0.05)), None);
        assert_eq!(schedule.next(seconds(0.1)), Some((1, seconds(0.1))));
    }

    #[test]
    fn requests_that_could_not_be_sent_in_time_are_made_up_for() {
        let mut schedule = Schedule::new(10.0, seconds(0.0), seconds(0.5));
        let due: Vec<_> = std::iter::from_fn(|| schedule.next(seconds(60.0))).collect();
        assert_eq!(due.len(), 5);
        // Due when they were, not when they are sent.
        assert_eq!(due[4], (4, seconds(0.4)));
    }

    #[test]
    fn a_slow_server_gets_one_request_that_counts() {
        let schedule = Schedule::new(0.1, seconds(0.1), seconds(0.1));
        assert_eq!((schedule.begin, schedule.end), (0, 1));
    }

    #[test]
    fn answers_belong_to_the_oldest_requests_however_they_are_cut() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let target = Target::Tcp(listener.local_addr().unwrap().to_string());
        let mut line = Line::new(Channel::open(&target, 0).unwrap());
        let (mut server, _) = listener.accept().unwrap();
        let mut scratch = [0; 64];
        for number in 1..=3 {
            line.ask(seconds(f64::from(number)), b"abcd").unwrap();
        }
        let mut asked = [0; 12];
        server.read_exact(&mut asked).unwrap();
        assert_eq!(&asked, b"abcdabcdabcd");

        let mut found = Vec::new();
        server.write_all(&asked[..6]).unwrap();
        while line.received + 4 * found.len() < 6 {
            line.answer(b"abcd", &mut scratch, |due| found.push(due)).unwrap();
        }
        assert_eq!(found, [seconds(1.0)]);
        server.write_all(&asked[6..]).unwrap();
        while found.len() < 3 {
            line.answer(b"abcd", &mut scratch, |due| found.push(due)).unwrap();
        }
        assert_eq!(found, [seconds(1.0), seconds(2.0), seconds(3.0)]);
        server.write_all(&asked[..4]).unwrap();
        assert!(line.answer(b"abcd", &mut scratch, |_| ()).is_err());
    }
}
