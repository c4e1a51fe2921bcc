//! What Python calls on a TLS transport: the application from above, a transport from below.

use pyo3::exceptions::PyNotImplementedError;
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::PyDict;

use super::{State, Tls};
use crate::event_loop::LoopRef;
use crate::ffi::definitions::{fast_method, getter, plain_method};
use crate::net::Buffer;
use crate::transports::life::Sender;

use crate::{transport_binary, transport_field, transport_plain, transport_unary};

// --- from above: asyncio.Transport -------------------------------------------------------------

transport_unary!(write, Tls, "data", |_py, slf, tls, data| tls.write(slf, data));
transport_unary!(writelines, Tls, "list_of_data", |_py, slf, tls, lines| {
    tls.write_lines(slf, lines)
});
transport_plain!(write_eof, Tls, |_py, _slf, _tls| PyResult::<()>::Err(
    PyNotImplementedError::new_err(())
));
transport_plain!(can_write_eof, Tls, |_py, _slf, _tls| PyResult::Ok(false));
transport_plain!(close, Tls, |_py, slf, tls| tls.close(slf));
transport_plain!(abort, Tls, |_py, slf, tls| tls.force_close(slf, None));
transport_unary!(_force_close, Tls, "exc", |_py, slf, tls, error| {
    tls.force_close(slf, (!error.is_none()).then(|| error.clone()))
});
transport_plain!(is_closing, Tls, |_py, _slf, tls| PyResult::Ok(tls.closed.get()));
transport_plain!(is_reading, Tls, |_py, _slf, tls| PyResult::Ok(!tls.reading_paused.get()));
transport_plain!(pause_reading, Tls, |_py, _slf, tls| PyResult::Ok(tls.pause()));
transport_plain!(resume_reading, Tls, |_py, slf, tls| tls.resume(slf));
transport_unary!(set_protocol, Tls, "protocol", |_py, _slf, tls, protocol| tls
    .set_protocol(protocol));
