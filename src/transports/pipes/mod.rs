//! Pipes: one end each of a pipe, a FIFO, a socket or a character device.
//!
//! | file | what |
//! |---|---|
//! | `end` | what both ends are: made, watched, closed, lost |
//! | `reading` | `ReadPipeTransport` |
//! | `writing` | `WritePipeTransport` |
//!
//! They are watched as the user's own descriptors are, level-triggered. Other processes hold the
//! same FIFO or terminal: readiness comes and goes with what they do, and a hang-up is over when
//! the next one opens it. The reactor's registrations are for what is ours alone; they keep a
//! hang-up for good.

mod end;
mod reading;
mod writing;

use pyo3::prelude::*;

pub(crate) use end::{New, new};
pub(crate) use reading::ReadPipe;
pub(crate) use writing::WritePipe;

use super::base;

/// Puts the classes of both ends into the extension module.
pub(crate) fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    base::register::<ReadPipe>(module)?;
    base::register::<WritePipe>(module)
}
