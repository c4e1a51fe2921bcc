//! The Python type of TLS transports.

use std::ffi::CStr;

use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyString, PyType};

use super::{Tls, methods, writing};
use crate::ffi::gil::PySlot;
use crate::ffi::imports;
use crate::ffi::memory;
use crate::transports::core::Core;
use crate::transports::core::Lifecycle;
use crate::transports::core::class::{FlowControlSlots, Transport};
use crate::transports::core::methods::{
    OfExtraInfo, OfForceClose, OfReading, OfTransports, OfWriting,
};

impl Transport for Tls {
    type BaseSlots = FlowControlSlots;
    const NAME: &'static CStr = c"tokioloop._core.SSLTransport";
    const DOC: &'static CStr = c"\
        TLS between a protocol and the transport below.\n\
        \n\
        It is the ``asyncio.Transport`` of the former and the ``asyncio.Protocol`` of the\n\
        latter. The loop creates it, for ``ssl=`` and in ``start_tls``.";

    fn class_cell() -> &'static PyOnceLock<Py<PyType>> {
        static CLASS: PyOnceLock<Py<PyType>> = PyOnceLock::new();
        &CLASS
    }

    fn methods() -> Vec<ffi::PyMethodDef> {
        [
            OfTransports::<Self>::METHODS,
            OfForceClose::<Self>::ABORT,
            OfForceClose::<Self>::FORCE_CLOSE,
            OfReading::<Self>::METHODS,
            OfWriting::<Self, { writing::HIGH_WATER }>::METHODS,
            OfExtraInfo::<Self>::METHODS,
            methods::METHODS,
        ]
        .concat()
    }

    fn fields() -> Vec<ffi::PyGetSetDef> {
        [
            OfTransports::<Self>::FIELDS,
            OfReading::<Self>::APP_READING_PAUSED,
            OfWriting::<Self, { writing::HIGH_WATER }>::PAUSED,
            methods::FIELDS,
        ]
        .concat()
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

    fn core(&self) -> &Core {
        self
    }

    fn slots(&self) -> impl Iterator<Item = &PySlot> {
        let own = [
            &self.handshake_timeout,
            &self.shutdown_timeout,
            &self.get_buffer,
            &self.buffer_updated,
            &self.layer,
            &self.lower,
            &self.timer,
        ];
        let limits = [self.write_limits.slot(), self.read_limits.slot()];
        let rest = limits.into_iter().flatten().chain(self.engine.slots());
        self.core.slots().chain(own).chain(rest)
    }

    fn is_closed(&self, _py: Python<'_>) -> bool {
        self.is_closing()
    }

    fn abandon(&self, _slf: &Bound<'_, PyAny>) -> PyResult<()> {
        // The transport below warns and closes on its own.
        self.advance(Lifecycle::Closing);
        Ok(())
    }

    fn describe<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyString>> {
        let state = self.describe_state();
        // The transport below may be of any class, with any `repr`.
        match self.lower.get(py).map(|lower| lower.repr()) {
            Some(Ok(lower)) => memory::text(py, "<SSLTransport{} over {}>", (state, lower)),
            _ => memory::text(py, "<SSLTransport{}>", (state,)),
        }
    }
}
