//! `NativeLoop`: the part of the event loop that runs per callback.
//!
//! `tokioloop.Loop` derives from it and from asyncio's own selector loop, which contributes what
//! runs per connection or per loop.
//!
//! # States
//!
//! - *Open* until `closed` is set, by `close()` or by the collector's `__clear__` (or by a program, as
//!   asyncio's `_closed` can be). What a program schedules is refused from then on; it is looked at
//!   again after what may run Python code. So `release_all` ends, whatever destructors do meanwhile.
//! - *Running* while `thread` is not 0, which the Python `run_forever` sets; `in_run` while a call of
//!   `run` is on the stack, whose caller keeps the loop. `idle` while the thread sleeps in the driver
//!   without the GIL: who makes something ready then wakes it, once.
//! - The reactor is there from its first need to `release_all`. A forked child makes another one when it
//!   finds that its own is the parent's.
//!
//! # Who may touch what
//!
//! Whoever holds the GIL and a reference, and only by `&NativeLoop`: each field is a cell that the GIL
//! guards. No Python code runs while one is borrowed. What is dropped is taken out before, and what Python
//! code may have changed is read again after it. Other threads without the GIL know the `mailbox` and
//! the reactor's events, and nothing else.
//!
//! `this` is the object that the struct is a part of. It is set whenever a pointer to the object
//! becomes a reference to the struct (`of`), so it is there for every method.
//!
//! # What frees it
//!
//! The last reference. Handles, transports and waiting calls each have one, so when a loop is freed
//! there are none any more that could ask for it. A loop that nobody closed is closed by its
//! finalizer, in Python, before the collector clears it.

mod descriptors;
mod dispatch;
mod flush;
pub(crate) mod handles;
mod iteration;
mod methods;
mod native_loop;
mod overrides;
mod queue;
mod reference;
mod report;
mod run;
mod scheduling;
mod scratch;
mod sources;
pub(crate) mod targets;
pub(crate) mod timers;
mod wakeups;
pub(crate) mod watching;

use pyo3::prelude::*;

pub(crate) use descriptors::{Tried, Waiter};
pub(crate) use dispatch::deregister;
pub(crate) use native_loop::NativeLoop;
pub(crate) use queue::{Callback, Entry, Queued};
pub(crate) use reference::{LoopRef, LoopSlot};
pub(crate) use report::ends_loop;

/// An entry of the loop's table of sources.
pub(crate) type Source = sources::Source<NativeLoop>;
/// What the loop does with one kind of source.
pub(crate) type SourceVTable = sources::SourceVTable<NativeLoop>;

/// Gives the loop's class its methods, and puts it and the handles' classes into the extension module.
pub(crate) fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    let class = module.py().get_type::<NativeLoop>();
    methods::install(&class)?;
    handles::register(module)?;
    module.add("NativeLoop", class)
}
