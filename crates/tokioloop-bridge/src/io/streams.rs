//! Readers and writers of asyncio's through their public methods: one of a pair, or subclasses and look-alikes
//! whose transports cannot be taken over.
//!
//! Each wait is a task of the loop's, as any `await` of Python's from Rust is. Nothing is read ahead: what was not
//! asked for stays in the reader.

use std::future::Future;
use std::io;
use std::mem::take;
use std::pin::Pin;
use std::task::{Context, Poll};

use pyo3::intern;
use pyo3::prelude::*;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::bytes::{bytes_of, new_bytes};
use super::errors::io_error;
use crate::incoming::into_future_with_locals;
use crate::locals::TaskLocals;
use crate::outgoing::awaited_in_place;
use crate::python::finalizing;

/// The most that is asked for, or written, at once, in bytes.
const CHUNK: usize = 64 * 1024;

type Call = Pin<Box<dyn Future<Output = PyResult<Py<PyAny>>> + Send + Sync>>;

fn poll_call(call: &mut Option<Call>, context: &mut Context<'_>) -> Poll<io::Result<Py<PyAny>>> {
    let Some(pending) = call else { return Poll::Ready(Err(io::ErrorKind::NotConnected.into())) };
    let Poll::Ready(result) = pending.as_mut().poll(context) else { return Poll::Pending };
    *call = None;
    Poll::Ready(result.map_err(|error| finalizing::attach(|py| io_error(py, error))))
}

/// An `asyncio.StreamReader`, or another object with its `read`, as an [`AsyncRead`].
///
/// An exception of the reader's is an error: an `OSError` of the system's by its number, any other inside of the
/// [`io::Error`], which becomes the exception again where it is made a `PyErr`.
pub struct AsyncioReader {
    locals: TaskLocals,
    reader: Py<PyAny>,
    call: Option<Call>,
    /// Read, and more than the caller has taken so far.
    rest: Option<(Py<PyAny>, usize)>,
}

impl AsyncioReader {
    pub(super) fn new(locals: TaskLocals, reader: Bound<'_, PyAny>) -> PyResult<Self> {
        // Whatever has no `read` is refused here, not at the first poll.
        reader.getattr(intern!(reader.py(), "read"))?;
        Ok(Self { locals, reader: reader.unbind(), call: None, rest: None })
    }

    fn start(&self, most: usize) -> PyResult<Call> {
        finalizing::attach(|py| {
            let awaitable = self.reader.bind(py).call_method1(intern!(py, "read"), (most,))?;
            Ok(Box::pin(into_future_with_locals(&self.locals, awaitable)?) as Call)
        })
    }
}

impl AsyncRead for AsyncioReader {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        if buffer.remaining() == 0 {
            return Poll::Ready(Ok(()));
        }
        if this.rest.is_none() {
            if this.call.is_none() {
                let started = this.start(buffer.remaining().min(CHUNK));
                this.call =
                    Some(started.map_err(|error| finalizing::attach(|py| io_error(py, error)))?);
            }
            let Poll::Ready(read) = poll_call(&mut this.call, context) else {
                return Poll::Pending;
            };
            this.rest = Some((read?, 0));
        }
        // A caller may take less than the one that asked: what is over waits for the next.
        let Some((data, from)) = &mut this.rest else { return Poll::Ready(Ok(())) };
        let done = finalizing::attach(|py| {
            let bytes = bytes_of(data.bind(py))?;
            let left = &bytes.as_bytes()[(*from).min(bytes.as_bytes().len())..];
            let taken = left.len().min(buffer.remaining());
            buffer.put_slice(&left[..taken]);
            *from += taken;
            PyResult::Ok(taken == left.len())
        });
        if !matches!(done, Ok(false)) {
            this.rest = None;
        }
        Poll::Ready(done.map(drop).map_err(|error| finalizing::attach(|py| io_error(py, error))))
    }
}

