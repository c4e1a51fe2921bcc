//! A connected transport in Rust's hands.
//!
//! # Who owns what
//!
//! A [`Connection`] is the Rust side, a [`ConnectionProtocol`] the loop's, which takes the place of the transport's
//! protocol and alone holds Python objects. They share a [`Channel`]: what has arrived, what is to be
//! written, and what each wants of the other. The loop's port keeps the protocol until the transport has lost its
//! connection. So a connection may be polled and dropped in any thread, without the GIL.
//!
//! # Back-pressure
//!
//! The transport is paused while more than [`HIGH_WATER`] bytes have arrived that were not read. A write waits while
//! as many bytes have not been handed to the transport, or the transport has paused its protocol.
//!
//! The channel's lock is held only while bytes and marks move; wakers are cloned before and dropped after.

use std::collections::VecDeque;
use std::io;
use std::mem::take;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll, Waker};

use pyo3::exceptions::PyMemoryError;
use pyo3::prelude::*;
use pyo3::types::PyTuple;
use pyo3::{PyTraverseError, PyVisit, intern};
use tokio::io::ReadBuf;

use super::bytes::{bytes_of, new_bytes};
use super::errors::{io_error, loop_closed};
use super::tether::{Shared, Tether};
use crate::errors::ends_loop;
use crate::python::finalizing;
use crate::python::gil::PySlot;
use crate::sys::fork::{Guard, Mutex};

/// asyncio's own high-water mark, in bytes.
const HIGH_WATER: usize = 64 * 1024;

pub(super) struct Connection(Arc<Channel>);

struct Channel {
    state: Mutex<State>,
    /// Set before anything else sees the channel.
    tether: OnceLock<Tether>,
}

#[derive(Default)]
struct State {
    arrived: VecDeque<u8>,
    /// No more will arrive.
    ended: bool,
    /// Why; the first read after the last byte takes it.
    read_error: Option<io::Error>,
    reader: Option<Waker>,
    /// The transport was asked to read no more.
    reading_paused: bool,

    /// Not handed to the transport yet.
    unsent: Vec<u8>,
    /// The transport asks for no more.
    writing_paused: bool,
    write_error: Option<io::Error>,
    writer: Option<Waker>,
    shutdown: Shutdown,

    /// The connection was dropped.
    dropped: bool,
    /// The transport has no connection any more, or the loop is closed.
    lost: bool,
    /// The loop's side has been asked, and has not looked yet.
    asked: bool,
}

#[derive(Clone, Copy, Default, PartialEq, Eq)]
enum Shutdown {
    #[default]
    No,
    /// As soon as everything is with the transport.
    Wanted,
    /// The transport was told to write an end of file: done when it has nothing left.
    Done,
    /// The transport cannot do that, and was closed: done when its connection is lost.
    Closing,
}

/// What the loop's side is to do.
enum Job {
    Write(Vec<u8>),
    Resume,
    Shutdown,
    Close,
}

impl State {
    /// The next thing for the loop's side to do, in the order in which it was wanted.
    fn job(&mut self) -> Option<Job> {
        self.asked = false;
        if self.lost {
            return None;
        }
        if !self.unsent.is_empty() {
            return Some(Job::Write(take(&mut self.unsent)));
        }
        if self.dropped {
            return Some(Job::Close);
        }
        if self.shutdown == Shutdown::Wanted {
            return Some(Job::Shutdown);
        }
        if self.reading_paused && self.arrived.len() <= HIGH_WATER / 2 {
            self.reading_paused = false;
            return Some(Job::Resume);
        }
        None
    }

    fn refusal(&mut self) -> io::Error {
        self.write_error.take().unwrap_or_else(|| io::ErrorKind::BrokenPipe.into())
    }

    /// Nothing arrives any more, and nothing can be written. The first reason counts.
    fn lose(&mut self, read_error: Option<io::Error>, write_error: Option<io::Error>) -> After {
        if self.lost {
            return After { wakers: [None, None], errors: [read_error, write_error] };
        }
        self.lost = true;
        // Somebody counts on what was not sent.
        let unsent = !take(&mut self.unsent).is_empty();
        let write_error = write_error.or_else(|| unsent.then(|| io::ErrorKind::BrokenPipe.into()));
        let read_error = match self.ended {
            true => read_error,
            false => keep_first(&mut self.read_error, read_error),
        };
        self.ended = true;
        let write_error = keep_first(&mut self.write_error, write_error);
        let wakers = [self.reader.take(), self.writer.take()];
        After { wakers, errors: [read_error, write_error] }
    }
}

/// Keeps an error, or gives it back where there is one. An error may own Python objects, and must not be dropped
/// with the lock held.
fn keep_first(kept: &mut Option<io::Error>, error: Option<io::Error>) -> Option<io::Error> {
    if kept.is_some() {
        return error;
    }
    *kept = error;
    None
}

