//! Async generators as Rust streams, and Rust streams as async iterators.
//!
//! A stream that became an iterator is in a [`SharedStream`], which the iterator and each pending
//! `__anext__` own together: any of them may go first, in any thread. `busy` admits one of them to the
//! stream at a time. That one takes the stream out of its place for each poll, so that no lock is held
//! while the stream's code runs, and a stream that panics or ends does not come back. The last
//! reference drops the stream; streams that own one another are dropped one after the other.

use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};

use futures_core::Stream;
use pyo3::exceptions::{PyRuntimeError, PyStopAsyncIteration};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::{IntoPyObject, IntoPyObjectExt, PyTraverseError, PyVisit};

use crate::admission::admit;
use crate::errors::tell;
use crate::incoming::into_future_with_locals;
use crate::locals::{self, TaskLocals};
use crate::outgoing::{future_into_py, future_into_py_with_locals};
use crate::python::finalizing;
use crate::python::nested_drops::{NestedDrops, drop_nested};
use crate::sys::fork::Mutex;

/// An async generator (or another async iterator) of Python's as a [`Stream`].
///
/// Its next item is requested when the stream is polled, not before. An exception that it raises is an
/// item, after which the stream ends.
pub struct AsyncGenerator {
    locals: TaskLocals,
    /// Its `__anext__`; `None` once it has ended.
    next: Option<Py<PyAny>>,
    requested: Option<Request>,
}

/// An item that was requested.
type Request = Pin<Box<dyn Future<Output = PyResult<Py<PyAny>>> + Send>>;

// A stable ABI for all interpreters hides what an object is, and whether a reference may be moved. It may.
impl Unpin for AsyncGenerator {}

impl AsyncGenerator {
    fn request(&self, next: &Py<PyAny>) -> PyResult<Request> {
        finalizing::attach(|py| {
            let item = next.bind(py).call0()?;
            Ok(Box::pin(into_future_with_locals(&self.locals, item)?) as Request)
        })
    }
}

impl Stream for AsyncGenerator {
    type Item = PyResult<Py<PyAny>>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let Some(next) = &self.next else { return Poll::Ready(None) };
        if self.requested.is_none() {
            match self.request(next) {
                Ok(request) => self.requested = Some(request),
                Err(error) => {
                    self.next = None;
                    return Poll::Ready(Some(Err(error)));
                }
            }
        }
        let Some(requested) = &mut self.requested else { return Poll::Ready(None) };
        let Poll::Ready(item) = requested.as_mut().poll(context) else { return Poll::Pending };
        self.requested = None;
        match item {
            Ok(item) => Poll::Ready(Some(Ok(item))),
            Err(error) => {
                self.next = None;
                let over =
                    finalizing::attach(|py| error.is_instance_of::<PyStopAsyncIteration>(py));
                Poll::Ready((!over).then_some(Err(error)))
            }
        }
    }
}

/// Makes an async generator a stream, with the locals of
/// [`get_current_locals`](super::get_current_locals).
///
/// ```
/// use pyo3::prelude::*;
/// use std::future::poll_fn;
/// use std::pin::Pin;
/// use futures_core::Stream;
/// use tokioloop_bridge::{future_into_py, into_stream};
///
/// /// How many items a generator gives.
/// #[pyfunction]
/// fn count<'py>(generator: Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
///     let py = generator.py();
///     let mut stream = into_stream(generator)?;
///     future_into_py(py, async move {
///         let mut items = 0;
///         while let Some(item) = poll_fn(|cx| Pin::new(&mut stream).poll_next(cx)).await {
///             item?;
///             items += 1;
///         }
///         Ok(items)
///     })
/// }
/// ```
pub fn into_stream(generator: Bound<'_, PyAny>) -> PyResult<AsyncGenerator> {
    admit(generator.py())?;
    into_stream_with_locals(locals::get_current_locals(generator.py())?, generator)
}

/// The same with locals of your own.
pub fn into_stream_with_locals(
    locals: TaskLocals,
    generator: Bound<'_, PyAny>,
) -> PyResult<AsyncGenerator> {
    admit(generator.py())?;
    let next = generator.getattr(intern!(generator.py(), "__anext__"))?.unbind();
    Ok(AsyncGenerator { locals, next: Some(next), requested: None })
}

