//! Readers and writers of asyncio's through their public methods: one of a pair, or subclasses and look-alikes
//! whose transports cannot be taken over.
//!
//! Each wait is a task of the loop's, inside of another that can cancel it. Nothing is read ahead: what was not asked for
//! stays in the reader.

use std::future::{Future, poll_fn};
use std::io;
use std::mem::take;
use std::pin::Pin;
use std::task::{Context, Poll};

use pyo3::exceptions::PyRuntimeError;
use pyo3::intern;
use pyo3::prelude::*;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::oneshot;

use super::bytes::{bytes_of, new_bytes};
use super::errors::io_error;
use crate::incoming::into_future_with_locals;
use crate::locals::TaskLocals;
use crate::outgoing::awaited_in_place;
use crate::python::gil::GilCell;
use crate::python::{finalizing, imports};

/// The most that is asked for, or written, at once, in bytes.
const CHUNK: usize = 64 * 1024;

/// A call of a stream's method that may have to wait, in the loop's thread. Dropping it cancels what it waits for.
struct Call {
    result: Pin<Box<dyn Future<Output = PyResult<Py<PyAny>>> + Send + Sync>>,
    #[expect(dead_code, reason = "dropped with the call")]
    interest: oneshot::Sender<()>,
}

impl Call {
    /// Calls `begin` in the loop's thread, and awaits what that gives, if anything.
    fn start<B>(locals: &TaskLocals, object: &Py<PyAny>, begin: B) -> io::Result<Self>
    where
        B: for<'py> FnOnce(&Bound<'py, PyAny>) -> PyResult<Option<Bound<'py, PyAny>>>,
        B: Send + 'static,
    {
        let (interest, dropped) = oneshot::channel();
        let start = |py: Python<'_>| {
            let inside = run(locals.clone(), object.clone_ref(py), begin, dropped);
            let unstarted =
                Unstarted(GilCell::new(Some(Box::new(|py| awaited_in_place(py, inside)))));
            let awaitable = Bound::new(py, unstarted)?.into_any();
            let result = Box::pin(into_future_with_locals(locals, awaitable)?);
            Ok(Self { result, interest })
        };
        finalizing::attach(|py| start(py).map_err(|error| io_error(py, error)))
    }

    fn poll(call: &mut Option<Self>, context: &mut Context<'_>) -> Poll<io::Result<Py<PyAny>>> {
        let Some(running) = call else {
            return Poll::Ready(Err(io::ErrorKind::NotConnected.into()));
        };
        let Poll::Ready(result) = running.result.as_mut().poll(context) else {
            return Poll::Pending;
        };
        *call = None;
        Poll::Ready(result.map_err(|error| finalizing::attach(|py| io_error(py, error))))
    }
}

/// A coroutine that is made where it is awaited: one that a closed loop never starts would warn.
#[pyclass(frozen, module = "tokioloop_bridge")]
struct Unstarted(GilCell<Option<Make>>);

type Make = Box<dyn for<'py> FnOnce(Python<'py>) -> PyResult<Bound<'py, PyAny>> + Send>;

#[pymethods]
impl Unstarted {
    fn __await__<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        finalizing::guard();
        match self.0.take(py) {
            Some(make) => make(py),
            None => Err(PyRuntimeError::new_err("cannot reuse already awaited coroutine")),
        }
    }
}

impl Drop for Unstarted {
    fn drop(&mut self) {
        // Before the field, whose destructor may run Python code.
        finalizing::guard();
    }
}

/// The inside of a call: polled in the loop's thread, with the GIL.
async fn run<B>(
    locals: TaskLocals,
    object: Py<PyAny>,
    begin: B,
    mut dropped: oneshot::Receiver<()>,
) -> PyResult<Py<PyAny>>
where
    B: for<'py> FnOnce(&Bound<'py, PyAny>) -> PyResult<Option<Bound<'py, PyAny>>>,
{
    if let Err(oneshot::error::TryRecvError::Closed) = dropped.try_recv() {
        return Python::attach(|py| Ok(py.None()));
    }
    let begun = Python::attach(|py| {
        let Some(awaitable) = begin(object.bind(py))? else { return PyResult::Ok(None) };
        let task = imports::asyncio(py)?.ensure_future.bind(py).call1((awaitable,))?;
        let result = into_future_with_locals(&locals, task.clone())?;
        Ok(Some((task.unbind(), Box::pin(result))))
    })?;
    let Some((task, mut result)) = begun else { return Python::attach(|py| Ok(py.None())) };
    let ended = poll_fn(|context| match result.as_mut().poll(context) {
        Poll::Ready(result) => Poll::Ready(Some(result)),
        Poll::Pending => Pin::new(&mut dropped).poll(context).map(|_| None),
    });
    match ended.await {
        Some(result) => result,
        None => Python::attach(|py| task.call_method0(py, intern!(py, "cancel"))),
    }
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

    fn start(&self, most: usize) -> io::Result<Call> {
        Call::start(&self.locals, &self.reader, move |reader| {
            reader.call_method1(intern!(reader.py(), "read"), (most,)).map(Some)
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
                this.call = Some(this.start(buffer.remaining().min(CHUNK))?);
            }
            let Poll::Ready(read) = Call::poll(&mut this.call, context) else {
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
/// end of file, or closes the writer if it cannot. Dropping it does neither, and cancels
/// a `drain` that waits.
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

/// Gives a writer more, and has it wait until it has room again.
fn hand_over<'py>(writer: &Bound<'py, PyAny>, data: &[u8]) -> PyResult<Option<Bound<'py, PyAny>>> {
    let py = writer.py();
    writer.call_method1(intern!(py, "write"), (new_bytes(py, data)?,))?;
    writer.call_method0(intern!(py, "drain")).map(Some)
}

/// Writes an end of file, or closes a writer that cannot.
fn end<'py>(writer: &Bound<'py, PyAny>) -> PyResult<Option<Bound<'py, PyAny>>> {
    let py = writer.py();
    if writer.call_method0(intern!(py, "can_write_eof"))?.is_truthy()? {
        writer.call_method0(intern!(py, "write_eof"))?;
        return Ok(None);
    }
    writer.call_method0(intern!(py, "close"))?;
    writer.call_method0(intern!(py, "wait_closed")).map(Some)
}

impl AsyncioWriter {
    pub(super) fn new(locals: TaskLocals, writer: Bound<'_, PyAny>) -> PyResult<Self> {
        writer.getattr(intern!(writer.py(), "write"))?;
        writer.getattr(intern!(writer.py(), "drain"))?;
        let writer = writer.unbind();
        Ok(Self { locals, writer, call: None, unsent: Vec::new(), shutdown: Shutdown::No })
    }

    /// Ready when nothing is left to be written.
    fn poll_sent(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        loop {
            if self.call.is_some() {
                let Poll::Ready(result) = Call::poll(&mut self.call, context) else {
                    return Poll::Pending;
                };
                result?;
            }
            if self.unsent.is_empty() {
                return Poll::Ready(Ok(()));
            }
            let data = take(&mut self.unsent);
            self.call = Some(Call::start(&self.locals, &self.writer, move |writer| {
                hand_over(writer, &data)
            })?);
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
            self.call = Some(Call::start(&self.locals, &self.writer, end)?);
            self.shutdown = Shutdown::Started;
        }
        if self.shutdown == Shutdown::Started {
            let Poll::Ready(ended) = Call::poll(&mut self.call, context) else {
                return Poll::Pending;
            };
            self.shutdown = Shutdown::Done;
            ended?;
        }
        Poll::Ready(Ok(()))
    }
}
