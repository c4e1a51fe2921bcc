//! Exceptions as `io::Error`s, and the other way round.

use std::io;

use pyo3::exceptions::PyOSError;
use pyo3::intern;
use pyo3::prelude::*;

/// An exception as an error: by its number where it is one of the system's, else around the exception, which
/// `PyErr::from` takes out again.
pub(super) fn io_error(py: Python<'_>, error: PyErr) -> io::Error {
    if !error.is_instance_of::<PyOSError>(py) {
        return io::Error::other(error);
    }
    match number(py, &error) {
        Ok(Some(number)) => io::Error::from_raw_os_error(number),
        _ => io::Error::from(error),
    }
}

/// The system's number of an `OSError`. That of a subclass elsewhere (`ssl.SSLError`, `socket.gaierror`) is
/// another library's.
fn number(py: Python<'_>, error: &PyErr) -> PyResult<Option<i32>> {
    let module = error.get_type(py).getattr(intern!(py, "__module__"))?;
    if module.extract::<String>()? != "builtins" {
        return Ok(None);
    }
    error.value(py).getattr(intern!(py, "errno"))?.extract()
}

/// An error as the exception that Python's own I/O would raise.
pub(super) fn py_error(py: Python<'_>, error: io::Error) -> PyErr {
    let Some(number) = error.raw_os_error() else { return error.into() };
    let text = py.import("os").and_then(|os| os.call_method1("strerror", (number,)));
    match text {
        Ok(text) => PyOSError::new_err((number, text.unbind())),
        Err(_) => error.into(),
    }
}

pub(super) fn loop_closed() -> io::Error {
    io::Error::new(io::ErrorKind::NotConnected, "Event loop is closed")
}
