//! One tokio current-thread runtime a loop, and descriptors registered with its reactor.
//!
//! A registration does not own a task: its waker puts a key into the loop's list of events, and the
//! loop delivers the events of the list. So a connection costs a waker and not a task, and the loop
//! alone decides the order in which callbacks run.
//!
//! tokio's registrations are edge-triggered: a waker is called once for each event that follows an
//! attempt which found nothing. So the owner of a [`Registration`] either tries until the
//! descriptor is not ready, or asks for the next event with `arm`.
//!
//! In a forked child the reactor and its registrations are leaked, because their epoll instance is
//! the parent's too: to take them apart would take the parent's descriptors out of it.

use std::future::poll_fn;
use std::io;
use std::mem::ManuallyDrop;
use std::os::fd::{AsRawFd, RawFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker};
use std::thread;
use std::time::{Duration, Instant};

use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::runtime::{Builder, EnterGuard, Handle, Runtime};

pub(crate) use super::events::{Events, Key};
use super::fork;
use super::sys::readiness::Readiness;
use super::sys::{datagram, errno};

/// How to poll the driver.
#[derive(Clone, Copy)]
pub enum PollMode {
    /// Collects the events that there are, without blocking.
    NonBlocking,
    /// Blocks until there is an event or a call.
    Blocking(Patience),
}

/// How soon a poll that blocks expects an event.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Patience {
    /// Soon: the loop has answered a peer, which may ask again at once.
    Eager,
    /// At any time.
    Relaxed,
    /// Not soon: the loop has spun for an answer already, and got none.
    Spent,
}

struct SourceWaker {
    events: Arc<Events>,
    key: Key,
}

impl Wake for SourceWaker {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.events.notify(self.key);
    }
}

/// How long the loop polls again and again before it blocks, if the last poll that blocked ended
/// sooner than that. The kernel has to wake a thread that blocks, which takes longer than a peer on
/// the same machine needs to answer.
const SPIN: Duration = Duration::from_micros(30);

pub struct Reactor {
    runtime: ManuallyDrop<Runtime>,
    readiness: Option<Readiness>,
    pub events: Arc<Events>,
    forks: u32,
    /// The last poll that blocked ended within `SPIN`.
    brisk: AtomicBool,
}

impl Reactor {
    /// `on_thread_start` is called first in each thread that tokio starts for blocking work, where
    /// users' functions may run Python code.
    pub fn new(on_thread_start: fn()) -> io::Result<Self> {
        let events: Arc<Events> = Arc::default();
        let interrupted = Arc::clone(&events);
        let (runtime, readiness) = Readiness::with_runtime(|| {
            Builder::new_current_thread()
                .enable_io()
                .enable_time()
                .on_thread_start(on_thread_start)
                .on_thread_park(|| errno::set(0))
                // When a signal interrupts tokio's system call, tokio blocks again. But the signal
                // may have a handler in Python, which runs once the poll is over.
                .on_thread_unpark(move || {
                    if errno::get() == libc::EINTR {
                        interrupted.call();
                    }
                })
                .build()
        })?;
        Ok(Self {
            runtime: ManuallyDrop::new(runtime),
            readiness,
            events,
            forks: fork::count(),
            brisk: AtomicBool::new(false),
        })
    }

    /// Has the runtime collect events and run its tasks. Called without the GIL.
    pub fn poll(&self, poll: PollMode) {
        match poll {
            PollMode::NonBlocking => self.poll_once(),
            PollMode::Blocking(patience) => self.block(patience),
        }
    }

    /// Whether `poll` would collect something: one system call, quick enough to keep the GIL.
    pub fn has_events(&self) -> bool {
        self.readiness.as_ref().is_none_or(Readiness::has_events)
    }

    /// Returns after one poll of the driver that does not block.
    fn poll_once(&self) {
        self.runtime.block_on(tokio::task::yield_now());
    }

    fn block(&self, patience: Patience) {
        let began = Instant::now();
        self.runtime.block_on(poll_fn(|context| self.events.poll(context)));
        let brisk = patience != Patience::Spent && began.elapsed() < SPIN;
        self.brisk.store(brisk, Ordering::Relaxed);
    }

    /// Whether the last poll that blocked was over so soon that `spin` is worth its processor time.
    pub fn is_brisk(&self) -> bool {
        self.brisk.load(Ordering::Relaxed)
    }

