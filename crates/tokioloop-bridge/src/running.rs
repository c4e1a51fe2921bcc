//! Which loop runs.

use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;

use crate::python::gil::GilFlag;
use crate::python::imports;
use crate::python::object::owned;
use crate::table::BridgeApi;

/// A table that was found on a loop: it knows a faster way than asyncio's to any loop that runs.
static KNOWN: GilFlag<Option<&'static BridgeApi>> = GilFlag::new(None);

/// From now on this table is asked.
pub(crate) fn ask(py: Python<'_>, table: &'static BridgeApi) {
    KNOWN.set(py, Some(table));
}

/// The loop that runs in this thread.
#[inline]
pub(crate) fn running_loop(py: Python<'_>) -> PyResult<Option<Bound<'_, PyAny>>> {
    let running = match KNOWN.get(py) {
        // SAFETY: the GIL is held, as the token says; the table's own answer.
        Some(table) => unsafe { owned(py, (table.running_loop)())? },
        None => imports::asyncio(py)?.get_running_loop.bind(py).call0()?,
    };
    Ok((!running.is_none()).then_some(running))
}

/// The loop that runs in this thread. Raises `RuntimeError` if none does.
pub fn get_running_loop(py: Python<'_>) -> PyResult<Bound<'_, PyAny>> {
    running_loop(py)?.ok_or_else(|| PyRuntimeError::new_err("no running event loop"))
}
