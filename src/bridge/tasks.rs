//! Tasks of pyo3-async-runtimes' runtime, in guarded threads.
//!
//! Such a task may run Python code in threads that nothing else guards, and be ended there when the
//! interpreter exits, see [`finalizing`].

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use crate::ffi::finalizing;

/// The future, polled in guarded threads, and never again once the interpreter goes down.
pub(super) fn guarded<F: Future>(future: F) -> Guarded<F> {
    Guarded(future)
}

/// See [`guarded`]. Not an `async` function's future, which would have room for the future twice.
pub(super) struct Guarded<F>(F);

impl<F: Future> Future for Guarded<F> {
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<F::Output> {
        finalizing::guard();
        if finalizing::has_begun() {
            return Poll::Pending;
        }
        // SAFETY: the field is pinned as the whole is; it is never moved out.
        unsafe { self.map_unchecked_mut(|this| &mut this.0) }.poll(context)
    }
}

/// The function, called in a guarded thread.
pub(super) fn guarded_call<R>(function: impl FnOnce() -> R) -> impl FnOnce() -> R {
    || {
        finalizing::guard();
        function()
    }
}
