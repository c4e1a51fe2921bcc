//! What Python calls on every transport over a socket.

use std::marker::PhantomData;

use pyo3::ffi;
use pyo3::prelude::*;

use super::life::{self, SocketTransport};
use crate::event_loop::LoopRef;
use crate::ffi::definitions::{fast_method, getter, plain_method};
use crate::{transport_field, transport_plain, transport_unary};

transport_plain!(close, T, T: SocketTransport, |_py, slf, this| life::close_by_caller(this, slf));
transport_plain!(abort, T, T: SocketTransport, |_py, slf, this| {
    life::force_close(this, slf, None)
});
transport_unary!(_force_close, T, T: SocketTransport, "exc", |_py, slf, this, error| {
    life::force_close(this, slf, (!error.is_none()).then(|| error.clone().unbind()))
});
transport_plain!(is_closing, T, T: SocketTransport, |_py, _slf, this| {
    PyResult::Ok(this.is_closing())
});
transport_plain!(is_reading, T, T: SocketTransport, |_py, _slf, this| {
    PyResult::Ok(this.is_reading())
});
transport_plain!(pause_reading, T, T: SocketTransport, |_py, slf, this| life::pause(this, slf));
transport_plain!(resume_reading, T, T: SocketTransport, |_py, slf, this| life::resume(this, slf));
transport_unary!(set_protocol, T, T: SocketTransport, "protocol", |_py, _slf, this, protocol| {
    life::set_protocol(this, protocol)
});
transport_plain!(get_protocol, T, T: SocketTransport, |py, _slf, this| {
    PyResult::Ok(this.protocol.get(py))
});
transport_plain!(get_write_buffer_limits, T, T: SocketTransport, |py, _slf, this| {
    this.flow.limits.pair(py)
});

transport_field!(get_loop, T, T: SocketTransport, |py, _slf, this| {
    PyResult::Ok(this.event_loop.get(py).map(LoopRef::into_any))
});
transport_field!(get_protocol_field, T, T: SocketTransport, |py, _slf, this| {
    PyResult::Ok(this.protocol.get(py))
});
transport_field!(get_protocol_paused, T, T: SocketTransport, |_py, _slf, this| {
    PyResult::Ok(this.flow.paused.get())
});
transport_field!(get_paused, T, T: SocketTransport, |_py, _slf, this| {
    PyResult::Ok(this.paused.get())
});
transport_field!(get_closing, T, T: SocketTransport, |_py, _slf, this| {
    PyResult::Ok(this.is_closing())
});
transport_field!(get_high_water, T, T: SocketTransport, |py, _slf, this| {
    this.flow.limits.pair(py)?.get_item(1)
});
transport_field!(get_low_water, T, T: SocketTransport, |py, _slf, this| {
    this.flow.limits.pair(py)?.get_item(0)
});
transport_field!(get_fd, T, T: SocketTransport, |_py, _slf, this| PyResult::Ok(this.file.number()));

/// The tables for a kind.
pub(crate) struct Shared<T>(PhantomData<T>);

impl<T: SocketTransport> Shared<T> {
    pub(crate) const METHODS: &'static [ffi::PyMethodDef] = &[
        plain_method(
            c"close",
            close::<T>,
            c"close($self, /)\n--\n\nSend what is buffered, then close.",
        ),
        plain_method(c"abort", abort::<T>, c"abort($self, /)\n--\n\nClose at once."),
        fast_method(c"_force_close", _force_close::<T>, c"_force_close($self, exc)\n--\n\n"),
        plain_method(c"is_closing", is_closing::<T>, c"is_closing($self, /)\n--\n\n"),
        plain_method(c"is_reading", is_reading::<T>, c"is_reading($self, /)\n--\n\n"),
        plain_method(c"pause_reading", pause_reading::<T>, c"pause_reading($self, /)\n--\n\n"),
        plain_method(c"resume_reading", resume_reading::<T>, c"resume_reading($self, /)\n--\n\n"),
        fast_method(c"set_protocol", set_protocol::<T>, c"set_protocol($self, protocol)\n--\n\n"),
        plain_method(c"get_protocol", get_protocol::<T>, c"get_protocol($self, /)\n--\n\n"),
        plain_method(
            c"get_write_buffer_limits",
            get_write_buffer_limits::<T>,
            c"get_write_buffer_limits($self, /)\n--\n\n(low, high) in bytes.",
        ),
    ];

    pub(crate) const FIELDS: &'static [ffi::PyGetSetDef] = &[
        getter(c"_loop", get_loop::<T>),
        getter(c"_protocol", get_protocol_field::<T>),
        getter(c"_protocol_paused", get_protocol_paused::<T>),
        getter(c"_paused", get_paused::<T>),
        getter(c"_closing", get_closing::<T>),
        getter(c"_high_water", get_high_water::<T>),
        getter(c"_low_water", get_low_water::<T>),
        getter(c"_sock_fd", get_fd::<T>),
    ];
}
