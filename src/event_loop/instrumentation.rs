//! Tools that replace `asyncio.Handle._run`, to time or trace callbacks, see this loop's as well.
//!
//! asyncio runs each callback through that method. This loop does where it is not asyncio's own any
//! more: then everything in the ready queue gets a handle, the native steps of transports too.

use pyo3::ffi;
use pyo3::prelude::*;

use super::{Entry, LoopSlot, NativeLoop};
use crate::event_loop::handles::{Call, Handle};
use crate::ffi::finalizing;
use crate::ffi::gil::{GilCell, GilFlag};
use crate::ffi::imports;

/// The version of asyncio's class that was looked at, and whether a tool had replaced the method.
static SEEN: GilFlag<(u32, bool)> = GilFlag::new((0, false));

/// Whether a tool has replaced `asyncio.Handle._run`.
#[inline]
pub(super) fn is_on(py: Python<'_>) -> PyResult<bool> {
    let class = imports::asyncio(py)?.handle.as_ptr().cast::<ffi::PyTypeObject>();
    // SAFETY: a class that lives for ever. CPython gives each state of a class another version, and 0
    // until it has looked something up.
    let version = unsafe { (*class).tp_version_tag };
    let (seen, answer) = SEEN.get(py);
    if version != 0 && version == seen { Ok(answer) } else { look(py, class) }
}

#[cold]
fn look(py: Python<'_>, class: *const ffi::PyTypeObject) -> PyResult<bool> {
    let debug_mode = imports::debug_mode(py)?.bind(py);
    let name = pyo3::intern!(py, "handles_are_instrumented");
    let answer = debug_mode.call_method0(name)?.extract()?;
    // SAFETY: as above; the look-up has given it a version.
    SEEN.set(py, (unsafe { (*class).tp_version_tag }, answer));
    Ok(answer)
}

/// Runs a handle by the function that a tool has put in the place of asyncio's.
pub(super) fn run(py: Python<'_>, handle: &Handle) -> PyResult<()> {
    let run = imports::asyncio(py)?.handle.bind(py).getattr(pyo3::intern!(py, "_run"))?;
    run.call1((handle.bind(py),)).map(drop)
}

/// The callback of a handle for an entry that needs none.
#[pyclass(frozen, module = "tokioloop._core", name = "NativeStep")]
struct NativeStep {
    event_loop: LoopSlot,
    entry: GilCell<Option<Entry>>,
}

#[pymethods]
impl NativeStep {
    fn __call__(&self, py: Python<'_>) -> PyResult<()> {
        finalizing::guard();
        match (self.event_loop.get(py), self.entry.take(py)) {
            (Some(event_loop), Some(entry)) => event_loop.run_native(py, entry),
            _ => Ok(()),
        }
    }
}

impl NativeLoop {
    /// Runs an entry through the tool's method. Without it where there is no memory for a handle: the
    /// entry has left the queue.
    #[cold]
    pub(super) fn run_instrumented(&self, py: Python<'_>, entry: Entry) -> PyResult<()> {
        let handle = match entry {
            Entry::Handle(handle) if handle.is_cancelled(py) => return Ok(()),
            Entry::Handle(handle) => handle,
            Entry::Call(call) => match call.into_handle(py, self) {
                Ok(handle) => handle,
                Err(call) => return self.run_call(py, call),
            },
            entry => match self.native_step(py) {
                Ok((step, handle)) => {
                    step.get().entry.with(py, |slot| *slot = Some(entry));
                    handle
                }
                Err(_no_memory) => return self.run_native(py, entry),
            },
        };
        if self.is_debug(py) { self.run_in_debug(py, &handle) } else { run(py, &handle) }
    }

    /// A step without an entry, and the handle that calls it.
    fn native_step<'py>(&self, py: Python<'py>) -> PyResult<(Bound<'py, NativeStep>, Handle)> {
        let (event_loop, entry) = (LoopSlot::new(py, self), GilCell::new(None));
        let step = Bound::new(py, NativeStep { event_loop, entry })?;
        let callback = step.as_any().as_borrowed();
        let handle = Handle::new(py, self, &Call { callback, args: &[], context: None })?;
        Ok((step, handle))
    }
}
