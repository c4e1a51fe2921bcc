//! What Python calls on a transport; the work is in the other files.

use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::PyDict;

use super::Datagram;
use crate::ffi::definitions::{fast_method, getter, plain_method};
use crate::transports::life;
use crate::{transport_binary, transport_field, transport_plain};

transport_binary!(sendto, Datagram, ["data", "addr"], 1, |py, slf, this, data, address| {
    let address = address.filter(|address| !address.is_none());
    match data {
        Some(data) => this.send_to(py, slf, &data, address.as_ref()),
        None => Ok(()),
    }
});
transport_plain!(sendto_ready, Datagram, |py, slf, this| this.send_waiting(py, slf));
// Before CPython 3.11 asyncio's datagram transports do not pause.
#[cfg(not(Py_3_11))]
transport_plain!(cannot_pause, Datagram, |_py, _slf, _this| PyResult::<()>::Err(
    pyo3::exceptions::PyNotImplementedError::new_err(())
));
transport_plain!(get_write_buffer_size, Datagram, |_py, _slf, this| PyResult::Ok(
    this.waiting_size.get()
));
transport_binary!(
    set_write_buffer_limits,
    Datagram,
    ["high", "low"],
    0,
    |py, slf, this, high, low| {
        this.flow.limits.set(py, high, low)?;
        life::maybe_pause(this, slf)
    }
);
transport_binary!(
    get_extra_info,
    Datagram,
    ["name", "default"],
    1,
    |py, _slf, this, name, default| match (this.extra(py), name) {
        (Some(extra), Some(name)) =>
            extra.cast::<PyDict>()?.get_item(name).map(|found| found.or(default)),
        _ => Ok(default),
    }
);

transport_field!(get_sock, Datagram, |py, _slf, this| PyResult::Ok(this.file.socket(py)));
transport_field!(get_extra, Datagram, |py, _slf, this| PyResult::Ok(this.extra(py)));
transport_field!(get_address, Datagram, |py, _slf, this| PyResult::Ok(this.address.get(py)));

/// These come before what all transports over sockets share: the first of a name is the one.
pub(super) const METHODS: &[ffi::PyMethodDef] = &[
    #[cfg(not(Py_3_11))]
    plain_method(c"is_reading", cannot_pause, c"is_reading($self, /)\n--\n\n"),
    #[cfg(not(Py_3_11))]
    plain_method(c"pause_reading", cannot_pause, c"pause_reading($self, /)\n--\n\n"),
    #[cfg(not(Py_3_11))]
    plain_method(c"resume_reading", cannot_pause, c"resume_reading($self, /)\n--\n\n"),
    fast_method(
        c"sendto",
        sendto,
        c"sendto($self, data, addr=None)\n--\n\nSend a datagram; buffered if the kernel is full.",
    ),
    plain_method(c"_sendto_ready", sendto_ready, c"_sendto_ready($self, /)\n--\n\n"),
    plain_method(
        c"get_write_buffer_size",
        get_write_buffer_size,
        c"get_write_buffer_size($self, /)\n--\n\nBytes that the kernel has not taken yet.",
    ),
    fast_method(
        c"set_write_buffer_limits",
        set_write_buffer_limits,
        c"set_write_buffer_limits($self, /, high=None, low=None)\n--\n\nIn bytes.",
    ),
    fast_method(
        c"get_extra_info",
        get_extra_info,
        c"get_extra_info($self, /, name, default=None)\n--\n\n'socket', 'sockname', 'peername'.",
    ),
];

pub(super) const FIELDS: &[ffi::PyGetSetDef] =
    &[getter(c"_sock", get_sock), getter(c"_extra", get_extra), getter(c"_address", get_address)];
