//! What Python calls on a TLS transport: the application from above, a transport from below.

use std::ffi::CStr;

use pyo3::exceptions::PyNotImplementedError;
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::{PyBool, PyDict};

use super::{State, Tls, writing};
use crate::ffi::definitions::{fast_method, getter, plain_method};
use crate::net::Buffer;
use crate::transports::core::Lifecycle;
use crate::transports::core::context::FlushTrigger;
use crate::transports::core::extra_info::ExtraInfo;
use crate::transports::core::flow_control::{BufferLimits, Reading, Writing};
use crate::transports::core::methods::{TransportMethods, WRITELINES_DOC};
use crate::transports::core::report::ForceClose;
use crate::transports::core::trampolines::{
    transport_binary, transport_field, transport_plain, transport_unary,
};

// --- from above: asyncio.Transport -------------------------------------------------------------

transport_unary!(write, Tls, "data", |_py, slf, tls, data| tls.write(slf, data));
transport_unary!(writelines, Tls, "list_of_data", |_py, slf, tls, lines| {
    tls.write_lines(slf, lines)
});
transport_plain!(write_eof, Tls, |_py, _slf, _tls| PyResult::<()>::Err(
    PyNotImplementedError::new_err(())
));
transport_plain!(can_write_eof, Tls, |_py, _slf, _tls| PyResult::Ok(false));
transport_plain!(get_read_buffer_size, Tls, |py, _slf, tls| PyResult::Ok(tls.engine.waiting(py)));
transport_plain!(get_read_buffer_limits, Tls, |py, _slf, tls| { tls.read_limits.pair(py) });
transport_binary!(set_read_buffer_limits, Tls, ["high", "low"], 0, |py, _slf, tls, high, low| {
    tls.read_limits.set(py, high, low)?;
    tls.control_lower_reading(py)
});
// --- from below: asyncio.Protocol --------------------------------------------------------------

transport_unary!(connection_made, Tls, "transport", |_py, slf, tls, lower| {
    tls.connected(slf, lower)
});
transport_unary!(connection_lost, Tls, "exc", |_py, slf, tls, error| tls.lost(slf, error));
transport_unary!(data_received, Tls, "data", |py, slf, tls, data| {
    let buffer = Buffer::readable(data)?;
    tls.engine.feed(py, buffer.as_slice())?;
    drop(buffer);
    tls.process(slf)
});
transport_plain!(eof_received, Tls, |_py, slf, tls| tls.lower_ended(slf));
transport_plain!(pause_writing, Tls, |_py, _slf, tls| {
    tls.writing_paused.set(true);
    PyResult::Ok(())
});
transport_plain!(resume_writing, Tls, |_py, slf, tls| tls.lower_resumed(slf));

// --- from timers and callbacks of its own ----------------------------------------------------------

transport_plain!(read_on, Tls, |_py, slf, tls| tls.read_on(slf));
transport_plain!(check_handshake_timeout, Tls, |_py, slf, tls| tls.check_handshake_timeout(slf));
transport_plain!(check_shutdown_timeout, Tls, |py, _slf, tls| tls.check_shutdown_timeout(py));

transport_field!(get_layer, Tls, |_py, slf, _tls| PyResult::Ok(slf.clone()));

// Attributes of asyncio's `SSLProtocol`, which libraries find as `_ssl_protocol`.
transport_field!(get_app_protocol, Tls, |py, _slf, tls| PyResult::Ok(tls.protocol.get(py)));
transport_field!(get_app_transport, Tls, |py, slf, tls| {
    // As in asyncio `None` once the connection is lost.
    PyResult::Ok(tls.protocol.is_set(py).then(|| slf.clone()))
});
transport_field!(get_lower, Tls, |py, _slf, tls| PyResult::Ok(tls.lower.get(py)));
transport_field!(get_ssl_context, Tls, |py, _slf, tls| match tls.extra(py) {
    Some(extra) => extra.cast::<PyDict>()?.get_item("sslcontext"),
    None => PyResult::Ok(None),
});
transport_field!(get_ssl_object, Tls, |py, _slf, tls| PyResult::Ok(tls.engine.object.get(py)));