/// An `asyncio.StreamWriter`, or another object with its methods, as an [`AsyncWrite`].
///
/// What is written is handed to the writer by one `write` and one `drain` at a time, while the next waits.
/// [`poll_flush`](AsyncWrite::poll_flush) waits for both; [`poll_shutdown`](AsyncWrite::poll_shutdown) then writes an
/// end of file, or closes the writer if it cannot. Dropping it does neither.
pub struct AsyncioWriter {
    locals: TaskLocals,
    writer: Py<PyAny>,
    call: Option<Call>,
    unsent: Vec<u8>,
    shutdown: Shutdown,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Shutdown {
    No,
    Started,
    Done,
}

/// Calls a writer in its loop's thread, and waits until it has room again.
async fn hand_over(locals: TaskLocals, writer: Py<PyAny>, data: Vec<u8>) -> PyResult<()> {
    let drained = Python::attach(|py| {
        let writer = writer.bind(py);
        writer.call_method1(intern!(py, "write"), (new_bytes(py, &data)?,))?;
        into_future_with_locals(&locals, writer.call_method0(intern!(py, "drain"))?)
    })?;
    drop(data);
    drained.await.map(drop)
}

async fn end(locals: TaskLocals, writer: Py<PyAny>) -> PyResult<()> {
    let closed = Python::attach(|py| {
        let writer = writer.bind(py);
        if writer.call_method0(intern!(py, "can_write_eof"))?.is_truthy()? {
            writer.call_method0(intern!(py, "write_eof"))?;
            return PyResult::Ok(None);
        }
        writer.call_method0(intern!(py, "close"))?;
        let closed = writer.call_method0(intern!(py, "wait_closed"))?;
        into_future_with_locals(&locals, closed).map(Some)
    })?;
    match closed {
        Some(closed) => closed.await.map(drop),
        None => Ok(()),
    }
}

impl AsyncioWriter {
    pub(super) fn new(locals: TaskLocals, writer: Bound<'_, PyAny>) -> PyResult<Self> {
        writer.getattr(intern!(writer.py(), "write"))?;
        writer.getattr(intern!(writer.py(), "drain"))?;
        let writer = writer.unbind();
        Ok(Self { locals, writer, call: None, unsent: Vec::new(), shutdown: Shutdown::No })
    }

    /// Has a future of the loop's thread run as a task there.
    fn start<F>(&self, make: impl FnOnce(TaskLocals, Py<PyAny>) -> F) -> io::Result<Call>
    where
        F: Future<Output = PyResult<()>> + Send + 'static,
    {
        let start = |py: Python<'_>| {
            let future = make(self.locals.clone(), self.writer.clone_ref(py));
            let awaitable = awaited_in_place(py, future)?;
            Ok(Box::pin(into_future_with_locals(&self.locals, awaitable)?) as Call)
        };
        finalizing::attach(|py| start(py).map_err(|error| io_error(py, error)))
    }

    /// Ready when nothing is left to be written.
    fn poll_sent(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        loop {
            if self.call.is_some() {
                let Poll::Ready(result) = poll_call(&mut self.call, context) else {
                    return Poll::Pending;
                };
                result?;
            }
            if self.unsent.is_empty() {
                return Poll::Ready(Ok(()));
            }
            let data = take(&mut self.unsent);
            self.call = Some(self.start(|locals, writer| hand_over(locals, writer, data))?);
        }
    }
}

impl AsyncWrite for AsyncioWriter {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        data: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = &mut *self;
        if this.shutdown != Shutdown::No {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        let taken = data.len().min(CHUNK);
        // Behind a call that runs, as much as one call writes is kept; an error of that call comes first.
        match this.poll_sent(context) {
            Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
            Poll::Pending if !this.unsent.is_empty() => return Poll::Pending,
            _ => {}
        }
        if this.unsent.try_reserve(taken).is_err() {
            return Poll::Ready(Err(io::ErrorKind::OutOfMemory.into()));
        }
        this.unsent.extend_from_slice(&data[..taken]);
        // Begins the call, if none runs. Its error is the next call's: this one has taken the data.
        if this.call.is_none()
            && let Poll::Ready(Err(error)) = this.poll_sent(context)
        {
            return Poll::Ready(Err(error));
        }
        Poll::Ready(Ok(taken))
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll_sent(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.shutdown == Shutdown::No {
            let Poll::Ready(sent) = self.poll_sent(context) else { return Poll::Pending };
            sent?;
            self.call = Some(self.start(end)?);
            self.shutdown = Shutdown::Started;
        }
        if self.shutdown == Shutdown::Started {
            let Poll::Ready(ended) = poll_call(&mut self.call, context) else {
                return Poll::Pending;
            };
            self.shutdown = Shutdown::Done;
            ended?;
        }
        Poll::Ready(Ok(()))
    }
}
