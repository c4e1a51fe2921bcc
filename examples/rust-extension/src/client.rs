//! The client: hyper's, which knows nothing of Python.

use std::sync::Arc;

use bytes::Bytes;
use http_body_util::Empty;
use hyper::Uri;
use hyper_util::client::legacy::Client as Http;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use tokioloop::bridge::future_into_py;

use crate::errors::{self, StatusError};
use crate::limiter::{Bucket, Limiter};
use crate::response::Response;

/// Fetches by plain HTTP/1.1, and keeps connections for the next request.
#[pyclass(frozen, module = "fetchlimit")]
pub struct Client {
    http: Http<HttpConnector, Empty<Bytes>>,
    bucket: Option<Arc<Bucket>>,
}

#[pymethods]
impl Client {
    #[new]
    #[pyo3(signature = (limiter = None))]
    fn new(limiter: Option<&Limiter>) -> Self {
        let mut connector = HttpConnector::new();
        connector.set_nodelay(true);
        Self {
            http: Http::builder(TokioExecutor::new()).build(connector),
            bucket: limiter.map(Limiter::bucket),
        }
    }

    /// Fetches a page once the limiter allows it.
    fn get<'py>(&self, py: Python<'py>, url: &str) -> PyResult<Bound<'py, PyAny>> {
        // What can be refused at once is refused at the call, not at the `await`.
        let uri: Uri = url
            .parse()
            .map_err(|error| PyValueError::new_err(format!("not a URL: {url:?} ({error})")))?;
        if uri.scheme_str() != Some("http") || uri.host().is_none() {
            return Err(PyValueError::new_err(format!("not an http:// URL: {url:?}")));
        }
        let url = url.to_owned();
        // A future outlives this call: it owns what it needs, and borrows nothing of `self`.
        let (http, bucket) = (self.http.clone(), self.bucket.clone());
        future_into_py(py, async move {
            if let Some(bucket) = bucket {
                bucket.take().await;
            }
            let answer = http.get(uri).await.map_err(|error| errors::failed(&error))?;
            let status = answer.status();
            if status.is_client_error() || status.is_server_error() {
                return Err(PyErr::new::<StatusError, _>((status.as_u16(), url)));
            }
            Ok(Response::new(answer))
        })
    }
}
