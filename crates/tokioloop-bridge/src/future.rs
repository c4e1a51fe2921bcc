//! Rust futures behind one type, which an awaitable polls.

use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::task::{Context, Poll};

use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;
use pyo3::{IntoPyObject, IntoPyObjectExt};

use crate::errors::rust_panic;
use crate::local::{Deferred, DropLater, LocalFuture};
use crate::python::finalizing;

/// A future of any type. Not `Send` to the compiler: a `LocalFuture` inside keeps those that are not
/// in their thread.
pub(super) type BoxedFuture = Pin<Box<dyn ErasedFuture>>;

/// A future whose result becomes a Python object.
pub(super) trait ErasedFuture {
    /// Polls with the GIL held.
    fn poll_attached(
        self: Pin<&mut Self>,
        py: Python<'_>,
        context: &mut Context<'_>,
    ) -> Poll<PyResult<Py<PyAny>>>;
}

struct Erased<F>(F);

impl<F, T> ErasedFuture for Erased<F>
where
    F: Future<Output = PyResult<T>>,
    T: for<'py> IntoPyObject<'py>,
{
    #[inline]
    fn poll_attached(
        self: Pin<&mut Self>,
        py: Python<'_>,
        context: &mut Context<'_>,
    ) -> Poll<PyResult<Py<PyAny>>> {
        // SAFETY: the field is pinned as the whole is; it is never moved out.
        let future = unsafe { self.map_unchecked_mut(|this| &mut this.0) };
        future.poll(context).map(|result| result.and_then(|value| value.into_py_any(py)))
    }
}

/// A future whose result is converted in its own poll: its type does not name the result's, which
/// need not live for ever.
pub(super) struct ObjectFuture<F>(pub F);

impl<F, T> Future for ObjectFuture<F>
where
    F: Future<Output = PyResult<T>>,
    T: for<'py> IntoPyObject<'py>,
{
    type Output = PyResult<Py<PyAny>>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        // SAFETY: the field is pinned as the whole is; it is never moved out.
        let future = unsafe { self.map_unchecked_mut(|this| &mut this.0) };
        future
            .poll(context)
            .map(|result| result.and_then(|value| finalizing::attach(|py| value.into_py_any(py))))
    }
}

/// For a future that may be polled and dropped in any thread.
pub(super) fn sendable<F, T>(future: F) -> BoxedFuture
where
    F: Future<Output = PyResult<T>> + Send + 'static,
    T: for<'py> IntoPyObject<'py> + Send + 'static,
{
    Box::pin(Erased(future))
}

/// For a future that stays in this thread.
pub(super) fn local<F, T>(future: F) -> BoxedFuture
where
    F: Future<Output = PyResult<T>> + 'static,
    T: for<'py> IntoPyObject<'py>,
{
    Box::pin(LocalErased(LocalFuture::new(Box::pin(Erased(future)))))
}

struct LocalErased(LocalFuture<dyn ErasedFuture>);

impl ErasedFuture for LocalErased {
    fn poll_attached(
        mut self: Pin<&mut Self>,
        py: Python<'_>,
        context: &mut Context<'_>,
    ) -> Poll<PyResult<Py<PyAny>>> {
        match self.0.get() {
            Some(future) => future.poll_attached(py, context),
            None => Poll::Ready(Err(PyRuntimeError::new_err(
                "this Rust future cannot leave the thread that it was made in",
            ))),
        }
    }
}

/// Drops a future. A panic in its destructor is reported as unraisable.
pub(super) fn drop_quietly(py: Python<'_>, future: BoxedFuture) {
    if let Err(payload) = catch_unwind(AssertUnwindSafe(|| drop(future))) {
        rust_panic(py, &*payload).write_unraisable(py, None);
    }
}

impl DropLater for dyn ErasedFuture {
    fn defer(this: Pin<Box<Self>>) -> Deferred {
        Deferred::new(this)
    }
}
