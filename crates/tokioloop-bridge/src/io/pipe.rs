//! What a Rust stream and the transport in front of it share, and the task that moves the bytes.
//!
//! The [`Driver`] owns the stream. It runs as a task of the loop's runtime, without the GIL, and alone polls and drops
//! the stream. The transport belongs to the loop's thread. Between them is the [`Pipe`], whose lock is held only while
//! bytes and marks move.
//!
//! The driver reads one chunk ahead, and only while the transport may deliver. What was written and not sent is counted
//! from the transport's `write` until the stream has taken it.

use std::future::Future;
use std::io;
use std::mem::{swap, take};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll, Waker, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::errors::loop_closed;
use super::tether::{Shared, Tether};
use crate::errors::panicked;
use crate::sys::fork::Mutex;

/// The size of the chunks that are read, in bytes.
const CHUNK: usize = 64 * 1024;

pub(super) struct Pipe {
    pub(super) state: Mutex<State>,
    /// Set before the driver is spawned.
    pub(super) tether: OnceLock<Tether>,
}

#[derive(Default)]
pub(super) struct State {
    // --- The transport's wishes.
    /// Not taken by the driver yet.
    pub(super) unsent: Vec<u8>,
    /// Taken by the driver, and not by the stream yet, in bytes.
    in_flight: usize,
    /// Shut the stream down once all is sent.
    pub(super) eof: bool,
    /// The same, and drop the stream.
    pub(super) closing: bool,
    /// Drop the stream.
    pub(super) aborted: bool,
    /// Whether a chunk may be read.
    pub(super) reading: bool,
    /// Ask the transport when no more than so many bytes are to be sent.
    pub(super) wanted_below: Option<usize>,
    driver: Option<Waker>,

    // --- What came of them.
    pub(super) arrived: Vec<u8>,
    /// Nothing arrives behind `arrived`; an error once.
    pub(super) read_end: Option<io::Result<()>>,
    /// The stream is dropped.
    pub(super) finished: Option<io::Result<()>>,
    /// The transport has been asked, and has not looked yet.
    pub(super) asked: bool,
}

impl State {
    /// What was written and not sent, in bytes.
    pub(super) fn size(&self) -> usize {
        self.unsent.len() + self.in_flight
    }
}

impl Pipe {
    pub(super) fn new() -> Arc<Self> {
        Arc::new(Self { state: Mutex::new(State::default()), tether: OnceLock::new() })
    }

    /// Tells the driver of a change.
    pub(super) fn change<R>(&self, change: impl FnOnce(&mut State) -> R) -> R {
        let mut state = self.state.lock();
        let result = change(&mut state);
        let driver = state.driver.take();
        drop(state);
        if let Some(driver) = driver {
            driver.wake();
        }
        result
    }

    /// Tells the transport of a change, if that wants it to look.
    fn report(&self, change: impl FnOnce(&mut State) -> bool) {
        let mut state = self.state.lock();
        let ask = change(&mut state) && !state.asked;
        state.asked |= ask;
        drop(state);
        if ask && let Some(tether) = self.tether.get() {
            tether.ask();
        }
    }
}

impl Shared for Pipe {
    fn orphaned(&self) {
        self.change(|state| state.aborted = true);
    }
}

/// Moves bytes between a stream and a transport.
pub(super) struct Driver<S> {
    pipe: Arc<Pipe>,
    /// None once it is dropped.
    stream: Option<Pin<Box<S>>>,
    /// Bytes that the stream is to take, from `sent` on.
    sending: Vec<u8>,
    sent: usize,
    flush: bool,
    shut_down: bool,
    chunk: Vec<u8>,
    read_ended: bool,
}

impl<S: AsyncRead + AsyncWrite> Driver<S> {
    /// An error if there is no memory to read into.
    pub(super) fn new(
        pipe: Arc<Pipe>,
        stream: S,
    ) -> Result<Self, std::collections::TryReserveError> {
        let mut chunk = Vec::new();
        chunk.try_reserve_exact(CHUNK)?;
        chunk.resize(CHUNK, 0);
        Ok(Self {
            pipe,
            stream: Some(Box::pin(stream)),
            sending: Vec::new(),
            sent: 0,
            flush: false,
            shut_down: false,
            chunk,
            read_ended: false,
        })
    }

    /// Ready when the stream is to be dropped.
    fn poll_both(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let waker = context.waker().clone();
        let mut state = self.pipe.state.lock();
        let old = state.driver.replace(waker);
        let aborted = state.aborted;
        drop(state);
        drop(old);
        if aborted {
            return Poll::Ready(Ok(()));
        }
        let read = self.poll_read(context);
        if let Poll::Ready(result) = self.poll_write(context) {
            return Poll::Ready(result);
        }
        read
    }

