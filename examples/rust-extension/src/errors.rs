//! What goes wrong, as Python's exceptions.

use std::error::Error;
use std::io;
use std::iter::successors;

use pyo3::exceptions::{PyException, PyOSError};
use pyo3::prelude::*;

/// A request that failed, and not by an error of the operating system's.
#[pyclass(subclass, frozen, extends = PyException, module = "fetchlimit")]
pub struct FetchError;

#[pymethods]
impl FetchError {
    #[new]
    fn new(_message: &str) -> Self {
        Self
    }
}

/// The server answered that there is nothing to get, or that it cannot.
#[pyclass(frozen, get_all, extends = FetchError, module = "fetchlimit")]
pub struct StatusError {
    status: u16,
    url: String,
}

#[pymethods]
impl StatusError {
    #[new]
    fn new(status: u16, url: String) -> PyClassInitializer<Self> {
        PyClassInitializer::from(FetchError).add_subclass(Self { status, url })
    }

    fn __str__(&self) -> String {
        format!("status {} from {}", self.status, self.url)
    }
}

/// hyper's errors. If the operating system is at the bottom of one it is the `OSError` that
/// asyncio's own connections raise: `ConnectionRefusedError`, for example.
pub fn failed(error: &(dyn Error + 'static)) -> PyErr {
    let causes = || successors(Some(error), |&error| error.source());
    if let Some(error) = causes().find_map(|cause| cause.downcast_ref::<io::Error>())
        && let Some(code) = error.raw_os_error()
    {
        return PyOSError::new_err((code, error.to_string()));
    }
    let told: Vec<_> = causes().map(ToString::to_string).collect();
    PyErr::new::<FetchError, _>(told.join(": "))
}
