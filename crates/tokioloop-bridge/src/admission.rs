//! The check that each function of the bridge begins with.

use pyo3::prelude::*;

use crate::python::{finalizing, free_threading, subinterpreters};

/// Guards the thread, and raises `ImportError` without a GIL or in a sub-interpreter. Every function
/// that an extension calls begins with it.
pub(super) fn admit(py: Python<'_>) -> PyResult<()> {
    finalizing::guard();
    free_threading::only_with_gil(py)?;
    subinterpreters::only_main(py)
}
