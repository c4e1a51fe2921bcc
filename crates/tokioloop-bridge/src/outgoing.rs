//! Rust futures as Python awaitables.

use std::any::type_name;
use std::future::Future;

use pyo3::intern;
use pyo3::prelude::*;

use crate::admission::admit;
use crate::awaitable::{FutureType, new_awaitable};
use crate::eager;
use crate::future::{self, ObjectFuture};
use crate::link::Link;
use crate::locals::{TaskLocals, get_current_locals, within};
use crate::running::{get_running_loop, running_loop};

/// Makes a Rust future awaitable in Python.
///
/// On a loop of tokioloop this returns a coroutine: nothing runs until it is awaited or made a task. Where
/// callers rely on the call to start something, use [`spawn_into_py`]. The [crate](crate) says which
/// object is returned on which loop. The future's result is converted when it is done; an error is raised
/// where it is awaited, and so is a panic, as [`RustPanic`](crate::RustPanic).
///
/// Raises `ImportError` in a sub-interpreter, and if the running loop is of a tokioloop that this
/// crate does not fit.
///
/// ```
/// use pyo3::prelude::*;
/// use std::time::Duration;
///
/// #[pyfunction]
/// fn nap(py: Python<'_>, seconds: f64) -> PyResult<Bound<'_, PyAny>> {
///     tokioloop_bridge::future_into_py(py, async move {
///         tokio::time::sleep(Duration::from_secs_f64(seconds)).await;
///         Ok("rested")
///     })
/// }
/// ```
pub fn future_into_py<F, T>(py: Python<'_>, fut: F) -> PyResult<Bound<'_, PyAny>>
where
    F: Future<Output = PyResult<T>> + Send + 'static,
    T: for<'py> IntoPyObject<'py> + Send + 'static,
{
    admit(py)?;
    if let Some(running) = running_loop(py)?
        && let Link::Foreign = Link::to(&running)?
    {
        return eager::spawn_future(py, get_current_locals(py)?, fut);
    }
    new_awaitable(py, future::sendable(fut), future_type::<F>())
}

/// The same with locals of your own: awaitables that the future makes run in their context, on
/// their loop. It is to be awaited on that loop, too.
pub fn future_into_py_with_locals<F, T>(
    py: Python<'_>,
    locals: TaskLocals,
    fut: F,
) -> PyResult<Bound<'_, PyAny>>
where
    F: Future<Output = PyResult<T>> + Send + 'static,
    T: for<'py> IntoPyObject<'py> + Send + 'static,
{
    admit(py)?;
    if let Link::Foreign = Link::to(&locals.event_loop(py))? {
        return eager::spawn_future(py, locals, fut);
    }
    new_awaitable(py, future::sendable(within(locals, fut)), future_type::<F>())
}

/// Starts a Rust future, whether or not Python awaits it: for callers that rely on a call to start
/// something, or on an object with the methods of an `asyncio.Future`.
///
/// On a loop of tokioloop it is a task of the running loop, an `asyncio.Task`, whose first step is in the
/// loop's next iteration; a task costs one or two microseconds more than [`future_into_py`]. On others it
/// is what that returns there. Like every task it is dropped if nothing refers to it while it waits for
/// something that nothing else refers to.
///
/// Raises `RuntimeError` if no loop runs in this thread, and what [`future_into_py`] raises.
///
/// ```
/// use pyo3::prelude::*;
///
/// #[pyfunction]
/// fn report(py: Python<'_>, line: String) -> PyResult<Bound<'_, PyAny>> {
///     tokioloop_bridge::spawn_into_py(py, async move {
///         tokio::task::yield_now().await;
///         println!("{line}");
///         Ok(())
///     })
/// }
/// ```
pub fn spawn_into_py<F, T>(py: Python<'_>, fut: F) -> PyResult<Bound<'_, PyAny>>
where
    F: Future<Output = PyResult<T>> + Send + 'static,
    T: for<'py> IntoPyObject<'py> + Send + 'static,
{
    admit(py)?;
    let running = get_running_loop(py)?;
    if let Link::Foreign = Link::to(&running)? {
        return eager::spawn_future(py, get_current_locals(py)?, fut);
    }
    let awaitable = new_awaitable(py, future::sendable(fut), future_type::<F>())?;
    running.call_method1(intern!(py, "create_task"), (awaitable,))
}

/// Makes a Rust future awaitable that is not `Send`.
///
/// Unlike its model this works on every loop without a `LocalSet`: the future is polled where it is
/// awaited, which must be in the thread that made it (`RuntimeError` otherwise).
///
/// ```
/// use pyo3::prelude::*;
/// use std::rc::Rc;
///
/// #[pyfunction]
/// fn shared(py: Python<'_>) -> PyResult<Bound<'_, PyAny>> {
///     let text = Rc::new(String::from("not Send"));
///     tokioloop_bridge::local_future_into_py(py, async move {
///         tokio::task::yield_now().await;
///         Ok(text.len())
///     })
/// }
/// ```
pub fn local_future_into_py<F, T>(py: Python<'_>, fut: F) -> PyResult<Bound<'_, PyAny>>
where
    F: Future<Output = PyResult<T>> + 'static,
    T: for<'py> IntoPyObject<'py>,
{
    admit(py)?;
    if let Some(running) = running_loop(py)? {
        Link::to(&running)?;
    }
    new_awaitable(py, future::local(fut), future_type::<F>())
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
    admit(py)?;
    Link::to(&locals.event_loop(py))?;
    new_awaitable(py, future::local(within(locals, ObjectFuture(fut))), future_type::<F>())
}

/// A coroutine that is polled where it is awaited, in the loop's thread, on every loop.
pub(crate) fn awaited_in_place<F>(py: Python<'_>, fut: F) -> PyResult<Bound<'_, PyAny>>
where
    F: Future<Output = PyResult<Py<PyAny>>> + Send + 'static,
{
    new_awaitable(py, future::sendable(fut), future_type::<F>())
}

fn future_type<F>() -> FutureType {
    FutureType(type_name::<F>())
}
