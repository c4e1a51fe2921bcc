//! The Python type of TLS transports.

use std::ffi::CStr;

use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyString, PyType};

use super::{Tls, methods};
use crate::ffi::gil::PySlot;
use crate::ffi::imports;
use crate::ffi::memory;
use crate::transports::base::{FlowControlSlots, Transport};

impl Transport for Tls {
    type BaseSlots = FlowControlSlots;
    const NAME: &'static CStr = c"tokioloop._core.SSLTransport";
    const METHODS: &'static [&'static [ffi::PyMethodDef]] = &[methods::METHODS];
    const FIELDS: &'static [&'static [ffi::PyGetSetDef]] = &[methods::FIELDS];

    fn class_cell() -> &'static PyOnceLock<Py<PyType>> {
        static CLASS: PyOnceLock<Py<PyType>> = PyOnceLock::new();
        &CLASS
    }

    fn bases(py: Python<'_>) -> PyResult<Vec<Bound<'_, PyType>>> {
        let asyncio = imports::asyncio(py)?;
        Ok(vec![asyncio.transport.bind(py).clone(), asyncio.protocol.bind(py).clone()])
    }

    fn decorate(class: &Bound<'_, PyType>) -> PyResult<()> {
        class.setattr("_start_tls_compatible", true)?;
        let mode = class.py().import("asyncio.constants")?.getattr("_SendfileMode")?;
        class.setattr("_sendfile_compatible", mode.getattr("FALLBACK")?)
    }

    fn slots(&self) -> impl Iterator<Item = &PySlot> {
        let own = [
            &self.handshake_timeout,
            &self.shutdown_timeout,
            self.event_loop.slot(),
            &self.protocol,
            &self.get_buffer,
            &self.buffer_updated,
            &self.layer,
            &self.lower,
            &self.extra,
            &self.waiter,
            &self.timer,
            &self.context,
        ];
        let limits = [self.flow.limits.slot(), self.read_limits.slot()];
        own.into_iter().chain(limits.into_iter().flatten()).chain(self.engine.slots())
    }

    fn is_closed(&self, _py: Python<'_>) -> bool {
        self.closed.get()
    }

    fn abandon(&self, _py: Python<'_>, _slf: &Bound<'_, PyAny>) -> PyResult<()> {
        // The transport below says and does the rest on its own.
        self.closed.set(true);
        Ok(())
    }

    fn describe<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyString>> {
        let state = self.describe_state();
        // The transport below may be anybody's, and say anything.
        match self.lower.get(py).map(|lower| lower.repr()) {
            Some(Ok(lower)) => memory::text(py, "<SSLTransport{} over {}>", (state, lower)),
            _ => memory::text(py, "<SSLTransport{}>", (state,)),
        }
    }
}
