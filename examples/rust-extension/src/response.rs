//! An answer: its head at once, its body when asked for.

use std::borrow::Cow;
use std::convert::Infallible;
use std::sync::{Mutex, PoisonError};

use bytes::Bytes;
use futures_util::StreamExt;
use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper::header::HeaderMap;
use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;
use pyo3::types::PyBytes;
use tokioloop::bridge::{future_into_py, stream_into_py};

use crate::errors;

/// An answer of the server's. Dropping it before the body was read closes the connection.
#[pyclass(frozen, module = "fetchlimit")]
pub struct Response {
    #[pyo3(get)]
    status: u16,
    headers: HeaderMap,
    body: Mutex<Option<Incoming>>,
}

impl Response {
    pub fn new(answer: hyper::Response<Incoming>) -> Self {
        let (head, body) = answer.into_parts();
        Self { status: head.status.as_u16(), headers: head.headers, body: Mutex::new(Some(body)) }
    }

    fn take(&self) -> PyResult<Incoming> {
        // Held for a moment only, never across an `await`.
        let body = self.body.lock().unwrap_or_else(PoisonError::into_inner).take();
        body.ok_or_else(|| PyRuntimeError::new_err("the body was read already"))
    }
}

#[pymethods]
impl Response {
    /// The first header of this name, in any case.
    fn header(&self, name: &str) -> Option<Cow<'_, str>> {
        self.headers.get(name).map(|value| String::from_utf8_lossy(value.as_bytes()))
    }

    /// The whole body.
    fn read<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        let body = self.take()?;
        future_into_py(py, async move {
            let body = body.collect().await.map_err(|error| errors::failed(&error))?;
            Ok(Chunk(body.to_bytes()))
        })
    }

    /// The body as it comes. While nobody asks for more, nothing more is received than hyper's
    /// buffer holds, and the server has to wait.
    fn __aiter__<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        let chunks = self.take()?.into_data_stream();
        stream_into_py(
            py,
            chunks.map(|chunk| chunk.map(Chunk).map_err(|error| errors::failed(&error))),
        )
    }
}

/// Received bytes: `bytes` in Python.
struct Chunk(Bytes);

impl<'py> IntoPyObject<'py> for Chunk {
    type Target = PyBytes;
    type Output = Bound<'py, PyBytes>;
    type Error = Infallible;

    fn into_pyobject(self, py: Python<'py>) -> Result<Self::Output, Self::Error> {
        Ok(PyBytes::new(py, &self.0))
    }
}