// For tests: whether records are read and written without the methods of `ssl`.
transport_field!(get_calls_openssl, Tls, |py, _slf, tls| {
    PyResult::Ok(PyBool::new(py, tls.engine.is_direct()).to_owned().into_any())
});

pub(super) const METHODS: &[ffi::PyMethodDef] = &[
    fast_method(
        c"write",
        write,
        c"write($self, data)\n--\n\n\
        Encrypt and send ``data``, a bytes-like object. As ``asyncio.WriteTransport.write``.\n\
        \n\
        It does not block. The transport buffers what the transport below does not accept;\n\
        from the high-water mark on it calls ``pause_writing()`` of the protocol. Data\n\
        written after the transport was closed is dropped.\n\
        \n\
        Raises ``TypeError`` if ``data`` is not bytes-like.",
    ),
    fast_method(c"writelines", writelines, WRITELINES_DOC),
    plain_method(
        c"write_eof",
        write_eof,
        c"write_eof($self, /)\n--\n\n\
        Raise ``NotImplementedError``: TLS cannot close one side only.\n\
        \n\
        As ``asyncio.WriteTransport.write_eof`` of asyncio's TLS.",
    ),
    plain_method(
        c"can_write_eof",
        can_write_eof,
        c"can_write_eof($self, /)\n--\n\n\
        Return False. As ``asyncio.WriteTransport.can_write_eof``.",
    ),
    plain_method(
        c"get_read_buffer_size",
        get_read_buffer_size,
        c"get_read_buffer_size($self, /)\n--\n\n\
        Return the bytes of ciphertext that wait to be decrypted while reading is paused.\n\
        \n\
        As ``get_read_buffer_size`` of asyncio's TLS.",
    ),
    plain_method(
        c"get_read_buffer_limits",
        get_read_buffer_limits,
        c"get_read_buffer_limits($self, /)\n--\n\n\
        Return the marks ``(low, high)`` of the read buffer in bytes.\n\
        \n\
        They are 64 KiB and 256 KiB at first. As ``get_read_buffer_limits`` of asyncio's\n\
        TLS.",
    ),
    fast_method(
        c"set_read_buffer_limits",
        set_read_buffer_limits,
        c"set_read_buffer_limits($self, /, high=None, low=None)\n--\n\n\
        Set the marks of the read buffer, in bytes. The defaults are asyncio's.\n\
        \n\
        From ``high`` on the transport below is paused, at ``low`` and below resumed. As\n\
        ``set_read_buffer_limits`` of asyncio's TLS.\n\
        \n\
        Raises ``ValueError`` unless ``high >= low >= 0``.",
    ),
    fast_method(
        c"connection_made",
        connection_made,
        c"connection_made($self, transport)\n--\n\n\
        Start the handshake over ``transport``. As ``asyncio.BaseProtocol.connection_made``.",
    ),
    fast_method(
        c"connection_lost",
        connection_lost,
        c"connection_lost($self, exc)\n--\n\n\
        Report the end of the transport below. As ``asyncio.BaseProtocol.connection_lost``.",
    ),
    fast_method(
        c"data_received",
        data_received,
        c"data_received($self, data)\n--\n\n\
        Decrypt ``data`` for the protocol. As ``asyncio.Protocol.data_received``.",
    ),
    plain_method(
        c"eof_received",
        eof_received,
        c"eof_received($self, /)\n--\n\n\
        End the connection without a closing alert. As ``asyncio.Protocol.eof_received``.",
    ),
    plain_method(
        c"pause_writing",
        pause_writing,
        c"pause_writing($self, /)\n--\n\n\
        Send nothing to the transport below. As ``asyncio.BaseProtocol.pause_writing``.",
    ),
    plain_method(
        c"resume_writing",
        resume_writing,
        c"resume_writing($self, /)\n--\n\n\
        Send to the transport below again. As ``asyncio.BaseProtocol.resume_writing``.",
    ),
    plain_method(c"_read_on", read_on, c"_read_on($self, /)\n--\n\n"),
    plain_method(
        c"_check_handshake_timeout",
        check_handshake_timeout,
        c"_check_handshake_timeout($self, /)\n--\n\n",
    ),
    plain_method(
        c"_check_shutdown_timeout",
        check_shutdown_timeout,
        c"_check_shutdown_timeout($self, /)\n--\n\n",
    ),
];

