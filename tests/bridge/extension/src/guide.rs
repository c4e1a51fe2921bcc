//! The guide's own code: what it says of it is tested.

use std::pin::Pin;
use std::task::{Context, Poll};

use crate::bridge::{
    future_into_py, get_current_locals, get_current_loop, into_future, io_into_streams, scope,
    spawn, stream_into_py, streams_into_io,
};
use futures_core::Stream;
use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;
use pyo3::types::PyTuple;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::mpsc::{Receiver, channel, unbounded_channel};

/// Cancels a task when it is dropped, in any thread.
struct CancelOnDrop {
    event_loop: Py<PyAny>,
    task: Py<PyAny>,
}

impl Drop for CancelOnDrop {
    fn drop(&mut self) {
        Python::try_attach(|py| {
            let cancel = self.task.getattr(py, "cancel")?;
            self.event_loop.call_method1(py, "call_soon_threadsafe", (cancel,))
        });
    }
}

#[pyfunction]
fn supervise<'py>(awaitable: Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
    let py = awaitable.py();
    let task = py.import("asyncio")?.call_method1("ensure_future", (awaitable,))?;
    let guard =
        CancelOnDrop { event_loop: get_current_loop(py)?.unbind(), task: task.clone().unbind() };
    let result = into_future(task)?;
    future_into_py(py, async move {
        let _guard = guard;
        result.await
    })
}

/// Calls a coroutine function from a task beside.
#[pyfunction]
fn apart(py: Python<'_>, function: Py<PyAny>) -> PyResult<Bound<'_, PyAny>> {
    let locals = get_current_locals(py)?;
    future_into_py(py, async move {
        let task = spawn(scope(locals, async move {
            Python::attach(|py| into_future(function.bind(py).call0()?))?.await
        }));
        task.await.map_err(|error| PyRuntimeError::new_err(error.to_string()))?
    })
}

struct Received(Receiver<u64>);

impl Stream for Received {
    type Item = PyResult<u64>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.0.poll_recv(context).map(|item| item.map(Ok))
    }
}

/// The guide's with a note of each item that is made.
#[pyfunction]
fn squares(py: Python<'_>, count: u64, note: Py<PyAny>) -> PyResult<Bound<'_, PyAny>> {
    let (sender, receiver) = channel(16);
    spawn(async move {
        for number in 0..count {
            Python::attach(|py| note.call1(py, (number,)).map(drop)).unwrap();
            if sender.send(number * number).await.is_err() {
                break; // nobody reads any more
            }
        }
    });
    stream_into_py(py, Received(receiver))
}

/// A sleep that is made when it is called, not when it is polled.
#[pyfunction]
fn sleeps_too_early(py: Python<'_>) -> PyResult<Bound<'_, PyAny>> {
    let sleep = tokio::time::sleep(std::time::Duration::from_millis(1));
    future_into_py(py, async move {
        sleep.await;
        Ok(())
    })
}

#[pyfunction]
fn nothing(py: Python<'_>) -> PyResult<Bound<'_, PyAny>> {
    future_into_py(py, async { Ok(None::<()>) })
}

/// Reads what is there already; `fair` lets others run after each hundred.
#[pyfunction]
fn drains(py: Python<'_>, count: u64, fair: bool) -> PyResult<Bound<'_, PyAny>> {
    future_into_py(py, async move {
        let (sender, mut receiver) = unbounded_channel();
        (0..count).for_each(|number| sender.send(number).unwrap());
        drop(sender);
        while let Some(number) = receiver.recv().await {
            if fair && number % 100 == 99 {
                tokio::task::yield_now().await;
            }
        }
        Ok(count)
    })
}

/// Answers in capitals, when the peer has said all.
#[pyfunction]
fn shouts<'py>(
    reader: Bound<'py, PyAny>,
    writer: Bound<'py, PyAny>,
) -> PyResult<Bound<'py, PyAny>> {
    let py = reader.py();
    let mut stream = streams_into_io(reader, writer)?;
    future_into_py(py, async move {
        let mut text = Vec::new();
        stream.read_to_end(&mut text).await?;
        stream.write_all(&text.to_ascii_uppercase()).await?;
        stream.shutdown().await?;
        Ok(())
    })
}

/// Becomes a `StreamReader` and a `StreamWriter`.
struct Streams(TcpStream);

impl<'py> IntoPyObject<'py> for Streams {
    type Target = PyTuple;
    type Output = Bound<'py, PyTuple>;
    type Error = PyErr;

    fn into_pyobject(self, py: Python<'py>) -> PyResult<Bound<'py, PyTuple>> {
        io_into_streams(py, self.0)?.into_pyobject(py)
    }
}

#[pyfunction]
fn dials(py: Python<'_>, host: String, port: u16) -> PyResult<Bound<'_, PyAny>> {
    future_into_py(py, async move { Ok(Streams(TcpStream::connect((host, port)).await?)) })
}

pub fn fill(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_function(wrap_pyfunction!(shouts, module)?)?;
    module.add_function(wrap_pyfunction!(dials, module)?)?;
    module.add_function(wrap_pyfunction!(supervise, module)?)?;
    module.add_function(wrap_pyfunction!(apart, module)?)?;
    module.add_function(wrap_pyfunction!(squares, module)?)?;
    module.add_function(wrap_pyfunction!(sleeps_too_early, module)?)?;
    module.add_function(wrap_pyfunction!(nothing, module)?)?;
    module.add_function(wrap_pyfunction!(drains, module)?)
}
