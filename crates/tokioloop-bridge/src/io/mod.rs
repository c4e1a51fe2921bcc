//! asyncio's streams and transports as tokio's, and tokio's as asyncio's.
//!
//! | From | To | |
//! |---|---|---|
//! | a `StreamReader` and its `StreamWriter` | [`AsyncRead`] and [`AsyncWrite`] | [`streams_into_io`] |
//! | one of the two | one of the two | [`reader_into_io`], [`writer_into_io`] |
//! | a connected transport | both | [`transport_into_io`] |
//! | [`AsyncRead`] and [`AsyncWrite`] | a `StreamReader` and a `StreamWriter` | [`io_into_streams`] |
//! | the same | a transport | [`io_into_transport`] |
//! | a descriptor | its readiness, from the loop | [`AsyncFd`] |
//!
//! From the bottom up: `errors` and `bytes`; `tether`, how Rust reaches what belongs to the loop's thread;
//! `connection`, a transport in Rust's hands, and `streams`, readers and writers through their methods; `pipe` and
//! `transport`, a Rust stream in asyncio's, and `outgoing`, which opens them; `descriptor`.

mod bytes;
mod connection;
#[cfg(unix)]
mod descriptor;
mod errors;
mod outgoing;
mod pipe;
mod streams;
mod tether;
mod transport;

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use pyo3::exceptions::{PyMemoryError, PyStopIteration};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::PyTuple;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use self::connection::{Before, Connection};
#[cfg(unix)]
pub use self::descriptor::{AsyncFd, AsyncFdReadyGuard, Interest, TryIoError};
pub use self::outgoing::{
    io_into_streams, io_into_transport, local_io_into_streams, local_io_into_transport,
};
pub use self::streams::{AsyncioReader, AsyncioWriter};
use crate::admission::admit;
use crate::locals::get_current_locals;
use crate::running::get_running_loop;

/// A connection of asyncio's as [`AsyncRead`] and [`AsyncWrite`], for any thread.
///
/// In the loop's thread, with the GIL, it calls the transport directly; in others it leaves that to the
/// loop, runs no Python and waits for no GIL.
///
/// * Reading is paused while more than 64 KiB have arrived that were not read.
/// * A write waits while the transport has more than its high-water mark. A flush waits for that too, and is then
///   done: as with asyncio's `drain`, the transport may have data left.
/// * A shutdown writes an end of file, and waits until the transport has sent all. A transport that cannot (TLS) is
///   closed, and the shutdown waits until its connection is lost.
/// * Dropping it closes the transport, which still sends what was written.
///
/// An exception of the transport's is an error: an `OSError` of the system's by its number, any other inside of the
/// [`io::Error`], which becomes the exception again where it is made a `PyErr`. When the loop is closed both sides
/// fail with [`NotConnected`](io::ErrorKind::NotConnected).
pub struct AsyncioIo(Kind);

enum Kind {
    Connection(Connection),
    Pair(AsyncioReader, AsyncioWriter),
}

impl AsyncRead for AsyncioIo {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match &mut self.0 {
            Kind::Connection(connection) => connection.poll_read(context, buffer),
            Kind::Pair(reader, _) => Pin::new(reader).poll_read(context, buffer),
        }
    }
}