pub(super) const FIELDS: &[ffi::PyGetSetDef] = &[
    getter(c"_ssl_protocol", get_layer),
    getter(c"_app_protocol", get_app_protocol),
    getter(c"_app_transport", get_app_transport),
    getter(c"_transport", get_lower),
    getter(c"_sslcontext", get_ssl_context),
    getter(c"_sslobj", get_ssl_object),
    getter(c"_calls_openssl", get_calls_openssl),
];

impl TransportMethods for Tls {
    const CLOSE_DOC: &'static CStr = c"close($self, /)\n--\n\n\
    Send what is buffered and a closing alert; close after the peer has sent its own.\n\
    \n\
    As ``asyncio.BaseTransport.close``.";

    fn close(&self, slf: &Bound<'_, PyAny>) -> PyResult<()> {
        self.shut_down_by_caller(slf)
    }

    fn set_protocol(&self, protocol: &Bound<'_, PyAny>) -> PyResult<()> {
        self.replace_protocol(protocol)
    }
}

impl ForceClose for Tls {
    fn force_close(&self, slf: &Bound<'_, PyAny>, error: Option<Py<PyAny>>) -> PyResult<()> {
        self.advance(Lifecycle::Closing);
        self.abort(slf, error)
    }
}

impl Reading for Tls {
    fn is_reading(&self) -> bool {
        !self.reading_paused.get()
    }

    fn pause_reading(&self, _slf: &Bound<'_, PyAny>) -> PyResult<()> {
        self.reading_paused.set(true);
        Ok(())
    }

    fn resume_reading(&self, slf: &Bound<'_, PyAny>) -> PyResult<()> {
        if !self.reading_paused.replace(false) {
            return Ok(());
        }
        self.read_soon(slf)
    }
}

impl Writing<{ writing::HIGH_WATER }> for Tls {
    fn limits(&self) -> &BufferLimits<{ writing::HIGH_WATER }> {
        &self.write_limits
    }

    fn unsent(&self, py: Python<'_>) -> usize {
        self.engine.unsent(py) + self.backlog.borrow().size()
    }

    fn write_buffer_size(&self, slf: &Bound<'_, PyAny>) -> PyResult<usize> {
        if self.pending_flush.is_set() {
            self.flush(slf)?;
        }
        Ok(self.unsent(slf.py()))
    }

    fn set_write_buffer_limits<'py>(
        &self,
        slf: &Bound<'py, PyAny>,
        high: Option<Bound<'py, PyAny>>,
        low: Option<Bound<'py, PyAny>>,
    ) -> PyResult<()> {
        // Bytes that only wait for the end of the batch are not what the marks are for.
        self.write_buffer_size(slf)?;
        self.write_limits.set(slf.py(), high, low)?;
        self.control_writing(slf, FlushTrigger::Caller)
    }
}

impl ExtraInfo for Tls {
    const GET_EXTRA_INFO_DOC: &'static CStr =
        c"get_extra_info($self, /, name, default=None)\n--\n\n\
        Return ``\"sslcontext\"``, or after the handshake a fact of the TLS session.\n\
        \n\
        The facts are ``\"ssl_object\"``, ``\"peercert\"``, ``\"cipher\"``, ``\"compression\"``. For\n\
        any other name it returns what the transport below has, or ``default``. As\n\
        ``asyncio.BaseTransport.get_extra_info``.";

    fn extra_info<'py>(
        &self,
        py: Python<'py>,
        name: &Bound<'py, PyAny>,
        default: Option<Bound<'py, PyAny>>,
    ) -> PyResult<Option<Bound<'py, PyAny>>> {
        if let Some(value) = self.extra_item(name)? {
            return Ok(Some(value));
        }
        match self.lower.get(py) {
            Some(lower) => lower.call_method1("get_extra_info", (name, default)).map(Some),
            None => Ok(default),
        }
    }
}

impl Tls {
    pub(super) fn describe_state(&self) -> &'static str {
        match self.state.get() {
            State::Unwrapped if self.is_closing() => " closed",
            State::Unwrapped => "",
            State::Handshake => " handshake",
            State::Wrapped => " open",
            State::Flushing | State::Shutdown => " closing",
        }
    }
}
