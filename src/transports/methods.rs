//! What Python calls on a transport; the work is in the other files.

use std::ffi::c_void;
use std::ptr::null_mut;

use pyo3::IntoPyObjectExt;
use pyo3::exceptions::PyRuntimeError;
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyString};

use super::object::stream;
use super::{Life, Stream, address};
use crate::cached;
use crate::gil::PySlot;
use crate::object::{
    Args, GETTERS_END, METHODS_END, Object, Table, enter, fast_method, getter, plain_method,
};

/// A method without arguments: `|py, slf, stream| -> PyResult<impl IntoPyObject>`.
macro_rules! plain {
    ($name:ident, |$py:ident, $slf:ident, $stream:ident| $body:expr) => {
        unsafe extern "C" fn $name(slf: Object, _: Object) -> Object {
            enter(null_mut(), |$py| {
                // SAFETY: CPython checked the type; alive for the call.
                let bound = unsafe { Bound::from_borrowed_ptr($py, slf) };
                let $slf = &bound;
                let $stream = stream($slf);
                let result = $body?;
                Ok(result.into_py_any($py)?.into_ptr())
            })
        }
    };
}

/// A method with one argument, which may be named.
macro_rules! unary {
    ($name:ident, $parameter:literal, |$py:ident, $slf:ident, $stream:ident, $value:ident| $body:expr) => {
        unsafe extern "C" fn $name(
            slf: Object,
            args: *const Object,
            count: ffi::Py_ssize_t,
            names: Object,
        ) -> Object {
            enter(null_mut(), |$py| {
                // SAFETY: CPython's own arguments, its check of the type; alive for the call.
                let (bound, value) = unsafe {
                    let args = Args::new(args, count, names);
                    let value = match args.positional {
                        [value] if !args.has_keywords() => *value,
                        _ => {
                            args.at_most(stringify!($name), 1)?;
                            let [value] = args.bind($py, stringify!($name), [$parameter], 1, 1)?;
                            value
                        }
                    };
                    (Bound::from_borrowed_ptr($py, slf), Bound::from_borrowed_ptr($py, value))
                };
                let ($slf, $value) = (&bound, &value);
                let $stream = stream($slf);
                $body?;
                Ok($py.None().into_ptr())
            })
        }
    };
}

/// A read-only attribute.
macro_rules! field {
    ($name:ident, |$py:ident, $slf:ident, $stream:ident| $body:expr) => {
        unsafe extern "C" fn $name(slf: Object, _closure: *mut c_void) -> Object {
            enter(null_mut(), |$py| {
                // SAFETY: CPython checked the type; alive for the call.
                let bound = unsafe { Bound::from_borrowed_ptr($py, slf) };
                let $slf = &bound;
                let $stream = stream($slf);
                let result = $body?;
                Ok(result.into_py_any($py)?.into_ptr())
            })
        }
    };
}

unary!(write, "data", |py, slf, stream, data| stream.write(py, slf, data));
unary!(writelines, "list_of_data", |py, slf, stream, lines| stream.write_lines(py, slf, lines));
plain!(write_eof, |py, slf, stream| stream.write_eof(py, slf).map(|()| py.None()));
plain!(can_write_eof, |_py, _slf, _stream| PyResult::Ok(true));
plain!(close, |py, slf, stream| stream.close(py, slf).map(|()| py.None()));
plain!(abort, |py, slf, stream| stream.force_close(py, slf, None).map(|()| py.None()));
unary!(force_close, "exc", |py, slf, stream, error| {
    let error = (!error.is_none()).then(|| error.clone().unbind());
    stream.force_close(py, slf, error)
});
plain!(is_closing, |_py, _slf, stream| PyResult::Ok(stream.is_closing()));
plain!(is_reading, |_py, _slf, stream| PyResult::Ok(stream.is_reading()));
plain!(pause_reading, |py, slf, stream| stream.pause(py, slf).map(|()| py.None()));
plain!(resume_reading, |py, slf, stream| stream.resume(py, slf).map(|()| py.None()));
unary!(set_protocol, "protocol", |py, _slf, stream, protocol| stream.set_protocol(py, protocol));
plain!(get_protocol, |py, _slf, stream| PyResult::Ok(stream.protocol.get(py)));
plain!(get_write_buffer_size, |py, slf, stream| stream.buffered(py, slf));
plain!(get_write_buffer_limits, |_py, _slf, stream| {
    let marks = stream.marks.get();
    PyResult::Ok((marks.low, marks.high))
});
plain!(make_empty_waiter, |py, slf, stream| stream.make_drained(py, slf));
plain!(reset_empty_waiter, |py, _slf, stream| {
    stream.drained.set(py, None);
    PyResult::Ok(py.None())
});

