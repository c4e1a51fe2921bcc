//! The methods and attributes that transports over sockets have.

use std::ffi::CStr;

use pyo3::ffi;
use pyo3::prelude::*;

use super::lifecycle::SocketTransport;
use crate::ffi::definitions::getter;
use crate::transports::core::extra_info::ExtraInfo;
use crate::transports::core::methods::{
    OfEndpoints, OfExtraInfo, OfForceClose, OfReading, OfTransports, OfWriting,
};
use crate::transports::core::trampolines::transport_field;

/// The docstring of `get_extra_info` of transports over sockets.
pub(crate) const GET_EXTRA_INFO_DOC: &CStr = c"get_extra_info($self, /, name, default=None)\n--\n\n\
    Return a fact of the transport by its name: ``\"socket\"``, ``\"sockname\"``, ``\"peername\"``.\n\
    \n\
    It also has the names that it was made with. Return ``default`` for an unknown name.\n\
    As ``asyncio.BaseTransport.get_extra_info``.";

transport_field!(get_fd, T, for [T: SocketTransport], |_py, _slf, this| PyResult::Ok(
    this.file.number()
));

/// All but `pause_reading()` and the like, which datagram transports lack before CPython 3.11.
pub(crate) fn methods<T: SocketTransport + ExtraInfo>() -> Vec<ffi::PyMethodDef> {
    [
        OfTransports::<T>::METHODS,
        OfForceClose::<T>::ABORT,
        OfForceClose::<T>::FORCE_CLOSE,
        OfWriting::<T>::METHODS,
        OfExtraInfo::<T>::METHODS,
    ]
    .concat()
}

pub(crate) fn fields<T: SocketTransport>() -> Vec<ffi::PyGetSetDef> {
    [
        OfTransports::<T>::FIELDS,
        OfEndpoints::<T>::FIELDS,
        OfReading::<T>::PAUSED,
        OfWriting::<T>::PAUSED,
        OfWriting::<T>::WATER_MARKS,
        &[getter(c"_sock_fd", get_fd::<T>)],
    ]
    .concat()
}
