//! The objects that a loop has of its port.

use std::sync::Arc;

use pyo3::prelude::*;
use pyo3::{PyTraverseError, PyVisit};

use super::Port;
use super::wake::register;
use crate::python::finalizing;
use crate::python::gil::GilFlag;
use crate::running::running_loop;

/// What the loop calls when letters have arrived. The port closes with its reader.
#[pyclass(frozen, module = "tokioloop_bridge")]
pub(super) struct Reader {
    pub(super) port: Arc<Port>,
    kind: Kind,
    /// The port closes with this reader, which shows the port's objects to the collector. No other reader
    /// of the port does so at the same time.
    owns: GilFlag<bool>,
}

enum Kind {
    /// In the loop's selector, for as long as the loop is open.
    Registered,
    /// In the loop's queue, for one call. A loop that is closed drops the call.
    Once,
}

impl Reader {
    pub(super) fn registered(port: &Arc<Port>) -> Self {
        Self { port: Arc::clone(port), kind: Kind::Registered, owns: GilFlag::new(true) }
    }

    pub(super) fn once(port: &Arc<Port>) -> Self {
        Self { port: Arc::clone(port), kind: Kind::Once, owns: GilFlag::new(true) }
    }

    /// The port outlives this reader.
    pub(super) fn disown(&self, py: Python<'_>) {
        self.owns.set(py, false);
    }
}

#[pymethods]
impl Reader {
    fn __call__(&self, py: Python<'_>) -> PyResult<()> {
        finalizing::guard();
        if let Kind::Once = self.kind {
            self.disown(py);
        }
        // In a forked child the bytes belong to the parent, which reads from the same socket.
        if self.port.is_inherited() { Ok(()) } else { self.port.deliver(py) }
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        // SAFETY: the collector holds the GIL.
        if !self.owns.get(unsafe { Python::assume_attached() }) {
            return Ok(());
        }
        let Some(shelf) = self.port.shelf.peek(&visit) else { return Ok(()) };
        shelf.objects().try_for_each(|kept| {
            // Locals are not visited: tasks of tokio's have them, too.
            visit.call(&kept.object)
        })
    }

    fn __clear__(&self, py: Python<'_>) {
        finalizing::guard();
        if self.owns.get(py) {
            self.port.close(py);
        }
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        finalizing::guard();
        // SAFETY: readers are Python objects, or about to be: they are dropped with the GIL held.
        let py = unsafe { Python::assume_attached() };
        if self.owns.get(py) {
            self.port.close(py);
        }
    }
}

/// Registers a reader in the thread of its loop. A loop that is closed before drops both.
#[pyclass(frozen, module = "tokioloop_bridge")]
pub(super) struct Registrar {
    reader: Py<Reader>,
}

impl Registrar {
    pub(super) fn new(reader: Bound<'_, Reader>) -> Self {
        Self { reader: reader.unbind() }
    }
}

#[pymethods]
impl Registrar {
    fn __call__(&self, py: Python<'_>) -> PyResult<()> {
        finalizing::guard();
        let Some(event_loop) = running_loop(py)? else { return Ok(()) };
        register(&event_loop, self.reader.bind(py))
    }
}
