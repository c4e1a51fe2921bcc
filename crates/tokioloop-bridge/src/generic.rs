//! Rust futures on runtimes of your own: the interface of pyo3-async-runtimes' `generic`.

use std::any::Any;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};

use pyo3::exceptions::PyRuntimeError;
use pyo3::intern;
use pyo3::prelude::*;

use crate::eager;
use crate::locals::TaskLocals;
use crate::running::get_running_loop;

/// Why a task has no result.
pub trait JoinError {
    /// Whether the task panicked.
    fn is_panic(&self) -> bool;
    /// The panic. Panics if the task did not.
    fn into_panic(self) -> Box<dyn Any + Send + 'static>;
}

impl JoinError for tokio::task::JoinError {
    fn is_panic(&self) -> bool {
        Self::is_panic(self)
    }

    fn into_panic(self) -> Box<dyn Any + Send + 'static> {
        Self::into_panic(self)
    }
}

/// A runtime that futures are spawned on.
pub trait Runtime: Send + 'static {
    /// The error of a task that was spawned.
    type JoinError: JoinError + Send;
    /// Waits for a task that was spawned.
    type JoinHandle: Future<Output = Result<(), Self::JoinError>> + Send;

    /// Spawns a future.
    fn spawn<F>(fut: F) -> Self::JoinHandle
    where
        F: Future<Output = ()> + Send + 'static;

    /// Runs a function that may block, in a thread for such.
    fn spawn_blocking<F>(f: F) -> Self::JoinHandle
    where
        F: FnOnce() + Send + 'static;
}

/// A runtime that also takes futures that are not `Send`.
pub trait SpawnLocalExt: Runtime {
    /// Spawns a future in the current thread.
    fn spawn_local<F>(fut: F) -> Self::JoinHandle
    where
        F: Future<Output = ()> + 'static;
}

/// A runtime whose tasks have locals.
pub trait ContextExt: Runtime {
    /// Runs a future with these locals.
    fn scope<F, R>(locals: TaskLocals, fut: F) -> Pin<Box<dyn Future<Output = R> + Send>>
    where
        F: Future<Output = R> + Send + 'static;

    /// The locals of the task that runs in this thread.
    fn get_task_locals() -> Option<TaskLocals>;
}

/// The same for futures that are not `Send`.
pub trait LocalContextExt: Runtime {
    /// Runs a future with these locals.
    fn scope_local<F, R>(locals: TaskLocals, fut: F) -> Pin<Box<dyn Future<Output = R>>>
    where
        F: Future<Output = R> + 'static;
}

/// The loop of the current locals; without any, the loop that runs in this thread.
pub fn get_current_loop<R>(py: Python<'_>) -> PyResult<Bound<'_, PyAny>>
where
    R: ContextExt,
{
    match R::get_task_locals() {
        Some(locals) => Ok(locals.event_loop(py)),
        None => get_running_loop(py),
    }
}

/// The current locals; without any, those of the loop that runs in this thread, with a copy of the
/// current context. Raises `RuntimeError` if there is neither.
pub fn get_current_locals<R>(py: Python<'_>) -> PyResult<TaskLocals>
where
    R: ContextExt,
{
    match R::get_task_locals() {
        Some(locals) => Ok(locals),
        None => TaskLocals::with_running_loop(py)?.copy_context(py),
    }
}

/// Runs the loop until a Rust future is done.
pub fn run_until_complete<R, F, T>(event_loop: &Bound<'_, PyAny>, fut: F) -> PyResult<T>
where
    R: Runtime + ContextExt,
    F: Future<Output = PyResult<T>> + Send + 'static,
    T: Send + Sync + 'static,
{
    let py = event_loop.py();
    // The value has no Python form: it goes past the asyncio future.
    let slot = Arc::new(Mutex::new(None));
    let filled = Arc::clone(&slot);
    let locals = TaskLocals::new(event_loop.clone()).copy_context(py)?;
    let object = future_into_py_with_locals::<R, _, ()>(py, locals, async move {
        let value = fut.await?;
        *filled.lock().unwrap_or_else(PoisonError::into_inner) = Some(value);
        Ok(())
    })?;
    event_loop.call_method1(intern!(py, "run_until_complete"), (object,))?;
    let value = slot.lock().unwrap_or_else(PoisonError::into_inner).take();
    value.ok_or_else(|| PyRuntimeError::new_err("the future's result was set from elsewhere"))
}

/// Runs a Rust future on a new loop, which is closed when the future is done.
pub fn run<R, F, T>(py: Python<'_>, fut: F) -> PyResult<T>
where
    R: Runtime + ContextExt,
    F: Future<Output = PyResult<T>> + Send + 'static,
    T: Send + Sync + 'static,
{
    let event_loop = py.import("asyncio")?.call_method0(intern!(py, "new_event_loop"))?;
    let result = run_until_complete::<R, F, T>(&event_loop, fut);
    close(&event_loop)?;
    result
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

/// Makes a Rust future awaitable in Python: it is spawned on the runtime at once.
pub fn future_into_py<R, F, T>(py: Python<'_>, fut: F) -> PyResult<Bound<'_, PyAny>>
where
    R: Runtime + ContextExt,
    F: Future<Output = PyResult<T>> + Send + 'static,
    T: for<'py> IntoPyObject<'py> + Send + 'static,
{
    future_into_py_with_locals::<R, F, T>(py, get_current_locals::<R>(py)?, fut)
}

/// The same with locals of your own.
pub fn future_into_py_with_locals<R, F, T>(
    py: Python<'_>,
    locals: TaskLocals,
    fut: F,
) -> PyResult<Bound<'_, PyAny>>
where
    R: Runtime + ContextExt,
    F: Future<Output = PyResult<T>> + Send + 'static,
    T: for<'py> IntoPyObject<'py> + Send + 'static,
{
    let scoped = R::scope(locals.clone(), fut);
    let (object, work) = eager::prepare(py, locals, scoped)?;
    // The task goes on without its handle.
    drop(R::spawn(work));
    Ok(object)
}