/// [`into_stream`] by the name that pyo3-async-runtimes has for it.
pub fn into_stream_v1(
    generator: Bound<'_, PyAny>,
) -> PyResult<impl Stream<Item = PyResult<Py<PyAny>>> + Send + Unpin + use<>> {
    into_stream(generator)
}

/// [`into_stream_with_locals`] by the name that pyo3-async-runtimes has for it.
pub fn into_stream_with_locals_v1(
    locals: TaskLocals,
    generator: Bound<'_, PyAny>,
) -> PyResult<impl Stream<Item = PyResult<Py<PyAny>>> + Send + Unpin + use<>> {
    into_stream_with_locals(locals, generator)
}

/// A stream of the items alone: an exception that the generator raises goes to the loop's exception
/// handler, and ends the stream.
pub fn into_stream_v2(
    generator: Bound<'_, PyAny>,
) -> PyResult<impl Stream<Item = Py<PyAny>> + Send + Unpin + use<>> {
    Ok(Items(into_stream(generator)?))
}

/// The same with locals of your own.
pub fn into_stream_with_locals_v2(
    locals: TaskLocals,
    generator: Bound<'_, PyAny>,
) -> PyResult<impl Stream<Item = Py<PyAny>> + Send + Unpin + use<>> {
    Ok(Items(into_stream_with_locals(locals, generator)?))
}

struct Items(AsyncGenerator);

impl Stream for Items {
    type Item = Py<PyAny>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        match Pin::new(&mut self.0).poll_next(context) {
            Poll::Pending => Poll::Pending,
            Poll::Ready(None) => Poll::Ready(None),
            Poll::Ready(Some(Ok(item))) => Poll::Ready(Some(item)),
            Poll::Ready(Some(Err(error))) => {
                finalizing::attach(|py| report(py, &self.0.locals, &error));
                Poll::Ready(None)
            }
        }
    }
}

fn report(py: Python<'_>, locals: &TaskLocals, error: &PyErr) {
    let message = "An async generator that became a Rust stream raised";
    if let Err(error) = tell(&locals.event_loop(py), message, error) {
        error.write_unraisable(py, None);
    }
}

type Source = Pin<Box<dyn Stream<Item = PyResult<Py<PyAny>>> + Send>>;

/// A stream that its iterator and the pending `__anext__` share.
struct SharedStream {
    /// `None` once it has ended, was closed, or panicked.
    source: Mutex<Option<Source>>,
    /// A task waits for an item.
    busy: AtomicBool,
}

impl SharedStream {
    async fn next(self: Arc<Self>) -> PyResult<Py<PyAny>> {
        let _claim = Claim::take(&self)?;
        let item = poll_fn(|context| {
            // Out of its place meanwhile: the poll may run Python code, and should it panic the
            // stream is over. The lock is not held across the poll.
            let taken = self.source.lock().take();
            let Some(mut stream) = taken else { return Poll::Ready(None) };
            let polled = stream.as_mut().poll_next(context);
            if !matches!(polled, Poll::Ready(None)) {
                *self.source.lock() = Some(stream);
            }
            polled
        });
        item.await.unwrap_or_else(|| Err(PyStopAsyncIteration::new_err(())))
    }
}

impl Drop for SharedStream {
    fn drop(&mut self) {
        let source = self.source.get_mut().take();
        if let Some(source) = source {
            drop_nested(&DROPPING, source);
        }
    }
}

thread_local! {
    /// A stream may own the iterator over another one.
    static DROPPING: NestedDrops<Source> = const { NestedDrops::new() };
}

/// The right to wait for an item: one waiter at a time, which gives it up when it stops waiting.
struct Claim<'a>(&'a SharedStream);

impl<'a> Claim<'a> {
    fn take(shared: &'a SharedStream) -> PyResult<Self> {
        if shared.busy.swap(true, Ordering::Acquire) {
            return Err(PyRuntimeError::new_err(
                "anext(): the Rust stream is being waited for already",
            ));
        }
        Ok(Self(shared))
    }
}

impl Drop for Claim<'_> {
    fn drop(&mut self) {
        self.0.busy.store(false, Ordering::Release);
    }
}