unsafe extern "C" fn set_write_buffer_limits(
    slf: Object,
    args: *const Object,
    count: ffi::Py_ssize_t,
    names: Object,
) -> Object {
    enter(null_mut(), |py| {
        const NAME: &str = "set_write_buffer_limits";
        // SAFETY: CPython's own arguments; null or alive for the call.
        let (bound, [high, low]) = unsafe {
            let args = Args::new(args, count, names);
            args.at_most(NAME, 2)?;
            (Bound::from_borrowed_ptr(py, slf), args.bind(py, NAME, ["high", "low"], 2, 0)?)
        };
        let number = |object: Object| -> PyResult<Option<isize>> {
            // SAFETY: null or alive for the call.
            match unsafe { Bound::from_borrowed_ptr_or_opt(py, object) } {
                Some(value) if !value.is_none() => value.extract().map(Some),
                _ => Ok(None),
            }
        };
        let stream = stream(&bound);
        stream.marks.set(super::flow::Marks::new(number(high)?, number(low)?)?);
        stream.maybe_pause(py, &bound)?;
        Ok(py.None().into_ptr())
    })
}

unsafe extern "C" fn get_extra_info(
    slf: Object,
    args: *const Object,
    count: ffi::Py_ssize_t,
    names: Object,
) -> Object {
    enter(null_mut(), |py| {
        const NAME: &str = "get_extra_info";
        // SAFETY: CPython's own arguments; null or alive for the call.
        let (bound, [name, default]) = unsafe {
            let args = Args::new(args, count, names);
            args.at_most(NAME, 2)?;
            (Bound::from_borrowed_ptr(py, slf), args.bind(py, NAME, ["name", "default"], 2, 1)?)
        };
        // SAFETY: as above.
        let (name, default) = unsafe {
            (Bound::from_borrowed_ptr(py, name), Bound::from_borrowed_ptr_or_opt(py, default))
        };
        let found = stream(&bound).extra_info(py, &name)?;
        Ok(found.unwrap_or_else(|| default.map_or_else(|| py.None(), Bound::unbind)).into_ptr())
    })
}

field!(get_loop, |py, _slf, stream| PyResult::Ok(stream.event_loop.get(py)));
field!(get_protocol_field, |py, _slf, stream| PyResult::Ok(stream.protocol.get(py)));
field!(get_protocol_paused, |_py, _slf, stream| PyResult::Ok(stream.protocol_paused.get()));
field!(get_high_water, |_py, _slf, stream| PyResult::Ok(stream.marks.get().high));
field!(get_low_water, |_py, _slf, stream| PyResult::Ok(stream.marks.get().low));
field!(get_sock, |py, _slf, stream| stream.socket_object(py));
field!(get_fd, |_py, _slf, stream| PyResult::Ok(stream.fd));
field!(get_extra, |py, _slf, stream| stream.extra_dict(py));

unsafe extern "C" fn get_dict(slf: Object, _closure: *mut c_void) -> Object {
    // SAFETY: the type has a dict offset.
    unsafe { ffi::PyObject_GenericGetDict(slf, null_mut()) }
}

