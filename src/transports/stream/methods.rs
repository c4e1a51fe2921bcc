//! What Python calls on stream transports only.

use std::ffi::CStr;

use pyo3::exceptions::PyRuntimeError;
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyString};

use super::Stream;
use crate::ffi::definitions::{fast_method, getter, plain_method};
use crate::ffi::{imports, memory, socket_fd};
use crate::net::address::Address;
use crate::transports::core::Lifecycle;
use crate::transports::core::context::FlushTrigger;
use crate::transports::core::extra_info::ExtraInfo;
use crate::transports::core::methods::WRITELINES_DOC;
use crate::transports::core::trampolines::{transport_field, transport_plain, transport_unary};
use crate::transports::sockets::methods::GET_EXTRA_INFO_DOC;

transport_unary!(write, Stream, "data", |py, slf, stream, data| stream.write(py, slf, data));
transport_unary!(writelines, Stream, "list_of_data", |py, slf, stream, lines| stream
    .write_lines(py, slf, lines));
transport_plain!(write_eof, Stream, |py, slf, stream| stream.write_eof(py, slf));
transport_plain!(can_write_eof, Stream, |_py, _slf, _stream| PyResult::Ok(true));
transport_plain!(make_empty_waiter, Stream, |py, slf, stream| stream.make_empty_waiter(py, slf));
transport_plain!(reset_empty_waiter, Stream, |py, _slf, stream| {
    stream.set_empty_waiter(py, None);
    PyResult::Ok(py.None())
});

transport_field!(get_eof, Stream, |_py, _slf, stream| PyResult::Ok(stream.eof_written.get()));
transport_field!(get_server, Stream, |py, _slf, stream| PyResult::Ok(stream.server.get(py)));
transport_field!(get_sock, Stream, |py, _slf, stream| stream.socket_object(py));
transport_field!(get_extra, Stream, |py, _slf, stream| stream.extra_dict(py));

pub(super) const METHODS: &[ffi::PyMethodDef] = &[
    fast_method(
        c"write",
        write,
        c"write($self, data)\n--\n\n\
        Send ``data``, a bytes-like object, without blocking.\n\
        \n\
        As ``asyncio.WriteTransport.write``. The caller may change the object afterwards.\n\
        The transport buffers what the kernel does not accept; above the high-water mark it\n\
        calls ``pause_writing()`` of the protocol. Data written after the connection was\n\
        lost is dropped.\n\
        \n\
        Raises ``TypeError`` if ``data`` is not bytes-like, ``RuntimeError`` after\n\
        :meth:`write_eof` and during a ``loop.sendfile()``.",
    ),
    fast_method(c"writelines", writelines, WRITELINES_DOC),
    plain_method(
        c"write_eof",
        write_eof,
        c"write_eof($self, /)\n--\n\n\
        Close the sending side once the buffer is empty. As ``asyncio.WriteTransport.write_eof``.\n\
        \n\
        Calling it twice does no harm.",
    ),
    plain_method(
        c"can_write_eof",
        can_write_eof,
        c"can_write_eof($self, /)\n--\n\n\
        Return True. As ``asyncio.WriteTransport.can_write_eof``.",
    ),
    plain_method(c"_make_empty_waiter", make_empty_waiter, c"_make_empty_waiter($self, /)\n--\n\n"),
    plain_method(
        c"_reset_empty_waiter",
        reset_empty_waiter,
        c"_reset_empty_waiter($self, /)\n--\n\n",
    ),
];

pub(super) const FIELDS: &[ffi::PyGetSetDef] = &[
    getter(c"_eof", get_eof),
    getter(c"_server", get_server),
    getter(c"_sock", get_sock),
    getter(c"_extra", get_extra),
];

impl ExtraInfo for Stream {
    const GET_EXTRA_INFO_DOC: &'static CStr = GET_EXTRA_INFO_DOC;

    fn extra_info<'py>(
        &self,
        py: Python<'py>,
        name: &Bound<'py, PyAny>,
        default: Option<Bound<'py, PyAny>>,
    ) -> PyResult<Option<Bound<'py, PyAny>>> {
        Ok(self.extra_value(py, name)?.map(|value| value.into_bound(py)).or(default))
    }
}

