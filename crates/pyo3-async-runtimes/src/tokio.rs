//! Conversions on tokio.
//!
//! Extensions may rely on what pyo3-async-runtimes returns: a future that is on its way, that can be
//! cancelled, has callbacks, and is awaited twice. The bridge gives that on other loops. On tokioloop's it
//! gives a coroutine, and the functions here make that a task.

use std::future::Future;

use pyo3::intern;
use pyo3::prelude::*;
#[cfg(feature = "attributes")]
pub use pyo3_async_runtimes_macros::tokio_main as main;
#[cfg(all(feature = "attributes", feature = "testing"))]
pub use pyo3_async_runtimes_macros::tokio_test as test;
use tokioloop_bridge::TaskLocals;
pub use tokioloop_bridge::{
    get_current_locals, get_current_loop, get_runtime, init, init_with_runtime, into_future,
    into_stream_v1, into_stream_v2, into_stream_with_locals_v1, into_stream_with_locals_v2, run,
    run_until_complete, scope, scope_local,
};

/// What the code of the attributes uses.
#[cfg(feature = "attributes")]
pub mod re_exports {
    pub use std::future::pending;

    pub use ::tokio::runtime;
}

/// Starts a Rust future, and makes it awaitable in Python.
pub fn future_into_py<F, T>(py: Python<'_>, fut: F) -> PyResult<Bound<'_, PyAny>>
where
    F: Future<Output = PyResult<T>> + Send + 'static,
    T: for<'py> IntoPyObject<'py> + Send + 'static,
{
    started(tokioloop_bridge::future_into_py(py, fut)?, None)
}

/// The same with locals of your own.
pub fn future_into_py_with_locals<F, T>(
    py: Python<'_>,
    locals: TaskLocals,
    fut: F,
) -> PyResult<Bound<'_, PyAny>>
where
    F: Future<Output = PyResult<T>> + Send + 'static,
    T: for<'py> IntoPyObject<'py> + Send + 'static,
{
    let event_loop = locals.event_loop(py);
    started(tokioloop_bridge::future_into_py_with_locals(py, locals, fut)?, Some(event_loop))
}

/// The same for a future that is not `Send`. No `LocalSet` is needed.
pub fn local_future_into_py<F, T>(py: Python<'_>, fut: F) -> PyResult<Bound<'_, PyAny>>
where
    F: Future<Output = PyResult<T>> + 'static,
    T: for<'py> IntoPyObject<'py>,
{
    started(tokioloop_bridge::local_future_into_py(py, fut)?, None)
}

/// The same with locals of your own.
pub fn local_future_into_py_with_locals<F, T>(
    py: Python<'_>,
    locals: TaskLocals,
    fut: F,
) -> PyResult<Bound<'_, PyAny>>
where
    F: Future<Output = PyResult<T>> + 'static,
    T: for<'py> IntoPyObject<'py>,
{
    let event_loop = locals.event_loop(py);
    started(tokioloop_bridge::local_future_into_py_with_locals(py, locals, fut)?, Some(event_loop))
}

/// Makes a coroutine a task of the loop that runs in this thread, if that is the one wanted. Elsewhere
/// a task cannot be made, and the caller gets the coroutine.
fn started<'py>(
    awaitable: Bound<'py, PyAny>,
    wanted: Option<Bound<'py, PyAny>>,
) -> PyResult<Bound<'py, PyAny>> {
    let py = awaitable.py();
    if awaitable.hasattr(intern!(py, "add_done_callback"))? {
        return Ok(awaitable);
    }
    match tokioloop_bridge::get_running_loop(py) {
        Ok(running) if wanted.is_none_or(|wanted| wanted.is(&running)) => {
            running.call_method1(intern!(py, "create_task"), (awaitable,))
        }
        _ => Ok(awaitable),
    }
}
