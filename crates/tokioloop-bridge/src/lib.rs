//! Rust futures and Python awaitables that await each other on one thread.
//!
//! The functions have the names and signatures of [pyo3-async-runtimes](https://docs.rs/pyo3-async-runtimes), so an extension
//! moves by changing one line:
//!
//! ```
//! // use pyo3_async_runtimes::tokio::future_into_py;
//! use tokioloop_bridge::future_into_py;
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
//! | in the same extension (`tokioloop::register`) | where it is awaited | the loop: timers and sockets of tokio are served by the loop's own reactor |
//! | a `tokioloop.Loop` that was compiled apart | where it is awaited | this extension: [`get_runtime`] |
//! | any other | by a task, from the call on | this extension |
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
//!
//! # Bytes
//!
//! Connections and streams of asyncio's become `AsyncRead` and `AsyncWrite` ([`streams_into_io`], [`transport_into_io`],
//! [`reader_into_io`], [`writer_into_io`]), and a Rust stream becomes asyncio's ([`io_into_streams`],
//! [`io_into_transport`]). `AsyncFd` has the running loop watch a descriptor.
//!
//! # Modules
//!
//! From the bottom up: `sys` (threads, forks, the platform), `python` (CPython's stable ABI, by hand),
//! `runtime`, `wake_target`, `table`, `running`, `locals`; `port` and `eager`, `foreign`, `host`, `link`; `awaitable`;
//! `outgoing`, `incoming`, `program`; `spawning`, `streams`; `io`; `generic`. Each uses only modules named before it. The
//! hidden public modules are what `tokioloop` builds on, and no promise to others.

mod admission;
mod awaitable;
mod eager;
#[doc(hidden)]
pub mod errors;
mod foreign;
mod future;
pub mod generic;
#[doc(hidden)]
pub mod host;
mod incoming;
mod io;
mod link;
mod local;
mod locals;
mod outgoing;
mod port;
mod program;
#[doc(hidden)]
pub mod python;
mod running;
mod runtime;
mod spawning;
mod streams;
#[doc(hidden)]
pub mod sys;
#[doc(hidden)]
pub mod table;
mod tasks;
#[doc(hidden)]
pub mod wake_target;

pub use errors::RustPanic;
pub use incoming::{into_future, into_future_with_locals};
#[cfg(unix)]
pub use io::{AsyncFd, AsyncFdReadyGuard, Interest, TryIoError};
pub use io::{
    AsyncioIo, AsyncioReader, AsyncioWriter, io_into_streams, io_into_transport,
    local_io_into_streams, local_io_into_transport, reader_into_io, streams_into_io,
    transport_into_io, writer_into_io,
};
pub use locals::{TaskLocals, get_current_locals, get_current_loop, scope, scope_local};
pub use outgoing::{
    future_into_py, future_into_py_with_locals, local_future_into_py,
    local_future_into_py_with_locals, spawn_into_py,
};
pub use program::{run, run_until_complete};
pub use running::get_running_loop;
pub use runtime::{get_runtime, init, init_with_runtime};
pub use spawning::{spawn, spawn_blocking, spawn_local};
pub use streams::{
    AsyncGenerator, into_stream, into_stream_v1, into_stream_v2, into_stream_with_locals,
    into_stream_with_locals_v1, into_stream_with_locals_v2, stream_into_py,
    stream_into_py_with_locals,
};
