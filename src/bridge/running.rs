//! Which loop runs.

use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;

use crate::primitives::ctypes;

/// The loop that runs in this thread.
#[inline]
pub(super) fn running_loop(py: Python<'_>) -> PyResult<Option<Bound<'_, PyAny>>> {
    static ASK: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    let running = match ctypes::types(py)? {
        Some(types) => types.running_loop(py)?,
        None => ASK.import(py, "asyncio", "_get_running_loop")?.call0()?,
    };
    Ok((!running.is_none()).then_some(running))
}