impl AsyncWrite for AsyncioIo {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        data: &[u8],
    ) -> Poll<io::Result<usize>> {
        match &mut self.0 {
            Kind::Connection(connection) => connection.poll_write(context, data),
            Kind::Pair(_, writer) => Pin::new(writer).poll_write(context, data),
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.0 {
            Kind::Connection(connection) => connection.poll_flush(context),
            Kind::Pair(_, writer) => Pin::new(writer).poll_flush(context),
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.0 {
            Kind::Connection(connection) => connection.poll_shutdown(context),
            Kind::Pair(_, writer) => Pin::new(writer).poll_shutdown(context),
        }
    }
}

/// Makes a connected transport of the running loop's an [`AsyncRead`] and [`AsyncWrite`]: it gets another protocol
/// (`set_protocol`), and what its old one has received so far stays there.
///
/// Raises `RuntimeError` if no loop runs in this thread.
///
/// ```
/// use pyo3::prelude::*;
/// use tokio::io::AsyncReadExt;
/// use tokioloop_bridge::{future_into_py, transport_into_io};
///
/// /// How many bytes come until the end.
/// #[pyfunction]
/// fn count<'py>(transport: Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
///     let py = transport.py();
///     let mut stream = transport_into_io(transport)?;
///     future_into_py(py, async move {
///         let mut bytes = Vec::new();
///         Ok(stream.read_to_end(&mut bytes).await?)
///     })
/// }
/// ```
pub fn transport_into_io(transport: Bound<'_, PyAny>) -> PyResult<AsyncioIo> {
    let py = transport.py();
    admit(py)?;
    let event_loop = get_running_loop(py)?;
    let before = Before {
        arrived: &[],
        ended: false,
        owners: PyTuple::empty(py),
        forward: py.None().into_bound(py),
    };
    Connection::take_over(&event_loop, &transport, before).map(|it| AsyncioIo(Kind::Connection(it)))
}

/// Makes the two ends of a connection of the running loop's an [`AsyncRead`] and [`AsyncWrite`].
///
/// What the reader has received is read first. asyncio's own streams are out of use from then on, except for the
/// writer's `wait_closed`. Subclasses and look-alikes are used through their methods (`read`, `write`, `drain`,
/// `can_write_eof`, `write_eof`, `close`, `wait_closed`), where each wait costs a task; dropping the result
/// does not close those.
///
/// Raises `RuntimeError` if no loop runs in this thread, or a task waits for the reader.
///
/// ```
/// use pyo3::prelude::*;
/// use tokio::io::copy_bidirectional;
/// use tokioloop_bridge::{future_into_py, streams_into_io};
///
/// /// Connects two connections of asyncio's with each other.
/// #[pyfunction]
/// fn relay<'py>(
///     py: Python<'py>,
///     one: (Bound<'py, PyAny>, Bound<'py, PyAny>),
///     other: (Bound<'py, PyAny>, Bound<'py, PyAny>),
/// ) -> PyResult<Bound<'py, PyAny>> {
///     let mut one = streams_into_io(one.0, one.1)?;
///     let mut other = streams_into_io(other.0, other.1)?;
///     future_into_py(py, async move { Ok(copy_bidirectional(&mut one, &mut other).await?) })
/// }
/// ```
pub fn streams_into_io(reader: Bound<'_, PyAny>, writer: Bound<'_, PyAny>) -> PyResult<AsyncioIo> {
    let py = reader.py();
    admit(py)?;
    let event_loop = get_running_loop(py)?;
    if let Some((transport, protocol)) = own_streams(&reader, &writer)? {
        let owners = PyTuple::new(py, [&reader, &writer])?;
        let (arrived, ended) = buffered(&reader)?;
        let before = Before { arrived: &arrived, ended, owners, forward: protocol };
        let taken = Connection::take_over(&event_loop, &transport, before);
        if taken.is_err() && !ended {
            reader.call_method1(intern!(py, "feed_data"), (bytes::new_bytes(py, &arrived)?,))?;
        }
        return taken.map(|it| AsyncioIo(Kind::Connection(it)));
    }
    let locals = get_current_locals(py)?;
    let reader = AsyncioReader::new(locals.clone(), reader)?;
    Ok(AsyncioIo(Kind::Pair(reader, AsyncioWriter::new(locals, writer)?)))
}

/// Makes a `StreamReader`, or another object with its `read`, an [`AsyncRead`]: a child process's output, one
/// end of a pipe.
///
/// Raises `RuntimeError` if there is neither a loop that runs in this thread nor one in the current locals.
///
/// ```
/// use pyo3::prelude::*;
/// use tokio::io::AsyncReadExt;
/// use tokioloop_bridge::{future_into_py, reader_into_io};
///
/// /// A number that begins what a child process prints.
/// #[pyfunction]
/// fn number<'py>(stdout: Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
///     let py = stdout.py();
///     let mut stdout = reader_into_io(stdout)?;
///     future_into_py(py, async move { Ok(stdout.read_u32().await?) })
/// }
/// ```
pub fn reader_into_io(reader: Bound<'_, PyAny>) -> PyResult<AsyncioReader> {
    admit(reader.py())?;
    AsyncioReader::new(get_current_locals(reader.py())?, reader)
}

/// Makes a `StreamWriter`, or another object with its methods, an [`AsyncWrite`].
///
/// Raises `RuntimeError` if there is neither a loop that runs in this thread nor one in the current locals.
pub fn writer_into_io(writer: Bound<'_, PyAny>) -> PyResult<AsyncioWriter> {
    admit(writer.py())?;
    AsyncioWriter::new(get_current_locals(writer.py())?, writer)
}

struct Classes {
    reader: Py<PyAny>,
    writer: Py<PyAny>,
    protocol: Py<PyAny>,
}

fn classes(py: Python<'_>) -> PyResult<&Classes> {
    static CLASSES: PyOnceLock<Classes> = PyOnceLock::new();
    CLASSES.get_or_try_init(py, || {
        let module = py.import("asyncio")?;
        let get = |name: &str| module.getattr(name).map(Bound::unbind);
        Ok(Classes {
            reader: get("StreamReader")?,
            writer: get("StreamWriter")?,
            protocol: get("StreamReaderProtocol")?,
        })
    })
}

/// The transport and the protocol of a pair, if all of it is asyncio's own: what a subclass overrides is its own.
fn own_streams<'py>(
    reader: &Bound<'py, PyAny>,
    writer: &Bound<'py, PyAny>,
) -> PyResult<Option<(Bound<'py, PyAny>, Bound<'py, PyAny>)>> {
    let py = reader.py();
    let classes = classes(py)?;
    let is = |object: &Bound<'_, PyAny>, class: &Py<PyAny>| object.get_type().is(class.bind(py));
    if !is(reader, &classes.reader) || !is(writer, &classes.writer) {
        return Ok(None);
    }
    let transport = writer.getattr(intern!(py, "transport"))?;
    let protocol = transport.call_method0(intern!(py, "get_protocol"))?;
    // A transport whose connection is lost has none any more.
    let own = is(&protocol, &classes.protocol) || protocol.is_none();
    Ok(own.then_some((transport, protocol)))
}

/// What a reader has received, and whether it has had its end. Steps `read` by hand: it suspends only
/// where there is nothing.
fn buffered(reader: &Bound<'_, PyAny>) -> PyResult<(Vec<u8>, bool)> {
    let py = reader.py();
    let mut arrived = Vec::new();
    loop {
        let coroutine = reader.call_method1(intern!(py, "read"), (isize::MAX,))?;
        match coroutine.call_method1(intern!(py, "send"), (py.None(),)) {
            Ok(_) => {
                coroutine.call_method0(intern!(py, "close"))?;
                return Ok((arrived, false));
            }
            Err(error) if error.is_instance_of::<PyStopIteration>(py) => {
                let data = error.value(py).getattr(intern!(py, "value"))?;
                let data = bytes::bytes_of(&data)?;
                if data.as_bytes().is_empty() {
                    return Ok((arrived, true));
                }
                let room = arrived.try_reserve(data.as_bytes().len());
                room.map_err(|_| PyMemoryError::new_err(()))?;
                arrived.extend_from_slice(data.as_bytes());
            }
            Err(error) => return Err(error),
        }
    }
}
