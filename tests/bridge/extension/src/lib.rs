//! Rust futures of every kind, for the tests of the bridge.

use pyo3::prelude::*;

mod basics;
mod calls;
mod guide;
mod streaming;
mod wakes;

#[pymodule]
fn bridge_extension(module: &Bound<'_, PyModule>) -> PyResult<()> {
    tokioloop::register(module)?;
    basics::fill(module)?;
    calls::fill(module)?;
    guide::fill(module)?;
    streaming::fill(module)?;
    wakes::fill(module)
}
