//! asyncio's streams and transports in Rust's hands, and the other way round.

use std::io::{self, Read, Write};
use std::os::fd::{AsRawFd, FromRawFd};
use std::os::unix::net::UnixStream;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};

use pyo3::exceptions::{PyRuntimeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::PyBytes;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, DuplexStream, ReadBuf};
use tokio::sync::Mutex;

use crate::basics::DropFlag;
use crate::bridge::{
    AsyncFd, AsyncioIo, Interest, future_into_py, io_into_streams, io_into_transport,
    local_io_into_streams, reader_into_io, spawn, streams_into_io, transport_into_io,
    writer_into_io,
};

/// A pair of streams, or a transport.
fn connection<'py>(
    what: Bound<'py, PyAny>,
    writer: Option<Bound<'py, PyAny>>,
) -> PyResult<AsyncioIo> {
    match writer {
        Some(writer) => streams_into_io(what, writer),
        None => transport_into_io(what),
    }
}

async fn copy(mut io: impl AsyncRead + AsyncWrite + Unpin) -> io::Result<usize> {
    let mut buffer = vec![0; 50_000];
    let mut copied = 0;
    loop {
        let count = io.read(&mut buffer).await?;
        if count == 0 {
            break;
        }
        io.write_all(&buffer[..count]).await?;
        io.flush().await?;
        copied += count;
    }
    io.shutdown().await?;
    Ok(copied)
}

/// Sends back what comes, until the end; in a task of its own, or where it is awaited.
#[pyfunction]
#[pyo3(signature = (what, writer = None, apart = false))]
fn io_echo<'py>(
    py: Python<'py>,
    what: Bound<'py, PyAny>,
    writer: Option<Bound<'py, PyAny>>,
    apart: bool,
) -> PyResult<Bound<'py, PyAny>> {
    let io = connection(what, writer)?;
    future_into_py(py, async move {
        let copied = match apart {
            true => spawn(copy(io)).await.map_err(|it| PyRuntimeError::new_err(it.to_string()))?,
            false => copy(io).await,
        };
        Ok(copied?)
    })
}

/// Sends all, says that it is all, and returns what comes meanwhile and after.
#[pyfunction]
#[pyo3(signature = (data, what, writer = None))]
fn io_exchange<'py>(
    py: Python<'py>,
    data: Vec<u8>,
    what: Bound<'py, PyAny>,
    writer: Option<Bound<'py, PyAny>>,
) -> PyResult<Bound<'py, PyAny>> {
    let io = connection(what, writer)?;
    future_into_py(py, async move {
        let (mut reading, mut writing) = tokio::io::split(io);
        let sending = async move {
            writing.write_all(&data).await?;
            writing.shutdown().await
        };
        let receiving = async move {
            let mut received = Vec::new();
            reading.read_to_end(&mut received).await.map(|_| received)
        };
        let (sent, received) = tokio::join!(sending, receiving);
        sent?;
        let received = received?;
        Ok(Python::attach(|py| PyBytes::new(py, &received).unbind()))
    })
}

/// What both sides of a connection say, each when it is asked twice.
#[pyfunction]
fn io_fails<'py>(py: Python<'py>, transport: Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
    let mut io = transport_into_io(transport)?;
    future_into_py(py, async move {
        let mut kinds = Vec::new();
        let mut buffer = [0; 1000];
        let read = loop {
            match io.read(&mut buffer).await {
                Ok(count) if count > 0 => {}
                other => break other,
            }
        };
        kinds.push(format!("{:?}", read.map_err(|it| (it.kind(), it.raw_os_error()))));
        let read = io.read(&mut buffer).await;
        kinds.push(format!("{:?}", read.map_err(|it| it.kind())));
        for _ in 0..2 {
            let written = io.write(b"late").await;
            kinds.push(format!("{:?}", written.map_err(|it| it.kind())));
        }
        Ok(kinds)
    })
}

/// Raises what a read raises.
#[pyfunction]
fn io_raises<'py>(py: Python<'py>, transport: Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
    let mut io = transport_into_io(transport)?;
    future_into_py(py, async move {
        let mut all = Vec::new();
        io.read_to_end(&mut all).await?;
        Ok(all.len())
    })
}