impl Stream {
    /// The `socket.socket`, made now if the transport had only the descriptor.
    fn socket_object(&self, py: Python<'_>) -> PyResult<Option<Py<PyAny>>> {
        if let Some(socket) = self.file.socket(py) {
            return Ok(Some(socket.unbind()));
        }
        if self.lifecycle() == Lifecycle::Closed {
            return Ok(None);
        }
        let made = socket_fd::adopting_object(py, self.file.number(), memory::dict(py)?);
        if let Ok((socket, Ok(()))) = &made
            && self.file.socket(py).is_none()
            && self.lifecycle() != Lifecycle::Closed
            && self.file.adopt(socket).is_ok()
        {
            return Ok(Some(socket.clone().unbind()));
        }
        // The object has the descriptor, and must not close it: the transport still does, or has done
        // so meanwhile, or another socket object does that was made for it meanwhile.
        let (socket, initialised) = made?;
        imports::detach(py)?.call1(py, (socket,))?;
        initialised?;
        Ok(self.file.socket(py).map(Bound::unbind))
    }

    /// One of the values that `get_extra_info` has.
    fn extra_value(&self, py: Python<'_>, name: &Bound<'_, PyAny>) -> PyResult<Option<Py<PyAny>>> {
        if self.extra(py).is_none() {
            // asyncio looks it up in a dict.
            name.hash()?;
        }
        if let Some(value) = self.extra_item(name)? {
            return Ok(Some(value.unbind()));
        }
        // A name that is no text to Rust (with lone surrogates) is none of these.
        let Some(name) = name.cast::<PyString>().ok().and_then(|name| name.to_str().ok()) else {
            return Ok(None);
        };
        match name {
            "peername" => self.peername(py).to_object(py).map(Some),
            "sockname" => {
                if self.lifecycle() != Lifecycle::Closed {
                    self.learn_sockname(py);
                }
                self.sockname(py).to_object(py).map(Some)
            }
            "socket" => {
                let socket = match self.socket_object(py)? {
                    Some(socket) => socket,
                    // Not asked for while it was open: a closed socket shows as much.
                    None => self.sockname(py).closed_socket(py)?,
                };
                let socket = imports::transport_socket_class(py)?.call1((socket,))?;
                // Kept, so that every call gives the same object, after the close too.
                match self.extra(py) {
                    Some(extra) => extra.set_item("socket", &socket)?,
                    None => {
                        let extra = PyDict::new(py);
                        extra.set_item("socket", &socket)?;
                        self.set_extra(extra.into_any());
                    }
                }
                Ok(Some(socket.unbind()))
            }
            _ => Ok(None),
        }
    }

    /// A copy: to make a Python object of it may run a destructor that asks for it as well.
    fn peername(&self, py: Python<'_>) -> Address {
        self.addresses.borrow().peername.clone_ref(py)
    }

    /// A copy, for the same reason.
    fn sockname(&self, py: Python<'_>) -> Address {
        self.addresses.borrow().sockname.clone_ref(py)
    }

    /// asyncio's `_extra`, whole.
    fn extra_dict<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let all = PyDict::new(py);
        for name in ["socket", "sockname", "peername"] {
            let name = PyString::new(py, name);
            if let Some(value) = self.extra_value(py, name.as_any())? {
                all.set_item(name, value)?;
            }
        }
        if let Some(extra) = self.extra(py) {
            all.update(extra.cast()?)?;
        }
        Ok(all)
    }

    /// A future that is done when the buffer is empty; `write` is refused meanwhile.
    fn make_empty_waiter(&self, py: Python<'_>, slf: &Bound<'_, PyAny>) -> PyResult<Py<PyAny>> {
        if self.has_empty_waiter(py) {
            return Err(PyRuntimeError::new_err("Empty waiter is already set"));
        }
        let Some(event_loop) = self.native(py) else {
            return Err(PyRuntimeError::new_err("the transport is closed"));
        };
        let waiter = event_loop.as_any().call_method0("create_future")?;
        self.set_empty_waiter(py, Some(waiter.clone().unbind()));
        if self.buffer.borrow().is_empty() {
            waiter.call_method1("set_result", (py.None(),))?;
        } else {
            self.send_pending(py, slf, FlushTrigger::Caller)?;
        }
        Ok(waiter.unbind())
    }
}
