//! Imported Python objects, each looked up once a process.

use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;

pub(crate) struct Asyncio {
    pub cancelled_error: Py<PyAny>,
    pub ensure_future: Py<PyAny>,
    pub get_running_loop: Py<PyAny>,
    pub iscoroutine: Py<PyAny>,
}

pub(crate) fn asyncio(py: Python<'_>) -> PyResult<&Asyncio> {
    static ASYNCIO: PyOnceLock<Asyncio> = PyOnceLock::new();
    ASYNCIO.get_or_try_init(py, || {
        let module = py.import("asyncio")?;
        let get = |name: &str| module.getattr(name).map(Bound::unbind);
        Ok(Asyncio {
            cancelled_error: get("CancelledError")?,
            ensure_future: get("ensure_future")?,
            get_running_loop: get("_get_running_loop")?,
            iscoroutine: get("iscoroutine")?,
        })
    })
}

/// A copy of the current context.
pub(crate) fn copy_context(py: Python<'_>) -> PyResult<Bound<'_, PyAny>> {
    static COPY: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    COPY.import(py, "contextvars", "copy_context")?.call0()
}

/// A context without variables.
pub(crate) fn empty_context(py: Python<'_>) -> PyResult<Bound<'_, PyAny>> {
    static CONTEXT: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    CONTEXT.import(py, "contextvars", "Context")?.call0()
}
