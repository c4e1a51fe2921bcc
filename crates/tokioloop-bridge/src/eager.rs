//! Rust futures as asyncio futures, on loops that know nothing of this crate: each is spawned at once.
//!
//! The task on the runtime owns no Python object of this module's. The asyncio future is in the keeping
//! of the loop's [`Port`] while the Rust future runs; the task has its key, and posts the result as
//! a letter. The future is thus released in the loop's thread: by the letter, by the callback of its
//! cancellation, or when the loop is closed.

use std::any::Any;
use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use pyo3::IntoPyObjectExt;
use pyo3::exceptions::PyRuntimeError;
use pyo3::intern;
use pyo3::prelude::*;
use tokio::sync::oneshot;

use crate::errors::rust_panic;
use crate::locals::{TaskLocals, within};
use crate::port::{Kept, Key, Port};
use crate::python::finalizing;
use crate::python::gil::GilCell;
use crate::runtime::get_runtime;
use crate::tasks::{Guarded, guarded};

/// Makes an asyncio future of the result of a Rust future, which is spawned at once.
pub(crate) fn spawn_future<F, T>(
    py: Python<'_>,
    locals: TaskLocals,
    future: F,
) -> PyResult<Bound<'_, PyAny>>
where
    F: Future<Output = PyResult<T>> + Send + 'static,
    T: for<'py> IntoPyObject<'py> + Send + 'static,
{
    // First, because it may panic.
    let runtime = get_runtime();
    let (object, work) = prepare(py, locals.clone(), within(locals, future))?;
    runtime.spawn(work);
    Ok(object)
}

/// An asyncio future, and the work that completes it.
type Prepared<'py, F, T> = (Bound<'py, PyAny>, Guarded<Work<F, T>>);

/// The asyncio future, and the work that completes it, which is to be spawned. Scoping is the caller's.
pub(crate) fn prepare<F, T>(
    py: Python<'_>,
    locals: TaskLocals,
    future: F,
) -> PyResult<Prepared<'_, F, T>>
where
    F: Future<Output = PyResult<T>>,
    T: for<'py> IntoPyObject<'py> + Send + 'static,
{
    let event_loop = locals.event_loop(py);
    let port = Port::of(&event_loop)?;
    let object = event_loop.call_method0(intern!(py, "create_future"))?;
    let kept = Kept { object: object.clone().unbind(), locals: Some(locals) };
    let key = port.keep(py, kept)?;
    let delivery = Delivery { port: Arc::clone(&port), key, deliver: Some(deliver::<T>) };
    let (sender, cancelled) = oneshot::channel();
    let callback = DoneCallback { port, key, cancel: GilCell::new(Some(sender)) };
    // If this fails the delivery is dropped, and the kept future with it.
    object.call_method1(intern!(py, "add_done_callback"), (callback,))?;
    let work = Work { future: Some(future), cancelled: Some(cancelled), delivery };
    Ok((object, guarded(work)))
}

/// What came of a Rust future.
enum Outcome<T> {
    Done(PyResult<T>),
    Panicked(Box<dyn Any + Send>),
    /// The task was dropped before the future was done: its runtime was shut down.
    Dropped,
}

type Deliver<T> = fn(Python<'_>, &Port, Key, Outcome<T>) -> PyResult<()>;

/// Posts the outcome, once; also if it is dropped without one.
struct Delivery<T: Send + 'static> {
    port: Arc<Port>,
    key: Key,
    /// None once the outcome is posted, or is of no interest any more.
    deliver: Option<Deliver<T>>,
}

impl<T: Send + 'static> Delivery<T> {
    fn post(&mut self, outcome: Outcome<T>) {
        let Some(deliver) = self.deliver.take() else { return };
        let (port, key) = (Arc::clone(&self.port), self.key);
        self.port.post(Box::new(move |py| {
            if let Err(error) = deliver(py, &port, key, outcome) {
                error.restore(py);
            }
        }));
    }
}

impl<T: Send + 'static> Drop for Delivery<T> {
    fn drop(&mut self) {
        self.post(Outcome::Dropped);
    }
}

