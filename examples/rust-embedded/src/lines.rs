//! A client of servers that answer each line with a line.

use std::sync::Arc;

use pyo3::exceptions::{PyConnectionError, PyValueError};
use pyo3::prelude::*;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufStream};
use tokio::net::TcpStream;
use tokio::sync::Mutex;
use tokioloop::bridge::future_into_py;

/// A longer answer is an error.
const LONGEST: u64 = 64 * 1024;

/// A connection. One question at a time is on its way; others stand in line.
#[pyclass(frozen, module = "linetalk")]
pub struct Connection(Arc<Mutex<Option<BufStream<TcpStream>>>>);

/// Connects to a server.
#[pyfunction]
pub fn connect(py: Python<'_>, host: String, port: u16) -> PyResult<Bound<'_, PyAny>> {
    future_into_py(py, async move {
        let stream = TcpStream::connect((host, port)).await?;
        stream.set_nodelay(true)?;
        Ok(Connection(Arc::new(Mutex::new(Some(BufStream::new(stream))))))
    })
}

#[pymethods]
impl Connection {
    /// Sends a line and returns the server's.
    fn ask<'py>(&self, py: Python<'py>, line: String) -> PyResult<Bound<'py, PyAny>> {
        if line.contains('\n') {
            return Err(PyValueError::new_err("a line has one end"));
        }
        let place = Arc::clone(&self.0);
        future_into_py(py, async move {
            let mut place = place.lock().await;
            // Out of its place meanwhile. Whoever is cancelled, or fails, between question and
            // answer drops the stream, and nobody takes that answer for his own.
            let mut stream = place.take().ok_or_else(|| {
                PyConnectionError::new_err("the connection ended with an earlier question")
            })?;
            stream.write_all(line.as_bytes()).await?;
            stream.write_all(b"\n").await?;
            stream.flush().await?;
            let mut answer = String::new();
            (&mut stream).take(LONGEST).read_line(&mut answer).await?;
            if answer.pop() != Some('\n') {
                return Err(PyConnectionError::new_err("the server did not end its line"));
            }
            *place = Some(stream);
            Ok(answer)
        })
    }
}
