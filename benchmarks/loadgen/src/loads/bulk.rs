//! As many bytes as will go, in one direction.

use super::{Progress, SCRATCH, measure};
use crate::args::LoadArgs;
use crate::channels::Channel;
use crate::epoll::{EDGES, Epoll};
use crate::report::Report;

pub fn send(args: &LoadArgs) -> Result<Report, String> {
    let bytes = vec![b'x'; args.size];
    run(args, |channel| channel.send(&bytes))
}

pub fn receive(args: &LoadArgs) -> Result<Report, String> {
    let mut scratch = vec![0_u8; SCRATCH];
    run(args, |channel| match channel.receive(&mut scratch)? {
        Some(0) => Err("the server closed a connection".into()),
        count => Ok(count),
    })
}

/// Moves bytes with `transfer` for as long as a connection is ready.
fn run(
    args: &LoadArgs,
    mut transfer: impl FnMut(&mut Channel) -> Result<Option<usize>, String>,
) -> Result<Report, String> {
    let mut epoll = Epoll::spinning()?;
    let mut channels = Vec::with_capacity(args.connections);
    for token in 0..args.connections {
        let channel = Channel::open(&args.target, 0)?;
        channel.unblock()?;
        epoll.watch(channel.fd(), token, EDGES)?;
        channels.push(channel);
    }
    measure(args, &mut epoll, |epoll, token, _| {
        let mut bytes = 0;
        // Not to the end: the measurement's time must be looked at now and then. Asking for the
        // edges anew makes the kernel tell of a connection that is still ready.
        for _ in 0..64 {
            match transfer(&mut channels[token])? {
                Some(count) => bytes += count as u64,
                None => return Ok(Progress { bytes, requests: 0 }),
            }
        }
        epoll.change(channels[token].fd(), token, EDGES)?;
        Ok(Progress { bytes, requests: 0 })
    })
}
