//! Rust streams as asyncio's transports and streams.

use std::any::type_name;

use pyo3::exceptions::PyMemoryError;
use pyo3::prelude::*;
use pyo3::types::PyDict;
use pyo3::{intern, sync::PyOnceLock};
use tokio::io::{AsyncRead, AsyncWrite};

use super::pipe::{Driver, Pipe};
use super::transport::Transport;
use crate::admission::admit;
use crate::link::Link;
use crate::running::get_running_loop;
use crate::spawning::spawn_local;
use crate::tasks::guarded;

/// Makes a Rust stream a transport of the running loop's, with that protocol.
///
/// The transport does what asyncio's socket transports do: the protocol's `connection_made` is called in the loop's
/// next iteration, `data_received` (or a `BufferedProtocol`'s methods), `eof_received`, `pause_writing` and
/// `connection_lost` as there. `get_extra_info` knows nothing. `loop.start_tls` works on it.
///
/// The stream is polled by a task of the runtime that serves the loop's futures, without the GIL, and dropped there
/// once the transport is closed. A panic of the stream's is an error that the protocol's connection is lost by.
///
/// Raises `RuntimeError` if no loop runs in this thread.
///
/// ```
/// use pyo3::prelude::*;
/// use tokioloop_bridge::io_into_transport;
///
/// /// Connects a protocol with its mirror: whatever it writes comes back.
/// #[pyfunction]
/// fn mirror<'py>(py: Python<'py>, protocol: Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
///     let (near, far) = tokio::io::duplex(4096);
///     tokioloop_bridge::spawn(async move {
///         let (mut reading, mut writing) = tokio::io::split(far);
///         let _ = tokio::io::copy(&mut reading, &mut writing).await;
///     });
///     io_into_transport(py, near, protocol)
/// }
/// ```
pub fn io_into_transport<'py, S>(
    py: Python<'py>,
    stream: S,
    protocol: Bound<'py, PyAny>,
) -> PyResult<Bound<'py, PyAny>>
where
    S: AsyncRead + AsyncWrite + Send + 'static,
{
    admit(py)?;
    open(py, stream, &protocol, |event_loop, driver| {
        // The task goes on without its handle.
        drop(Link::to(event_loop)?.runtime(event_loop)?.spawn(guarded(driver)));
        Ok(())
    })
}

/// The same for a stream that is not `Send`: it stays in this thread, polled as [`spawn_local`] does it.
pub fn local_io_into_transport<'py, S>(
    py: Python<'py>,
    stream: S,
    protocol: Bound<'py, PyAny>,
) -> PyResult<Bound<'py, PyAny>>
where
    S: AsyncRead + AsyncWrite + 'static,
{
    admit(py)?;
    open(py, stream, &protocol, |_, driver| spawn_local(driver).map(drop))
}

/// Makes a Rust stream an `asyncio.StreamReader` and an `asyncio.StreamWriter` of the running loop's, over the transport
/// of [`io_into_transport`].
///
/// ```
/// use pyo3::prelude::*;
/// use tokioloop_bridge::{future_into_py, io_into_streams};
///
/// /// Two connected pairs of streams, as `socket.socketpair` has them.
/// #[pyfunction]
/// fn stream_pair(py: Python<'_>) -> PyResult<[(Bound<'_, PyAny>, Bound<'_, PyAny>); 2]> {
///     let (one, other) = tokio::io::duplex(4096);
///     Ok([io_into_streams(py, one)?, io_into_streams(py, other)?])
/// }
/// ```
pub fn io_into_streams<S>(
    py: Python<'_>,
    stream: S,
) -> PyResult<(Bound<'_, PyAny>, Bound<'_, PyAny>)>
where
    S: AsyncRead + AsyncWrite + Send + 'static,
{
    admit(py)?;
    streams(py, |protocol| io_into_transport(py, stream, protocol))
}

/// The same for a stream that is not `Send`.
pub fn local_io_into_streams<S>(
    py: Python<'_>,
    stream: S,
) -> PyResult<(Bound<'_, PyAny>, Bound<'_, PyAny>)>
where
    S: AsyncRead + AsyncWrite + 'static,
{
    admit(py)?;
    streams(py, |protocol| local_io_into_transport(py, stream, protocol))
}

fn open<'py, S: AsyncRead + AsyncWrite>(
    py: Python<'py>,
    stream: S,
    protocol: &Bound<'py, PyAny>,
    spawn: impl FnOnce(&Bound<'py, PyAny>, Driver<S>) -> PyResult<()>,
) -> PyResult<Bound<'py, PyAny>> {
    let event_loop = get_running_loop(py)?;
    let pipe = Pipe::new();
    let driver = Driver::new(pipe.clone(), stream).map_err(|_| PyMemoryError::new_err(()))?;
    let transport = Transport::open(&event_loop, protocol, &pipe, type_name::<S>())?;
    let begun = spawn(&event_loop, driver).and_then(|()| Transport::schedule(&transport));
    if let Err(error) = begun {
        transport.get().discard(py);
        return Err(error);
    }
    Ok(transport.into_any())
}

fn streams<'py>(
    py: Python<'py>,
    open: impl FnOnce(Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>>,
) -> PyResult<(Bound<'py, PyAny>, Bound<'py, PyAny>)> {
    static CLASSES: PyOnceLock<[Py<PyAny>; 3]> = PyOnceLock::new();
    let [reader, protocol, writer] = CLASSES.get_or_try_init(py, || -> PyResult<_> {
        let module = py.import("asyncio")?;
        let get = |name: &str| module.getattr(name).map(Bound::unbind);
        Ok([get("StreamReader")?, get("StreamReaderProtocol")?, get("StreamWriter")?])
    })?;
    let event_loop = get_running_loop(py)?;
    let named = PyDict::new(py);
    named.set_item(intern!(py, "loop"), &event_loop)?;
    let reader = reader.bind(py).call((), Some(&named))?;
    let protocol = protocol.bind(py).call((&reader,), Some(&named))?;
    let transport = open(protocol.clone())?;
    let writer = writer.bind(py).call1((transport, protocol, &reader, event_loop))?;
    Ok((reader, writer))
}