pub static METHODS: Table<[ffi::PyMethodDef; 20]> = Table([
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
    plain_method(c"close", close, c"close($self, /)\n--\n\nSend what is buffered, then close."),
    plain_method(c"abort", abort, c"abort($self, /)\n--\n\nClose at once."),
    fast_method(c"_force_close", force_close, c"_force_close($self, exc)\n--\n\n"),
    plain_method(c"is_closing", is_closing, c"is_closing($self, /)\n--\n\n"),
    plain_method(c"is_reading", is_reading, c"is_reading($self, /)\n--\n\n"),
    plain_method(c"pause_reading", pause_reading, c"pause_reading($self, /)\n--\n\n"),
    plain_method(c"resume_reading", resume_reading, c"resume_reading($self, /)\n--\n\n"),
    fast_method(c"set_protocol", set_protocol, c"set_protocol($self, protocol)\n--\n\n"),
    plain_method(c"get_protocol", get_protocol, c"get_protocol($self, /)\n--\n\n"),
    plain_method(
        c"get_write_buffer_size",
        get_write_buffer_size,
        c"get_write_buffer_size($self, /)\n--\n\nBytes that the kernel has not taken yet.",
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
    METHODS_END,
]);

pub static FIELDS: Table<[ffi::PyGetSetDef; 10]> = Table([
    getter(c"_loop", get_loop),
    getter(c"_protocol", get_protocol_field),
    getter(c"_protocol_paused", get_protocol_paused),
    getter(c"_high_water", get_high_water),
    getter(c"_low_water", get_low_water),
    getter(c"_sock", get_sock),
    getter(c"_sock_fd", get_fd),
    getter(c"_extra", get_extra),
    getter(c"__dict__", get_dict),
    GETTERS_END,
]);

impl Stream {
    /// Every reference that the garbage collector must know of.
    pub(super) fn slots(&self) -> [&PySlot; 9] {
        [
            &self.event_loop,
            &self.protocol,
            &self.server,
            &self.socket,
            &self.extra,
            &self.waiter,
            &self.context,
            &self.loss,
            &self.drained,
        ]
    }

    /// The `socket.socket`, made now if the transport had only the descriptor.
    fn socket_object(&self, py: Python<'_>) -> PyResult<Option<Py<PyAny>>> {
        if let Some(socket) = self.socket.get(py) {
            return Ok(Some(socket.unbind()));
        }
        if self.life.get() == Life::Closed {
            return Ok(None);
        }
        let arguments = PyDict::new(py);
        arguments.set_item("fileno", self.fd)?;
        let socket = cached::socket_class(py)?.call((), Some(&arguments))?.unbind();
        // From here on the socket object closes the descriptor.
        self.socket.set(py, Some(socket.clone_ref(py)));
        Ok(Some(socket))
    }

    fn extra_info(&self, py: Python<'_>, name: &Bound<'_, PyAny>) -> PyResult<Option<Py<PyAny>>> {
        if let Some(extra) = self.extra.get(py)
            && let Ok(value) = extra.get_item(name)
        {
            return Ok(Some(value.unbind()));
        }
        let Ok(name) = name.cast::<PyString>() else {
            return Ok(None);
        };
        match name.to_str()? {
            "peername" => self.peername.borrow().to_object(py).map(Some),
            "sockname" => {
                if self.sockname.borrow().is_unknown() && self.life.get() != Life::Closed {
                    self.sockname.replace(address::local(py, self.fd));
                }
                self.sockname.borrow().to_object(py).map(Some)
            }
            "socket" => {
                let socket = match self.socket_object(py)? {
                    Some(socket) => socket,
                    // Nobody asked while it was open: a closed one tells as much.
                    None => self.sockname.borrow().closed_socket(py)?,
                };
                let socket = cached::transport_socket_class(py)?.call1((socket,))?;
                // Kept, so that every call gives the same object, after the close too.
                match self.extra.get(py) {
                    Some(extra) => extra.set_item("socket", &socket)?,
                    None => {
                        let extra = PyDict::new(py);
                        extra.set_item("socket", &socket)?;
                        self.extra.set(py, Some(extra.into_any().unbind()));
                    }
                }
                Ok(Some(socket.unbind()))
            }
            _ => Ok(None),
        }
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
        if let Some(extra) = self.extra.get(py) {
            all.update(extra.cast()?)?;
        }
        Ok(all)
    }

    /// A future that is done when the buffer is empty; `write` is refused meanwhile.
    fn make_drained(&self, py: Python<'_>, slf: &Bound<'_, PyAny>) -> PyResult<Py<PyAny>> {
        if self.drained.is_set(py) {
            return Err(PyRuntimeError::new_err("Empty waiter is already set"));
        }
        let Some((event_loop, _native)) = self.native(py) else {
            return Err(PyRuntimeError::new_err("the transport is closed"));
        };
        let waiter = event_loop.call_method0("create_future")?;
        self.drained.set(py, Some(waiter.clone().unbind()));
        if self.outgoing.borrow().is_empty() {
            waiter.call_method1("set_result", (py.None(),))?;
        } else {
            self.send_pending(py, slf)?;
        }
        Ok(waiter.unbind())
    }
}
