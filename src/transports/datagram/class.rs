//! The Python type of datagram transports.

use std::ffi::CStr;

use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyString, PyType};

use super::{Datagram, methods, receiving};
use crate::ffi::gil::PySlot;
use crate::ffi::imports;
use crate::transports::core::Core;
use crate::transports::core::class::{FlowControlSlots, Transport};
use crate::transports::core::lifecycle::Endpoint;
use crate::transports::core::methods::OfReading;
use crate::transports::sockets::methods as socket_methods;

impl Transport for Datagram {
    type BaseSlots = FlowControlSlots;
    const NAME: &'static CStr = c"tokioloop._core.DatagramTransport";
    const DOC: &'static CStr = c"\
        A transport over a datagram socket, UDP or Unix; an ``asyncio.DatagramTransport``.\n\
        \n\
        As asyncio's own, it is an ``asyncio.Transport`` as well. The loop creates it. A\n\
        transport that was not closed warns with ``ResourceWarning`` when it is collected.";

    fn class_cell() -> &'static PyOnceLock<Py<PyType>> {
        static CLASS: PyOnceLock<Py<PyType>> = PyOnceLock::new();
        &CLASS
    }

    fn methods() -> Vec<ffi::PyMethodDef> {
        // Before CPython 3.11 asyncio's datagram transports do not pause.
        let reading =
            if cfg!(Py_3_11) { OfReading::<Self>::METHODS } else { methods::CANNOT_PAUSE };
        [&socket_methods::methods::<Self>(), reading, methods::METHODS].concat()
    }

    fn fields() -> Vec<ffi::PyGetSetDef> {
        [&socket_methods::fields::<Self>(), methods::FIELDS].concat()
    }

    fn bases(py: Python<'_>) -> PyResult<Vec<Bound<'_, PyType>>> {
        let datagram = py.import("asyncio")?.getattr("DatagramTransport")?;
        Ok(vec![imports::asyncio(py)?.transport.bind(py).clone(), datagram.cast_into()?])
    }

    fn decorate(class: &Bound<'_, PyType>) -> PyResult<()> {
        class.setattr("max_size", receiving::LARGEST)
    }

    fn core(&self) -> &Core {
        self
    }

    fn slots(&self) -> impl Iterator<Item = &PySlot> {
        self.socket.slots().chain([&self.address, &self.buffer])
    }

    fn abandon(&self, slf: &Bound<'_, PyAny>) -> PyResult<()> {
        self.release(slf)
    }

    fn describe<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyString>> {
        let state = self.describe_lifecycle();
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
