//! How a loop is woken that has letters.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use pyo3::exceptions::PyNotImplementedError;
use pyo3::intern;
use pyo3::prelude::*;

use super::Port;
use super::loop_ref::LoopRef;
use super::reader::Reader;
use crate::python::finalizing;
use crate::python::imports::empty_context;
use crate::running::running_loop;
use crate::runtime::get_runtime;
use crate::sys::wake_pair::WakePair;

/// How a loop is woken that has letters.
pub(super) enum Wake {
    /// A socket that the loop watches.
    Socket(WakePair),
    /// `call_soon_threadsafe`, in a thread for blocking calls: for loops that can watch no socket. Such a
    /// port closes when it finds the loop closed.
    Threadsafe { event_loop: LoopRef },
}

impl Wake {
    pub(super) fn choose(event_loop: &Bound<'_, PyAny>) -> PyResult<Self> {
        // Without a free descriptor there is the other way.
        WakePair::new().map(Self::Socket).or_else(|_| Self::threadsafe(event_loop))
    }

    fn threadsafe(event_loop: &Bound<'_, PyAny>) -> PyResult<Self> {
        Ok(Self::Threadsafe { event_loop: LoopRef::to(event_loop)? })
    }

    /// What the loop is to watch.
    pub(super) fn descriptor(&self) -> Option<i32> {
        match self {
            Self::Socket(pair) => Some(pair.descriptor()),
            Self::Threadsafe { .. } => None,
        }
    }

    /// Wakes the loop; in any thread, without the GIL and without waiting for it.
    pub(super) fn wake(self: &Arc<Self>, port: &Arc<Port>) {
        match &**self {
            Self::Socket(pair) => pair.wake(),
            Self::Threadsafe { .. } => {
                let (wake, for_thread) = (Arc::clone(self), Arc::clone(port));
                let call = move || {
                    let _ = finalizing::try_attach(|py| wake.call_threadsafe(py, &for_thread));
                };
                // tokio panics where the system has no thread left. The next letter tries again.
                let spawned =
                    catch_unwind(AssertUnwindSafe(|| drop(get_runtime().spawn_blocking(call))));
                if spawned.is_err() {
                    port.inbox.repark();
                }
            }
        }
    }

    fn call_threadsafe(&self, py: Python<'_>, port: &Arc<Port>) {
        let Self::Threadsafe { event_loop } = self else { return };
        let call = || -> PyResult<()> {
            let event_loop = event_loop.get(py)?;
            let closed = |it: &Bound<'_, PyAny>| it.call_method0("is_closed")?.is_truthy();
            let Some(event_loop) = event_loop.filter(|it| !closed(it).unwrap_or(false)) else {
                port.close(py);
                return Ok(());
            };
            let reader = Reader::once(port);
            event_loop.call_method1(intern!(py, "call_soon_threadsafe"), (reader,))?;
            Ok(())
        };
        if let Err(error) = call() {
            port.inbox.repark();
            error.write_unraisable(py, None);
        }
    }

    /// Takes the wake-ups that have arrived.
    pub(super) fn clear(&self) {
        if let Self::Socket(pair) = self {
            pair.clear();
        }
    }
}

/// Whether the loop runs in another thread, which alone may change what it watches.
pub(super) fn runs_elsewhere(event_loop: &Bound<'_, PyAny>) -> PyResult<bool> {
    let py = event_loop.py();
    if running_loop(py)?.is_some_and(|it| it.is(event_loop)) {
        return Ok(false);
    }
    event_loop.call_method0(intern!(py, "is_running"))?.is_truthy()
}

/// Has the loop watch the socket. If it cannot it is woken in the other way from now on.
pub(super) fn register(event_loop: &Bound<'_, PyAny>, reader: &Bound<'_, Reader>) -> PyResult<()> {
    let port = &reader.get().port;
    let wake = port.wake.lock().clone();
    let Some(descriptor) = wake.as_ref().and_then(|it| it.descriptor()) else { return Ok(()) };
    if watch(event_loop, descriptor, reader)? {
        return Ok(());
    }
    let other = Arc::new(Wake::threadsafe(event_loop)?);
    reader.get().disown(event_loop.py());
    let socket = port.wake.lock().replace(Arc::clone(&other));
    drop(socket);
    // For the letters that have come: their wake-up is lost with the socket.
    other.wake(port);
    Ok(())
}

/// Whether the loop can watch descriptors, and watches this one from now on.
fn watch(
    event_loop: &Bound<'_, PyAny>,
    descriptor: i32,
    reader: &Bound<'_, Reader>,
) -> PyResult<bool> {
    let py = event_loop.py();
    let Ok(add_reader) = event_loop.getattr(intern!(py, "add_reader")) else { return Ok(false) };
    // A loop runs a reader in the context that was current when it was added. An empty one keeps
    // nothing alive, and no letter sees another caller's variables.
    let context = empty_context(py)?;
    match context.call_method1(intern!(py, "run"), (add_reader, descriptor, reader)) {
        Ok(_) => Ok(true),
        Err(error) if error.is_instance_of::<PyNotImplementedError>(py) => Ok(false),
        Err(error) => Err(error),
    }
}
