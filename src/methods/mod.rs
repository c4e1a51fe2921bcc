//! What Python calls on the loop.
//!
//! `scheduling` runs for every callback and is made of plain C functions; `services` runs once a
//! connection or a descriptor and is left to PyO3.

mod scheduling;
mod services;

use pyo3::prelude::*;

use crate::event_loop::NativeLoop;

/// Gives the loop's class its methods and puts it into the extension module.
pub(crate) fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    let class = module.py().get_type::<NativeLoop>();
    scheduling::install(&class)?;
    crate::bridge::table::offer(&class)?;
    module.add("NativeLoop", class)
}
