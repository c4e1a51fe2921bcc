//! HTTP requests by a library that knows tokio and nothing of Python.

use std::future::Future;

use pyo3::exceptions::PyConnectionError;
use pyo3::prelude::*;

/// Keeps its connections, on the runtime that serves the first request.
#[pyclass(frozen)]
pub struct Client(reqwest::Client);

#[pymethods]
impl Client {
    #[new]
    fn new() -> PyResult<Self> {
        // The environment may name a proxy; the server is on this machine.
        reqwest::Client::builder().no_proxy().build().map(Self).map_err(error)
    }
}

impl Client {
    /// The length of what the server answers.
    pub fn get(&self, url: String) -> impl Future<Output = PyResult<usize>> + use<> {
        let request = self.0.get(url);
        async move {
            let response = request.send().await.map_err(error)?;
            let response = response.error_for_status().map_err(error)?;
            response.bytes().await.map(|body| body.len()).map_err(error)
        }
    }
}

fn error(error: reqwest::Error) -> PyErr {
    PyConnectionError::new_err(error.to_string())
}
