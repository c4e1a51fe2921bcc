//! How transports speak to protocols.

use std::ptr::null_mut;

use pyo3::exceptions::PyOSError;
use pyo3::prelude::*;
use pyo3::types::PyString;
use pyo3::{PyTypeInfo, ffi};

use super::feed;
use crate::event_loop::handles::{Call, Handle};
use crate::event_loop::{NativeLoop, ends_loop};
use crate::ffi::errors::made;
use crate::ffi::imports;
use crate::ffi::memory;
use crate::ffi::object;

/// How a protocol takes what was read.
#[derive(Clone, Copy)]
pub(crate) enum Delivery {
    /// `data_received(bytes)`
    Data,
    /// `get_buffer()`, `buffer_updated()`
    Buffer,
    /// Exactly asyncio's stream protocol: fed without its Python frames.
    Reader,
    /// A layer of ours, which takes the bytes from where they were received: its [`Sink`].
    Layer,
}

/// What a layer of ours does with received bytes. It need not be told in a context of its own:
/// it is called in the transport's.
///
/// Both functions may be called with a layer of that kind only.
pub(crate) struct Sink {
    /// Takes the bytes, while the scratch buffer that they lie in is lent.
    pub feed: unsafe fn(Python<'_>, &Bound<'_, PyAny>, &[u8]) -> PyResult<()>,
    /// Does what there is to do with them.
    pub process: unsafe fn(&Bound<'_, PyAny>) -> PyResult<()>,
}

impl Delivery {
    pub(crate) fn to(protocol: &Bound<'_, PyAny>) -> PyResult<Self> {
        if feed::suits(protocol)? {
            return Ok(Self::Reader);
        }
        let buffered = &imports::asyncio(protocol.py())?.buffered_protocol;
        Ok(if protocol.is_instance(buffered.bind(protocol.py()))? {
            Self::Buffer
        } else {
            Self::Data
        })
    }
}

/// Calls a method of the protocol, in the current context.
pub(crate) fn call<'py>(
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

/// The protocol's `connection_made`, as it is when its transport is made, for the loop to call. As
/// in asyncio a protocol without one, or an object that cannot be scheduled, is an error of who
/// makes the connection.
pub(crate) fn greeting<'py>(
    native: &NativeLoop,
    protocol: &Bound<'py, PyAny>,
) -> PyResult<Bound<'py, PyAny>> {
    let py = protocol.py();
    let greeting = protocol.getattr(pyo3::intern!(py, "connection_made"))?;
    // Looked at last: the attribute may be Python code, which may have closed the loop.
    native.check_closed(py)?;
    if native.is_debug(py) {
        native.bind(py).call_method1("_check_callback", (&greeting, "call_soon"))?;
    }
    Ok(greeting)
}

/// Tells who waits for a connection that it is there.
pub(crate) fn wake_waiter(waiter: &Bound<'_, PyAny>) -> PyResult<()> {
    let py = waiter.py();
    if !waiter.call_method0(pyo3::intern!(py, "cancelled"))?.is_truthy()? {
        waiter.call_method1(pyo3::intern!(py, "set_result"), (py.None(),))?;
    }
    Ok(())
}

/// asyncio's report of a callback that raised; `source` is where it was scheduled, if that is known.
#[cold]
pub(crate) fn callback_failed(
    native: &NativeLoop,
    callback: &Bound<'_, PyAny>,
    arguments: &[&Bound<'_, PyAny>],
    error: PyErr,
    source: Option<Py<PyAny>>,
) -> PyResult<()> {
    let py = callback.py();
    // The handle that asyncio would have called it through.
    let args: Vec<_> = arguments.iter().map(|argument| argument.as_borrowed()).collect();
    let call = Call { callback: callback.as_borrowed(), args: &args, context: None };
    let handle = Handle::new(py, native, &call)?;
    if let Some(source) = source {
        handle.set_source_traceback(py, source);
    }
    native.callback_failed(py, &handle, error)
}

/// The same for a method, which may be missing.
#[cold]
pub(crate) fn method_failed(
    native: &NativeLoop,
    object: &Bound<'_, PyAny>,
    name: &Bound<'_, PyString>,
    arguments: &[&Bound<'_, PyAny>],
    error: PyErr,
    source: Option<Py<PyAny>>,
) -> PyResult<()> {
    if ends_loop(object.py(), &error) {
        return Err(error);
    }
    match object.getattr(name) {
        Ok(method) => callback_failed(native, &method, arguments, error, source),
        Err(missing) if ends_loop(object.py(), &missing) => Err(missing),
        Err(_) => {
            let class = object.get_type().name()?;
            let message =
                memory::text(object.py(), "Exception in callback {}.{}()", (class, name))?;
            native.report_text(&message, error, &[("protocol", object)])
        }
    }
}

/// An error that ends a connection: the network's are only told in debug mode, others reported.
/// Gives the exception for `connection_lost`, or the error back if it ends the loop.
pub(crate) fn report_fatal(
    py: Python<'_>,
    native: Option<&NativeLoop>,
    transport: &Bound<'_, PyAny>,
    protocol: Option<&Bound<'_, PyAny>>,
    error: PyErr,
    message: &str,
) -> PyResult<Py<PyAny>> {
    let error = made(py, error);
    if ends_loop(py, &error) {
        return Err(error);
    }
    let value = error.clone_ref(py).into_value(py).into_any();
    let Some(native) = native else {
        return Ok(value);
    };
    if error.is_instance(py, &PyOSError::type_object(py)) {
        if native.is_debug(py) {
            let helpers = imports::helpers(py)?.bind(py);
            helpers.call_method1("log_fatal", (transport, message, &value))?;
        }
    } else {
        let none = py.None().into_bound(py);
        let context = [("transport", transport), ("protocol", protocol.unwrap_or(&none))];
        native.report(py, message, error, &context)?;
    }
    Ok(value)
}

/// Tells asyncio's logger, in debug mode.
pub(crate) fn log_in_debug(
    native: &NativeLoop,
    format: &str,
    slf: &Bound<'_, PyAny>,
) -> PyResult<()> {
    let py = slf.py();
    if native.is_debug(py) {
        py.import("asyncio.log")?.getattr("logger")?.call_method1("debug", (format, slf))?;
    }
    Ok(())
}
