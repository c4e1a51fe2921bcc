//! Rust futures and Python awaitables that await each other on one thread.
//!
//! The functions have the names and signatures of [`pyo3_async_runtimes::tokio`], so an extension
//! moves by changing one line:
//!
//! ```
//! // use pyo3_async_runtimes::tokio::future_into_py;
//! use tokioloop::bridge::future_into_py;
//! # use pyo3::prelude::*;
//!
//! #[pyfunction]
//! fn answer(py: Python<'_>) -> PyResult<Bound<'_, PyAny>> {
//!     future_into_py(py, async { Ok(42) })
//! }
//! ```
//!
//! # What happens where
//!
//! | the running loop is | a future is polled | by the runtime of |
//! |---|---|---|
//! | of this very crate ([`register`](crate::register)) | where it is awaited | the loop: timers and sockets of tokio are served by the loop's own reactor |
//! | a `tokioloop.Loop` that was compiled apart | where it is awaited | pyo3-async-runtimes |
//! | any other | by a task, from the call on, as with pyo3-async-runtimes | pyo3-async-runtimes |
//!
//! Which of them it is turns out at run time. A loop compiled apart is used through a table of C
//! functions; if its version is not this crate's, the functions here raise `ImportError`.
//!
//! The guide, `docs/rust.md`, has the rules that follow from this and a table for moving an extension.
//!
//! # What is different from pyo3-async-runtimes
//!
//! On a loop of tokioloop `future_into_py` returns a coroutine, not an `asyncio.Future`:
//!
//! * It starts when it is awaited or made a task. One that is dropped before has done nothing, and
//!   warns with a `RuntimeWarning`, as coroutines do. `asyncio.ensure_future(...)` makes it a task,
//!   which starts on its own and has `cancel()` and `add_done_callback()`.
//! * It can be awaited once.
//! * It may be made while no loop runs: `asyncio.run(extension.function())` works.
//! * It is polled with the GIL held, in the loop's thread. Like a coroutine it must not block, nor
//!   wait for a lock whose holder waits for the GIL; [`spawn_blocking`] is for that.
//! * Cancelling the task drops the future before the `CancelledError` reaches any Python code.
//!
//! # Where futures are dropped
//!
//! When they are done, cancelled or closed, when nothing refers to them and no waker can wake them any
//! more, and at the latest when a loop of tokioloop's that they wait on is closed: the task then
//! stays pending, as asyncio's do.
//! Python drops objects in any thread. A future that is not `Send` and is dropped in another thread
//! waits until its own thread next makes or polls such a future; if that never happens it is leaked.
//! So are those that are alive when the interpreter exits.
//!
//! The garbage collector cannot look into a Rust future: a cycle of references that leads through
//! one is found only once the future is dropped.

// Each module uses only modules named before it: admission, errors, running; port; api, own, foreign,
// link; local, future, tasks, eager; awaitable; outgoing, incoming; spawning, streams.
mod admission;
mod api;
mod awaitable;
mod eager;
mod errors;
mod foreign;
mod future;
mod incoming;
mod link;
mod local;
mod outgoing;
mod own;
mod port;
mod running;
mod spawning;
mod streams;
mod tasks;

/// The loop and the context that awaitables are to run in.
#[doc(no_inline)]
pub use pyo3_async_runtimes::TaskLocals;
/// The locals of the future that is being polled: those that [`scope`] or `..._with_locals` set, else
/// the running loop and the awaiting task's context.
#[doc(no_inline)]
pub use pyo3_async_runtimes::tokio::get_current_locals;
/// The loop of [`get_current_locals`].
#[doc(no_inline)]
pub use pyo3_async_runtimes::tokio::get_current_loop;
/// Sets the locals of a future.
#[doc(no_inline)]
pub use pyo3_async_runtimes::tokio::scope;
/// The same for a future that is not `Send`.
#[doc(no_inline)]
pub use pyo3_async_runtimes::tokio::scope_local;
/// The runtime of pyo3-async-runtimes, which serves futures on all loops but those of this crate;
/// and ways to set it up.
#[doc(no_inline)]
pub use pyo3_async_runtimes::tokio::{get_runtime, init, init_with_runtime};

pub use incoming::{into_future, into_future_with_locals};
pub use outgoing::{
    future_into_py, future_into_py_with_locals, local_future_into_py,
    local_future_into_py_with_locals,
};
pub(crate) use own::offer;
pub use spawning::{spawn, spawn_blocking, spawn_local};
pub use streams::{
    AsyncGenerator, into_stream, into_stream_v1, into_stream_v2, into_stream_with_locals,
    into_stream_with_locals_v1, into_stream_with_locals_v2, stream_into_py,
    stream_into_py_with_locals,
};
