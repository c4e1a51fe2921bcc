//! The client: one request, one connection.

use std::io;

use http_body_util::{BodyExt, Full};
use hyper::body::Bytes;
use hyper::client::conn::http1::handshake;
use hyper::{Request, header};
use hyper_util::rt::TokioIo;
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::PyBytes;
use tokio::net::TcpStream;
use tokioloop::bridge::{future_into_py, spawn};

/// Asks a server for a path, with a body to `POST`; gives the status and the body of its answer.
#[pyfunction]
#[pyo3(signature = (host, port, path, body = None))]
pub fn fetch<'py>(
    py: Python<'py>,
    host: String,
    port: u16,
    path: &str,
    body: Option<Vec<u8>>,
) -> PyResult<Bound<'py, PyAny>> {
    let builder = match body {
        Some(_) => Request::post(path),
        None => Request::get(path),
    };
    let request = builder
        .header(header::HOST, format!("{host}:{port}"))
        .body(Full::new(Bytes::from(body.unwrap_or_default())))
        .map_err(|error| PyValueError::new_err(error.to_string()))?;
    future_into_py(py, async move {
        let stream = TcpStream::connect((host, port)).await?;
        let (mut sender, connection) =
            handshake(TokioIo::new(stream)).await.map_err(io::Error::other)?;
        // The connection moves the bytes while this future waits for the answer.
        let moving = spawn(connection);
        let response = sender.send_request(request).await.map_err(io::Error::other)?;
        let status = response.status().as_u16();
        let body = response.into_body().collect().await.map_err(io::Error::other)?.to_bytes();
        drop(sender);
        let _ = moving.await;
        Ok((status, Python::attach(|py| PyBytes::new(py, &body).unbind())))
    })
}
