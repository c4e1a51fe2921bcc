//! Tasks of pyo3-async-runtimes' runtime, in guarded threads.
//!
//! Such a task runs Python code in threads that nothing else guards: in one its future is polled, and
//! a blocking one then hands the result to the loop. Any of them may be ended there when the
//! interpreter exits, see [`finalizing`].

use std::future::Future;
use std::pin::{Pin, pin};
use std::task::Poll;

use pyo3::prelude::*;
use pyo3_async_runtimes::TaskLocals;
use pyo3_async_runtimes::generic::{self, ContextExt, Runtime};
use pyo3_async_runtimes::tokio as upstream;
use tokio::task::{JoinError, JoinHandle};

use crate::ffi::finalizing;

/// Makes a future awaitable on a loop that knows nothing of this crate.
pub(super) fn awaitable<F, T>(
    py: Python<'_>,
    locals: TaskLocals,
    future: F,
) -> PyResult<Bound<'_, PyAny>>
where
    F: Future<Output = PyResult<T>> + Send + 'static,
    T: for<'py> IntoPyObject<'py> + Send + 'static,
{
    let scoped = upstream::scope(locals.clone(), future);
    generic::future_into_py_with_locals::<Guarded, _, T>(py, locals, scoped)
}

/// The future, polled in guarded threads, and never again once the interpreter goes down.
pub(super) async fn guarded<F: Future>(future: F) -> F::Output {
    let mut future = pin!(future);
    std::future::poll_fn(|context| {
        finalizing::guard();
        if finalizing::has_begun() {
            return Poll::Pending;
        }
        future.as_mut().poll(context)
    })
    .await
}

/// The function, called in a guarded thread.
pub(super) fn guarded_call<R>(function: impl FnOnce() -> R) -> impl FnOnce() -> R {
    || {
        finalizing::guard();
        function()
    }
}

/// `pyo3_async_runtimes::tokio` with each thread guarded.
struct Guarded;

impl Runtime for Guarded {
    type JoinError = JoinError;
    type JoinHandle = JoinHandle<()>;

    fn spawn<F>(future: F) -> JoinHandle<()>
    where
        F: Future<Output = ()> + Send + 'static,
    {
        upstream::get_runtime().spawn(guarded(future))
    }

    fn spawn_blocking<F>(function: F) -> JoinHandle<()>
    where
        F: FnOnce() + Send + 'static,
    {
        // It begins by attaching, and CPython 3.14 lets it while the interpreter goes down.
        let attached = move || {
            let _ = finalizing::try_attach(|_| function());
        };
        upstream::get_runtime().spawn_blocking(attached)
    }
}

impl ContextExt for Guarded {
    /// The locals are set by [`awaitable`]: only pyo3-async-runtimes itself knows where they go.
    fn scope<F, R>(_: TaskLocals, future: F) -> Pin<Box<dyn Future<Output = R> + Send>>
    where
        F: Future<Output = R> + Send + 'static,
    {
        Box::pin(future)
    }

    fn get_task_locals() -> Option<TaskLocals> {
        finalizing::try_attach(|py| upstream::get_current_locals(py).ok()).flatten()
    }
}
