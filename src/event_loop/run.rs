//! `run_forever`'s engine room: one task on the loop's runtime, driven until it ends.

use std::future::poll_fn;
use std::pin::Pin;
use std::task::{Context, Poll};

use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;

use super::NativeLoop;
use crate::object::{Object, panic_error};

/// A future that tokio may call `Send`.
struct OneThread<F>(F);

// SAFETY: `run` spawns it on a current-thread runtime that `block_on` drives on this very thread
// until it is done, so nothing else ever polls or drops it.
unsafe impl<F> Send for OneThread<F> {}

impl<F: Future> Future for OneThread<F> {
    type Output = OneThread<F::Output>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        // SAFETY: a plain projection to the only field.
        unsafe { self.map_unchecked_mut(|this| &mut this.0) }.poll(context).map(OneThread)
    }
}

impl NativeLoop {
    /// Runs until `stop()`, or until a callback or a signal handler raises what ends the loop.
    pub(super) fn run(&self, py: Python<'_>) -> PyResult<()> {
        if tokio::runtime::Handle::try_current().is_ok() {
            return Err(PyRuntimeError::new_err(
                "Cannot run the event loop while a tokio runtime is running in this thread",
            ));
        }
        let reactor = self.reactor(py)?;
        let this = self.object();
        let mut started = false;
        let task = OneThread(poll_fn(move |context| poll(this, &mut started, context)));
        let done = self.gil.scope(py, || {
            // The task, not `block_on`'s own future, does the work: waking a task from the
            // reactor's thread costs no system call, and it is not budgeted as I/O code is.
            let runtime = reactor.runtime();
            OneThread(runtime.block_on(runtime.spawn(tokio::task::unconstrained(task))))
        });
        self.idle.set(py, false);
        self.task.with(py, |task| *task = None);
        reactor.events.set_task(None);
        match done.0 {
            Ok(OneThread(result)) => result,
            Err(failed) => match failed.try_into_panic() {
                Ok(payload) => Err(panic_error(&*payload)),
                Err(failed) => Err(PyRuntimeError::new_err(failed.to_string())),
            },
        }
    }
}

fn poll(this: Object, started: &mut bool, context: &mut Context<'_>) -> Poll<PyResult<()>> {
    Python::attach(|py| {
        // SAFETY: `run`'s caller holds a reference to the loop until the task is done.
        let this = unsafe { NativeLoop::of(this) };
        if !*started {
            *started = true;
            this.task.with(py, |task| *task = Some(context.waker().clone()));
            if let Some(reactor) = this.reactor.with(py, |reactor| reactor.clone()) {
                reactor.events.set_task(Some(context.waker().clone()));
            }
            // asyncio looks at its descriptors before the first batch.
            return yield_to_driver(context);
        }
        this.turn(py, context)
    })
}

/// Comes back after one look at the reactor that does not wait.
pub(super) fn yield_to_driver<T>(context: &mut Context<'_>) -> Poll<T> {
    let mut yielding = std::pin::pin!(tokio::task::yield_now());
    let _ = yielding.as_mut().poll(context);
    Poll::Pending
}
