//! The Python type of stream transports.

use std::ffi::CStr;

use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyString, PyType};

use super::{Stream, methods};
use crate::ffi::gil::PySlot;
use crate::ffi::imports;
use crate::transports::base::{FlowControlSlots, Transport};
use crate::transports::life::{self, Life};
use crate::transports::socket_methods::Shared;

impl Transport for Stream {
    type BaseSlots = FlowControlSlots;
    const NAME: &'static CStr = c"tokioloop._core.SocketTransport";
    const METHODS: &'static [&'static [ffi::PyMethodDef]] =
        &[Shared::<Self>::METHODS, methods::METHODS];
    const FIELDS: &'static [&'static [ffi::PyGetSetDef]] =
        &[Shared::<Self>::FIELDS, methods::FIELDS];

    fn class_cell() -> &'static PyOnceLock<Py<PyType>> {
        static CLASS: PyOnceLock<Py<PyType>> = PyOnceLock::new();
        &CLASS
    }

    fn bases(py: Python<'_>) -> PyResult<Vec<Bound<'_, PyType>>> {
        Ok(vec![imports::asyncio(py)?.transport.bind(py).clone()])
    }

    fn decorate(class: &Bound<'_, PyType>) -> PyResult<()> {
        class.setattr("_start_tls_compatible", true)?;
        let mode = class.py().import("asyncio.constants")?.getattr("_SendfileMode")?;
        class.setattr("_sendfile_compatible", mode.getattr("TRY_NATIVE")?)
    }

    fn slots(&self) -> impl Iterator<Item = &PySlot> {
        self.common.slots().chain([&self.server])
    }

    fn is_closed(&self, _py: Python<'_>) -> bool {
        self.life.get() == Life::Closed
    }

    fn abandon(&self, _py: Python<'_>, slf: &Bound<'_, PyAny>) -> PyResult<()> {
        life::release(self, slf)
    }

    fn describe<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyString>> {
        let state = match self.life.get() {
            Life::Closed => " closed",
            Life::Closing | Life::Losing => " closing",
            Life::New | Life::Open => "",
        };
        let reading = if self.is_reading() && !self.ended.get() { "polling" } else { "idle" };
        let writing = if self.blocked.get() { "polling" } else { "idle" };
        let text = format!(
            "<SocketTransport{state} fd={} read={reading} write=<{writing}, bufsize={}>>",
            self.file.number(),
            self.outgoing.borrow().size(),
        );
        Ok(PyString::new(py, &text))
    }
}
