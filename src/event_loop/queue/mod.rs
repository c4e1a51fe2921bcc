//! What the loop has to run: handles, the calls behind them, and the ready queue.
//!
//! The lowest layer of the event loop: nothing in here knows the loop. `queued` uses `handle`, and
//! `ready` uses both.

mod handle;
mod queued;
mod ready;

pub(crate) use handle::Handle;
pub(super) use handle::{FREE, HandleObject, INLINE, Run, State, track};
pub(super) use queued::Shape;
pub(super) use queued::call_by_run;
pub(crate) use queued::{Queued, Ticket};
pub(super) use ready::Ready;
pub(crate) use ready::{Callback, Entry};