/// Leaves a waker. The one before is dropped without the lock: it may own anything.
fn wait<T>(
    mut state: Guard<'_, State>,
    side: impl FnOnce(&mut State) -> &mut Option<Waker>,
    waker: Waker,
) -> Poll<T> {
    let old = side(&mut state).replace(waker);
    drop(state);
    drop(old);
    Poll::Pending
}

/// What is left to do once the lock is released: to wake, and to drop.
#[must_use]
struct After {
    wakers: [Option<Waker>; 2],
    errors: [Option<io::Error>; 2],
}

impl After {
    fn finish(self) {
        self.wakers.into_iter().flatten().for_each(Waker::wake);
        drop(self.errors);
    }
}

impl Channel {
    /// Has the loop's side look for what it is to do: at once, if this is its thread.
    fn ask(&self) -> io::Result<()> {
        let Some(tether) = self.tether.get() else { return Ok(()) };
        tether.ask_or_serve().map_err(io::Error::other)
    }

    fn update(&self, change: impl FnOnce(&mut State) -> Option<Waker>) {
        let waker = change(&mut self.state.lock());
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}

impl Shared for Channel {
    fn orphaned(&self) {
        let after = self.state.lock().lose(Some(loop_closed()), Some(loop_closed()));
        after.finish();
    }
}

impl Connection {
    /// Takes the place of the transport's protocol. `arrived` was read from the transport before, `ended` says
    /// that its end was as well; `owners` are kept, and `forward` is told that the connection is lost.
    pub(super) fn take_over(
        event_loop: &Bound<'_, PyAny>,
        transport: &Bound<'_, PyAny>,
        before: Before<'_, '_>,
    ) -> PyResult<Self> {
        let py = event_loop.py();
        let mut arrived = VecDeque::new();
        arrived.try_reserve(before.arrived.len()).map_err(|_| PyMemoryError::new_err(()))?;
        arrived.extend(before.arrived);
        let state = State { arrived, ended: before.ended, ..State::default() };
        let channel = Arc::new(Channel { state: Mutex::new(state), tether: OnceLock::new() });
        // It has had its end, and will not tell of it again.
        if transport.call_method0(intern!(py, "is_closing"))?.is_truthy()? {
            let after = channel.state.lock().lose(None, None);
            after.finish();
            return Ok(Self(channel));
        }
        let secure = transport.call_method1(intern!(py, "get_extra_info"), ("sslcontext",))?;
        let protocol = ConnectionProtocol {
            channel: Arc::clone(&channel),
            transport: PySlot::new(transport.clone().unbind()),
            owners: PySlot::new(before.owners.into_any().unbind()),
            forward: PySlot::new(before.forward.unbind()),
            secure: !secure.is_none(),
        };
        let protocol = Bound::new(py, protocol)?;
        let shared = Arc::clone(&channel) as Arc<dyn Shared>;
        let serve = |object: &Bound<'_, PyAny>| match object.cast::<ConnectionProtocol>() {
            Ok(protocol) => protocol.get().serve(object.py()),
            Err(_) => Ok(()),
        };
        let tether = Tether::new(event_loop, protocol.as_any(), serve, shared)?;
        let tether = channel.tether.get_or_init(|| tether);
        // From here on a failure leaves the transport with its own protocol.
        if let Err(error) = transport.call_method1(intern!(py, "set_protocol"), (&protocol,)) {
            tether.release(py);
            return Err(error);
        }
        let connection = Self(channel);
        // Its old protocol may have paused it. A transport that cannot say so has no pause either.
        let reading = transport.call_method0(intern!(py, "is_reading"));
        if reading.and_then(|it| it.is_truthy()).is_ok_and(|reading| !reading) {
            let resumed = transport.call_method0(intern!(py, "resume_reading"));
            resumed.map_or_else(|error| end_only(py, error), |_| Ok(()))?;
        }
        Ok(connection)
    }

    pub(super) fn poll_read(
        &self,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if buffer.remaining() == 0 {
            return Poll::Ready(Ok(()));
        }
        let waker = context.waker().clone();
        let mut state = self.0.state.lock();
        if state.arrived.is_empty() {
            if state.ended {
                return Poll::Ready(state.read_error.take().map_or(Ok(()), Err));
            }
            return wait(state, |state| &mut state.reader, waker);
        }
        let taken = buffer.remaining().min(state.arrived.len());
        let (first, second) = state.arrived.as_slices();
        let from_first = taken.min(first.len());
        buffer.put_slice(&first[..from_first]);
        buffer.put_slice(&second[..taken - from_first]);
        state.arrived.drain(..taken);
        let resume = state.reading_paused && state.arrived.len() <= HIGH_WATER / 2;
        let ask = resume && !state.asked;
        state.asked |= ask;
        drop(state);
        // What was read is not lost by an error here, which the next call finds.
        if ask && let Err(error) = self.0.ask() {
            let second = keep_first(&mut self.0.state.lock().read_error, Some(error));
            drop(second);
        }
        Poll::Ready(Ok(()))
    }

