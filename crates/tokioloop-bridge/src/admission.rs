//! The check that each function of the bridge begins with.

use pyo3::prelude::*;

use crate::python::{finalizing, subinterpreters};

/// Guards the thread, and raises `ImportError` in a sub-interpreter. Every function that an extension
/// calls begins with it.
pub(super) fn admit(py: Python<'_>) -> PyResult<()> {
    finalizing::guard();
    subinterpreters::only_main(py)
}
