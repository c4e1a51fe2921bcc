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
//! | any other | as ever, by a task of pyo3-async-runtimes | pyo3-async-runtimes |
//!
//! Which of them it is turns out at run time. A loop compiled apart is spoken to through a table of
//! C functions; if its version is not this crate's, the functions here raise `ImportError`.
//!
//! The guide, `docs/rust.md`, has the rules that follow from this and a table for moving an extension.
//!
//! # What is different from pyo3-async-runtimes
//!
//! On a loop of tokioloop `future_into_py` returns a coroutine, not an `asyncio.Future`:
//!
//! * It starts when it is awaited or made a task. One that is dropped before has done nothing, and
//!   says so with a `RuntimeWarning`, as coroutines do. `asyncio.ensure_future(...)` gives what
//!   starts on its own and has `cancel()` and `add_done_callback()`.
//! * It can be awaited once.
//! * It may be made while no loop runs: `asyncio.run(extension.function())` works.
//! * It is polled with the GIL held, in the loop's thread. Like a coroutine it must not block, nor
//!   wait for a lock whose holder waits for the GIL; [`spawn_blocking`] is for that.
//! * Cancelling the task drops the future before the `CancelledError` reaches any Python code.
//!
//! # Where futures are dropped
//!
//! When they are done, cancelled or closed, when nothing refers to them and nobody can wake them any
//! more, and at the latest when a loop of tokioloop's that they wait on is closed: the task then
//! stays pending, as asyncio's do.
//! Python drops objects in any thread. A future that is not `Send` is put by there until its own
//! thread next makes or polls such a future; if that never happens it is leaked. So are those that
//! are alive when the interpreter exits.
//!
//! The garbage collector cannot look into a Rust future: a cycle of references that leads through
//! one is found only once the future is dropped.

mod awaitable;
mod class;
mod foreign;
mod incoming;
mod link;
mod spawning;
mod stepped;
mod streams;
pub(crate) mod table;
mod tasks;
mod waiter;

use std::any::type_name;
use std::future::Future;

use pyo3::exceptions::PyTypeError;
use pyo3::ffi;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyTuple, PyType};
use pyo3_async_runtimes::err::RustPanic;

/// The loop and the context that awaitables are to run in.
#[doc(no_inline)]
pub use pyo3_async_runtimes::TaskLocals;
/// The locals of the future that is being polled: what [`scope`] or `..._with_locals` set, else the
/// running loop and the awaiting task's context.
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
pub use spawning::{spawn, spawn_blocking, spawn_local};
pub use streams::{
    AsyncGenerator, into_stream, into_stream_v1, into_stream_v2, into_stream_with_locals,
    into_stream_with_locals_v1, into_stream_with_locals_v2, stream_into_py,
    stream_into_py_with_locals,
};

use crate::ffi::arguments::Arg;
use crate::ffi::{finalizing, subinterpreters};
use link::Link;

/// Makes a Rust future awaitable in Python.
///
/// See the [module](self) for what is returned on which loop. What the future returns is converted
/// when it is done; an error is raised where it is awaited, and so is a panic, as
/// `pyo3_async_runtimes.RustPanic`.
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
///     tokioloop::bridge::future_into_py(py, async move {
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
    if let Some(running) = link::running_loop(py)?
        && let Link::Foreign = Link::to(&running)?
    {
        return tasks::awaitable(py, get_current_locals(py)?, fut);
    }
    awaitable::new(py, stepped::sendable(fut), name_of::<F>())
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
        return tasks::awaitable(py, locals, fut);
    }
    awaitable::new(py, stepped::sendable(scope(locals, fut)), name_of::<F>())
}

/// Makes a future awaitable that is not `Send`.
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
///     tokioloop::bridge::local_future_into_py(py, async move {
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
    if let Some(running) = link::running_loop(py)? {
        Link::to(&running)?;
    }
    awaitable::new(py, stepped::local(fut), name_of::<F>())
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
    awaitable::new(py, stepped::local(scope_local(locals, stepped::Converted(fut))), name_of::<F>())
}

/// What every function that an extension calls begins with.
fn admit(py: Python<'_>) -> PyResult<()> {
    finalizing::guard();
    subinterpreters::only_main(py)
}

/// `extension::function` for what its `async` block makes.
fn name_of<F>() -> &'static str {
    let name = type_name::<F>();
    let name = name.split('<').next().unwrap_or(name);
    name.trim_end_matches("::{{closure}}")
}

/// A panic of a future's, told as pyo3-async-runtimes does.
fn rust_panic(payload: &(dyn std::any::Any + Send)) -> PyErr {
    let text = payload
        .downcast_ref::<String>()
        .map(String::as_str)
        .or_else(|| payload.downcast_ref::<&str>().copied())
        .unwrap_or("unknown error");
    RustPanic::new_err(format!("rust future panicked: {text}"))
}

/// The exception that the arguments of a coroutine's `throw` mean.
fn thrown<'py>(py: Python<'py>, args: &[Arg<'_, 'py>]) -> PyErr {
    let arg = |at: usize| args.get(at).map(|it| (*it).to_owned());
    let Some(kind) = arg(0) else {
        return PyTypeError::new_err("throw expected at least 1 argument, got 0");
    };
    let value = arg(1).filter(|it| !it.is_none());
    let raise = || -> PyResult<PyErr> {
        let error = if kind.is_instance_of::<pyo3::exceptions::PyBaseException>() {
            if value.is_some() {
                return Err(PyTypeError::new_err(
                    "instance exception may not have a separate value",
                ));
            }
            kind.clone()
        } else {
            // SAFETY: any object may be asked.
            if unsafe { ffi::PyExceptionClass_Check(kind.as_ptr()) } == 0 {
                return Err(PyTypeError::new_err(format!(
                    "exceptions must be classes or instances deriving from BaseException, not {}",
                    kind.get_type().name()?
                )));
            }
            match value {
                None => kind.call0()?,
                Some(value) if value.is_instance(kind.cast::<PyType>()?)? => value,
                Some(value) => match value.cast_into::<PyTuple>() {
                    Ok(args) => kind.call1(args)?,
                    Err(other) => kind.call1((other.into_inner(),))?,
                },
            }
        };
        if let Some(traceback) = arg(2).filter(|it| !it.is_none()) {
            error.call_method1(intern!(py, "with_traceback"), (traceback,))?;
        }
        Ok(PyErr::from_value(error))
    };
    raise().unwrap_or_else(|error| error)
}