/// Holds a connection and reads it never; the flag says when it is dropped.
#[pyfunction]
#[pyo3(signature = (flag, what, writer = None))]
fn io_held<'py>(
    py: Python<'py>,
    flag: Py<DropFlag>,
    what: Bound<'py, PyAny>,
    writer: Option<Bound<'py, PyAny>>,
) -> PyResult<Bound<'py, PyAny>> {
    let io = connection(what, writer)?;
    let guard = flag.get().guard();
    future_into_py(py, async move {
        let _both = (io, guard);
        std::future::pending::<()>().await;
        Ok(())
    })
}

/// A connection as an object: dropped with it, wherever that is.
#[pyclass(frozen)]
struct Held(#[expect(dead_code, reason = "only dropped")] AsyncioIo);

#[pyfunction]
fn io_object(transport: Bound<'_, PyAny>) -> PyResult<Held> {
    transport_into_io(transport).map(Held)
}

/// The kind of error that a read ends with which waits in a thread of its own.
#[pyclass(frozen)]
struct Waits(std::sync::Mutex<std::sync::mpsc::Receiver<String>>);

#[pymethods]
impl Waits {
    fn result(&self, py: Python<'_>, seconds: u64) -> Option<String> {
        let wait =
            || self.0.lock().ok()?.recv_timeout(std::time::Duration::from_secs(seconds)).ok();
        py.detach(wait)
    }
}

#[pyfunction]
fn io_object_waits(transport: Bound<'_, PyAny>) -> PyResult<Waits> {
    let mut io = transport_into_io(transport)?;
    let (sender, receiver) = std::sync::mpsc::channel();
    crate::bridge::get_runtime().spawn(async move {
        let read = io.read(&mut [0; 10]).await;
        let _ = sender.send(read.map_or_else(|it| format!("{:?}", it.kind()), |_| "end".into()));
    });
    Ok(Waits(std::sync::Mutex::new(receiver)))
}

/// Reads all that a reader has.
#[pyfunction]
fn io_read_all<'py>(py: Python<'py>, reader: Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
    let mut reader = reader_into_io(reader)?;
    future_into_py(py, async move {
        let mut all = Vec::new();
        reader.read_to_end(&mut all).await?;
        Ok(Python::attach(|py| PyBytes::new(py, &all).unbind()))
    })
}

/// Writes all to a writer, and shuts it down.
#[pyfunction]
fn io_write_all<'py>(
    py: Python<'py>,
    writer: Bound<'py, PyAny>,
    data: Vec<u8>,
) -> PyResult<Bound<'py, PyAny>> {
    let mut writer = writer_into_io(writer)?;
    future_into_py(py, async move {
        writer.write_all(&data).await?;
        writer.shutdown().await?;
        Ok(())
    })
}

/// One end of a pipe in memory, for Python to use without a loop's streams.
#[pyclass(frozen)]
struct End(Arc<Mutex<Option<DuplexStream>>>);

#[pymethods]
impl End {
    /// At most so many bytes.
    fn read<'py>(&self, py: Python<'py>, most: usize) -> PyResult<Bound<'py, PyAny>> {
        let shared = Arc::clone(&self.0);
        future_into_py(py, async move {
            let mut buffer = vec![0; most];
            let mut end = shared.lock().await;
            let count = match &mut *end {
                Some(end) => end.read(&mut buffer).await?,
                None => 0,
            };
            buffer.truncate(count);
            Ok(Python::attach(|py| PyBytes::new(py, &buffer).unbind()))
        })
    }

    fn write<'py>(&self, py: Python<'py>, data: Vec<u8>) -> PyResult<Bound<'py, PyAny>> {
        let shared = Arc::clone(&self.0);
        future_into_py(py, async move {
            if let Some(end) = &mut *shared.lock().await {
                end.write_all(&data).await?;
            }
            Ok(())
        })
    }

    fn shutdown<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        let shared = Arc::clone(&self.0);
        future_into_py(py, async move {
            if let Some(end) = &mut *shared.lock().await {
                end.shutdown().await?;
            }
            Ok(())
        })
    }

    fn close<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        let shared = Arc::clone(&self.0);
        future_into_py(py, async move {
            drop(shared.lock().await.take());
            Ok(())
        })
    }
}

