//! Tables of the methods and attributes that kinds of transports have in common, each for the kinds
//! with a certain trait.

use std::ffi::CStr;
use std::marker::PhantomData;

use pyo3::ffi;
use pyo3::prelude::*;

use super::class::Transport;
use super::extra_info::ExtraInfo;
use super::flow_control::{HIGH_WATER, Reading, Writing};
use super::lifecycle::Endpoint;
use super::report::ForceClose;
use super::trampolines::{transport_binary, transport_field, transport_plain, transport_unary};
use crate::event_loop::LoopRef;
use crate::ffi::definitions::{fast_method, getter, plain_method};

/// The docstring of `writelines` of the kinds that check all lines before they send the first.
pub(crate) const WRITELINES_DOC: &CStr = c"writelines($self, list_of_data)\n--\n\n\
    Send all of an iterable of bytes-like objects. As ``asyncio.WriteTransport.writelines``.\n\
    \n\
    Raises what :meth:`write` raises, and then sends none of them.";

/// What every kind does in its own way.
pub(crate) trait TransportMethods: Transport {
    const CLOSE_DOC: &'static CStr;

    /// `close()`
    fn close(&self, slf: &Bound<'_, PyAny>) -> PyResult<()>;
    /// `set_protocol(protocol)`
    fn set_protocol(&self, protocol: &Bound<'_, PyAny>) -> PyResult<()>;
}

/// Of every transport.
pub(crate) struct OfTransports<T>(PhantomData<T>);

transport_plain!(close, T, for [T: TransportMethods], |_py, slf, this| this.close(slf));
transport_plain!(is_closing, T, for [T: TransportMethods], |_py, _slf, this| {
    PyResult::Ok(this.core().is_closing())
});
transport_unary!(set_protocol, T, for [T: TransportMethods], "protocol", |_py, _slf, this, protocol| {
    this.set_protocol(protocol)
});
transport_plain!(get_protocol, T, for [T: TransportMethods], |py, _slf, this| {
    PyResult::Ok(this.core().protocol.get(py))
});
transport_field!(get_loop, T, for [T: TransportMethods], |py, _slf, this| {
    PyResult::Ok(this.core().native(py).map(LoopRef::into_any))
});

impl<T: TransportMethods> OfTransports<T> {
    pub(crate) const METHODS: &'static [ffi::PyMethodDef] = &[
        plain_method(c"close", close::<T>, T::CLOSE_DOC),
        plain_method(
            c"is_closing",
            is_closing::<T>,
            c"is_closing($self, /)\n--\n\n\
            Return True if the transport is closing or closed.\n\
            \n\
            As ``asyncio.BaseTransport.is_closing``.",
        ),
        fast_method(
            c"set_protocol",
            set_protocol::<T>,
            c"set_protocol($self, protocol)\n--\n\n\
            Set the protocol whose methods the transport calls from now on.\n\
            \n\
            As ``asyncio.BaseTransport.set_protocol``.",
        ),
        plain_method(
            c"get_protocol",
            get_protocol::<T>,
            c"get_protocol($self, /)\n--\n\n\
            Return the current protocol, ``None`` after the connection was lost.\n\
            \n\
            As ``asyncio.BaseTransport.get_protocol``.",
        ),
    ];

    pub(crate) const FIELDS: &'static [ffi::PyGetSetDef] = &[getter(c"_loop", get_loop::<T>)];
}

/// Of those that own a descriptor.
pub(crate) struct OfEndpoints<T>(PhantomData<T>);

transport_field!(get_protocol_field, T, for [T: Endpoint], |py, _slf, this| {
    PyResult::Ok(this.core().protocol.get(py))
});
transport_field!(get_closing, T, for [T: Endpoint], |_py, _slf, this| {
    PyResult::Ok(this.core().is_closing())
});

impl<T: Endpoint> OfEndpoints<T> {
    pub(crate) const FIELDS: &'static [ffi::PyGetSetDef] =
        &[getter(c"_protocol", get_protocol_field::<T>), getter(c"_closing", get_closing::<T>)];
}

/// Of those that close at once on `abort()`, or with an error.
pub(crate) struct OfForceClose<T>(PhantomData<T>);

transport_plain!(abort, T, for [T: ForceClose], |_py, slf, this| this.force_close(slf, None));
transport_unary!(_force_close, T, for [T: ForceClose], "exc", |_py, slf, this, error| {
    this.force_close(slf, (!error.is_none()).then(|| error.clone().unbind()))
});

impl<T: ForceClose> OfForceClose<T> {
    pub(crate) const ABORT: &'static [ffi::PyMethodDef] = &[plain_method(
        c"abort",
        abort::<T>,
        c"abort($self, /)\n--\n\n\
        Close at once; what is buffered is lost. As ``asyncio.WriteTransport.abort``.\n\
        \n\
        Over a socket it raises ``RuntimeError`` if the loop is closed and the transport is\n\
        not.",
    )];

    pub(crate) const FORCE_CLOSE: &'static [ffi::PyMethodDef] =
        &[fast_method(c"_force_close", _force_close::<T>, c"_force_close($self, exc)\n--\n\n")];
}

/// Of those that read.
pub(crate) struct OfReading<T>(PhantomData<T>);

transport_plain!(is_reading, T, for [T: Reading], |_py, _slf, this| PyResult::Ok(this.is_reading()));
transport_plain!(pause_reading, T, for [T: Reading], |_py, slf, this| this.pause_reading(slf));
transport_plain!(resume_reading, T, for [T: Reading], |_py, slf, this| this.resume_reading(slf));
transport_field!(get_reading_paused, T, for [T: Reading], |_py, _slf, this| {
    PyResult::Ok(this.core().reading_paused.get())
});

