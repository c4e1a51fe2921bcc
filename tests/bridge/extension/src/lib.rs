//! Rust futures of every kind, for the tests of the bridge.
//!
//! It is built twice: with a loop of its own, and as a library that has the bridge alone, limited to
//! CPython's stable ABI.

use pyo3::prelude::*;
#[cfg(feature = "embedded")]
pub(crate) use tokioloop::bridge;
#[cfg(not(feature = "embedded"))]
pub(crate) use tokioloop_bridge as bridge;

mod basics;
mod calls;
mod guide;
mod io;
mod streaming;
mod wakes;

#[pymodule]
fn bridge_extension(module: &Bound<'_, PyModule>) -> PyResult<()> {
    #[cfg(feature = "embedded")]
    tokioloop::register(module)?;
    fill(module)
}

/// The library's, in the same file by another name.
#[pymodule]
fn bridge_library(module: &Bound<'_, PyModule>) -> PyResult<()> {
    fill(module)
}

fn fill(module: &Bound<'_, PyModule>) -> PyResult<()> {
    basics::fill(module)?;
    calls::fill(module)?;
    guide::fill(module)?;
    io::fill(module)?;
    streaming::fill(module)?;
    wakes::fill(module)
}
