//! Rust futures and Python awaitables that await each other on one thread: [`tokioloop_bridge`], for
//! extensions that bring the loop along.
//!
//! What is here is the loop's side: the table of functions that it offers to the bridge, in this extension
//! and in others.
//!
//! ```
//! use pyo3::prelude::*;
//! use tokioloop::bridge::future_into_py;
//!
//! #[pyfunction]
//! fn answer(py: Python<'_>) -> PyResult<Bound<'_, PyAny>> {
//!     future_into_py(py, async { Ok(42) })
//! }
//! ```

mod own;

pub(crate) use own::offer;
#[doc(no_inline)]
pub use tokioloop_bridge::{
    AsyncFd, AsyncFdReadyGuard, AsyncGenerator, AsyncioIo, AsyncioReader, AsyncioWriter, Interest,
    RustPanic, TaskLocals, TryIoError, future_into_py, future_into_py_with_locals, generic,
    get_current_locals, get_current_loop, get_running_loop, get_runtime, init, init_with_runtime,
    into_future, into_future_with_locals, into_stream, into_stream_v1, into_stream_v2,
    into_stream_with_locals, into_stream_with_locals_v1, into_stream_with_locals_v2,
    io_into_streams, io_into_transport, local_future_into_py, local_future_into_py_with_locals,
    local_io_into_streams, local_io_into_transport, reader_into_io, run, run_until_complete, scope,
    scope_local, spawn, spawn_blocking, spawn_into_py, spawn_local, stream_into_py,
    stream_into_py_with_locals, streams_into_io, transport_into_io, writer_into_io,
};