/// A pipe in memory that notes when it is dropped.
struct Noted<S, G> {
    stream: S,
    _guard: G,
}

impl<S: AsyncRead + Unpin, G: Unpin> AsyncRead for Noted<S, G> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl<S: AsyncWrite + Unpin, G: Unpin> AsyncWrite for Noted<S, G> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        data: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, data)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

/// A stream that fails, in one of several ways, when it is read from or written to.
struct Faulty(String);

impl Faulty {
    fn fail<T>(&self, during: &str) -> Poll<io::Result<T>> {
        match self.0.split_once(' ') {
            Some((when, "reset")) if when == during => {
                Poll::Ready(Err(io::Error::from_raw_os_error(104)))
            }
            Some((when, "python")) if when == during => {
                Poll::Ready(Err(io::Error::other(PyValueError::new_err("from the stream"))))
            }
            Some((when, "panic")) if when == during => panic!("a bug in a stream"),
            _ => Poll::Pending,
        }
    }
}

impl AsyncRead for Faulty {
    fn poll_read(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        _: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.fail("read")
    }
}

impl AsyncWrite for Faulty {
    fn poll_write(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        data: &[u8],
    ) -> Poll<io::Result<usize>> {
        match self.fail::<()>("write") {
            Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
            _ => Poll::Ready(Ok(data.len())),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.fail("shutdown") {
            Poll::Pending => Poll::Ready(Ok(())),
            ready => ready,
        }
    }
}

/// A reader, a writer, and the other end.
#[pyfunction]
fn io_streams<'py>(
    py: Python<'py>,
    size: usize,
    flag: Py<DropFlag>,
    local: bool,
) -> PyResult<(Bound<'py, PyAny>, Bound<'py, PyAny>, End)> {
    let (near, far) = tokio::io::duplex(size);
    let guard = flag.get().guard();
    let (reader, writer) = match local {
        true => local_io_into_streams(py, Noted { stream: near, _guard: (guard, Rc::new(())) })?,
        false => io_into_streams(py, Noted { stream: near, _guard: guard })?,
    };
    Ok((reader, writer, End(Arc::new(Mutex::new(Some(far))))))
}

/// A transport and the other end.
#[pyfunction]
fn io_transport<'py>(
    py: Python<'py>,
    protocol: Bound<'py, PyAny>,
    size: usize,
    flag: Py<DropFlag>,
) -> PyResult<(Bound<'py, PyAny>, End)> {
    let (near, far) = tokio::io::duplex(size);
    let stream = Noted { stream: near, _guard: flag.get().guard() };
    let transport = io_into_transport(py, stream, protocol)?;
    Ok((transport, End(Arc::new(Mutex::new(Some(far))))))
}

#[pyfunction]
fn io_faulty<'py>(
    py: Python<'py>,
    protocol: Bound<'py, PyAny>,
    how: String,
) -> PyResult<Bound<'py, PyAny>> {
    io_into_transport(py, Faulty(how), protocol)
}

/// Two transports' protocols, connected by Rust.
#[pyfunction]
fn io_pair<'py>(
    py: Python<'py>,
    one: Bound<'py, PyAny>,
    other: Bound<'py, PyAny>,
) -> PyResult<(Bound<'py, PyAny>, Bound<'py, PyAny>)> {
    let (near, far) = tokio::io::duplex(1 << 16);
    Ok((io_into_transport(py, near, one)?, io_into_transport(py, far, other)?))
}

/// A socket of Python's, which is Rust's from now on.
#[pyclass(frozen)]
struct Descriptor(Arc<Mutex<Option<Arc<AsyncFd<UnixStream>>>>>);

#[pymethods]
impl Descriptor {
    /// Takes over a descriptor, which must be that of a socket.
    #[new]
    fn new(py: Python<'_>, descriptor: i32) -> PyResult<Self> {
        // SAFETY: the tests pass descriptors that they have detached from their owners.
        let socket = unsafe { UnixStream::from_raw_fd(descriptor) };
        socket.set_nonblocking(true)?;
        let held = Arc::new(AsyncFd::new(py, socket)?);
        Ok(Self(Arc::new(Mutex::new(Some(held)))))
    }

