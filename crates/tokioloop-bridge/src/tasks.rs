//! Tasks in guarded threads: any thread that runs Python code may be ended there when the interpreter
//! exits, see [`finalizing`].

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use crate::python::finalizing;

/// The future, polled in guarded threads, and never again once the interpreter goes down.
pub(crate) fn guarded<F: Future>(future: F) -> Guarded<F> {
    Guarded(future)
}

/// See [`guarded`]. Not an `async` function's future, which would have room for the future twice.
pub(crate) struct Guarded<F>(F);

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
pub(crate) fn guarded_call<R>(function: impl FnOnce() -> R) -> impl FnOnce() -> R {
    || {
        finalizing::guard();
        function()
    }
}
