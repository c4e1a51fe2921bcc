//! How transports call protocols, and how protocols take what was received.

use std::ptr::null_mut;

use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::PyString;

use super::state::{Core, Sink};
use super::{report, stream_reader};
use crate::event_loop::NativeLoop;
use crate::ffi::imports;
use crate::ffi::object;

/// How a protocol takes what was received.
#[derive(Clone, Copy)]
pub(crate) enum Delivery {
    /// `data_received(bytes)`
    Data,
    /// `get_buffer()`, `buffer_updated()`
    Buffer,
    /// Exactly asyncio's stream protocol: its stream reader takes the bytes, without Python frames.
    Reader,
    /// A transport of this module that is the protocol of another one: it takes the bytes from where
    /// they were received, through its [`Sink`].
    Layer,
}

impl Delivery {
    pub(crate) fn to(protocol: &Bound<'_, PyAny>) -> PyResult<Self> {
        if stream_reader::can_feed(protocol)? {
            return Ok(Self::Reader);
        }
        Ok(if is_buffered(protocol)? { Self::Buffer } else { Self::Data })
    }
}

/// Whether a protocol is an `asyncio.BufferedProtocol`.
pub(crate) fn is_buffered(protocol: &Bound<'_, PyAny>) -> PyResult<bool> {
    let class = &imports::asyncio(protocol.py())?.buffered_protocol;
    protocol.is_instance(class.bind(protocol.py()))
}

/// Calls a method of the protocol, in the current context.
fn call<'py>(
    py: Python<'py>,
    protocol: &Bound<'py, PyAny>,
    name: &Bound<'py, PyString>,
    arguments: &[&Bound<'py, PyAny>],
) -> PyResult<Bound<'py, PyAny>> {
    /// The protocol itself, two arguments, and the slot in front that vectorcall borrows.
    const ROOM: usize = 4;
    assert!(arguments.len() + 2 <= ROOM, "no method of a protocol takes that many");
    let mut args = [null_mut(); ROOM];
    args[1] = protocol.as_ptr();
    for (slot, argument) in args[2..].iter_mut().zip(arguments) {
        *slot = argument.as_ptr();
    }
    // SAFETY: live objects; the slot before the arguments is ours to lend.
    unsafe {
        let result = ffi::PyObject_VectorcallMethod(
            name.as_ptr(),
            args.as_ptr().add(1),
            (1 + arguments.len()) | ffi::PY_VECTORCALL_ARGUMENTS_OFFSET,
            null_mut(),
        );
        object::owned(py, result)
    }
}

/// The protocol's `connection_made` at the moment when its transport is made, for the loop to call.
/// As in asyncio a protocol without one, or an object that cannot be scheduled, is an error of the
/// code that makes the connection.
pub(crate) fn connection_made<'py>(
    native: &NativeLoop,
    protocol: &Bound<'py, PyAny>,
) -> PyResult<Bound<'py, PyAny>> {
    let py = protocol.py();
    let method = protocol.getattr(pyo3::intern!(py, "connection_made"))?;
    // Checked last: the attribute may be Python code, which may have closed the loop.
    native.check_closed(py)?;
    if native.is_debug(py) {
        native.bind(py).call_method1("_check_callback", (&method, "call_soon"))?;
    }
    Ok(method)
}

impl Core {
    pub(crate) fn sink(&self) -> Option<&'static Sink> {
        self.rare.get()?.sink.get()
    }

    pub(crate) fn set_sink(&self, sink: &'static Sink) {
        self.rare().sink.set(Some(sink));
    }

    /// Calls a method of the protocol in the transport's context.
    pub(crate) fn call_protocol<'py>(
        &self,
        native: &NativeLoop,
        protocol: &Bound<'py, PyAny>,
        name: &Bound<'py, PyString>,
        arguments: &[&Bound<'py, PyAny>],
    ) -> PyResult<Bound<'py, PyAny>> {
        let py = protocol.py();
        self.context.run(py, native.contexts(), || call(py, protocol, name, arguments))
    }

    /// The same for a method that the loop calls: it reports what the method raises.
    pub(crate) fn notify_protocol<'py>(
        &self,
        native: &NativeLoop,
        protocol: &Bound<'py, PyAny>,
        name: &Bound<'py, PyString>,
        arguments: &[&Bound<'py, PyAny>],
    ) -> PyResult<()> {
        match self.call_protocol(native, protocol, name, arguments) {
            Ok(_) => Ok(()),
            Err(error) => {
                let source = self.source(protocol.py());
                report::method_failed(native, protocol, name, arguments, error, source)
            }
        }
    }
}
