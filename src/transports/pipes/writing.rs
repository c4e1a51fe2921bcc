//! `WritePipeTransport`: from `write` to a descriptor, at once, and the rest when it takes more.

use std::cell::{Cell, RefCell};
use std::ffi::CStr;
use std::io;

use pyo3::exceptions::{PyAssertionError, PyBrokenPipeError, PyBufferError};
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyByteArray, PyBytes, PyMemoryView, PyString, PyType};

use super::end::{End, Pipe, pipe_field};
use crate::driver::reactor::Direction;
use crate::driver::sys::{self, FileKind};
use crate::ffi::definitions::{fast_method, getter, plain_method};
use crate::ffi::errors::{made, os_error};
use crate::ffi::gil::PySlot;
use crate::ffi::imports;
use crate::ffi::memory;
use crate::net::Buffer;
use crate::transports::base::{FlowControlSlots, Transport};
use crate::transports::flow::{Flow, Signal};
use crate::transports::outgoing::Outgoing;
use crate::transports::protocol::report_fatal;
use crate::{transport_binary, transport_field, transport_plain, transport_unary};

const FATAL: &str = "Fatal write error on pipe transport";
/// asyncio's `LOG_THRESHOLD_FOR_CONNLOST_WRITES`.
const SILENT_WRITES: u32 = 5;

pub(crate) struct WritePipe {
    end: End,
    /// Writes since the reader is gone or the transport was closed.
    refused: Cell<u32>,
    flow: Flow,
    outgoing: RefCell<Outgoing>,
}

impl Pipe for WritePipe {
    const REFUSAL: &'static str = "Pipe transport is only for pipes, sockets and character devices";

    fn new(end: End, _protocol: &Bound<'_, PyAny>) -> PyResult<Self> {
        Ok(Self { end, refused: 0.into(), flow: Flow::default(), outgoing: RefCell::default() })
    }

    fn end(&self) -> &End {
        &self.end
    }

    /// Readiness to read means that the reader is gone, or that it spoke, which none should.
    fn start(&self, _py: Python<'_>, slf: &Bound<'_, PyAny>) -> PyResult<()> {
        match self.end.kind {
            FileKind::Fifo | FileKind::Socket => {
                self.end.watch(slf, Direction::Read, "_read_ready")
            }
            FileKind::CharacterDevice => Ok(()),
        }
    }
}

impl WritePipe {
    fn size(&self) -> usize {
        self.outgoing.borrow().size()
    }

    /// One `write`.
    ///
    /// Unlike a read, which follows the kernel's word, it may wait: whoever shares the pipe or the
    /// terminal may have made it blocking. Other threads run meanwhile.
    fn send(&self, py: Python<'_>, data: &[u8]) -> io::Result<usize> {
        let fd = self.end.fd;
        if self.end.kind == FileKind::Socket {
            return sys::socket::send(fd, data);
        }
        // (They are of `bytes`, which never change and which the caller holds.)
        py.detach(|| sys::descriptor::write(fd, data))
    }