    #[pyo3(signature = (most, apart = false))]
    fn read<'py>(&self, py: Python<'py>, most: usize, apart: bool) -> PyResult<Bound<'py, PyAny>> {
        let shared = Arc::clone(&self.0);
        future_into_py(py, async move {
            let held = shared.lock().await.clone();
            let Some(held) = held else { return Ok(Vec::new()) };
            let read = async move {
                let mut buffer = vec![0; most];
                let read = |mut socket: &UnixStream| socket.read(&mut buffer);
                let count = held.async_io(Interest::Readable, read).await?;
                buffer.truncate(count);
                io::Result::Ok(buffer)
            };
            Ok(match apart {
                true => {
                    spawn(read).await.map_err(|it| PyRuntimeError::new_err(it.to_string()))??
                }
                false => read.await?,
            })
        })
    }

    fn write<'py>(&self, py: Python<'py>, data: Vec<u8>) -> PyResult<Bound<'py, PyAny>> {
        let shared = Arc::clone(&self.0);
        future_into_py(py, async move {
            let held = shared.lock().await.clone();
            let Some(held) = held else { return Ok(()) };
            let mut sent = 0;
            while sent < data.len() {
                let mut guard = held.writable().await?;
                let written = guard.try_io(|held| (&mut held.get_ref()).write(&data[sent..]));
                if let Ok(written) = written {
                    sent += written?;
                }
            }
            Ok(())
        })
    }

    /// What a read without a wait gives: a number of bytes, or nothing.
    fn try_read(&self) -> PyResult<Option<usize>> {
        let held = self.0.try_lock().ok().and_then(|held| held.clone());
        let Some(held) = held else { return Ok(None) };
        let mut buffer = [0; 1000];
        match held.try_io(Interest::Readable, |mut socket: &UnixStream| socket.read(&mut buffer)) {
            Ok(count) => Ok(Some(count)),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// Waits until it is readable, and reads nothing.
    fn ready<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        let held = self.0.try_lock().ok().and_then(|held| held.clone());
        future_into_py(py, async move {
            if let Some(held) = held {
                held.readable().await?.clear_ready();
            }
            Ok(())
        })
    }

    fn fileno(&self) -> i32 {
        let held = self.0.try_lock().ok().and_then(|held| held.clone());
        held.map_or(-1, |held| held.as_raw_fd())
    }

    /// Waits in a thread of tokio's until it is readable.
    fn waits(&self) -> Waits {
        let held = self.0.try_lock().ok().and_then(|held| held.clone());
        let (sender, receiver) = std::sync::mpsc::channel();
        crate::bridge::get_runtime().spawn(async move {
            let Some(held) = held else { return };
            let ready = held.readable().await;
            let text = ready.map_or_else(|it| format!("{:?}", it.kind()), |_| "ready".into());
            let _ = sender.send(text);
        });
        Waits(std::sync::Mutex::new(receiver))
    }

    /// Drops it, in a thread of its own if that is asked for.
    fn close(&self, py: Python<'_>, apart: bool) {
        let held = self.0.try_lock().ok().and_then(|mut held| held.take());
        match apart {
            true => py.detach(|| drop(std::thread::spawn(move || drop(held)).join())),
            false => drop(held),
        }
    }
}

pub fn fill(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_class::<Descriptor>()?;
    module.add_class::<End>()?;
    module.add_function(wrap_pyfunction!(io_echo, module)?)?;
    module.add_function(wrap_pyfunction!(io_exchange, module)?)?;
    module.add_function(wrap_pyfunction!(io_fails, module)?)?;
    module.add_function(wrap_pyfunction!(io_raises, module)?)?;
    module.add_function(wrap_pyfunction!(io_held, module)?)?;
    module.add_function(wrap_pyfunction!(io_object, module)?)?;
    module.add_function(wrap_pyfunction!(io_object_waits, module)?)?;
    module.add_function(wrap_pyfunction!(io_read_all, module)?)?;
    module.add_function(wrap_pyfunction!(io_write_all, module)?)?;
    module.add_function(wrap_pyfunction!(io_streams, module)?)?;
    module.add_function(wrap_pyfunction!(io_transport, module)?)?;
    module.add_function(wrap_pyfunction!(io_faulty, module)?)?;
    module.add_function(wrap_pyfunction!(io_pair, module)?)
}