/// A Rust stream as an async iterator.
#[pyclass(frozen, name = "RustStream", module = "tokioloop_bridge")]
struct RustStream {
    shared: Arc<SharedStream>,
    /// The locals that were given, if any.
    locals: Option<TaskLocals>,
}

impl Drop for RustStream {
    fn drop(&mut self) {
        // Before the fields, whose destructors may run Python code.
        finalizing::guard();
    }
}

#[pymethods]
impl RustStream {
    fn __aiter__(slf: Py<Self>) -> Py<Self> {
        slf
    }

    fn __anext__<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        finalizing::guard();
        let next = Arc::clone(&self.shared).next();
        match &self.locals {
            None => future_into_py(py, next),
            Some(locals) => future_into_py_with_locals(py, locals.clone(), next),
        }
    }

    /// Drops the stream.
    fn aclose<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        finalizing::guard();
        let shared = Arc::clone(&self.shared);
        future_into_py(py, async move {
            let _claim = Claim::take(&shared)?;
            let source = shared.source.lock().take();
            drop(source);
            finalizing::attach(|py| Ok(py.None()))
        })
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        self.locals.as_ref().map_or(Ok(()), |locals| locals.traverse_unshared(&visit))
    }
}

/// Makes a Rust stream an async iterator.
///
/// The stream is polled only while a task awaits an item, so the iteration sets the pace. Cancelling
/// such an await leaves the stream where it is. `aclose()` drops it, as does dropping the iterator.
///
/// ```
/// use futures_core::Stream;
/// use pyo3::prelude::*;
/// use std::pin::Pin;
/// use std::task::{Context, Poll};
///
/// struct Countdown(u32);
///
/// impl Stream for Countdown {
///     type Item = PyResult<u32>;
///
///     fn poll_next(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Self::Item>> {
///         self.0 = match self.0.checked_sub(1) {
///             Some(left) => left,
///             None => return Poll::Ready(None),
///         };
///         Poll::Ready(Some(Ok(self.0)))
///     }
/// }
///
/// #[pyfunction]
/// fn countdown(py: Python<'_>) -> PyResult<Bound<'_, PyAny>> {
///     tokioloop_bridge::stream_into_py(py, Countdown(3))
/// }
/// ```
pub fn stream_into_py<S, T>(py: Python<'_>, stream: S) -> PyResult<Bound<'_, PyAny>>
where
    S: Stream<Item = PyResult<T>> + Send + 'static,
    T: for<'py> IntoPyObject<'py> + Send + 'static,
{
    iterator(py, None, stream)
}

/// The same with locals of your own.
pub fn stream_into_py_with_locals<S, T>(
    py: Python<'_>,
    locals: TaskLocals,
    stream: S,
) -> PyResult<Bound<'_, PyAny>>
where
    S: Stream<Item = PyResult<T>> + Send + 'static,
    T: for<'py> IntoPyObject<'py> + Send + 'static,
{
    iterator(py, Some(locals), stream)
}

fn iterator<S, T>(
    py: Python<'_>,
    locals: Option<TaskLocals>,
    stream: S,
) -> PyResult<Bound<'_, PyAny>>
where
    S: Stream<Item = PyResult<T>> + Send + 'static,
    T: for<'py> IntoPyObject<'py> + Send + 'static,
{
    admit(py)?;
    let source: Source = Box::pin(ObjectStream(stream));
    let shared = SharedStream { source: Mutex::new(Some(source)), busy: AtomicBool::new(false) };
    let made = RustStream { shared: Arc::new(shared), locals };
    Ok(Bound::new(py, made)?.into_any())
}

/// The items as Python objects.
struct ObjectStream<S>(S);

impl<S, T> Stream for ObjectStream<S>
where
    S: Stream<Item = PyResult<T>>,
    T: for<'py> IntoPyObject<'py>,
{
    type Item = PyResult<Py<PyAny>>;

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        // SAFETY: the field is pinned as the whole is; it is never moved out.
        let stream = unsafe { self.map_unchecked_mut(|this| &mut this.0) };
        stream.poll_next(context).map(|item| {
            item.map(|item| item.and_then(|item| finalizing::attach(|py| item.into_py_any(py))))
        })
    }
}
