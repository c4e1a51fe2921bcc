//! The loop and the context that a Rust future belongs to.

use std::future::Future;
use std::sync::Arc;

use pyo3::prelude::*;
use pyo3::pyclass::{PyTraverseError, PyVisit};
use tokio::task::futures::TaskLocalFuture;

use crate::python::imports;
use crate::running::get_running_loop;

tokio::task_local! {
    static LOCALS: TaskLocals;
}

#[derive(Debug)]
struct Inner {
    event_loop: Py<PyAny>,
    context: Py<PyAny>,
}

/// An event loop, and the context that awaitables run in which are awaited from Rust.
#[derive(Clone, Debug)]
pub struct TaskLocals(Arc<Inner>);

impl TaskLocals {
    /// Locals of that loop, without a context: `None` stands for the one at hand.
    pub fn new(event_loop: Bound<'_, PyAny>) -> Self {
        let context = event_loop.py().None();
        Self(Arc::new(Inner { event_loop: event_loop.unbind(), context }))
    }

    /// Locals of the loop that runs in this thread. Raises `RuntimeError` if none does.
    pub fn with_running_loop(py: Python<'_>) -> PyResult<Self> {
        Ok(Self::new(get_running_loop(py)?))
    }

    /// The same loop with that context.
    pub fn with_context(self, context: Bound<'_, PyAny>) -> Self {
        let event_loop = self.0.event_loop.clone_ref(context.py());
        Self(Arc::new(Inner { event_loop, context: context.unbind() }))
    }

    /// The same loop with a copy of the current context.
    pub fn copy_context(self, py: Python<'_>) -> PyResult<Self> {
        Ok(self.with_context(imports::copy_context(py)?))
    }

    /// The event loop.
    pub fn event_loop<'py>(&self, py: Python<'py>) -> Bound<'py, PyAny> {
        self.0.event_loop.bind(py).clone()
    }

    /// The context, or `None`.
    pub fn context<'py>(&self, py: Python<'py>) -> Bound<'py, PyAny> {
        self.0.context.bind(py).clone()
    }

    /// Another handle to the same locals.
    #[deprecated(note = "please use `clone` instead")]
    pub fn clone_ref(&self, _py: Python<'_>) -> Self {
        self.clone()
    }

    /// Visits the objects for CPython's collector if this is their only handle.
    ///
    /// Where there are others, in tasks of tokio's, the objects count as reachable from elsewhere. The
    /// collector visits twice, and what it has visited first it must be able to visit again: the one
    /// handle stays the only one meanwhile, because no other is left to make a copy of, and to copy
    /// this one takes the GIL.
    pub(crate) fn traverse_unshared(&self, visit: &PyVisit<'_>) -> Result<(), PyTraverseError> {
        if Arc::strong_count(&self.0) == 1 {
            visit.call(&self.0.event_loop)?;
            visit.call(&self.0.context)?;
        }
        Ok(())
    }
}

/// Runs a future with locals of its own: inside of it [`get_current_locals`] returns these.
pub fn scope<F, R>(locals: TaskLocals, fut: F) -> impl Future<Output = R> + Send
where
    F: Future<Output = R> + Send + 'static,
{
    within(locals, fut)
}

/// The same for a future that is not `Send`.
pub fn scope_local<F, R>(locals: TaskLocals, fut: F) -> impl Future<Output = R>
where
    F: Future<Output = R> + 'static,
{
    within(locals, fut)
}

/// [`scope`] with a type that outlives whatever the future does: an `impl Future<Output = R>` counts as
/// borrowed for as long as `R` is.
pub(crate) fn within<F: Future>(locals: TaskLocals, future: F) -> TaskLocalFuture<TaskLocals, F> {
    LOCALS.scope(locals, future)
}

/// The locals of the [`scope`] that is being polled in this thread. Needs no GIL.
pub(crate) fn scoped() -> Option<TaskLocals> {
    LOCALS.try_with(TaskLocals::clone).ok()
}

/// The loop of the current locals; without any, the loop that runs in this thread.
pub fn get_current_loop(py: Python<'_>) -> PyResult<Bound<'_, PyAny>> {
    scoped().map_or_else(|| get_running_loop(py), |locals| Ok(locals.event_loop(py)))
}

/// The current locals; without any, those of the loop that runs in this thread, with a copy of the
/// current context. Raises `RuntimeError` if there is neither.
pub fn get_current_locals(py: Python<'_>) -> PyResult<TaskLocals> {
    scoped().map_or_else(|| TaskLocals::with_running_loop(py)?.copy_context(py), Ok)
}
