//! A coroutine function of Python's as a hyper service.

use std::convert::Infallible;
use std::sync::Arc;

use http_body_util::{BodyExt, Full, Limited};
use hyper::body::{Bytes, Incoming};
use hyper::{Request, Response, StatusCode};
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict};
use tokioloop::bridge::{TaskLocals, get_current_locals, into_future_with_locals};

/// The largest body of a request, in bytes.
const LIMIT: usize = 1 << 20;

/// What answers requests: `async def handler(method, path, body)`, which returns a status and a body.
#[derive(Clone)]
pub struct Handler(Arc<Inner>);

struct Inner {
    locals: TaskLocals,
    function: Py<PyAny>,
}

impl Handler {
    pub fn new(function: Bound<'_, PyAny>) -> PyResult<Self> {
        let locals = get_current_locals(function.py())?;
        Ok(Self(Arc::new(Inner { locals, function: function.unbind() })))
    }

    /// An answer to whatever comes: what goes wrong in Python is a 500, and reported to the loop.
    pub async fn answer(
        self,
        request: Request<Incoming>,
    ) -> Result<Response<Full<Bytes>>, Infallible> {
        let (head, body) = request.into_parts();
        let Ok(body) = Limited::new(body, LIMIT).collect().await else {
            return Ok(response(StatusCode::PAYLOAD_TOO_LARGE, "the body is too large"));
        };
        let body = body.to_bytes();
        let answer = async {
            let pending = Python::attach(|py| {
                let args = (head.method.as_str(), head.uri.path(), PyBytes::new(py, &body));
                let awaitable = self.0.function.bind(py).call1(args)?;
                into_future_with_locals(&self.0.locals, awaitable)
            })?;
            let answer = pending.await?;
            Python::attach(|py| answer.extract::<(u16, Vec<u8>)>(py))
        };
        let (status, body) = match answer.await {
            Ok(answer) => answer,
            Err(error) => {
                Python::attach(|py| self.report(py, error));
                return Ok(response(StatusCode::INTERNAL_SERVER_ERROR, "the handler failed"));
            }
        };
        let status = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        Ok(response(status, body))
    }

    fn report(&self, py: Python<'_>, error: PyErr) {
        let told = || {
            let about = PyDict::new(py);
            about.set_item("message", "A handler of webtalk's failed")?;
            about.set_item("exception", error.value(py))?;
            self.0.locals.event_loop(py).call_method1("call_exception_handler", (about,))
        };
        if let Err(error) = told() {
            error.write_unraisable(py, None);
        }
    }
}

fn response(status: StatusCode, body: impl Into<Bytes>) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(body.into()));
    *response.status_mut() = status;
    response
}
