//! What Python calls on a transport; the work is in the other files.

use pyo3::exceptions::PyRuntimeError;
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::{IntoPyDict, PyDict, PyString};

use super::Stream;
use crate::ffi::definitions::{fast_method, getter, plain_method};
use crate::ffi::imports;
use crate::net::address::Address;
use crate::transports::life::{self, Life, Sender};
use crate::{transport_binary, transport_field, transport_plain, transport_unary};

transport_unary!(write, Stream, "data", |py, slf, stream, data| stream.write(py, slf, data));
transport_unary!(writelines, Stream, "list_of_data", |py, slf, stream, lines| stream
    .write_lines(py, slf, lines));
transport_plain!(write_eof, Stream, |py, slf, stream| stream.write_eof(py, slf));
transport_plain!(can_write_eof, Stream, |_py, _slf, _stream| PyResult::Ok(true));
transport_plain!(get_write_buffer_size, Stream, |py, slf, stream| stream.buffered(py, slf));
transport_plain!(make_empty_waiter, Stream, |py, slf, stream| stream.make_drained(py, slf));
transport_plain!(reset_empty_waiter, Stream, |py, _slf, stream| {
    stream.set_drained(py, None);
    PyResult::Ok(py.None())
});

transport_binary!(
    set_write_buffer_limits,
    Stream,
    ["high", "low"],
    0,
    |py, slf, stream, high, low| {
        stream.flow.limits.set(py, high, low)?;
        // What only waits for the end of the turn is not what the marks are for.
        stream.buffered(py, slf)?;
        life::maybe_pause(stream, slf)
    }
);
transport_binary!(
    get_extra_info,
    Stream,
    ["name", "default"],
    1,
    |py, slf, stream, name, default| match name {
        Some(name) =>
            stream.extra_info(py, &name).map(|found| found.or(default.map(Bound::unbind))),
        None => Ok(None),
    }
);

transport_field!(get_eof, Stream, |_py, _slf, stream| PyResult::Ok(stream.eof_written.get()));
transport_field!(get_server, Stream, |py, _slf, stream| PyResult::Ok(stream.server.get(py)));
transport_field!(get_sock, Stream, |py, _slf, stream| stream.socket_object(py));
transport_field!(get_extra, Stream, |py, _slf, stream| stream.extra_dict(py));

pub(super) const METHODS: &[ffi::PyMethodDef] = &[
    fast_method(
        c"write",
        write,
        c"write($self, data)\n--\n\nSend bytes; buffered for the rest of the turn.",
    ),
    fast_method(
        c"writelines",
        writelines,
        c"writelines($self, list_of_data)\n--\n\nSend an iterable of bytes.",
    ),
    plain_method(
        c"write_eof",
        write_eof,
        c"write_eof($self, /)\n--\n\nEnd the sending side once what is buffered has left.",
    ),
    plain_method(c"can_write_eof", can_write_eof, c"can_write_eof($self, /)\n--\n\nAlways true."),
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

impl Stream {
    /// The `socket.socket`, made now if the transport had only the descriptor.
    fn socket_object(&self, py: Python<'_>) -> PyResult<Option<Py<PyAny>>> {
        if let Some(socket) = self.file.socket(py) {
            return Ok(Some(socket.unbind()));
        }
        if self.life.get() == Life::Closed {
            return Ok(None);
        }
        let made = self.adopting_socket(py);
        if let Ok((socket, Ok(()))) = &made
            && self.file.socket(py).is_none()
            && self.life.get() != Life::Closed
            && self.file.adopt(socket).is_ok()
        {
            return Ok(Some(socket.clone().unbind()));
        }
        // It has the descriptor, and must not close it: the transport still does, or has done so
        // meanwhile, or another socket object does that was made for it meanwhile.
        let (socket, initialised) = made?;
        imports::detach(py)?.call1(py, (socket,))?;
        initialised?;
        Ok(self.file.socket(py).map(Bound::unbind))
    }

    /// A socket object that has the transport's descriptor, or may have: its class is Python code,
    /// which can fail after it was given it, and ask the transport for its socket meanwhile.
    fn adopting_socket<'py>(&self, py: Python<'py>) -> PyResult<(Bound<'py, PyAny>, PyResult<()>)> {
        let class = imports::socket_class(py)?;
        let socket = class.call_method1(pyo3::intern!(py, "__new__"), (class,))?;
        let arguments = [(pyo3::intern!(py, "fileno"), self.file.number())].into_py_dict(py)?;
        let initialise = class.getattr(pyo3::intern!(py, "__init__"))?;
        let initialised = initialise.call((&socket,), Some(&arguments)).map(drop);
        Ok((socket, initialised))
    }

    fn extra_info(&self, py: Python<'_>, name: &Bound<'_, PyAny>) -> PyResult<Option<Py<PyAny>>> {
        match self.extra(py) {
            Some(extra) => {
                if let Some(value) = extra.cast::<PyDict>()?.get_item(name)? {
                    return Ok(Some(value.unbind()));
                }
            }
            // asyncio looks it up in a dict.
            None => drop(name.hash()?),
        }
        // One that is no text to Rust (with lone surrogates) is none of these.
        let Some(name) = name.cast::<PyString>().ok().and_then(|name| name.to_str().ok()) else {
            return Ok(None);
        };
        match name {
            "peername" => self.peername(py).to_object(py).map(Some),
            "sockname" => {
                if self.life.get() != Life::Closed {
                    self.learn_sockname(py);
                }
                self.sockname(py).to_object(py).map(Some)
            }
            "socket" => {
                let socket = match self.socket_object(py)? {
                    Some(socket) => socket,
                    // Nobody asked while it was open: a closed one tells as much.
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

    /// Copies: to make Python objects of them may run a destructor that asks for them as well.
    fn peername(&self, py: Python<'_>) -> Address {
        self.names.borrow().peer.clone_ref(py)
    }

    fn sockname(&self, py: Python<'_>) -> Address {
        self.names.borrow().sock.clone_ref(py)
    }

    /// asyncio's `_extra`, whole.
    fn extra_dict<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let all = PyDict::new(py);
        for name in ["socket", "sockname", "peername"] {
            let name = PyString::new(py, name);
            if let Some(value) = self.extra_info(py, name.as_any())? {
                all.set_item(name, value)?;
            }
        }
        if let Some(extra) = self.extra(py) {
            all.update(extra.cast()?)?;
        }
        Ok(all)
    }

    /// A future that is done when the buffer is empty; `write` is refused meanwhile.
    fn make_drained(&self, py: Python<'_>, slf: &Bound<'_, PyAny>) -> PyResult<Py<PyAny>> {
        if self.awaits_drain(py) {
            return Err(PyRuntimeError::new_err("Empty waiter is already set"));
        }
        let Some(event_loop) = self.native(py) else {
            return Err(PyRuntimeError::new_err("the transport is closed"));
        };
        let waiter = event_loop.as_any().call_method0("create_future")?;
        self.set_drained(py, Some(waiter.clone().unbind()));
        if self.outgoing.borrow().is_empty() {
            waiter.call_method1("set_result", (py.None(),))?;
        } else {
            self.send_pending(py, slf, Sender::Caller)?;
        }
        Ok(waiter.unbind())
    }
}
