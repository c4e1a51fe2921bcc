//! Rust futures on runtimes of your own: the interface of pyo3-async-runtimes' `generic`.

use std::any::Any;
use std::future::Future;
use std::pin::Pin;

use futures_core::Stream;
use pyo3::prelude::*;

use crate::admission::admit;
use crate::eager;
use crate::future::ObjectFuture;
use crate::incoming::into_future_with_locals;
use crate::locals::TaskLocals;
use crate::program;
use crate::running::get_running_loop;
use crate::streams;

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

/// Runs the loop until a Rust future is done, which is spawned on the runtime.
pub fn run_until_complete<R, F, T>(event_loop: &Bound<'_, PyAny>, fut: F) -> PyResult<T>
where
    R: Runtime + ContextExt,
    F: Future<Output = PyResult<T>> + Send + 'static,
    T: Send + Sync + 'static,
{
    program::on_loop(event_loop, fut, future_into_py_with_locals::<R, _, ()>)
}

/// The same on a new loop, which is closed when the future is done.
pub fn run<R, F, T>(py: Python<'_>, fut: F) -> PyResult<T>
where
    R: Runtime + ContextExt,
    F: Future<Output = PyResult<T>> + Send + 'static,
    T: Send + Sync + 'static,
{
    program::on_new_loop(py, fut, future_into_py_with_locals::<R, _, ()>)
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
    admit(py)?;
    let scoped = R::scope(locals.clone(), fut);
    let (object, work) = eager::prepare(py, locals, scoped)?;
    // The task goes on without its handle.
    drop(R::spawn(work));
    Ok(object)
}

/// Makes a Rust future awaitable that is not `Send`: the runtime polls it in this thread.
pub fn local_future_into_py<R, F, T>(py: Python<'_>, fut: F) -> PyResult<Bound<'_, PyAny>>
where
    R: Runtime + ContextExt + SpawnLocalExt + LocalContextExt,
    F: Future<Output = PyResult<T>> + 'static,
    T: for<'py> IntoPyObject<'py>,
{
    local_future_into_py_with_locals::<R, F, T>(py, get_current_locals::<R>(py)?, fut)
}

/// The same with locals of your own.
pub fn local_future_into_py_with_locals<R, F, T>(
    py: Python<'_>,
    locals: TaskLocals,
    fut: F,
) -> PyResult<Bound<'_, PyAny>>
where
    R: Runtime + SpawnLocalExt + LocalContextExt,
    F: Future<Output = PyResult<T>> + 'static,
    T: for<'py> IntoPyObject<'py>,
{
    admit(py)?;
    // The result becomes an object in this thread: it need not be `Send`, and the loop may run in
    // another thread.
    let scoped = R::scope_local(locals.clone(), ObjectFuture(fut));
    let (object, work) = eager::prepare(py, locals, scoped)?;
    // The task goes on without its handle.
    drop(R::spawn_local(work));
    Ok(object)
}

/// Makes a Python awaitable a Rust future, with the current locals.
pub fn into_future<R>(
    awaitable: Bound<'_, PyAny>,
) -> PyResult<impl Future<Output = PyResult<Py<PyAny>>> + Send + use<R>>
where
    R: Runtime + ContextExt,
{
    into_future_with_locals(&get_current_locals::<R>(awaitable.py())?, awaitable)
}

/// Makes an async generator a stream, with the current locals.
pub fn into_stream_v1<R>(
    generator: Bound<'_, PyAny>,
) -> PyResult<impl Stream<Item = PyResult<Py<PyAny>>> + Send + Unpin + use<R>>
where
    R: Runtime + ContextExt,
{
    streams::into_stream_with_locals_v1(get_current_locals::<R>(generator.py())?, generator)
}

/// The same with locals of your own. The runtime is not used.
pub fn into_stream_with_locals_v1<R>(
    locals: TaskLocals,
    generator: Bound<'_, PyAny>,
) -> PyResult<impl Stream<Item = PyResult<Py<PyAny>>> + Send + Unpin + use<R>>
where
    R: Runtime,
{
    streams::into_stream_with_locals_v1(locals, generator)
}

/// A stream of the items alone, as [`into_stream_v2`](crate::into_stream_v2).
pub fn into_stream_v2<R>(
    generator: Bound<'_, PyAny>,
) -> PyResult<impl Stream<Item = Py<PyAny>> + Send + Unpin + use<R>>
where
    R: Runtime + ContextExt,
{
    streams::into_stream_with_locals_v2(get_current_locals::<R>(generator.py())?, generator)
}

/// The same with locals of your own. The runtime is not used.
pub fn into_stream_with_locals_v2<R>(
    locals: TaskLocals,
    generator: Bound<'_, PyAny>,
) -> PyResult<impl Stream<Item = Py<PyAny>> + Send + Unpin + use<R>>
where
    R: Runtime + ContextExt,
{
    streams::into_stream_with_locals_v2(locals, generator)
}