impl<T: Reading> OfReading<T> {
    pub(crate) const METHODS: &'static [ffi::PyMethodDef] = &[
        plain_method(
            c"is_reading",
            is_reading::<T>,
            c"is_reading($self, /)\n--\n\n\
            Return True if the transport is receiving. As ``asyncio.ReadTransport.is_reading``.",
        ),
        plain_method(
            c"pause_reading",
            pause_reading::<T>,
            c"pause_reading($self, /)\n--\n\n\
            Pass no data to the protocol until reading is resumed.\n\
            \n\
            As ``asyncio.ReadTransport.pause_reading``.",
        ),
        plain_method(
            c"resume_reading",
            resume_reading::<T>,
            c"resume_reading($self, /)\n--\n\n\
            Pass data to the protocol again. As ``asyncio.ReadTransport.resume_reading``.\n\
            \n\
            For a pipe it raises ``PermissionError`` if the file is a device that cannot be\n\
            watched.",
        ),
    ];

    pub(crate) const PAUSED: &'static [ffi::PyGetSetDef] =
        &[getter(c"_paused", get_reading_paused::<T>)];

    /// The same, under the name that asyncio's TLS transports have for it.
    pub(crate) const APP_READING_PAUSED: &'static [ffi::PyGetSetDef] =
        &[getter(c"_app_reading_paused", get_reading_paused::<T>)];
}

/// Of those that write.
pub(crate) struct OfWriting<T, const HIGH: usize = HIGH_WATER>(PhantomData<T>);

transport_plain!(
    get_write_buffer_size,
    T,
    for [T: Writing<HIGH>, const HIGH: usize],
    |_py, slf, this| this.write_buffer_size(slf)
);
transport_plain!(
    get_write_buffer_limits,
    T,
    for [T: Writing<HIGH>, const HIGH: usize],
    |py, _slf, this| this.limits().pair(py)
);
transport_binary!(
    set_write_buffer_limits,
    T,
    for [T: Writing<HIGH>, const HIGH: usize],
    ["high", "low"],
    0,
    |_py, slf, this, high, low| this.set_write_buffer_limits(slf, high, low)
);
transport_field!(
    get_protocol_paused,
    T,
    for [T: Writing<HIGH>, const HIGH: usize],
    |_py, _slf, this| PyResult::Ok(this.core().protocol_paused.get())
);
transport_field!(
    get_high_water,
    T,
    for [T: Writing<HIGH>, const HIGH: usize],
    |py, _slf, this| this.limits().pair(py)?.get_item(1)
);
transport_field!(
    get_low_water,
    T,
    for [T: Writing<HIGH>, const HIGH: usize],
    |py, _slf, this| this.limits().pair(py)?.get_item(0)
);

impl<T: Writing<HIGH>, const HIGH: usize> OfWriting<T, HIGH> {
    pub(crate) const METHODS: &'static [ffi::PyMethodDef] = &[
        plain_method(
            c"get_write_buffer_size",
            get_write_buffer_size::<T, HIGH>,
            c"get_write_buffer_size($self, /)\n--\n\n\
            Return the size of the write buffer in bytes.\n\
            \n\
            As ``asyncio.WriteTransport.get_write_buffer_size``. Over a stream socket the\n\
            transport first sends what the kernel accepts. TLS counts plaintext and ciphertext.\n\
            From CPython 3.13 on each datagram counts 8 bytes more.",
        ),
        plain_method(
            c"get_write_buffer_limits",
            get_write_buffer_limits::<T, HIGH>,
            c"get_write_buffer_limits($self, /)\n--\n\n\
            Return the marks ``(low, high)`` of the write buffer in bytes.\n\
            \n\
            They are 16 KiB and 64 KiB at first, for TLS 128 KiB and 512 KiB. As\n\
            ``asyncio.WriteTransport.get_write_buffer_limits``.",
        ),
        fast_method(
            c"set_write_buffer_limits",
            set_write_buffer_limits::<T, HIGH>,
            c"set_write_buffer_limits($self, /, high=None, low=None)\n--\n\n\
            Set the marks of the write buffer, in bytes. The defaults are asyncio's.\n\
            \n\
            Above ``high``, for TLS from it on, the transport calls ``pause_writing()`` of the\n\
            protocol; at ``low`` and below, for pipes when the buffer is empty,\n\
            ``resume_writing()``. As ``asyncio.WriteTransport.set_write_buffer_limits``.\n\
            \n\
            Raises ``ValueError`` unless ``high >= low >= 0``.",
        ),
    ];

    pub(crate) const PAUSED: &'static [ffi::PyGetSetDef] =
        &[getter(c"_protocol_paused", get_protocol_paused::<T, HIGH>)];

    pub(crate) const WATER_MARKS: &'static [ffi::PyGetSetDef] = &[
        getter(c"_high_water", get_high_water::<T, HIGH>),
        getter(c"_low_water", get_low_water::<T, HIGH>),
    ];
}

/// Of those with a `get_extra_info` of their own.
pub(crate) struct OfExtraInfo<T>(PhantomData<T>);

transport_binary!(
    get_extra_info,
    T,
    for [T: ExtraInfo],
    ["name", "default"],
    1,
    |py, _slf, this, name, default| match name {
        Some(name) => this.extra_info(py, &name, default),
        None => Ok(default),
    }
);

impl<T: ExtraInfo> OfExtraInfo<T> {
    pub(crate) const METHODS: &'static [ffi::PyMethodDef] =
        &[fast_method(c"get_extra_info", get_extra_info::<T>, T::GET_EXTRA_INFO_DOC)];
}
