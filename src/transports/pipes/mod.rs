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
//!
//! # States
//!
//! An end is open until `closing` is set (by `close()`, by the end of the file, by an error), and
//! then until `losing` is: `connection_lost` is in the ready queue, once. It is closed when `pipe` is
//! empty: `close_pipe` takes the file object out before it closes it, so it is closed once.
//! The flags are never taken back. `pipe` may be set by the program (`_pipe`, as on asyncio), so it
//! may hold anything, or nothing while the end is open: `fd` is what the loop works with.
//!
//! # Who owns what
//!
//! The file object is the transport's as soon as that exists; the number is the file's. While it is
//! watched a handle in the users' descriptors refers to a bound method, and so to the transport:
//! an end that neither reads nor writes is garbage when its users let go. The finalizer closes the
//! file, and leaves the object to be dropped with the rest, in turn (see [`super::base`]).
//!
//! Everything that changes is in a cell, and is read again after what may run Python code. A write
//! lets other threads run while the kernel copies: it borrows nothing then but `bytes` that it holds,
//! and looks afterwards at what they did.

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
