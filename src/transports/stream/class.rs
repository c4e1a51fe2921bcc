//! The Python type of stream transports.

use std::ffi::CStr;

use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyString, PyType};

use super::{Stream, methods};
use crate::ffi::gil::PySlot;
use crate::transports::core::Core;
use crate::transports::core::class::{FlowControlSlots, Transport};
use crate::transports::core::lifecycle::Endpoint;
use crate::transports::core::methods::OfReading;
use crate::transports::sockets::methods as socket_methods;

impl Transport for Stream {
    type BaseSlots = FlowControlSlots;
    const NAME: &'static CStr = c"tokioloop._core.SocketTransport";
    const DOC: &'static CStr = c"\
        A transport over a stream socket, TCP or Unix; an ``asyncio.Transport``.\n\
        \n\
        The loop creates it. The data written in one iteration is sent at its end, in one\n\
        system call. A transport that was not closed warns with ``ResourceWarning`` when it\n\
        is collected.";

    fn class_cell() -> &'static PyOnceLock<Py<PyType>> {
        static CLASS: PyOnceLock<Py<PyType>> = PyOnceLock::new();
        &CLASS
    }

    fn methods() -> Vec<ffi::PyMethodDef> {
        [&socket_methods::methods::<Self>(), OfReading::<Self>::METHODS, methods::METHODS].concat()
    }

    fn fields() -> Vec<ffi::PyGetSetDef> {
        [&socket_methods::fields::<Self>(), methods::FIELDS].concat()
    }

    fn decorate(class: &Bound<'_, PyType>) -> PyResult<()> {
        class.setattr("_start_tls_compatible", true)?;
        let mode = class.py().import("asyncio.constants")?.getattr("_SendfileMode")?;
        class.setattr("_sendfile_compatible", mode.getattr("TRY_NATIVE")?)
    }

    fn core(&self) -> &Core {
        self
    }

    fn slots(&self) -> impl Iterator<Item = &PySlot> {
        self.socket.slots().chain([&self.server])
    }

    fn abandon(&self, slf: &Bound<'_, PyAny>) -> PyResult<()> {
        self.release(slf)
    }

    fn describe<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyString>> {
        let state = self.describe_lifecycle();
        let reading = if self.is_reading() && !self.ended.get() { "polling" } else { "idle" };
        let writing = if self.blocked.get() { "polling" } else { "idle" };
        let text = format!(
            "<SocketTransport{state} fd={} read={reading} write=<{writing}, bufsize={}>>",
            self.file.number(),
            self.buffer.borrow().size(),
        );
        Ok(PyString::new(py, &text))
    }
}
