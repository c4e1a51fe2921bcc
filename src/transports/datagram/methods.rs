//! What Python calls on datagram transports only.

use std::ffi::CStr;

use pyo3::exceptions::PyNotImplementedError;
use pyo3::ffi;
use pyo3::prelude::*;

use super::Datagram;
use crate::ffi::definitions::{fast_method, getter, plain_method};
use crate::transports::core::extra_info::ExtraInfo;
use crate::transports::core::trampolines::{transport_binary, transport_field, transport_plain};
use crate::transports::sockets::methods::GET_EXTRA_INFO_DOC;

transport_binary!(sendto, Datagram, ["data", "addr"], 1, |py, slf, this, data, address| {
    let address = address.filter(|address| !address.is_none());
    match data {
        Some(data) => this.send_to(py, slf, &data, address.as_ref()),
        None => Ok(()),
    }
});
transport_plain!(sendto_ready, Datagram, |py, slf, this| this.send_waiting(py, slf));
transport_plain!(cannot_pause, Datagram, |_py, _slf, _this| PyResult::<()>::Err(
    PyNotImplementedError::new_err(())
));

transport_field!(get_sock, Datagram, |py, _slf, this| PyResult::Ok(this.file.socket(py)));
transport_field!(get_extra, Datagram, |py, _slf, this| PyResult::Ok(this.extra(py)));
transport_field!(get_address, Datagram, |py, _slf, this| PyResult::Ok(this.address.get(py)));

/// In the place of the methods that other transports have: these raise `NotImplementedError`.
pub(super) const CANNOT_PAUSE: &[ffi::PyMethodDef] = &[
    plain_method(
        c"is_reading",
        cannot_pause,
        c"is_reading($self, /)\n--\n\n\
        Return True if the transport is receiving. As ``asyncio.ReadTransport.is_reading``.",
    ),
    plain_method(
        c"pause_reading",
        cannot_pause,
        c"pause_reading($self, /)\n--\n\n\
        Pass no data to the protocol until reading is resumed.\n\
        \n\
        As ``asyncio.ReadTransport.pause_reading``.",
    ),
    plain_method(
        c"resume_reading",
        cannot_pause,
        c"resume_reading($self, /)\n--\n\n\
        Pass data to the protocol again. As ``asyncio.ReadTransport.resume_reading``.\n\
        \n\
        For a pipe it raises ``PermissionError`` if the file is a device that cannot be\n\
        watched.",
    ),
];

pub(super) const METHODS: &[ffi::PyMethodDef] = &[
    fast_method(
        c"sendto",
        sendto,
        c"sendto($self, data, addr=None)\n--\n\n\
        Send a datagram without blocking. As ``asyncio.DatagramTransport.sendto``.\n\
        \n\
        ``data`` is a bytes-like object; ``addr`` is an address of the socket's family in\n\
        Python's form, ``None`` for the peer of a connected socket. The transport buffers\n\
        what the kernel does not accept; above the high-water mark it calls\n\
        ``pause_writing()`` of the protocol. An ``OSError`` goes to ``error_received()`` of\n\
        the protocol, any other error that the address causes ends the transport. Before\n\
        CPython 3.13 empty datagrams are not sent.\n\
        \n\
        Raises ``TypeError`` if ``data`` is not bytes-like, ``ValueError`` if ``addr`` is\n\
        not the address that the socket is connected to, and ``AttributeError`` after the\n\
        transport was closed, unless it was made with ``remote_addr``: then datagrams are\n\
        dropped.",
    ),
    plain_method(c"_sendto_ready", sendto_ready, c"_sendto_ready($self, /)\n--\n\n"),
];

pub(super) const FIELDS: &[ffi::PyGetSetDef] =
    &[getter(c"_sock", get_sock), getter(c"_extra", get_extra), getter(c"_address", get_address)];

impl ExtraInfo for Datagram {
    const GET_EXTRA_INFO_DOC: &'static CStr = GET_EXTRA_INFO_DOC;

    fn extra_info<'py>(
        &self,
        _py: Python<'py>,
        name: &Bound<'py, PyAny>,
        default: Option<Bound<'py, PyAny>>,
    ) -> PyResult<Option<Bound<'py, PyAny>>> {
        Ok(self.extra_item(name)?.or(default))
    }
}
