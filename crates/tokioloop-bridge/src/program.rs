//! Rust programs that start Python: they run a loop until a Rust future is done.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use pyo3::exceptions::PyRuntimeError;
use pyo3::intern;
use pyo3::prelude::*;

use crate::locals::TaskLocals;
use crate::outgoing::future_into_py_with_locals;
use crate::sys::fork::Mutex;

/// Runs a Rust future on a new loop of asyncio's policy, which is closed when the future is done.
///
/// ```no_run
/// use pyo3::prelude::*;
/// use tokioloop_bridge::{into_future, run};
///
/// fn main() -> PyResult<()> {
///     Python::initialize();
///     Python::attach(|py| {
///         run(py, async {
///             let nap = Python::attach(|py| {
///                 into_future(py.import("asyncio")?.call_method1("sleep", (1,))?)
///             });
///             nap?.await.map(drop)
///         })
///     })
/// }
/// ```
pub fn run<F, T>(py: Python<'_>, fut: F) -> PyResult<T>
where
    F: Future<Output = PyResult<T>> + Send + 'static,
    T: Send + Sync + 'static,
{
    on_new_loop(py, fut, future_into_py_with_locals)
}

/// Runs a loop until a Rust future is done. The loop stays open.
pub fn run_until_complete<F, T>(event_loop: Bound<'_, PyAny>, fut: F) -> PyResult<T>
where
    F: Future<Output = PyResult<T>> + Send + 'static,
    T: Send + Sync + 'static,
{
    on_loop(&event_loop, fut, future_into_py_with_locals)
}

/// The future of a program, whose result goes past Python.
pub(crate) type Program = Pin<Box<dyn Future<Output = PyResult<()>> + Send>>;

/// [`run`] with a conversion of the caller's.
pub(crate) fn on_new_loop<'py, F, T>(
    py: Python<'py>,
    future: F,
    into_py: fn(Python<'py>, TaskLocals, Program) -> PyResult<Bound<'py, PyAny>>,
) -> PyResult<T>
where
    F: Future<Output = PyResult<T>> + Send + 'static,
    T: Send + 'static,
{
    let event_loop = py.import("asyncio")?.call_method0(intern!(py, "new_event_loop"))?;
    let result = on_loop(&event_loop, future, into_py);
    close(&event_loop)?;
    result
}

/// [`run_until_complete`] with a conversion of the caller's.
pub(crate) fn on_loop<'py, F, T>(
    event_loop: &Bound<'py, PyAny>,
    future: F,
    into_py: fn(Python<'py>, TaskLocals, Program) -> PyResult<Bound<'py, PyAny>>,
) -> PyResult<T>
where
    F: Future<Output = PyResult<T>> + Send + 'static,
    T: Send + 'static,
{
    let py = event_loop.py();
    // The value need not have a Python form, so it does not pass through the awaitable.
    let slot = Arc::new(Mutex::new(None));
    let filled = Arc::clone(&slot);
    let program: Program = Box::pin(async move {
        let value = future.await?;
        *filled.lock() = Some(value);
        Ok(())
    });
    let locals = TaskLocals::new(event_loop.clone()).copy_context(py)?;
    let awaitable = into_py(py, locals, program)?;
    event_loop.call_method1(intern!(py, "run_until_complete"), (awaitable,))?;
    let value = slot.lock().take();
    value.ok_or_else(|| PyRuntimeError::new_err("the future's result was set from elsewhere"))
}

/// Ends what a loop has begun, and closes it.
fn close(event_loop: &Bound<'_, PyAny>) -> PyResult<()> {
    let py = event_loop.py();
    for shut_down in ["shutdown_asyncgens", "shutdown_default_executor"] {
        let ended = event_loop.call_method0(shut_down)?;
        event_loop.call_method1(intern!(py, "run_until_complete"), (ended,))?;
    }
    event_loop.call_method0(intern!(py, "close"))?;
    Ok(())
}