    /// Reads the next chunk, if it is wanted. Never ready but with an error of its own.
    fn poll_read(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.read_ended {
            let wanted = {
                let state = self.pipe.state.lock();
                state.reading && state.arrived.is_empty() && !state.closing
            };
            let Some(stream) = self.stream.as_mut().filter(|_| wanted) else { break };
            let mut buffer = ReadBuf::new(&mut self.chunk);
            let read = ready!(stream.as_mut().poll_read(context, &mut buffer));
            let chunk = buffer.filled();
            self.read_ended = read.is_err() || chunk.is_empty();
            let ended = self.read_ended;
            let mut no_memory = false;
            self.pipe.report(|state| {
                if ended {
                    state.read_end = Some(read);
                } else if state.arrived.try_reserve(chunk.len()).is_ok() {
                    state.arrived.extend_from_slice(chunk);
                } else {
                    no_memory = true;
                    state.read_end = Some(Err(io::ErrorKind::OutOfMemory.into()));
                }
                true
            });
            // The chunk is lost, and so nothing may follow it.
            self.read_ended |= no_memory;
        }
        Poll::Pending
    }

    /// Sends what there is. Ready with an error, or when all is sent and the stream is to be closed.
    fn poll_write(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let Some(stream) = &mut self.stream else { return Poll::Ready(Ok(())) };
        loop {
            if self.sent == self.sending.len() {
                self.sending.clear();
                self.sent = 0;
                // A large write does not keep its memory for ever.
                self.sending.shrink_to(4 * CHUNK);
                let mut state = self.pipe.state.lock();
                swap(&mut state.unsent, &mut self.sending);
                state.in_flight = self.sending.len();
                let (ends, closing) = (state.eof || state.closing, state.closing);
                drop(state);
                if self.sending.is_empty() {
                    if self.flush {
                        ready!(stream.as_mut().poll_flush(context))?;
                        self.flush = false;
                    }
                    if ends && !self.shut_down {
                        match ready!(stream.as_mut().poll_shutdown(context)) {
                            // The peer was faster.
                            Err(error) if error.kind() == io::ErrorKind::NotConnected => {}
                            result => result?,
                        }
                        self.shut_down = true;
                    }
                    return if closing { Poll::Ready(Ok(())) } else { Poll::Pending };
                }
            }
            let taken = ready!(stream.as_mut().poll_write(context, &self.sending[self.sent..]))?;
            if taken == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.flush = true;
            // A stream that says it took more than there was is not believed.
            self.sent = (self.sent + taken).min(self.sending.len());
            let left = self.sending.len() - self.sent;
            self.pipe.report(|state| {
                state.in_flight = left;
                let wanted = state.wanted_below.is_some_and(|limit| state.size() <= limit);
                if wanted {
                    state.wanted_below = None;
                }
                wanted
            });
        }
    }
}

impl<S: AsyncRead + AsyncWrite> Future for Driver<S> {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let this = &mut *self;
        let polled = catch_unwind(AssertUnwindSafe(|| this.poll_both(context)));
        let result = match polled {
            Ok(Poll::Pending) => return Poll::Pending,
            Ok(Poll::Ready(result)) => result,
            Err(payload) => Err(io::Error::other(panicked(&*payload))),
        };
        let stream = this.stream.take();
        let dropped = catch_unwind(AssertUnwindSafe(|| drop(stream)));
        this.finish(match dropped {
            Ok(()) => result,
            Err(payload) => result.and(Err(io::Error::other(panicked(&*payload)))),
        });
        Poll::Ready(())
    }
}

// The stream is behind a box, and nothing else is pinned.
impl<S> Unpin for Driver<S> {}

impl<S> Driver<S> {
    fn finish(&mut self, result: io::Result<()>) {
        let freed = (take(&mut self.sending), take(&mut self.chunk));
        drop(freed);
        let mut waker = None;
        self.pipe.report(|state| {
            waker = state.driver.take();
            state.in_flight = 0;
            if state.finished.is_some() {
                return false;
            }
            state.finished = Some(result);
            true
        });
        drop(waker);
    }
}

impl<S> Drop for Driver<S> {
    fn drop(&mut self) {
        // Without an end of its own: the runtime was shut down, or the task cancelled.
        self.finish(Err(loop_closed()));
    }
}
