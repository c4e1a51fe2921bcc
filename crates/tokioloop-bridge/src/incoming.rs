//! Python awaitables as Rust futures.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use pyo3::intern;
use pyo3::prelude::*;

use crate::admission::admit;
use crate::link::Link;
use crate::locals::{self, TaskLocals};
use crate::python::finalizing;
use crate::python::imports;
use crate::sys::fork::Mutex;

type Outcome = PyResult<Py<PyAny>>;

/// Makes a Python awaitable a Rust future; its loop and context are those of
/// [`get_current_locals`](super::get_current_locals).
///
/// As with its model the awaitable becomes a task at once, and runs on if the future is dropped.
///
/// ```
/// use pyo3::prelude::*;
/// use tokioloop_bridge::{future_into_py, into_future};
///
/// /// Calls a coroutine function twice.
/// #[pyfunction]
/// fn twice(py: Python<'_>, function: Py<PyAny>) -> PyResult<Bound<'_, PyAny>> {
///     future_into_py(py, async move {
///         let call = || Python::attach(|py| into_future(function.bind(py).call0()?));
///         call()?.await?;
///         call()?.await
///     })
/// }
/// ```
pub fn into_future(
    awaitable: Bound<'_, PyAny>,
) -> PyResult<impl Future<Output = PyResult<Py<PyAny>>> + Send + use<>> {
    admit(awaitable.py())?;
    into_future_with_locals(&locals::get_current_locals(awaitable.py())?, awaitable)
}

/// The same with locals of your own.
///
/// In the thread that runs the loop of tokioloop that the locals name, the result reaches the awaiting
/// future without crossing threads. Anywhere else it is handed over by `call_soon_threadsafe`.
pub fn into_future_with_locals(
    locals: &TaskLocals,
    awaitable: Bound<'_, PyAny>,
) -> PyResult<impl Future<Output = PyResult<Py<PyAny>>> + Send + use<>> {
    let py = awaitable.py();
    admit(py)?;
    let event_loop = locals.event_loop(py);
    let link = Link::to(&event_loop)?;
    let here = match link {
        Link::Foreign => false,
        // SAFETY: a loop with this table.
        _ => unsafe { (link.api().runs_here)(event_loop.as_ptr()) != 0 },
    };
    let handover = Arc::<Handover>::default();
    let completion = Bound::new(py, Completion(Arc::clone(&handover)))?;
    if here {
        start(&event_loop, &locals.context(py), &awaitable, &completion)?;
    } else {
        let starter = Starter {
            locals: locals.clone(),
            awaitable: awaitable.unbind(),
            completion: completion.unbind(),
        };
        event_loop.call_method1(intern!(py, "call_soon_threadsafe"), (starter,))?;
    }
    Ok(Incoming(handover))
}

struct Incoming(Arc<Handover>);

impl Future for Incoming {
    type Output = Outcome;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Outcome> {
        self.0.poll(context)
    }
}

/// Makes the awaitable a task in the loop's thread.
#[pyclass(frozen, module = "tokioloop_bridge")]
struct Starter {
    locals: TaskLocals,
    awaitable: Py<PyAny>,
    completion: Py<Completion>,
}

#[pymethods]
impl Starter {
    fn __call__(&self, py: Python<'_>) {
        finalizing::guard();
        let event_loop = self.locals.event_loop(py);
        let context = self.locals.context(py);
        let completion = self.completion.bind(py);
        if let Err(error) = start(&event_loop, &context, self.awaitable.bind(py), completion) {
            completion.get().0.finish(Some(Err(error)));
        }
    }
}

/// The result's way from the task's callback to the future, which share it.
#[derive(Default)]
struct Handover(Mutex<HandoverState>);

#[derive(Default)]
struct HandoverState {
    outcome: Option<Outcome>,
    /// The task is done, or will never be.
    over: bool,
    waker: Option<Waker>,
}

impl Handover {
    fn finish(&self, outcome: Option<Outcome>) {
        let mut state = self.0.lock();
        if state.over {
            return;
        }
        state.over = true;
        state.outcome = outcome;
        let waker = state.waker.take();
        drop(state);
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    fn poll(&self, context: &mut Context<'_>) -> Poll<Outcome> {
        // Cloning a waker runs code of another crate, so no lock is held.
        let waker = context.waker().clone();
        let mut state = self.0.lock();
        if let Some(outcome) = state.outcome.take() {
            return Poll::Ready(outcome);
        }
        if !state.over {
            let old = state.waker.replace(waker);
            drop(state);
            drop(old);
            return Poll::Pending;
        }
        drop(state);
        Poll::Ready(finalizing::attach(|py| {
            Err(PyErr::from_value(imports::asyncio(py)?.cancelled_error.bind(py).call0()?))
        }))
    }
}

/// The task's done callback.
#[pyclass(frozen, module = "tokioloop_bridge")]
struct Completion(Arc<Handover>);

#[pymethods]
impl Completion {
    fn __call__(&self, task: &Bound<'_, PyAny>) {
        finalizing::guard();
        let outcome = task.call_method0(intern!(task.py(), "result")).map(Bound::unbind);
        self.0.finish(Some(outcome));
    }
}

impl Drop for Completion {
    fn drop(&mut self) {
        finalizing::guard();
        // The loop was closed under the task.
        self.0.finish(None);
    }
}

fn start(
    event_loop: &Bound<'_, PyAny>,
    context: &Bound<'_, PyAny>,
    awaitable: &Bound<'_, PyAny>,
    completion: &Bound<'_, Completion>,
) -> PyResult<()> {
    let py = awaitable.py();
    let asyncio = imports::asyncio(py)?;
    let coroutine = asyncio.iscoroutine.bind(py).call1((awaitable,))?.is_truthy()?;
    let (function, arg) = if coroutine {
        (event_loop.getattr(intern!(py, "create_task"))?, awaitable)
    } else {
        (asyncio.ensure_future.bind(py).clone(), awaitable)
    };
    let task = if context.is_none() {
        function.call1((arg,))?
    } else {
        // A copy: this one may be entered already. A task takes a copy of it anyway.
        let copy = context.call_method0(intern!(py, "copy"))?;
        copy.call_method1(intern!(py, "run"), (function, arg))?
    };
    task.call_method1(intern!(py, "add_done_callback"), (completion,)).map(drop)
}
