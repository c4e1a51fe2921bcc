//! Pipes: one end each of a pipe, a FIFO, a socket or a character device.
//!
//! | file | what |
//! |---|---|
//! | `end` | what both ends share: made, watched, closed, lost |
//! | `reading` | `ReadPipeTransport` |
//! | `writing` | `WritePipeTransport` |
//!
//! They are watched as the program's own descriptors are, level-triggered. Other processes hold the
//! same FIFO or terminal: readiness comes and goes with what they do, and a hang-up is over when
//! the next one opens it. The reactor's registrations are for files that no other process shares; they
//! keep a hang-up for good.
//!
//! # States
//!
//! The stages are [`super::core::lifecycle`]'s. To the finalizer, and in `repr`, an end is closed when
//! `pipe` is empty: `close_pipe` takes the file object out before it closes it, so it is closed once.
//! `pipe` may be set by the program (`_pipe`, as on asyncio), so it may hold anything, or nothing while
//! the end is open: the loop works with `fd`.
//!
//! # Who owns what
//!
//! The file object is the transport's as soon as that exists; the number is the file's. While it is
//! watched a handle in the users' descriptors refers to a bound method, and so to the transport:
//! an end that neither reads nor writes is garbage when the program drops it. The finalizer closes the
//! file, and leaves the object to be dropped with the rest, in turn (see [`super::core::class`]).
//!
//! Everything that changes is in a cell, and is read again after what may run Python code. A write
//! lets other threads run while the kernel copies: it borrows nothing then but `bytes` that it holds,
//! and reads the state again afterwards.

mod end;
mod reading;
mod writing;

use pyo3::prelude::*;

pub(crate) use end::{PipeConfig, new};
pub(crate) use reading::ReadPipe;
pub(crate) use writing::WritePipe;

use super::core::class;

/// Puts the classes of both ends into the extension module.
pub(crate) fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    class::register::<ReadPipe>(module)?;
    class::register::<WritePipe>(module)
}