    /// `write(data)`
    fn write(&self, slf: &Bound<'_, PyAny>, data: &Bound<'_, PyAny>) -> PyResult<()> {
        let py = slf.py();
        let copy;
        // Immutable: other threads run while the kernel copies.
        let bytes = match data.cast_exact::<PyBytes>() {
            Ok(bytes) => bytes,
            Err(_) => {
                check_type(data)?;
                if data.len()? == 0 {
                    return Ok(());
                }
                if self.refused.get() > 0 || self.end.closing.get() {
                    return self.refuse(py);
                }
                let view = match Buffer::readable(data) {
                    Ok(view) => view,
                    // Bytes that do not lie in a row: as on asyncio a write that fails.
                    Err(error) if self.size() == 0 && error.is_instance_of::<PyBufferError>(py) => {
                        self.refused.set(1);
                        return self.fatal(py, slf, error);
                    }
                    Err(error) => return Err(error),
                };
                copy = memory::bytes(py, view.as_slice())?;
                &copy
            }
        };
        let length = bytes.as_bytes().len();
        if length == 0 {
            return Ok(());
        }
        if self.refused.get() > 0 || self.end.closing.get() {
            return self.refuse(py);
        }
        let mut taken = 0;
        if self.size() == 0 {
            match self.send(py, bytes.as_bytes()) {
                Ok(count) => taken = count,
                Err(error) if is_temporary(&error) => {}
                Err(error) => {
                    self.refused.set(1);
                    return self.fatal(py, slf, os_error(py, &error));
                }
            }
            if taken == length {
                return Ok(());
            }
        }
        // Behind what another thread wrote meanwhile the rest needs an object of its own.
        let rest;
        let (kept, from) = if taken == 0 || self.size() == 0 {
            (bytes, taken)
        } else {
            rest = memory::bytes(py, &bytes.as_bytes()[taken..])?;
            (&rest, 0)
        };
        let first = self.size() == 0;
        self.outgoing.borrow_mut().push_from(kept, from)?;
        if first
            && let Err(error) = self.end.watch_for_caller(slf, Direction::Write, "_write_ready")
        {
            // Nothing would ever send it.
            self.outgoing.borrow_mut().clear();
            return Err(error);
        }
        let signal = self.flow.grown(self.size());
        self.tell(py, slf, signal)
    }

    /// After a loss data is dropped, with asyncio's warning from the sixth time on.
    #[cold]
    fn refuse(&self, py: Python<'_>) -> PyResult<()> {
        if self.refused.get() >= SILENT_WRITES {
            let text = "pipe closed by peer or os.write(pipe, data) raised exception.";
            py.import("asyncio.log")?.getattr("logger")?.call_method1("warning", (text,))?;
        }
        self.refused.set(self.refused.get() + 1);
        Ok(())
    }

    /// The descriptor takes more.
    fn write_ready(&self, py: Python<'_>, slf: &Bound<'_, PyAny>) -> PyResult<()> {
        loop {
            // Held by us, and not borrowed: other threads run while the kernel copies.
            let Some(first) = self.outgoing.borrow().first(py) else {
                break;
            };
            let data = first.as_slice(py);
            let taken = match self.send(py, data) {
                Ok(taken) => taken,
                Err(error) if is_temporary(&error) => return Ok(()),
                Err(error) => {
                    self.refused.set(self.refused.get() + 1);
                    return self.fatal(py, slf, os_error(py, &error));
                }
            };
            let all = taken == data.len();
            if self.size() < taken {
                // Another thread has aborted meanwhile.
                return Ok(());
            }
            self.outgoing.borrow_mut().advance(py, taken);
            if !all {
                // As asyncio: the protocol goes on when nothing is left, not below the low mark.
                return Ok(());
            }
        }
        self.end.unwatch(py, Direction::Write)?;
        let was_closing = self.end.closing.get();
        let signal = self.flow.shrunk(0);
        self.tell(py, slf, signal)?;
        if was_closing {
            self.end.unwatch(py, Direction::Read)?;
            return self.end.lose_now::<Self>(slf);
        }
        Ok(())
    }

    /// The reader is gone.
    fn read_ready(&self, py: Python<'_>, slf: &Bound<'_, PyAny>) -> PyResult<()> {
        self.end.log_in_debug(slf, "info", "%r was closed by peer")?;
        let broken = || made(py, PyBrokenPipeError::new_err(())).into_value(py).into_any();
        let error = (self.size() > 0).then(broken);
        self.force_close(py, slf, error)
    }

    #[cold]
    fn fatal(&self, py: Python<'_>, slf: &Bound<'_, PyAny>, error: PyErr) -> PyResult<()> {
        let (protocol, event_loop) = (self.end.protocol.get(py), self.end.native(py));
        let native = event_loop.as_deref();
        let value = report_fatal(py, native, slf, protocol.as_ref(), error, FATAL)?;
        self.force_close(py, slf, Some(value))
    }

