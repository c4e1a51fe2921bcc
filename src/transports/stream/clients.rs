//! The connections of a server.
//!
//! From CPython 3.13 on a server keeps its transports in a `WeakSet`: a weak reference and a place
//! in a set for each, over a hundred bytes. But the transports know their server, and the loop knows
//! the transports. `Clients` takes the set's place: it counts them, and finds them in the loop's table.

use pyo3::exceptions::PyRuntimeError;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyList, PySet, PyString};
use pyo3::{PyTraverseError, PyVisit};

use super::Stream;
use crate::event_loop::NativeLoop;
use crate::ffi::finalizing;
use crate::ffi::gil::{GilFlag, PySlot};
use crate::ffi::imports;
use crate::ffi::object::Object;
use crate::transports::core::class;

/// The connections of an ``asyncio.Server``, in the place of its ``_clients``.
#[pyclass(frozen, module = "tokioloop._core")]
pub struct Clients {
    event_loop: PySlot,
    /// Borrowed, to be compared: it holds us, and transports hold it.
    server: GilFlag<Object>,
    /// Of our own transports.
    count: GilFlag<usize>,
    /// A `WeakSet` of transports of other kinds.
    others: PySlot,
}

impl Drop for Clients {
    fn drop(&mut self) {
        // Before the fields, whose destructors may run Python code.
        finalizing::guard();
    }
}

#[pymethods]
impl Clients {
    #[new]
    fn new(event_loop: Bound<'_, NativeLoop>, server: &Bound<'_, PyAny>) -> PyResult<Self> {
        finalizing::guard();
        let others = server.py().import("weakref")?.getattr("WeakSet")?.call0()?;
        Ok(Self {
            event_loop: PySlot::new(event_loop.into_any().unbind()),
            server: GilFlag::new(server.as_ptr()),
            count: GilFlag::new(0),
            others: PySlot::new(others.unbind()),
        })
    }

    /// Add the transport of a new connection.
    fn add(&self, transport: &Bound<'_, PyAny>) -> PyResult<()> {
        finalizing::guard();
        if self.counts(transport)? {
            let py = transport.py();
            self.count.set(py, self.count.get(py) + 1);
            return Ok(());
        }
        self.others(transport.py())?.call_method1(intern!(transport.py(), "add"), (transport,))?;
        Ok(())
    }

    /// Remove the transport of a lost connection.
    fn discard(&self, transport: &Bound<'_, PyAny>) -> PyResult<()> {
        finalizing::guard();
        if self.counts(transport)? {
            let py = transport.py();
            self.count.set(py, self.count.get(py).saturating_sub(1));
            return Ok(());
        }
        let py = transport.py();
        self.others(py)?.call_method1(intern!(py, "discard"), (transport,))?;
        Ok(())
    }

    fn __len__(&self, py: Python<'_>) -> PyResult<usize> {
        finalizing::guard();
        Ok(self.count.get(py) + self.others(py)?.len()?)
    }

    /// Return the transports of all connections.
    fn copy<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PySet>> {
        finalizing::guard();
        let found = PySet::empty(py)?;
        if let Some(event_loop) = self.event_loop.get(py) {
            // SAFETY: always a loop; `event_loop` keeps it alive.
            let native = unsafe { NativeLoop::of(event_loop.as_ptr()) };
            for object in native.sources().with(py, |sources| sources.everybody(py)) {
                let object = object.into_bound(py);
                if self.serves(&object)? {
                    found.add(object)?;
                }
            }
        }
        for other in self.others(py)?.try_iter()? {
            found.add(other?)?;
        }
        Ok(found)
    }

    fn __iter__<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        finalizing::guard();
        Ok(self.copy(py)?.try_iter()?.into_any())
    }

    fn __contains__(&self, transport: &Bound<'_, PyAny>) -> PyResult<bool> {
        finalizing::guard();
        if self.serves(transport)? {
            return Ok(true);
        }
        self.others(transport.py())?.contains(transport)
    }

    fn __repr__<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyString>> {
        finalizing::guard();
        PyList::new(py, self.copy(py)?)?.repr()
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        self.event_loop.traverse(&visit)?;
        self.others.traverse(&visit)
    }

    fn __clear__(slf: &Bound<'_, Self>) {
        finalizing::guard();
        slf.get().event_loop.set(slf.py(), None);
    }
}

impl Clients {
    /// Whether a transport is one that is only counted.
    fn counts(&self, transport: &Bound<'_, PyAny>) -> PyResult<bool> {
        class::is::<Stream>(transport)
    }

    /// Whether an object is one of our transports, and belongs to the server.
    fn serves(&self, object: &Bound<'_, PyAny>) -> PyResult<bool> {
        let server = self.server.get(object.py());
        Ok(class::state_of::<Stream>(object)?
            .is_some_and(|it| it.server.as_ptr(object.py()) == server))
    }

    fn others<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        self.others.get(py).ok_or_else(|| PyRuntimeError::new_err("the server is being freed"))
    }
}

/// The clients of a server that counts them, if its class and `_clients` are unchanged.
fn counted<'py>(server: &Bound<'py, PyAny>) -> PyResult<Option<Bound<'py, Clients>>> {
    let py = server.py();
    if !server.get_type().is(&imports::asyncio(py)?.server) {
        return Ok(None);
    }
    let Some(clients) = server.getattr_opt(intern!(py, "_clients"))? else { return Ok(None) };
    Ok(clients.cast_into::<Clients>().ok())
}

/// Adds a new connection to its server.
pub(super) fn attach(server: &Bound<'_, PyAny>, transport: &Bound<'_, PyAny>) -> PyResult<()> {
    let py = server.py();
    // A closed server takes no more connections, and raises asyncio's error.
    if let Some(clients) = counted(server)?
        && !server.getattr(intern!(py, "_sockets"))?.is_none()
    {
        return clients.get().add(transport);
    }
    imports::servers(py)?.bind(py).call_method1("attach", (server, transport)).map(drop)
}

/// Removes a lost connection from its server.
pub(super) fn detach(server: &Bound<'_, PyAny>, transport: &Bound<'_, PyAny>) -> PyResult<()> {
    let py = server.py();
    // The last one may complete a `wait_closed()`: removed in asyncio's way.
    if let Some(clients) = counted(server)?
        && clients.get().count.get(py) > 1
    {
        return clients.get().discard(transport);
    }
    imports::servers(py)?.bind(py).call_method1("detach", (server, transport)).map(drop)
}
