//! Tools that replace `asyncio.Handle._run` or its code, to time or trace callbacks, see this loop's
//! as well.
//!
//! asyncio runs each callback through that method. This loop does where it is not asyncio's own any
//! more: then everything in the ready queue gets a handle, the native steps of transports too.

use pyo3::ffi;
use pyo3::prelude::*;

use super::{Entry, LoopSlot, NativeLoop};
use crate::event_loop::handles::{Call, Handle};
use crate::ffi::finalizing;
use crate::ffi::function_state::FunctionState;
use crate::ffi::gil::GilCell;
use crate::ffi::imports;

/// What the last look found.
struct Seen {
    /// The version of asyncio's class.
    version: u32,
    method: FunctionState,
    /// Whether a tool had replaced the method or its code.
    replaced: bool,
}

static SEEN: GilCell<Option<Seen>> = GilCell::new(None);

/// Whether a tool has replaced `asyncio.Handle._run` or its code.
#[inline]
pub(super) fn is_on(py: Python<'_>) -> PyResult<bool> {
    let class = imports::asyncio(py)?.handle.as_ptr().cast::<ffi::PyTypeObject>();
    // SAFETY: a class that lives for ever. CPython gives each state of a class another version, and 0
    // until it has looked something up.
    let version = unsafe { (*class).tp_version_tag };
    let known = SEEN.with(py, |seen| {
        let seen = seen.as_ref()?;
        let same = version != 0 && version == seen.version && seen.method.is_current(py);
        same.then_some(seen.replaced)
    });
    known.map_or_else(|| look(py), Ok)
}

#[cold]
fn look(py: Python<'_>) -> PyResult<bool> {
    let class = imports::asyncio(py)?.handle.bind(py);
    let method = FunctionState::of(class.getattr(pyo3::intern!(py, "_run"))?);
    let debug_mode = imports::debug_mode(py)?.bind(py);
    let name = pyo3::intern!(py, "handles_are_instrumented");
    let replaced = debug_mode.call_method0(name)?.extract()?;
    // SAFETY: a class that lives for ever; the look-up has given it a version.
    let version = unsafe { (*class.as_ptr().cast::<ffi::PyTypeObject>()).tp_version_tag };
    let before = SEEN.with(py, |seen| seen.replace(Seen { version, method, replaced }));
    // Outside of the borrow: dropping a tool's function may run Python code.
    drop(before);
    Ok(replaced)
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
