//! Rust futures that are not `Send`: each stays in its thread, wherever Python drops it.

use std::cell::Cell;
use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::{self, ThreadId};

use crate::sys::fork::Mutex;

/// A pinned future that only the thread that made it touches. In other threads it can be moved, and
/// dropping it leaves it to its own thread.
pub(super) struct LocalFuture<F: ?Sized + DropLater + 'static> {
    future: Cell<Option<Pin<Box<F>>>>,
    home: ThreadId,
}

// SAFETY: the value is reached through `get` and `drop` only, and both check the thread first.
unsafe impl<F: ?Sized + DropLater> Send for LocalFuture<F> {}

impl<F: ?Sized + DropLater> LocalFuture<F> {
    pub(super) fn new(future: Pin<Box<F>>) -> Self {
        drop_deferred();
        Self { future: Cell::new(Some(future)), home: thread::current().id() }
    }

    /// `None` in any thread but its own.
    pub(super) fn get(&mut self) -> Option<Pin<&mut F>> {
        if thread::current().id() != self.home {
            return None;
        }
        drop_deferred();
        self.future.get_mut().as_mut().map(Pin::as_mut)
    }
}

impl<F: ?Sized + DropLater> Drop for LocalFuture<F> {
    fn drop(&mut self) {
        if let Some(future) = self.future.take() {
            if thread::current().id() == self.home {
                drop(future);
            } else {
                leave(self.home, F::defer(future));
            }
        }
    }
}

/// A future that another thread can drop later: a trait, because a `LocalFuture` may hold futures
/// behind different traits.
pub(super) trait DropLater {
    fn defer(this: Pin<Box<Self>>) -> Deferred;
}

/// A value that its own thread will drop.
pub(super) struct Deferred(#[expect(dead_code, reason = "only dropped")] Box<dyn Anything>);

trait Anything {}
impl<T> Anything for T {}

impl Deferred {
    pub(super) fn new<T: 'static>(value: T) -> Self {
        Self(Box::new(value))
    }
}

// SAFETY: only dropped, and only in the thread that it belongs to; see `drop_deferred`.
unsafe impl Send for Deferred {}

impl<T: 'static> DropLater for dyn Future<Output = T> {
    fn defer(this: Pin<Box<Self>>) -> Deferred {
        Deferred::new(this)
    }
}

/// The values that their threads have not dropped yet.
static DEFERRED: Mutex<Vec<(ThreadId, Deferred)>> = Mutex::new(Vec::new());
/// Their number: where it is 0 no lock is taken.
static COUNT: AtomicUsize = AtomicUsize::new(0);

fn leave(home: ThreadId, value: Deferred) {
    let mut deferred = DEFERRED.lock();
    deferred.push((home, value));
    COUNT.store(deferred.len(), Ordering::Release);
}

/// Drops the values that other threads left to this one. Those of a thread that has ended are never
/// dropped.
fn drop_deferred() {
    if COUNT.load(Ordering::Acquire) == 0 {
        return;
    }
    let here = thread::current().id();
    let mut deferred = DEFERRED.lock();
    let (own, others) = std::mem::take(&mut *deferred).into_iter().partition(|it| it.0 == here);
    *deferred = others;
    COUNT.store(deferred.len(), Ordering::Release);
    drop(deferred);
    let own: Vec<_> = own;
    drop(own);
}
