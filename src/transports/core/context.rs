//! The contexts that a transport calls its protocol in.
//!
//! Received data is delivered in the context that the transport was made in. What follows from a
//! call of the program's (`close()`, `resume_reading()`, a `write` that has to wait) happens in the
//! context of that call, where asyncio schedules it. From CPython 3.15 on the stream transport of a
//! socket is an exception: all its callbacks run in the context that it was made in. See
//! [`Scope`](crate::ffi::contexts::Scope).

use pyo3::prelude::*;

use super::state::Core;
use crate::ffi::contexts::Scope;

/// What makes a transport send, and with that the context in which the protocol is notified of the
/// outcome.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum FlushTrigger {
    /// A method, called in a context of the program's.
    Caller,
    /// The loop sends what a batch wrote, in no context.
    EndOfBatch,
    /// The kernel takes more: the loop sends in the context of the caller whose write had to wait.
    Writable,
}

impl Core {
    /// Runs `f` in the transport's context.
    pub(crate) fn in_context<R>(
        &self,
        py: Python<'_>,
        f: impl FnOnce() -> PyResult<R>,
    ) -> PyResult<R> {
        match self.native(py) {
            Some(native) => self.context.run(py, native.contexts(), f),
            None => f(),
        }
    }

    /// From here on the protocol is called in the current context, as it is now.
    pub(crate) fn follow_caller(&self, py: Python<'_>) -> PyResult<()> {
        match self.native(py) {
            Some(native) => self.context.follow_caller(py, native.contexts()),
            None => Ok(()),
        }
    }

    /// The kernel takes no more of what the caller writes, or writes and closes: what follows from
    /// that happens in the caller's context.
    #[cold]
    pub(crate) fn remember_writer(&self, py: Python<'_>) -> PyResult<()> {
        match self.native(py) {
            Some(native) if self.context.scope() == Scope::Cause => {
                self.rare().writer.follow_caller(py, native.contexts())
            }
            _ => Ok(()),
        }
    }

    /// Whether the context of a writer was remembered for what is left to send.
    pub(crate) fn knows_writer(&self, py: Python<'_>) -> bool {
        self.rare.get().is_some_and(|rare| rare.writer.slot().is_set(py))
    }

    /// Runs `f` in the context of the caller whose write had to wait, and forgets that context.
    pub(crate) fn in_writers_context<R>(
        &self,
        py: Python<'_>,
        f: impl FnOnce() -> PyResult<R>,
    ) -> PyResult<R> {
        let writer = self.rare.get().and_then(|rare| rare.writer.take(py));
        match (writer, self.native(py)) {
            (Some(writer), Some(native)) => writer.run(py, native.contexts(), f),
            _ => self.in_context(py, f),
        }
    }
}