    /// Polls again and again for `SPIN`, without blocking; whether there was an event or a call.
    pub fn spin(&self) -> bool {
        let began = Instant::now();
        while began.elapsed() < SPIN {
            self.poll_once();
            if self.events.is_over() {
                return true;
            }
            // The peer may be waiting for the core that this thread runs on.
            thread::yield_now();
        }
        false
    }

    /// Ends a poll that blocks; from any thread.
    pub fn wake(&self) {
        // A forked child does not poll the parent's reactor, whose list may be locked by a thread
        // that the child does not have.
        if !self.is_forked() {
            self.events.call();
        }
    }

    /// Makes this the runtime that tokio's own types find: timers, sockets and tasks that are made
    /// until the guard is dropped are this loop's.
    pub fn enter(&self) -> EnterGuard<'_> {
        self.runtime.enter()
    }

    pub fn handle(&self) -> &Handle {
        self.runtime.handle()
    }

    /// How many tasks were spawned on the runtime and are not done.
    pub fn alive_tasks(&self) -> usize {
        self.runtime.metrics().num_alive_tasks()
    }

    /// Whether this is a forked child's copy, whose epoll instance is the parent's too.
    pub fn is_forked(&self) -> bool {
        self.forks != fork::count()
    }

    /// Registers a descriptor for reading and writing.
    pub fn register(&self, fd: RawFd, key: Key) -> io::Result<Registration> {
        self.register_for(fd, key, Interest::READABLE | Interest::WRITABLE)
    }

    /// Registers a stream for reading only. The kernel reports that a stream is writable as soon as it
    /// is registered, and of a Unix socket each time that the peer has read: a loop which has nothing
    /// to send would be woken for nothing.
    pub fn register_stream_reader(&self, fd: RawFd, key: Key) -> io::Result<Registration> {
        self.register_for(fd, key, Interest::READABLE)
    }

    /// Registers a descriptor for reading only. A datagram socket becomes writable anew with each
    /// datagram that leaves, and each time that would wake a loop which only waits for datagrams.
    pub fn register_reader(&self, fd: RawFd, key: Key) -> io::Result<Registration> {
        self.register_for(fd, key, datagram::INTEREST)
    }

    fn register_for(&self, fd: RawFd, key: Key, interest: Interest) -> io::Result<Registration> {
        let _runtime = self.runtime.enter();
        // SAFETY: the holder of a registration drops it before the descriptor is closed.
        let io = unsafe { AsyncFd::register_with_interest(Fd(fd), interest)? };
        let waker = Waker::from(Arc::new(SourceWaker { events: Arc::clone(&self.events), key }));
        let notifies_writers = interest.is_writable();
        Ok(Registration { io: ManuallyDrop::new(io), waker, notifies_writers, forks: self.forks })
    }
}

impl Drop for Reactor {
    fn drop(&mut self) {
        if !self.is_forked() {
            // SAFETY: dropped once, here.
            let runtime = unsafe { ManuallyDrop::take(&mut self.runtime) };
            runtime.shutdown_background();
        }
    }
}

struct Fd(RawFd);

impl AsRawFd for Fd {
    fn as_raw_fd(&self) -> RawFd {
        self.0
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    Read,
    Write,
}

/// The descriptor's readiness after an attempt that succeeded.
pub enum After {
    /// The next attempt may succeed at once.
    StillReady,
    /// A short read or write: another attempt would find the descriptor not ready.
    Drained,
}

/// A descriptor that is registered with the reactor. Drop it before the descriptor is closed.
pub struct Registration {
    io: ManuallyDrop<AsyncFd<Fd>>,
    waker: Waker,
    notifies_writers: bool,
    forks: u32,
}

impl Registration {
    /// Whether the key can be notified that the descriptor is writable. If not, do not ask for it:
    /// the descriptor has to be registered anew.
    pub fn notifies_writers(&self) -> bool {
        self.notifies_writers
    }

