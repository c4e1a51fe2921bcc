//! Interpreters without a GIL, which are refused: it guards most of what is here.

use std::sync::atomic::{AtomicBool, Ordering};

use pyo3::exceptions::PyImportError;
use pyo3::prelude::*;

/// Raises `ImportError` where threads run Python at the same time.
pub fn only_with_gil(py: Python<'_>) -> PyResult<()> {
    // A process may get a GIL, when it imports a module that needs one, and never loses it.
    static HAS_GIL: AtomicBool = AtomicBool::new(false);
    if HAS_GIL.load(Ordering::Relaxed) {
        return Ok(());
    }
    // Before CPython 3.13 nobody can ask, and there is always one.
    if let Some(ask) = py.import("sys")?.getattr_opt("_is_gil_enabled")?
        && !ask.call0()?.is_truthy()?
    {
        return Err(PyImportError::new_err(
            "tokioloop needs the GIL: use a CPython that has one, or run this one with PYTHON_GIL=1",
        ));
    }
    HAS_GIL.store(true, Ordering::Relaxed);
    Ok(())
}
