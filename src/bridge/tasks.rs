//! Tasks of pyo3-async-runtimes' runtime, in guarded threads.
//!
//! Such a task may run Python code in threads that nothing else guards, and be ended there when the
//! interpreter exits, see [`finalizing`].

use std::future::Future;
use std::pin::pin;
use std::task::Poll;

use crate::ffi::finalizing;

/// The future, polled in guarded threads, and never again once the interpreter goes down.
pub(super) async fn guarded<F: Future>(future: F) -> F::Output {
    let mut future = pin!(future);
    std::future::poll_fn(|context| {
        finalizing::guard();
        if finalizing::has_begun() {
            return Poll::Pending;
        }
        future.as_mut().poll(context)
    })
    .await
}

/// The function, called in a guarded thread.
pub(super) fn guarded_call<R>(function: impl FnOnce() -> R) -> impl FnOnce() -> R {
    || {
        finalizing::guard();
        function()
    }
}