transport_plain!(get_protocol, Tls, |py, _slf, tls| PyResult::Ok(tls.protocol.get(py)));
transport_plain!(get_write_buffer_size, Tls, |_py, slf, tls| tls.buffered(slf));
transport_plain!(get_write_buffer_limits, Tls, |py, _slf, tls| { tls.flow.limits.pair(py) });
transport_binary!(set_write_buffer_limits, Tls, ["high", "low"], 0, |py, slf, tls, high, low| {
    // What only waits for the end of the turn is not what the marks are for.
    tls.buffered(slf)?;
    tls.flow.limits.set(py, high, low)?;
    tls.control_writing(slf, Sender::Caller)
});
transport_plain!(get_read_buffer_size, Tls, |py, _slf, tls| PyResult::Ok(tls.engine.waiting(py)));
transport_plain!(get_read_buffer_limits, Tls, |py, _slf, tls| { tls.read_limits.pair(py) });
transport_binary!(set_read_buffer_limits, Tls, ["high", "low"], 0, |py, _slf, tls, high, low| {
    tls.read_limits.set(py, high, low)?;
    tls.control_lower_reading(py)
});
transport_binary!(get_extra_info, Tls, ["name", "default"], 1, |py, _slf, tls, name, default| {
    match name {
        Some(name) => tls.extra_info(py, &name, default),
        None => Ok(None),
    }
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
transport_plain!(pause_writing, Tls, |_py, _slf, tls| PyResult::Ok(tls.writing_paused.set(true)));
transport_plain!(resume_writing, Tls, |_py, slf, tls| tls.lower_resumed(slf));

// --- from its own timers and callbacks ----------------------------------------------------------

transport_plain!(read_on, Tls, |_py, slf, tls| tls.read_on(slf));
transport_plain!(check_handshake_timeout, Tls, |_py, slf, tls| tls.check_handshake_timeout(slf));
transport_plain!(check_shutdown_timeout, Tls, |py, _slf, tls| tls.check_shutdown_timeout(py));

transport_field!(get_loop, Tls, |py, _slf, tls| PyResult::Ok(
    tls.event_loop.get(py).map(LoopRef::into_any)
));
transport_field!(get_protocol_paused, Tls, |_py, _slf, tls| PyResult::Ok(tls.flow.paused.get()));
transport_field!(get_reading_paused, Tls, |_py, _slf, tls| PyResult::Ok(tls.reading_paused.get()));
transport_field!(get_layer, Tls, |_py, slf, _tls| PyResult::Ok(slf.clone()));

// What some look for in the `SSLProtocol` that they find as `_ssl_protocol`.
transport_field!(get_app_protocol, Tls, |py, _slf, tls| PyResult::Ok(tls.protocol.get(py)));
transport_field!(get_app_transport, Tls, |py, slf, tls| {
    // As in asyncio `None` once the connection is lost.
    PyResult::Ok(tls.protocol.is_set(py).then(|| slf.clone()))
});
transport_field!(get_lower, Tls, |py, _slf, tls| PyResult::Ok(tls.lower.get(py)));
transport_field!(get_ssl_context, Tls, |py, _slf, tls| match tls.extra.get(py) {
    Some(extra) => extra.cast::<PyDict>()?.get_item("sslcontext"),
    None => PyResult::Ok(None),
});
transport_field!(get_ssl_object, Tls, |py, _slf, tls| PyResult::Ok(tls.engine.object.get(py)));

pub(super) const METHODS: &[ffi::PyMethodDef] = &[
    fast_method(
        c"write",
        write,
        c"write($self, data)\n--\n\nEncrypt and send bytes; buffered for the rest of the turn.",
    ),
    fast_method(
        c"writelines",
        writelines,
        c"writelines($self, list_of_data)\n--\n\nEncrypt and send an iterable of bytes.",
    ),
    plain_method(
        c"write_eof",
        write_eof,
        c"write_eof($self, /)\n--\n\nNot possible in TLS: raises NotImplementedError.",
    ),
    plain_method(c"can_write_eof", can_write_eof, c"can_write_eof($self, /)\n--\n\nAlways false."),
    plain_method(
        c"close",
        close,
        c"close($self, /)\n--\n\nSend what is buffered, say good-bye to the peer, then close.",
    ),
    plain_method(c"abort", abort, c"abort($self, /)\n--\n\nClose at once."),
    fast_method(c"_force_close", _force_close, c"_force_close($self, exc)\n--\n\n"),
    plain_method(c"is_closing", is_closing, c"is_closing($self, /)\n--\n\n"),
    plain_method(c"is_reading", is_reading, c"is_reading($self, /)\n--\n\n"),
    plain_method(c"pause_reading", pause_reading, c"pause_reading($self, /)\n--\n\n"),
    plain_method(c"resume_reading", resume_reading, c"resume_reading($self, /)\n--\n\n"),
    fast_method(c"set_protocol", set_protocol, c"set_protocol($self, protocol)\n--\n\n"),
    plain_method(c"get_protocol", get_protocol, c"get_protocol($self, /)\n--\n\n"),
    plain_method(
        c"get_write_buffer_size",
        get_write_buffer_size,
        c"get_write_buffer_size($self, /)\n--\n\nBytes that the transport below has not taken yet.",
    ),
    plain_method(
        c"get_write_buffer_limits",
        get_write_buffer_limits,
        c"get_write_buffer_limits($self, /)\n--\n\n(low, high) in bytes.",
    ),
    fast_method(
        c"set_write_buffer_limits",
        set_write_buffer_limits,
        c"set_write_buffer_limits($self, /, high=None, low=None)\n--\n\nIn bytes.",
    ),
    plain_method(
        c"get_read_buffer_size",
        get_read_buffer_size,
        c"get_read_buffer_size($self, /)\n--\n\nBytes received and not decrypted yet.",
    ),
    plain_method(
        c"get_read_buffer_limits",
        get_read_buffer_limits,
        c"get_read_buffer_limits($self, /)\n--\n\n(low, high) in bytes.",
    ),
    fast_method(
        c"set_read_buffer_limits",
        set_read_buffer_limits,
        c"set_read_buffer_limits($self, /, high=None, low=None)\n--\n\nIn bytes.",
    ),
    fast_method(
        c"get_extra_info",
        get_extra_info,
        c"get_extra_info($self, /, name, default=None)\n--\n\n\
        'sslcontext', 'ssl_object', 'peercert', 'cipher', 'compression', and what the transport \
        below knows.",
    ),
    fast_method(c"connection_made", connection_made, c"connection_made($self, transport)\n--\n\n"),
    fast_method(c"connection_lost", connection_lost, c"connection_lost($self, exc)\n--\n\n"),
    fast_method(c"data_received", data_received, c"data_received($self, data)\n--\n\n"),
    plain_method(c"eof_received", eof_received, c"eof_received($self, /)\n--\n\n"),
    plain_method(c"pause_writing", pause_writing, c"pause_writing($self, /)\n--\n\n"),
    plain_method(c"resume_writing", resume_writing, c"resume_writing($self, /)\n--\n\n"),
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
    getter(c"_loop", get_loop),
    getter(c"_protocol_paused", get_protocol_paused),
    getter(c"_app_reading_paused", get_reading_paused),
    getter(c"_ssl_protocol", get_layer),
    getter(c"_app_protocol", get_app_protocol),
    getter(c"_app_transport", get_app_transport),
    getter(c"_transport", get_lower),
    getter(c"_sslcontext", get_ssl_context),
    getter(c"_sslobj", get_ssl_object),
];

impl Tls {
    fn extra_info(
        &self,
        py: Python<'_>,
        name: &Bound<'_, PyAny>,
        default: Option<Bound<'_, PyAny>>,
    ) -> PyResult<Option<Py<PyAny>>> {
        if let Some(extra) = self.extra.get(py)
            && let Some(value) = extra.cast::<PyDict>()?.get_item(name)?
        {
            return Ok(Some(value.unbind()));
        }
        match self.lower.get(py) {
            Some(lower) => {
                let found = lower.call_method1("get_extra_info", (name, default))?;
                Ok(Some(found.unbind()))
            }
            None => Ok(default.map(Bound::unbind)),
        }
    }

    pub(super) fn describe_state(&self) -> &'static str {
        match self.state.get() {
            State::Unwrapped if self.closed.get() => " closed",
            State::Unwrapped => "",
            State::Handshake => " handshake",
            State::Wrapped => " open",
            State::Flushing | State::Shutdown => " closing",
        }
    }
}
