//! Attributes that asyncio's own code reads and sets on a loop, and the steps of `run_forever` and
//! `close` that the Python side calls.

use pyo3::exceptions::PyMemoryError;
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::PyList;

use crate::event_loop::NativeLoop;
use crate::event_loop::queue::Handle;
use crate::ffi::{finalizing, memory, object, trampoline};

#[pymethods]
impl NativeLoop {
    #[getter(_closed)]
    fn get_closed(&self, py: Python<'_>) -> bool {
        self.is_closed(py)
    }

    #[setter(_closed)]
    fn set_closed(&self, py: Python<'_>, closed: bool) {
        if self.is_made(py) {
            self.mark_closed(py, closed);
        }
    }

    #[getter(_debug)]
    fn get_debug_flag(&self, py: Python<'_>) -> bool {
        self.state.debug.get(py)
    }

    #[setter(_debug)]
    fn set_debug_flag(&self, debug: &Bound<'_, PyAny>) -> PyResult<()> {
        finalizing::guard();
        self.state.debug.set(debug.py(), debug.is_truthy()?);
        Ok(())
    }

    #[getter(_stopping)]
    fn get_stopping(&self, py: Python<'_>) -> bool {
        self.state.stopping.get(py)
    }

    #[setter(_stopping)]
    fn set_stopping(&self, py: Python<'_>, stopping: bool) {
        self.state.stopping.set(py, stopping);
    }

    #[getter(_thread_id)]
    fn get_thread_id<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        match self.running_thread(py) {
            // SAFETY: the GIL is held; a new reference, or null with an exception set.
            Some(id) => unsafe { object::owned(py, ffi::PyLong_FromUnsignedLongLong(id)) },
            None => Ok(py.None().into_bound(py)),
        }
    }

    #[setter(_thread_id)]
    fn set_thread_id(&self, py: Python<'_>, id: Option<u64>) {
        self.state.thread.set(py, id.unwrap_or(0));
    }

    /// The handles in the ready queue.
    #[getter(_ready)]
    fn get_ready<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyList>> {
        let (py, this) = (slf.py(), Self::entered(slf));
        if this.is_closed(py) {
            // asyncio's `close()` clears it; what is in it yet `_dispose` drops, without a list.
            return list_of(py, &[]);
        }
        // Made outside of the borrow: to allocate may run the garbage collector, and so anything.
        // What comes into the queue meanwhile may be left out.
        let missing = this.ready.with(py, |ready| ready.without_handle());
        let mut spare = room_for(missing)?;
        for _ in 0..missing {
            spare.push(Handle::blank(py, this)?);
        }
        let mut found = room_for(this.ready.with(py, |ready| ready.len()))?;
        this.ready.with(py, |ready| ready.handles(py, &spare, &mut found));
        list_of(py, &found)
    }

    /// asyncio's constructor assigns it; the queue stays the core's.
    #[setter(_ready)]
    fn set_ready(&self, _queue: &Bound<'_, PyAny>) {}

    /// The timers that have not fired.
    #[getter(_scheduled)]
    fn get_scheduled<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyList>> {
        finalizing::guard();
        if self.is_closed(py) {
            return list_of(py, &[]);
        }
        let mut found = room_for(self.timers.with(py, |timers| timers.len()))?;
        self.timers.with(py, |timers| {
            found.extend(timers.handles().map(|handle| handle.clone_ref(py)));
        });
        list_of(py, &found)
    }

    /// See `set_ready`.
    #[setter(_scheduled)]
    fn set_scheduled(&self, _heap: &Bound<'_, PyAny>) {}

    /// One iteration, without the frame that `run_forever` sets around it.
    fn _run_once(slf: &Bound<'_, Self>) -> PyResult<()> {
        let this = Self::entered(slf);
        trampoline::without_panics(slf.py(), || {
            this.check_made(slf.py())?;
            this.run_once(slf.py())
        })
    }

    /// Runs until `stop()`; the Python `run_forever` prepares and cleans up. Each iteration calls
    /// `run_once`, if there is one.
    #[pyo3(signature = (run_once = None))]
    fn _run(slf: &Bound<'_, Self>, run_once: Option<&Bound<'_, PyAny>>) -> PyResult<()> {
        let this = Self::entered(slf);
        trampoline::without_panics(slf.py(), || {
            this.check_made(slf.py())?;
            this.run(slf.py(), run_once)
        })
    }

    /// Releases everything, once the loop is closed; called by `close()`.
    fn _dispose(slf: &Bound<'_, Self>) {
        let this = Self::entered(slf);
        if this.is_closed(slf.py()) && this.is_made(slf.py()) {
            this.release_all(slf.py());
        }
    }

    /// Wakes the loop if it sleeps.
    fn _write_to_self(&self, py: Python<'_>) {
        self.wake(py);
    }

    fn __setattr__(
        slf: &Bound<'_, Self>,
        name: Bound<'_, PyAny>,
        value: Bound<'_, PyAny>,
    ) -> PyResult<()> {
        Self::entered(slf).set_attribute(&name, Some(&value))
    }

    fn __delattr__(slf: &Bound<'_, Self>, name: Bound<'_, PyAny>) -> PyResult<()> {
        Self::entered(slf).set_attribute(&name, None)
    }
}

impl NativeLoop {
    /// What `__setattr__` and `__delattr__` of the loop do: CPython's own, and a note of the name.
    fn set_attribute(
        &self,
        name: &Bound<'_, PyAny>,
        value: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<()> {
        let py = name.py();
        let object = value.map_or(std::ptr::null_mut(), Bound::as_ptr);
        // SAFETY: generic attribute setting on a live object; a null value deletes.
        if unsafe { ffi::PyObject_GenericSetAttr(self.object(), name.as_ptr(), object) } != 0 {
            return Err(PyErr::fetch(py));
        }
        self.overrides.attribute_changed(name, value);
        Ok(())
    }
}

/// An empty list with room for `count` handles.
fn room_for(count: usize) -> PyResult<Vec<Handle>> {
    let mut room = Vec::new();
    room.try_reserve_exact(count).map_err(|_| PyMemoryError::new_err(()))?;
    Ok(room)
}

fn list_of<'py>(py: Python<'py>, handles: &[Handle]) -> PyResult<Bound<'py, PyList>> {
    memory::list(py, handles.iter().map(|handle| handle.bind(py).clone()))
}
