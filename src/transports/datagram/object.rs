//! The Python type of datagram transports.

use std::ffi::CStr;

use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyString, PyType};

use super::{Datagram, methods, receiving};
use crate::ffi::gil::PySlot;
use crate::ffi::imports;
use crate::transports::base::{FlowControlSlots, Transport};
use crate::transports::life::{self, Life};
use crate::transports::socket_methods::Shared;

impl Transport for Datagram {
    type BaseSlots = FlowControlSlots;
    const NAME: &'static CStr = c"tokioloop._core.DatagramTransport";
    const METHODS: &'static [&'static [ffi::PyMethodDef]] =
        &[methods::METHODS, Shared::<Self>::METHODS];
    const FIELDS: &'static [&'static [ffi::PyGetSetDef]] =
        &[Shared::<Self>::FIELDS, methods::FIELDS];

    fn class_cell() -> &'static PyOnceLock<Py<PyType>> {
        static CLASS: PyOnceLock<Py<PyType>> = PyOnceLock::new();
        &CLASS
    }

    fn bases(py: Python<'_>) -> PyResult<Vec<Bound<'_, PyType>>> {
        let datagram = py.import("asyncio")?.getattr("DatagramTransport")?;
        Ok(vec![imports::asyncio(py)?.transport.bind(py).clone(), datagram.cast_into()?])
    }

    fn decorate(class: &Bound<'_, PyType>) -> PyResult<()> {
        class.setattr("max_size", receiving::LARGEST)
    }

    fn slots(&self) -> impl Iterator<Item = &PySlot> {
        self.common.slots().chain([&self.address, &self.buffer])
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
        if !self.event_loop.is_set(py) {
            return Ok(PyString::new(
                py,
                &format!("<DatagramTransport{state} fd={}>", self.file.number()),
            ));
        }
        let reading = if self.is_reading() { "polling" } else { "idle" };
        let writing = if self.waiting.get() > 0 { "polling" } else { "idle" };
        let text = format!(
            "<DatagramTransport{state} fd={} read={reading} write=<{writing}, bufsize={}>>",
            self.file.number(),
            self.waiting_size.get(),
        );
        Ok(PyString::new(py, &text))
    }
}