/// Sets the outcome on the asyncio future, in the loop's thread.
fn deliver<T>(py: Python<'_>, port: &Port, key: Key, outcome: Outcome<T>) -> PyResult<()>
where
    T: for<'py> IntoPyObject<'py>,
{
    // It has been cancelled if it is not there.
    let Some(kept) = port.take(py, key) else { return Ok(()) };
    let object = kept.object.bind(py);
    let result = attempt(py, || convert(py, outcome));
    // After the conversion, which may have run Python code.
    if is_done(object)? {
        return Ok(());
    }
    // What goes wrong is told whoever awaits the result, and would wait for ever: it exists only here. Such
    // as that a future takes no `StopIteration`.
    let set = |result: PyResult<Py<PyAny>>| attempt(py, || complete(object, result));
    match set(result) {
        Err(error) if !is_done(object)? => set(Err(error)),
        done => done,
    }
}

/// Runs a step in which something may panic: a conversion, or PyO3 where there is no memory.
fn attempt<T>(py: Python<'_>, step: impl FnOnce() -> PyResult<T>) -> PyResult<T> {
    catch_unwind(AssertUnwindSafe(step)).unwrap_or_else(|it| Err(rust_panic(py, &*it)))
}

fn convert<T>(py: Python<'_>, outcome: Outcome<T>) -> PyResult<Py<PyAny>>
where
    T: for<'py> IntoPyObject<'py>,
{
    match outcome {
        Outcome::Done(result) => result.and_then(|value| value.into_py_any(py)),
        Outcome::Panicked(payload) => Err(rust_panic(py, &*payload)),
        Outcome::Dropped => Err(PyRuntimeError::new_err(
            "the Rust future was dropped before it was done: its runtime has been shut down",
        )),
    }
}

fn complete(object: &Bound<'_, PyAny>, result: PyResult<Py<PyAny>>) -> PyResult<()> {
    let py = object.py();
    match result {
        Ok(value) => object.call_method1(intern!(py, "set_result"), (value,)),
        Err(error) => object.call_method1(intern!(py, "set_exception"), (error.into_value(py),)),
    }
    .map(drop)
}

fn is_done(object: &Bound<'_, PyAny>) -> PyResult<bool> {
    object.call_method0(intern!(object.py(), "done"))?.is_truthy()
}

/// Polls the Rust future until it is done, panics, or the asyncio future is cancelled; then drops it
/// and posts the outcome. A struct, because an `async` block would store the future twice.
pub(crate) struct Work<F, T: Send + 'static> {
    future: Option<F>,
    cancelled: Option<oneshot::Receiver<()>>,
    delivery: Delivery<T>,
}

impl<F, T> Future for Work<F, T>
where
    F: Future<Output = PyResult<T>>,
    T: Send + 'static,
{
    type Output = ();

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        // SAFETY: of the fields only `future` is pinned: it is not moved out of below, and the struct has
        // no `Drop`.
        let this = unsafe { self.get_unchecked_mut() };
        // SAFETY: the struct is pinned, and with it the field.
        let mut future = unsafe { Pin::new_unchecked(&mut this.future) };
        let Some(running) = future.as_mut().as_pin_mut() else { return Poll::Ready(()) };
        let mut outcome = match catch_unwind(AssertUnwindSafe(|| running.poll(context))) {
            Ok(Poll::Ready(result)) => Some(Outcome::Done(result)),
            Err(payload) => Some(Outcome::Panicked(payload)),
            Ok(Poll::Pending) => {
                let cancelled = this.cancelled.as_mut().map(|it| Pin::new(it).poll(context));
                match cancelled {
                    // The asyncio future was cancelled, and has been released.
                    Some(Poll::Ready(Ok(()))) => None,
                    // It is gone, and nothing cancels the Rust future any more.
                    Some(Poll::Ready(Err(_))) => {
                        this.cancelled = None;
                        return Poll::Pending;
                    }
                    Some(Poll::Pending) | None => return Poll::Pending,
                }
            }
        };
        // The future is dropped before its result is seen. A panic there is one of the future.
        if let Err(payload) = catch_unwind(AssertUnwindSafe(|| future.set(None)))
            && outcome.is_some()
        {
            outcome = Some(Outcome::Panicked(payload));
        }
        match outcome {
            Some(outcome) => this.delivery.post(outcome),
            None => this.delivery.deliver = None,
        }
        Poll::Ready(())
    }
}

/// Cancels the Rust future if the asyncio future is cancelled.
#[pyclass(frozen, module = "tokioloop_bridge")]
struct DoneCallback {
    port: Arc<Port>,
    key: Key,
    cancel: GilCell<Option<oneshot::Sender<()>>>,
}

#[pymethods]
impl DoneCallback {
    fn __call__(&self, py: Python<'_>, future: &Bound<'_, PyAny>) -> PyResult<()> {
        finalizing::guard();
        // It is there unless the result was delivered.
        let Some(kept) = self.port.take(py, self.key) else { return Ok(()) };
        let cancelled = future.call_method0(intern!(py, "cancelled"))?.is_truthy()?;
        let sender = self.cancel.take(py);
        // A result that others set does not stop the Rust future, which may have more to do.
        if let Some(sender) = sender.filter(|_| cancelled) {
            let _ = sender.send(());
        }
        drop(kept);
        Ok(())
    }
}