    /// Runs `op` if the descriptor counts as ready. `None`: it is not ready, and its key is
    /// notified when it is.
    pub fn attempt<R>(
        &self,
        direction: Direction,
        mut op: impl FnMut() -> io::Result<(R, After)>,
    ) -> io::Result<Option<R>> {
        let mut context = Context::from_waker(&self.waker);
        loop {
            let polled = match direction {
                Direction::Read => self.io.poll_read_ready(&mut context),
                Direction::Write => self.io.poll_write_ready(&mut context),
            };
            let mut ready = match polled {
                Poll::Pending => return Ok(None),
                Poll::Ready(ready) => ready?,
            };
            match op() {
                Ok((value, After::StillReady)) => {
                    ready.retain_ready();
                    return Ok(Some(value));
                }
                Ok((value, After::Drained)) => {
                    ready.clear_ready();
                    return Ok(Some(value));
                }
                // The next round finds the readiness cleared, and leaves the waker.
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => ready.clear_ready(),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => ready.retain_ready(),
                Err(error) => {
                    ready.retain_ready();
                    return Err(error);
                }
            }
        }
    }

    /// Has the key notified when the descriptor becomes ready. Returns whether it is ready already:
    /// then the key is not notified.
    pub fn arm(&self, direction: Direction) -> bool {
        let mut context = Context::from_waker(&self.waker);
        match direction {
            Direction::Read => self.io.poll_read_ready(&mut context).is_ready(),
            Direction::Write => self.io.poll_write_ready(&mut context).is_ready(),
        }
    }

    /// Clears the readiness to read, after a call made outside of `attempt` which left nothing to
    /// read. Unlike `blocked` it tries once: the readiness of a socket that is shut down stays.
    pub fn drained(&self) {
        let mut context = Context::from_waker(&self.waker);
        if let Poll::Ready(Ok(mut ready)) = self.io.poll_read_ready(&mut context) {
            ready.clear_ready();
        }
    }

    /// Whether this is a forked child's copy, of a registration that is the parent's too.
    pub fn is_forked(&self) -> bool {
        self.forks != fork::count()
    }

    /// Clears the readiness, after a call made outside of `attempt` which would have blocked, and
    /// arms.
    pub fn blocked(&self, direction: Direction) {
        let mut context = Context::from_waker(&self.waker);
        loop {
            let polled = match direction {
                Direction::Read => self.io.poll_read_ready(&mut context),
                Direction::Write => self.io.poll_write_ready(&mut context),
            };
            match polled {
                Poll::Ready(Ok(mut ready)) => ready.clear_ready(),
                Poll::Pending | Poll::Ready(Err(_)) => return,
            }
        }
    }
}

impl Drop for Registration {
    fn drop(&mut self) {
        if !self.is_forked() {
            // SAFETY: dropped once, here.
            unsafe { ManuallyDrop::drop(&mut self.io) };
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::os::unix::net::UnixStream;

    use super::*;

    /// What the reactor has reported since the last time.
    fn keys(reactor: &Reactor) -> Vec<Key> {
        let mut keys = Vec::new();
        reactor.poll(PollMode::NonBlocking);
        reactor.events.drain(&mut keys);
        keys
    }

    fn echo(near: &mut UnixStream, far: &mut UnixStream) {
        near.write_all(b"x").unwrap();
        far.read_exact(&mut [0]).unwrap();
    }

    #[test]
    fn a_stream_that_reads_is_not_reported_as_writable() {
        let reactor = Reactor::new(|| ()).unwrap();
        let (mut near, mut far) = UnixStream::pair().unwrap();
        let registration = reactor.register_stream_reader(near.as_raw_fd(), 7).unwrap();
        assert!(!registration.notifies_writers());
        assert!(!registration.arm(Direction::Read));
        assert!(keys(&reactor).is_empty());
        echo(&mut near, &mut far);
        assert!(!reactor.has_events());
        far.write_all(b"x").unwrap();
        assert_eq!(keys(&reactor), [7]);
    }

    #[test]
    fn a_stream_that_waits_for_room_is_reported_in_both_directions() {
        let reactor = Reactor::new(|| ()).unwrap();
        let (near, mut far) = UnixStream::pair().unwrap();
        far.write_all(b"x").unwrap();
        let reader = reactor.register_stream_reader(near.as_raw_fd(), 7).unwrap();
        assert!(!reader.arm(Direction::Read));
        assert_eq!(keys(&reactor), [7]);
        drop(reader);
        let registration = reactor.register(near.as_raw_fd(), 8).unwrap();
        assert!(registration.notifies_writers());
        registration.blocked(Direction::Write);
        assert!(!registration.arm(Direction::Read));
        assert_eq!(keys(&reactor), [8, 8]);
    }
}