    /// `abort()`, or an error: what was not sent is lost.
    fn force_close(
        &self,
        py: Python<'_>,
        slf: &Bound<'_, PyAny>,
        error: Option<Py<PyAny>>,
    ) -> PyResult<()> {
        if self.end.is_closed(py) || self.end.close_without_loop(py)? {
            return Ok(());
        }
        self.end.closing.set(true);
        drop(self.outgoing.take());
        self.end.unwatch(py, Direction::Write)?;
        self.end.unwatch(py, Direction::Read)?;
        self.end.lose::<Self>(slf, error);
        Ok(())
    }

    /// `close()`, and `write_eof()`, which is the same: ends once everything has left.
    fn close(&self, py: Python<'_>, slf: &Bound<'_, PyAny>) -> PyResult<()> {
        if self.end.closing.get() || self.end.close_without_loop(py)? {
            return Ok(());
        }
        self.end.closing.set(true);
        if self.size() == 0 {
            self.end.unwatch(py, Direction::Read)?;
            self.end.lose::<Self>(slf, None);
        }
        Ok(())
    }

    fn tell(&self, py: Python<'_>, slf: &Bound<'_, PyAny>, signal: Option<Signal>) -> PyResult<()> {
        let Some(signal) = signal else {
            return Ok(());
        };
        match (self.end.protocol.get(py), self.end.native(py)) {
            (Some(protocol), Some(native)) => signal.tell(&native, slf, &protocol),
            _ => Ok(()),
        }
    }
}

/// asyncio asserts it.
fn check_type(data: &Bound<'_, PyAny>) -> PyResult<()> {
    if data.is_instance_of::<PyBytes>()
        || data.is_instance_of::<PyByteArray>()
        || data.is_instance_of::<PyMemoryView>()
    {
        return Ok(());
    }
    Err(PyAssertionError::new_err(data.repr()?.unbind()))
}

fn is_temporary(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted)
}

impl Transport for WritePipe {
    type BaseSlots = FlowControlSlots;
    const NAME: &'static CStr = c"tokioloop._core.WritePipeTransport";
    const METHODS: &'static [&'static [ffi::PyMethodDef]] = &[METHODS];
    const FIELDS: &'static [&'static [ffi::PyGetSetDef]] = &[FIELDS];

    fn class_cell() -> &'static PyOnceLock<Py<PyType>> {
        static CLASS: PyOnceLock<Py<PyType>> = PyOnceLock::new();
        &CLASS
    }

    fn bases(py: Python<'_>) -> PyResult<Vec<Bound<'_, PyType>>> {
        Ok(vec![imports::asyncio(py)?.transport.bind(py).clone()])
    }

    fn decorate(_class: &Bound<'_, PyType>) -> PyResult<()> {
        Ok(())
    }

    fn slots(&self) -> impl Iterator<Item = &PySlot> {
        self.end.slots().chain(self.flow.limits.slot())
    }

    fn is_closed(&self, py: Python<'_>) -> bool {
        self.end.is_closed(py)
    }

    fn abandon(&self, py: Python<'_>, _slf: &Bound<'_, PyAny>) -> PyResult<()> {
        self.end.abandon(py)
    }

    fn describe<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyString>> {
        let (start, watched) = (
            self.end.describe(py, "WritePipeTransport"),
            self.end.describe_watch(py, Direction::Write),
        );
        let text = match watched {
            "closed" | "open" => format!("{start} {watched}>"),
            _ => format!("{start} {watched} bufsize={}>", self.size()),
        };
        Ok(PyString::new(py, &text))
    }
}

