//! The lifecycle of a transport: made, begun, closed, lost, in asyncio's order of callbacks.
//!
//! # Stages
//!
//! A [`Lifecycle`] only moves down its list. `New` until the loop calls `connection_made`; `Open`;
//! `Closing` from `close()` on, while something is left to send; `Losing` once `connection_lost` is
//! scheduled, which happens once; `Closed` once the descriptor is closed (`Endpoint::release`).
//!
//! Each step of a lifecycle that calls the protocol looks at the stage again afterwards.
//!
//! A TLS transport owns no descriptor: the transport below calls its `connection_made` and
//! `connection_lost`. It uses `New` and `Closing`, and has a state machine of its own besides.

use pyo3::prelude::*;

use super::class::{self, Transport};
use super::state::{Core, Lifecycle};
use super::{protocol, report};
use crate::event_loop::{Callback, Entry, NativeLoop};

/// A kind that owns a descriptor: the loop begins and ends its connection.
pub(crate) trait Endpoint: Transport {
    /// `connection_made` was called, and the transport is still open: starts reading.
    fn start(&self, slf: &Bound<'_, PyAny>, native: &NativeLoop) -> PyResult<()>;
    /// Closes the descriptor, and gives back what the loop and the kernel have of the transport.
    fn release(&self, slf: &Bound<'_, PyAny>) -> PyResult<()>;
    /// `connection_lost` was called, and the transport was released.
    fn after_loss(&self, _py: Python<'_>) -> PyResult<()> {
        Ok(())
    }
}

/// Schedules `connection_made`.
///
/// # Safety
/// `transport` must be of the kind `T`.
pub(crate) unsafe fn begin<T: Endpoint>(
    native: &NativeLoop,
    transport: &Bound<'_, PyAny>,
) -> PyResult<()> {
    let py = transport.py();
    // SAFETY: the caller's promise.
    let core = unsafe { class::state::<T>(transport) }.core();
    if let Some(protocol) = core.protocol.get(py) {
        let method = protocol::connection_made(native, &protocol)?;
        core.connection_made.set(py, Some(method.unbind()));
    }
    core.remember_source(py, native)?;
    // Two entries, as on asyncio: the second one also runs if the protocol ends the loop, or runs it, in
    // `connection_made`.
    native.push(py, Entry::Native(transport.clone().unbind(), connection_made::<T>));
    native.push(py, Entry::Native(transport.clone().unbind(), started::<T>));
    Ok(())
}

/// Calls `connection_made`.
///
/// # Safety
///
/// `slf` is a transport of the kind `T`.
unsafe fn connection_made<T: Endpoint>(py: Python<'_>, slf: &Py<PyAny>) -> PyResult<()> {
    let slf = slf.bind(py);
    // SAFETY: only `begin` queues this step, and only with a transport of this kind.
    let core = unsafe { class::state::<T>(slf) }.core();
    let (Some(method), Some(native)) = (core.connection_made.take(py), core.native(py)) else {
        return Ok(());
    };
    core.advance(Lifecycle::Open);
    let method = method.bind(py);
    let called = core.context.run_apart(py, native.contexts(), || method.call1((slf,)));
    match called {
        Ok(_) => Ok(()),
        Err(error) => report::callback_failed(&native, method, &[slf], error, core.source(py)),
    }
}

/// Starts reading, then wakes the coroutine that waits for the connection.
///
/// # Safety
///
/// `slf` is a transport of the kind `T`.
unsafe fn started<T: Endpoint>(py: Python<'_>, slf: &Py<PyAny>) -> PyResult<()> {
    let slf = slf.bind(py);
    // SAFETY: only `begin` queues this step, and only with a transport of this kind.
    let this = unsafe { class::state::<T>(slf) };
    let core = this.core();
    let mut result = Ok(());
    if core.lifecycle() == Lifecycle::Open
        && let Some(native) = core.native(py)
    {
        result = this.start(slf, &native);
    }
    result.and(core.wake_waiter(py, None))
}

/// Calls `connection_lost` and closes the descriptor.
///
/// # Safety
///
/// `slf` is a transport of the kind `T`.
pub(crate) unsafe fn connection_lost<T: Endpoint>(py: Python<'_>, slf: &Py<PyAny>) -> PyResult<()> {
    let slf = slf.bind(py);
    // SAFETY: the caller's promise: `lose` queues this step for the kind that it is called for.
    let this = unsafe { class::state::<T>(slf) };
    let core = this.core();
    if core.lifecycle() == Lifecycle::Closed {
        return Ok(());
    }
    // Held to the end: the loop outlives the transport's references to it.
    let native = core.native(py);
    let mut result = Ok(());
    if let (Some(native), Some(protocol)) = (&native, core.protocol.get(py)) {
        let loss = core.rare.get().and_then(|rare| rare.loss.get(py));
        let loss = loss.unwrap_or_else(|| py.None().into_bound(py));
        let name = pyo3::intern!(py, "connection_lost");
        result = core.notify_protocol(native, &protocol, name, &[&loss]);
    }
    result = result.and(this.release(slf));
    core.protocol.set(py, None);
    if let Some(rare) = core.rare.get() {
        rare.loss.set(py, None);
    }
    core.context.forget(py);
    drop(core.event_loop.take(py));
    result.and(this.after_loss(py))
}

/// Schedules `connection_lost`, to be called in the current context.
pub(crate) fn lose<T: Endpoint>(this: &T, slf: &Bound<'_, PyAny>, error: Option<Py<PyAny>>) {
    // The step is for a transport of this kind, as `slf` is.
    this.core().lose_through(slf, error, connection_lost::<T>);
}

/// Calls `connection_lost` at once, in the current context: what was left to send has left.
pub(crate) fn lose_now<T: Endpoint>(this: &T, slf: &Bound<'_, PyAny>) -> PyResult<()> {
    let core = this.core();
    if core.lifecycle() >= Lifecycle::Losing {
        return Ok(());
    }
    core.advance(Lifecycle::Losing);
    // Without a context of its own the transport calls the protocol in the current one, which may be
    // that very context: a transport with one context for all is in it here, and no context can be
    // entered twice.
    core.context.forget(slf.py());
    // SAFETY: `slf` is the transport whose state `this` is.
    unsafe { connection_lost::<T>(slf.py(), &slf.clone().unbind()) }
}

impl Core {
    #[inline]
    pub(crate) fn lifecycle(&self) -> Lifecycle {
        self.lifecycle.get()
    }

    /// Moves on to a stage, unless a later one was reached.
    pub(crate) fn advance(&self, to: Lifecycle) {
        self.lifecycle.set(self.lifecycle.get().max(to));
    }

    #[inline]
    pub(crate) fn is_closing(&self) -> bool {
        self.lifecycle() >= Lifecycle::Closing
    }

    /// Schedules `step`, which ends with `connection_lost`, to be called in the current context.
    pub(crate) fn lose_through(
        &self,
        slf: &Bound<'_, PyAny>,
        error: Option<Py<PyAny>>,
        step: Callback,
    ) {
        let py = slf.py();
        if self.lifecycle() >= Lifecycle::Losing {
            return;
        }
        self.advance(Lifecycle::Losing);
        if error.is_some() {
            self.rare().loss.set(py, error);
        }
        if let Some(native) = self.native(py) {
            // Where there is no memory for the context the transport's own has to do.
            let _ = self.context.follow_caller(py, native.contexts());
            let _ = self.remember_source(py, &native);
            native.push(py, Entry::Native(slf.clone().unbind(), step));
        }
    }

    /// How `repr` describes the stage, behind the name of the class.
    pub(crate) fn describe_lifecycle(&self) -> &'static str {
        match self.lifecycle() {
            Lifecycle::New | Lifecycle::Open => "",
            Lifecycle::Closing | Lifecycle::Losing => " closing",
            Lifecycle::Closed => " closed",
        }
    }
}
