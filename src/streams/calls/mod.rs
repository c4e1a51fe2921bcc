//! What is awaited of a stream: `read()`, `readline()`, `drain()` and the like, each a coroutine.
//!
//! A call has a target, a reader or a writer, and does its work when it is first stepped, as a coroutine in
//! Python. What is there already it returns there and then. Otherwise it waits for a future, which is the
//! reader's `_waiter` or belongs to the protocol, and its steps are those of the future.
//!
//! It has no `cr_await` and no `cr_frame`: asyncio's call graph takes an object that has them for a
//! coroutine with a Python frame.
//!
//! # States
//!
//! [`Phase`](state::Phase) only moves down its list, but for waiting again and again, and `Done` holds nothing. While a step
//! runs `running` is set, and every other call is refused, as by a coroutine in Python: so phase and fields
//! change only in a step, in `close()` and `throw()`, and in the collector's `clear`, always with the GIL
//! held. References are taken out before they are dropped.
//!
//! Python code may run in a step (`resume_reading`, making a future of a loop that is not ours), and change
//! the reader, or make it one that is not plain. What is known of a reader is asked again after each wait;
//! from there on asyncio's own coroutine does the work if it has to, as if it had just been called.
//!
//! A call that waits for data and ends in any way sets the reader's `_waiter` to `None`, as asyncio's
//! `finally` clause does.

// Each module uses only modules named before it.
mod state;

mod class;
mod making;
mod reading;
mod steps;
mod writing;

use pyo3::prelude::*;

/// Adds the class and the methods to the extension module.
pub(super) fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    making::add_functions(module.py())?;
    module.add("StreamCall", class::class(module.py())?.clone_ref(module.py()))
}