    pub(super) fn poll_write(
        &self,
        context: &mut Context<'_>,
        data: &[u8],
    ) -> Poll<io::Result<usize>> {
        let waker = context.waker().clone();
        let mut state = self.0.state.lock();
        if state.lost || state.shutdown != Shutdown::No || state.write_error.is_some() {
            return Poll::Ready(Err(state.refusal()));
        }
        let taken = data.len().min(HIGH_WATER.saturating_sub(state.unsent.len()));
        if state.writing_paused || (taken == 0 && !data.is_empty()) {
            return wait(state, |state| &mut state.writer, waker);
        }
        if state.unsent.try_reserve(taken).is_err() {
            return Poll::Ready(Err(io::ErrorKind::OutOfMemory.into()));
        }
        state.unsent.extend_from_slice(&data[..taken]);
        let ask = !state.asked && taken > 0;
        state.asked |= ask;
        drop(state);
        if ask {
            self.0.ask()?;
        }
        Poll::Ready(Ok(taken))
    }

    /// Ready once everything is with the transport, and the transport has not too much of it.
    pub(super) fn poll_flush(&self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let waker = context.waker().clone();
        let mut state = self.0.state.lock();
        if let Some(error) = state.write_error.take() {
            return Poll::Ready(Err(error));
        }
        if state.lost || (state.unsent.is_empty() && !state.writing_paused) {
            return Poll::Ready(Ok(()));
        }
        wait(state, |state| &mut state.writer, waker)
    }

    pub(super) fn poll_shutdown(&self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let waker = context.waker().clone();
        let mut state = self.0.state.lock();
        if state.shutdown == Shutdown::No && !state.lost {
            state.shutdown = Shutdown::Wanted;
            let ask = !state.asked;
            state.asked = true;
            drop(state);
            if ask {
                self.0.ask()?;
            }
            state = self.0.state.lock();
        }
        if let Some(error) = state.write_error.take() {
            return Poll::Ready(Err(error));
        }
        if state.lost || (state.shutdown == Shutdown::Done && !state.writing_paused) {
            return Poll::Ready(Ok(()));
        }
        wait(state, |state| &mut state.writer, waker)
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        let mut state = self.0.state.lock();
        state.dropped = true;
        let arrived = take(&mut state.arrived);
        let wakers = [state.reader.take(), state.writer.take()];
        let ask = !state.asked && !state.lost;
        state.asked |= ask;
        drop(state);
        drop((arrived, wakers));
        // Never at once: a destructor may run anywhere, with an exception set.
        if ask && let Some(tether) = self.0.tether.get() {
            tether.ask();
        }
    }
}

/// What there was of a transport before Rust took it over.
pub(super) struct Before<'a, 'py> {
    pub(super) arrived: &'a [u8],
    pub(super) ended: bool,
    /// Kept until the connection is lost: a `StreamWriter` closes its transport when it goes.
    pub(super) owners: Bound<'py, PyTuple>,
    /// A protocol that is told of the end, or `None`.
    pub(super) forward: Bound<'py, PyAny>,
}

/// The protocol of a transport that Rust code reads from and writes to.
#[pyclass(frozen, module = "tokioloop_bridge")]
struct ConnectionProtocol {
    channel: Arc<Channel>,
    transport: PySlot,
    owners: PySlot,
    forward: PySlot,
    secure: bool,
}

/// Returns the error if it ends the loop; others are the Rust side's.
fn end_only(py: Python<'_>, error: PyErr) -> PyResult<()> {
    if ends_loop(py, &error) { Err(error) } else { Ok(()) }
}

impl ConnectionProtocol {
    /// Does all that is wanted.
    fn serve(&self, py: Python<'_>) -> PyResult<()> {
        loop {
            let job = self.channel.state.lock().job();
            let (Some(job), Some(transport)) = (job, self.transport.get(py)) else { return Ok(()) };
            let done = match job {
                Job::Write(data) => self.write(&transport, &data),
                Job::Resume => transport.call_method0(intern!(py, "resume_reading")).map(drop),
                Job::Shutdown => self.shut_down(&transport),
                Job::Close => {
                    let closed = transport.call_method0(intern!(py, "close")).map(drop);
                    // It has no user any more; its end is the transport's affair.
                    self.release(py);
                    closed
                }
            };
            if let Err(error) = done {
                self.fail(py, error)?;
            }
        }
    }

    fn write(&self, transport: &Bound<'_, PyAny>, data: &[u8]) -> PyResult<()> {
        let py = transport.py();
        transport.call_method1(intern!(py, "write"), (new_bytes(py, data)?,))?;
        self.channel.update(|state| if state.writing_paused { None } else { state.writer.take() });
        Ok(())
    }

