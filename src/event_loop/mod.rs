//! The event loop: what runs per callback, per iteration and per event.
//!
//! `tokioloop.Loop` derives from [`NativeLoop`] and from asyncio's own selector loop, which
//! contributes what runs per connection or per loop.
//!
//! Each file uses only files above it, and files of its own line, in this list:
//!
//! | file | what |
//! |---|---|
//! | `queue/` | handles' memory, calls, the ready queue |
//! | `timers/` | the timers by deadline, the clock, the alarm |
//! | `sources` | the table of what is registered with the reactor |
//! | `descriptors/` | the table of descriptors that the user owns |
//! | `wake_targets` | Python objects that wakers of Rust futures call, from any thread |
//! | `overrides`, `wakeups`, `backpressure`, `flush`, `scratch` | the loop's other parts |
//! | `native_loop` | the class: what a loop is made of |
//! | `reference` | references to loops that prove what they are |
//! | `scheduling` | into the ready queue and among the timers |
//! | `waking` | Rust futures that wake the loop |
//! | `handles/` | handles are made, called and cancelled; their Python types |
//! | `report` | callbacks are run, and their errors reported |
//! | `watching` | `add_reader`, `add_writer`, the waits of `sock_*` |
//! | `dispatch` | the reactor is made; its events are delivered |
//! | `virtual_time` | what a loop with a clock of its own is asked before it blocks |
//! | `nesting` | runs inside of a callback |
//! | `iteration` | one iteration |
//! | `instrumentation`, `debugging` | handles run by tools, in debug mode; of the line before |
//! | `run` | `run_forever` |
//! | `closing` | the end of a loop |
//! | `methods/` | what Python calls |
//!
//! # States
//!
//! - *Open* until `closed` is set, by `close()` or by the collector's `__clear__` (or by a program, as
//!   asyncio's `_closed` can be). From then on the loop refuses what a program schedules, and checks
//!   again after each step that may run Python code. So `release_all` ends, whatever destructors do
//!   meanwhile.
//! - *Running* while `thread` is not 0, which the Python `run_forever` sets; `in_run` while a call of
//!   `run` is on the stack, whose caller keeps the loop. `idle` while the thread sleeps in the driver
//!   without the GIL: a thread that makes something ready then wakes it, once.
//! - The reactor exists from its first need to `release_all`. A forked child makes another one when it
//!   finds that its own is the parent's.
//!
//! # Access
//!
//! A thread that holds the GIL and a reference may use a loop, and only by `&NativeLoop`: each part's
//! fields are cells that the GIL guards, private to the part. No Python code runs while one is borrowed.
//! A value is taken out of its cell before it is dropped, and a field that Python code may have changed
//! is read again after it. Other threads without the GIL reach the mailbox of `wake_targets` and the
//! reactor's events, and nothing else.
//!
//! `this` is the object that the struct is a part of. It is set whenever a pointer to the object
//! becomes a reference to the struct (`of`), so it is set before any method runs.
//!
//! # Deallocation
//!
//! The last reference frees a loop. Handles, transports and waiting calls hold one each, so when a loop
//! is freed none of them is left that could ask for it. A loop that the program did not close is closed
//! by its finalizer, in Python, before the collector clears it.

mod backpressure;
mod closing;
mod debugging;
mod descriptors;
mod dispatch;
mod flush;
pub(crate) mod handles;
mod instrumentation;
mod iteration;
mod methods;
mod native_loop;
mod nesting;
mod overrides;
mod queue;
mod reference;
mod report;
mod run;
mod scheduling;
mod scratch;
mod sources;
pub(crate) mod timers;
mod virtual_time;
pub(crate) mod wake_targets;
mod wakeups;
mod waking;
pub(crate) mod watching;

use pyo3::prelude::*;

pub(crate) use descriptors::{PendingOperation, Tried};
pub(crate) use dispatch::deregister;
pub(crate) use native_loop::NativeLoop;
pub(crate) use queue::{Callback, Entry, Queued};
pub(crate) use reference::{LoopRef, LoopSlot};
pub(crate) use tokioloop_bridge::errors::ends_loop;

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
