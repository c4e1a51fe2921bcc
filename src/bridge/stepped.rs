//! Rust futures behind one type: what an awaitable polls.

use std::cell::Cell;
use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::thread::{self, ThreadId};

use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;
use pyo3::{IntoPyObject, IntoPyObjectExt};

use crate::driver::fork::Mutex;
use crate::ffi::finalizing;

/// A future whose result has become a Python object. Not `Send` to the compiler: see `LocalFuture`
/// for how those that are not stay in their thread.
pub(super) type Stepped = Pin<Box<dyn Step>>;

pub(super) trait Step {
    /// Polls with the GIL held.
    fn step(
        self: Pin<&mut Self>,
        py: Python<'_>,
        context: &mut Context<'_>,
    ) -> Poll<PyResult<Py<PyAny>>>;
}

struct Typed<F>(F);

impl<F, T> Step for Typed<F>
where
    F: Future<Output = PyResult<T>>,
    T: for<'py> IntoPyObject<'py>,
{
    #[inline]
    fn step(
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
pub(super) struct Converted<F>(pub F);

impl<F, T> Future for Converted<F>
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
pub(super) fn sendable<F, T>(future: F) -> Stepped
where
    F: Future<Output = PyResult<T>> + Send + 'static,
    T: for<'py> IntoPyObject<'py> + Send + 'static,
{
    Box::pin(Typed(future))
}

/// For a future that stays in this thread.
pub(super) fn local<F, T>(future: F) -> Stepped
where
    F: Future<Output = PyResult<T>> + 'static,
    T: for<'py> IntoPyObject<'py>,
{
    Box::pin(LocalStep(LocalFuture::new(Box::pin(Typed(future)))))
}

struct LocalStep(LocalFuture<dyn Step>);

impl Step for LocalStep {
    fn step(
        mut self: Pin<&mut Self>,
        py: Python<'_>,
        context: &mut Context<'_>,
    ) -> Poll<PyResult<Py<PyAny>>> {
        match self.0.get() {
            Some(future) => future.step(py, context),
            None => Poll::Ready(Err(PyRuntimeError::new_err(
                "this Rust future cannot leave the thread that it was made in",
            ))),
        }
    }
}

/// A pinned value that only the thread that made it touches. Elsewhere it can be moved, and
/// dropping it puts it by for its own thread.
pub(super) struct LocalFuture<F: ?Sized + Bury + 'static> {
    future: Cell<Option<Pin<Box<F>>>>,
    home: ThreadId,
}

// SAFETY: the value is reached through `get` and `drop` only, and both look at the thread first.
unsafe impl<F: ?Sized + Bury> Send for LocalFuture<F> {}

impl<F: ?Sized + Bury> LocalFuture<F> {
    pub(super) fn new(future: Pin<Box<F>>) -> Self {
        exhume();
        Self { future: Cell::new(Some(future)), home: thread::current().id() }
    }

    /// `None` in any thread but its own.
    pub(super) fn get(&mut self) -> Option<Pin<&mut F>> {
        if thread::current().id() != self.home {
            return None;
        }
        exhume();
        self.future.get_mut().as_mut().map(Pin::as_mut)
    }
}

impl<F: ?Sized + Bury> Drop for LocalFuture<F> {
    fn drop(&mut self) {
        if let Some(future) = self.future.take() {
            if thread::current().id() == self.home {
                drop(future);
            } else {
                bury(self.home, F::bury(future));
            }
        }
    }
}

/// What can be put by: a trait, so that `dyn Step` and futures of any type are put by alike.
pub(super) trait Bury {
    fn bury(this: Pin<Box<Self>>) -> Buried;
}

/// Something that waits for its own thread to drop it.
pub(super) struct Buried(#[expect(dead_code, reason = "only dropped")] Box<dyn Anything>);

trait Anything {}
impl<T> Anything for T {}

// SAFETY: only dropped, and only in the thread that it belongs to; see `exhume`.
unsafe impl Send for Buried {}

impl Bury for dyn Step {
    fn bury(this: Pin<Box<Self>>) -> Buried {
        Buried(Box::new(this))
    }
}

impl<T: 'static> Bury for dyn Future<Output = T> {
    fn bury(this: Pin<Box<Self>>) -> Buried {
        Buried(Box::new(this))
    }
}

static GRAVES: Mutex<Vec<(ThreadId, Buried)>> = Mutex::new(Vec::new());
/// How many there are, so that a thread that has none takes no lock.
static BURIED: AtomicUsize = AtomicUsize::new(0);

fn bury(home: ThreadId, buried: Buried) {
    let mut graves = GRAVES.lock();
    graves.push((home, buried));
    BURIED.store(graves.len(), Ordering::Release);
}

/// Drops what others put by for this thread. What a thread leaves when it ends is never dropped.
fn exhume() {
    if BURIED.load(Ordering::Acquire) == 0 {
        return;
    }
    let here = thread::current().id();
    let mut graves = GRAVES.lock();
    let (mine, others) = std::mem::take(&mut *graves).into_iter().partition(|it| it.0 == here);
    *graves = others;
    BURIED.store(graves.len(), Ordering::Release);
    drop(graves);
    let mine: Vec<_> = mine;
    drop(mine);
}

/// Drops a future. A panic in its destructor is told like that of any destructor.
pub(super) fn drop_quietly(py: Python<'_>, future: Stepped) {
    if let Err(payload) = catch_unwind(AssertUnwindSafe(|| drop(future))) {
        super::rust_panic(&*payload).write_unraisable(py, None);
    }
}
