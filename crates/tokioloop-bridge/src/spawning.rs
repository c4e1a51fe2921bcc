//! Tasks beside the one that awaits.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use pyo3::exceptions::PyRuntimeError;
use pyo3::intern;
use pyo3::prelude::*;
use tokio::runtime::Handle;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use crate::admission::admit;
use crate::link::Link;
use crate::local::LocalFuture;
use crate::outgoing::local_future_into_py;
use crate::python::finalizing;
use crate::running::running_loop;
use crate::runtime::get_runtime;
use crate::tasks;

/// Spawns a task on the runtime at hand.
///
/// That is the runtime whose future or task is being polled in this thread; else that of the loop
/// that runs here; else [`get_runtime`]'s. On a loop in the same extension tasks run in the loop's
/// thread, without the GIL, while the loop looks for events.
///
/// ```
/// use pyo3::prelude::*;
/// use tokioloop_bridge::{future_into_py, spawn};
///
/// #[pyfunction]
/// fn both(py: Python<'_>) -> PyResult<Bound<'_, PyAny>> {
///     future_into_py(py, async {
///         let other = spawn(async { 40 });
///         Ok(2 + other.await.map_err(|error| {
///             pyo3::exceptions::PyRuntimeError::new_err(error.to_string())
///         })?)
///     })
/// }
/// ```
pub fn spawn<F>(future: F) -> JoinHandle<F::Output>
where
    F: Future + Send + 'static,
    F::Output: Send + 'static,
{
    runtime().spawn(tasks::guarded(future))
}

/// Runs a function that may block in a thread for blocking calls, of the runtime that [`spawn`] uses.
pub fn spawn_blocking<F, R>(function: F) -> JoinHandle<R>
where
    F: FnOnce() -> R + Send + 'static,
    R: Send + 'static,
{
    runtime().spawn_blocking(tasks::guarded_call(function))
}

/// Spawns a task that is not `Send` in the thread of the loop that runs here.
///
/// On a loop in the same extension it is a task of the loop's runtime, as with [`spawn`]. On others it
/// is an asyncio task around the future, which is polled with the GIL held.
///
/// A loop may be run in one thread and then in another. A task is only ever polled in the thread
/// that spawned it, and panics in another.
///
/// Raises `RuntimeError` if no loop runs in this thread.
pub fn spawn_local<F>(future: F) -> PyResult<JoinHandle<F::Output>>
where
    F: Future + 'static,
    F::Output: Send + 'static,
{
    finalizing::attach(|py| {
        admit(py)?;
        let Some(event_loop) = running_loop(py)? else {
            return Err(PyRuntimeError::new_err("no running event loop"));
        };
        let link = Link::to(&event_loop)?;
        if let Link::Own(_) = link {
            let runtime = link.runtime(&event_loop)?;
            return Ok(runtime.spawn(Local(LocalFuture::new(Box::pin(future)))));
        }
        let (result, received) = oneshot::channel();
        let task = local_future_into_py(py, relay(future, result))?;
        event_loop.call_method1(intern!(py, "create_task"), (task,))?;
        Ok(get_runtime().spawn(Relayed(received)))
    })
}

fn runtime() -> Handle {
    Handle::try_current().unwrap_or_else(|_| {
        let own = finalizing::try_attach(|py| -> PyResult<_> {
            let Some(event_loop) = running_loop(py)? else { return Ok(None) };
            let link = Link::to(&event_loop)?;
            let Link::Own(_) = link else { return Ok(None) };
            link.runtime(&event_loop).map(Some)
        });
        match own {
            Some(Ok(Some(handle))) => handle,
            _ => get_runtime().handle().clone(),
        }
    })
}

/// A future of the loop's thread as a task of its runtime.
struct Local<T: 'static>(LocalFuture<dyn Future<Output = T>>);

impl<T> Future for Local<T> {
    type Output = T;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<T> {
        match self.0.get() {
            Some(future) => future.poll(context),
            // The runtime makes it the `JoinError` of the task's awaiter.
            None => panic!("a local task is polled in another thread than it was spawned in"),
        }
    }
}

/// Runs a future until it is done, or its result's receiver is dropped.
async fn relay<F: Future>(future: F, mut result: oneshot::Sender<F::Output>) -> PyResult<()> {
    let mut future = Box::pin(future);
    let output = std::future::poll_fn(|context| {
        if let Poll::Ready(output) = future.as_mut().poll(context) {
            return Poll::Ready(Some(output));
        }
        result.poll_closed(context).map(|()| None)
    })
    .await;
    if let Some(output) = output {
        // The receiver may be dropped by now.
        drop(result.send(output));
    }
    Ok(())
}

/// The result of a relayed future. There is none if that panicked or was dropped.
struct Relayed<T>(oneshot::Receiver<T>);

impl<T> Future for Relayed<T> {
    type Output = T;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<T> {
        Pin::new(&mut self.0).poll(context).map(|received| match received {
            Ok(output) => output,
            // The runtime makes it the `JoinError` of the task's awaiter.
            Err(_) => panic!("a local task panicked, or its loop was closed"),
        })
    }
}
