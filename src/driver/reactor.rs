//! One tokio current-thread runtime a loop, and descriptors registered with its reactor.
//!
//! A registration does not own a task: its waker puts a key into the loop's event list, and the
//! loop dispatches the list. So a connection costs a waker, not a task, and the loop alone decides
//! the order in which things run.

use std::future::poll_fn;
use std::io;
use std::mem::ManuallyDrop;
use std::os::fd::{AsRawFd, RawFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll as TaskPoll, Wake, Waker};
use std::thread;
use std::time::{Duration, Instant};

use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::runtime::{Builder, EnterGuard, Handle, Runtime};

pub(crate) use super::events::{Events, Key};
use super::fork;
use super::sys::readiness::Readiness;
use super::sys::{datagram, errno};
use crate::ffi::finalizing;

/// How to poll the driver.
#[derive(Clone, Copy)]
pub enum Poll {
    /// Collects the events that are there.
    NonBlocking,
    /// Blocks until something happens.
    Blocking(Patience),
}

/// What a poll that blocks expects.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Patience {
    /// A peer was answered, and may ask again at once.
    Eager,
    Relaxed,
    /// It has waited for an answer already, and got none.
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

/// How long the loop asks again and again before it blocks, if the last poll that blocked ended sooner. A
/// thread that sleeps has to be woken, which takes longer than a peer on the same machine needs to
/// answer.
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
    pub fn new() -> io::Result<Self> {
        let events: Arc<Events> = Arc::default();
        let interrupted = Arc::clone(&events);
        let (runtime, readiness) = Readiness::with_runtime(|| {
            Builder::new_current_thread()
                .enable_io()
                .enable_time()
                // Threads for what blocks, where users' functions may run Python code.
                .on_thread_start(finalizing::guard)
                .on_thread_park(|| errno::set(0))
                // tokio goes on blocking when a signal interrupts it. The signal may have a handler
                // in Python, which runs once the poll is over.
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

    /// Lets the runtime collect events and run its tasks. Called without the GIL.
    pub fn poll(&self, poll: Poll) {
        match poll {
            Poll::NonBlocking => self.poll_once(),
            Poll::Blocking(patience) => self.block(patience),
        }
    }

    /// Whether `poll` would collect something: one system call, quick enough to keep the GIL.
    pub fn has_events(&self) -> bool {
        self.readiness.as_ref().is_none_or(Readiness::has_events)
    }

    /// Comes back after one poll of the driver that does not block.
    fn poll_once(&self) {
        self.runtime.block_on(tokio::task::yield_now());
    }

    fn block(&self, patience: Patience) {
        let began = Instant::now();
        self.runtime.block_on(poll_fn(|context| self.events.poll(context)));
        let brisk = patience != Patience::Spent && began.elapsed() < SPIN;
        self.brisk.store(brisk, Ordering::Relaxed);
    }

    /// Whether the last poll that blocked was over so soon that it is worth while to `spin`.
    pub fn is_brisk(&self) -> bool {
        self.brisk.load(Ordering::Relaxed)
    }

    /// Polls again and again for a while, without blocking; whether something happened.
    pub fn spin(&self) -> bool {
        let began = Instant::now();
        while began.elapsed() < SPIN {
            self.poll_once();
            if self.events.is_over() {
                return true;
            }
            // The peer may be waiting for this very core.
            thread::yield_now();
        }
        false
    }

    /// Ends a poll that blocks; from any thread.
    pub fn wake(&self) {
        // In a forked child nobody polls this one, and a thread that is not here may have it locked.
        if !self.is_forked() {
            self.events.call();
        }
    }

    /// What tokio's own types look for: timers, sockets and tasks made meanwhile are this loop's.
    pub fn enter(&self) -> EnterGuard<'_> {
        self.runtime.enter()
    }

    pub fn handle(&self) -> &Handle {
        self.runtime.handle()
    }

    /// Whether this is a child process's copy: its epoll instance is the parent's too.
    pub fn is_forked(&self) -> bool {
        self.forks != fork::count()
    }

    pub fn register(&self, fd: RawFd, key: Key) -> io::Result<Registration> {
        self.register_for(fd, key, Interest::READABLE | Interest::WRITABLE)
    }

    /// Only for reading. A datagram socket becomes writable anew with each datagram that leaves,
    /// and each time that would wake who waits for the opposite.
    pub fn register_reader(&self, fd: RawFd, key: Key) -> io::Result<Registration> {
        self.register_for(fd, key, datagram::INTEREST)
    }

    fn register_for(&self, fd: RawFd, key: Key, interest: Interest) -> io::Result<Registration> {
        let _runtime = self.runtime.enter();
        // SAFETY: whoever holds a registration drops it before the descriptor is closed.
        let io = unsafe { AsyncFd::register_with_interest(Fd(fd), interest)? };
        let waker = Waker::from(Arc::new(SourceWaker { events: Arc::clone(&self.events), key }));
        Ok(Registration { io: ManuallyDrop::new(io), waker, forks: self.forks })
    }
}

impl Drop for Reactor {
    fn drop(&mut self) {
        if !self.is_forked() {
            // SAFETY: dropped once, here. In a forked child it leaks instead: taking it apart
            // would remove the parent's descriptors from the epoll instance both share.
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

/// What an attempt did to the descriptor's readiness.
pub enum After {
    /// More may be there at once.
    StillReady,
    /// A short read or write: the kernel has no more, and another call would only say so.
    Drained,
}

/// A descriptor in the reactor. Drop it before the descriptor is closed.
pub struct Registration {
    io: ManuallyDrop<AsyncFd<Fd>>,
    waker: Waker,
    forks: u32,
}

impl Registration {
    /// Runs `op` if the descriptor is thought ready. `None`: it is not, and the key will come.
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
                TaskPoll::Pending => return Ok(None),
                TaskPoll::Ready(ready) => ready?,
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
                // Cleared, the next poll leaves the waker and says so.
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => ready.clear_ready(),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => ready.retain_ready(),
                Err(error) => {
                    ready.retain_ready();
                    return Err(error);
                }
            }
        }
    }

    /// Asks for the key at the next readiness, and says whether the descriptor is ready already: then
    /// no key comes.
    pub fn arm(&self, direction: Direction) -> bool {
        let mut context = Context::from_waker(&self.waker);
        match direction {
            Direction::Read => self.io.poll_read_ready(&mut context).is_ready(),
            Direction::Write => self.io.poll_write_ready(&mut context).is_ready(),
        }
    }

    /// Tells the reactor that a call made outside of `attempt` left nothing to read. Unlike
    /// `blocked` it does not insist: the readiness of a socket that is shut down stays.
    pub fn drained(&self) {
        let mut context = Context::from_waker(&self.waker);
        if let TaskPoll::Ready(Ok(mut ready)) = self.io.poll_read_ready(&mut context) {
            ready.clear_ready();
        }
    }

    /// Whether this is a child process's copy: what it is registered with is the parent's too.
    pub fn is_forked(&self) -> bool {
        self.forks != fork::count()
    }

    /// Tells the reactor that a call made outside of `attempt` would have blocked, and arms.
    pub fn blocked(&self, direction: Direction) {
        let mut context = Context::from_waker(&self.waker);
        loop {
            let polled = match direction {
                Direction::Read => self.io.poll_read_ready(&mut context),
                Direction::Write => self.io.poll_write_ready(&mut context),
            };
            match polled {
                TaskPoll::Ready(Ok(mut ready)) => ready.clear_ready(),
                TaskPoll::Pending | TaskPoll::Ready(Err(_)) => return,
            }
        }
    }
}

impl Drop for Registration {
    fn drop(&mut self) {
        if !self.is_forked() {
            // SAFETY: dropped once, here; leaked in a forked child, see `Reactor::drop`.
            unsafe { ManuallyDrop::drop(&mut self.io) };
        }
    }
}