transport_unary!(write, WritePipe, "data", |_py, slf, pipe, data| pipe.write(slf, data));
transport_plain!(write_ready, WritePipe, |py, slf, pipe| pipe.write_ready(py, slf));
transport_plain!(read_ready, WritePipe, |py, slf, pipe| pipe.read_ready(py, slf));
transport_plain!(can_write_eof, WritePipe, |_py, _slf, _pipe| PyResult::Ok(true));
transport_plain!(close, WritePipe, |py, slf, pipe| pipe.close(py, slf));
transport_plain!(abort, WritePipe, |py, slf, pipe| pipe.force_close(py, slf, None));
transport_plain!(is_closing, WritePipe, |_py, _slf, pipe| PyResult::Ok(pipe.end.closing.get()));
transport_plain!(get_protocol, WritePipe, |py, _slf, pipe| PyResult::Ok(pipe.end.protocol.get(py)));
transport_unary!(set_protocol, WritePipe, "protocol", |py, _slf, pipe, protocol| {
    pipe.end.protocol.set(py, Some(protocol.clone().unbind()));
    PyResult::Ok(())
});
transport_plain!(get_write_buffer_size, WritePipe, |_py, _slf, pipe| PyResult::Ok(pipe.size()));
transport_plain!(get_write_buffer_limits, WritePipe, |py, _slf, pipe| {
    pipe.flow.limits.pair(py)
});
transport_binary!(
    set_write_buffer_limits,
    WritePipe,
    ["high", "low"],
    0,
    |py, slf, pipe, high, low| {
        pipe.flow.limits.set(py, high, low)?;
        let signal = pipe.flow.grown(pipe.size());
        pipe.tell(py, slf, signal)
    }
);

transport_field!(get_loop, WritePipe, |py, _slf, pipe| PyResult::Ok(pipe.end.loop_object(py)));
transport_field!(get_extra, WritePipe, |py, _slf, pipe| PyResult::Ok(pipe.end.extra_dict(py)));
transport_field!(get_fileno, WritePipe, |_py, _slf, pipe| PyResult::Ok(pipe.end.fd));
transport_field!(get_protocol_field, WritePipe, |py, _slf, pipe| PyResult::Ok(
    pipe.end.protocol.get(py)
));
transport_field!(get_closing, WritePipe, |_py, _slf, pipe| PyResult::Ok(pipe.end.closing.get()));
transport_field!(get_conn_lost, WritePipe, |_py, _slf, pipe| PyResult::Ok(pipe.refused.get()));
transport_field!(get_protocol_paused, WritePipe, |_py, _slf, pipe| PyResult::Ok(
    pipe.flow.paused.get()
));
transport_field!(get_high_water, WritePipe, |py, _slf, pipe| pipe
    .flow
    .limits
    .pair(py)?
    .get_item(1));
transport_field!(get_low_water, WritePipe, |py, _slf, pipe| pipe.flow.limits.pair(py)?.get_item(0));

const METHODS: &[ffi::PyMethodDef] = &[
    fast_method(
        c"write",
        write,
        c"write($self, data)\n--\n\nWrite bytes; what does not fit waits.",
    ),
    plain_method(c"_read_ready", read_ready, c"_read_ready($self, /)\n--\n\n"),
    plain_method(c"_write_ready", write_ready, c"_write_ready($self, /)\n--\n\n"),
    plain_method(c"write_eof", close, c"write_eof($self, /)\n--\n\nClose once all is written."),
    plain_method(c"can_write_eof", can_write_eof, c"can_write_eof($self, /)\n--\n\nAlways true."),
    plain_method(c"close", close, c"close($self, /)\n--\n\nClose once all is written."),
    plain_method(c"abort", abort, c"abort($self, /)\n--\n\nClose at once."),
    plain_method(c"is_closing", is_closing, c"is_closing($self, /)\n--\n\n"),
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
];

const FIELDS: &[ffi::PyGetSetDef] = &[
    getter(c"_loop", get_loop),
    pipe_field::<WritePipe>(),
    getter(c"_extra", get_extra),
    getter(c"_fileno", get_fileno),
    getter(c"_protocol", get_protocol_field),
    getter(c"_closing", get_closing),
    getter(c"_conn_lost", get_conn_lost),
    getter(c"_protocol_paused", get_protocol_paused),
    getter(c"_high_water", get_high_water),
    getter(c"_low_water", get_low_water),
];