    fn shut_down(&self, transport: &Bound<'_, PyAny>) -> PyResult<()> {
        let py = transport.py();
        self.channel.state.lock().shutdown = Shutdown::Closing;
        let can = transport.call_method0(intern!(py, "can_write_eof"));
        if !can.and_then(|it| it.is_truthy()).unwrap_or(false) {
            return transport.call_method0(intern!(py, "close")).map(drop);
        }
        // A transport that has anything left pauses its protocol now, and resumes it once that is sent. One without
        // water marks does not say.
        let limited = transport.call_method1(intern!(py, "set_write_buffer_limits"), (0,));
        limited.map_or_else(|error| end_only(py, error), |_| Ok(()))?;
        transport.call_method0(intern!(py, "write_eof"))?;
        self.channel.update(|state| {
            state.shutdown = Shutdown::Done;
            if state.writing_paused { None } else { state.writer.take() }
        });
        Ok(())
    }

    /// The transport raised: the Rust side gets that, unless it ends the loop.
    fn fail(&self, py: Python<'_>, error: PyErr) -> PyResult<()> {
        let fatal = ends_loop(py, &error).then(|| error.clone_ref(py));
        let error = io_error(py, error);
        let mut second = None;
        self.channel.update(|state| {
            second = keep_first(&mut state.write_error, Some(error));
            state.writer.take()
        });
        drop(second);
        fatal.map_or(Ok(()), Err)
    }

    /// Forgets the Python objects, in the loop's thread.
    fn release(&self, py: Python<'_>) {
        if let Some(tether) = self.channel.tether.get() {
            tether.release(py);
        }
        for slot in [&self.transport, &self.owners] {
            slot.set(py, None);
        }
    }
}

#[pymethods]
impl ConnectionProtocol {
    fn connection_made(&self, _transport: &Bound<'_, PyAny>) {
        finalizing::guard();
    }

    fn data_received(&self, data: &Bound<'_, PyAny>) -> PyResult<()> {
        finalizing::guard();
        let py = data.py();
        let data = bytes_of(data)?;
        let mut state = self.channel.state.lock();
        if state.dropped || state.ended {
            return Ok(());
        }
        let room = state.arrived.try_reserve(data.as_bytes().len());
        room.map_err(|_| PyMemoryError::new_err(()))?;
        state.arrived.extend(data.as_bytes());
        let pause = state.arrived.len() > HIGH_WATER && !state.reading_paused;
        state.reading_paused |= pause;
        let waker = state.reader.take();
        drop(state);
        if let Some(waker) = waker {
            waker.wake();
        }
        if pause && let Some(transport) = self.transport.get(py) {
            // A transport without a brake goes on, and the bytes are kept.
            let paused = transport.call_method0(intern!(py, "pause_reading"));
            if let Err(error) = paused {
                self.channel.state.lock().reading_paused = false;
                end_only(py, error)?;
            }
        }
        Ok(())
    }

    /// Keeps the transport open for what is still to be written; TLS cannot be half closed.
    fn eof_received(&self) -> bool {
        finalizing::guard();
        self.channel.update(|state| {
            state.ended = true;
            state.reader.take()
        });
        !self.secure
    }

    #[pyo3(signature = (exc = None))]
    fn connection_lost(&self, py: Python<'_>, exc: Option<Bound<'_, PyAny>>) -> PyResult<()> {
        finalizing::guard();
        let error = || exc.clone().map(|it| io_error(py, PyErr::from_value(it)));
        let (for_reader, for_writer) = (error(), error());
        let after = self.channel.state.lock().lose(for_reader, for_writer);
        after.finish();
        let forward = self.forward.take(py);
        self.release(py);
        match forward.filter(|it| !it.is_none(py)) {
            Some(protocol) => {
                protocol.call_method1(py, intern!(py, "connection_lost"), (exc,)).map(drop)
            }
            None => Ok(()),
        }
    }

    fn pause_writing(&self) {
        finalizing::guard();
        self.channel.state.lock().writing_paused = true;
    }

    fn resume_writing(&self) {
        finalizing::guard();
        self.channel.update(|state| {
            state.writing_paused = false;
            state.writer.take()
        });
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        self.transport.traverse(&visit)?;
        self.owners.traverse(&visit)?;
        self.forward.traverse(&visit)
    }

    fn __clear__(&self, py: Python<'_>) {
        finalizing::guard();
        for slot in [&self.transport, &self.owners, &self.forward] {
            slot.set(py, None);
        }
    }
}

impl Drop for ConnectionProtocol {
    fn drop(&mut self) {
        // Before the fields, whose destructors may run Python code.
        finalizing::guard();
    }
}
