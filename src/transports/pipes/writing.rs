//! `WritePipeTransport`: from `write` to a descriptor, at once, and the rest when it is writable.

use std::cell::RefCell;
use std::ffi::CStr;
use std::io;
use std::ops::Deref;

use pyo3::exceptions::{PyAssertionError, PyBrokenPipeError, PyBufferError};
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyBytes, PyString, PyType};

use super::end::{self, End, OfPipes, Pipe};
use crate::driver::reactor::Direction;
use crate::driver::sys::{self, FileKind};
use crate::event_loop::NativeLoop;
use crate::ffi::definitions::{fast_method, getter, plain_method};
use crate::ffi::errors::{made, os_error};
use crate::ffi::gil::PySlot;
use crate::ffi::memory;
use crate::net::Buffer;
use crate::transports::core::Core;
use crate::transports::core::Lifecycle;
use crate::transports::core::class::{FlowControlSlots, Transport};
use crate::transports::core::flow_control::{BufferLimits, Writing, pause_if_full};
use crate::transports::core::lifecycle::{Endpoint, lose, lose_now};
use crate::transports::core::methods::{
    OfEndpoints, OfForceClose, OfTransports, OfWriting, TransportMethods,
};
use crate::transports::core::report::{self, ForceClose, Level};
use crate::transports::core::trampolines::{transport_field, transport_plain, transport_unary};
use crate::transports::core::write_buffer::{WriteBuffer, is_bytes_like};

const FATAL: &str = "Fatal write error on pipe transport";
/// asyncio's warning of writes that are dropped.
const DROPPED: &str = "pipe closed by peer or os.write(pipe, data) raised exception.";

pub(crate) struct WritePipe {
    end: End,
    limits: BufferLimits,
    buffer: RefCell<WriteBuffer>,
}

impl Pipe for WritePipe {
    const REFUSAL: &'static str = "Pipe transport is only for pipes, sockets and character devices";

    fn new(end: End, _protocol: &Bound<'_, PyAny>) -> PyResult<Self> {
        Ok(Self { end, limits: BufferLimits::default(), buffer: RefCell::default() })
    }

    fn left_to_write(&self) -> usize {
        self.size()
    }
}

impl Deref for WritePipe {
    type Target = End;

    fn deref(&self) -> &End {
        &self.end
    }
}

impl Endpoint for WritePipe {
    /// Readiness to read means that the reader is gone, or that it has written, which none should.
    fn start(&self, slf: &Bound<'_, PyAny>, _native: &NativeLoop) -> PyResult<()> {
        match self.kind {
            FileKind::Fifo | FileKind::Socket => self.start_watching(slf),
            FileKind::CharacterDevice => Ok(()),
        }
    }

    fn release(&self, slf: &Bound<'_, PyAny>) -> PyResult<()> {
        self.close_pipe(slf.py())
    }
}

impl Writing for WritePipe {
    fn limits(&self) -> &BufferLimits {
        &self.limits
    }

    fn unsent(&self, _py: Python<'_>) -> usize {
        self.size()
    }
}

impl ForceClose for WritePipe {
    /// What was not written is lost.
    fn force_close(&self, slf: &Bound<'_, PyAny>, error: Option<Py<PyAny>>) -> PyResult<()> {
        let py = slf.py();
        if self.has_no_pipe(py) || self.close_without_loop(py)? {
            return Ok(());
        }
        self.advance(Lifecycle::Closing);
        drop(self.buffer.take());
        self.unwatch(py, Direction::Write)?;
        self.unwatch(py, Direction::Read)?;
        lose(self, slf, error);
        Ok(())
    }
}

impl WritePipe {
    fn size(&self) -> usize {
        self.buffer.borrow().size()
    }

    /// One `write`.
    ///
    /// Unlike a read, which follows an event of the kernel's, it may block: another process that shares
    /// the pipe or the terminal may have made it blocking. Other threads run meanwhile.
    fn send(&self, py: Python<'_>, data: &[u8]) -> io::Result<usize> {
        let fd = self.fd;
        if self.kind == FileKind::Socket {
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
                if self.conn_lost() > 0 || self.is_closing() {
                    return self.drop_write(py, DROPPED);
                }
                let view = match Buffer::readable(data) {
                    Ok(view) => view,
                    // Bytes that do not lie in a row: as on asyncio a write that fails.
                    Err(error) if self.size() == 0 && error.is_instance_of::<PyBufferError>(py) => {
                        self.count_loss();
                        return report::fatal(self, slf, error, FATAL);
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
        if self.conn_lost() > 0 || self.is_closing() {
            return self.drop_write(py, DROPPED);
        }
        let mut taken = 0;
        if self.size() == 0 {
            match self.send(py, bytes.as_bytes()) {
                Ok(count) => taken = count,
                Err(error) if is_temporary(&error) => {}
                Err(error) => {
                    self.count_loss();
                    return report::fatal(self, slf, os_error(py, &error), FATAL);
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
        self.buffer.borrow_mut().push_from(kept, from)?;
        if first && let Err(error) = self.watch_for_caller(slf, Direction::Write, "_write_ready") {
            // Nothing would ever send it.
            self.buffer.borrow_mut().clear();
            return Err(error);
        }
        pause_if_full(self, slf)
    }

    /// The descriptor is writable.
    fn write_ready(&self, py: Python<'_>, slf: &Bound<'_, PyAny>) -> PyResult<()> {
        loop {
            // Held by us, and not borrowed: other threads run while the kernel copies.
            let Some(first) = self.buffer.borrow().first(py) else {
                break;
            };
            let data = first.as_slice(py);
            let taken = match self.send(py, data) {
                Ok(taken) => taken,
                Err(error) if is_temporary(&error) => return Ok(()),
                Err(error) => {
                    self.count_loss();
                    return report::fatal(self, slf, os_error(py, &error), FATAL);
                }
            };
            let all = taken == data.len();
            if self.size() < taken {
                // Another thread has aborted meanwhile.
                return Ok(());
            }
            self.buffer.borrow_mut().advance(py, taken);
            if !all {
                // As asyncio: the protocol goes on when nothing is left, not below the low mark.
                return Ok(());
            }
        }
        self.unwatch(py, Direction::Write)?;
        let was_closing = self.is_closing();
        self.notify_flow(slf, self.shrunk(&self.limits, 0))?;
        if was_closing {
            self.unwatch(py, Direction::Read)?;
            return lose_now(self, slf);
        }
        Ok(())
    }

    /// The reader is gone.
    fn read_ready(&self, py: Python<'_>, slf: &Bound<'_, PyAny>) -> PyResult<()> {
        self.log_in_debug(slf, Level::Info, "%r was closed by peer")?;
        let broken = || made(py, PyBrokenPipeError::new_err(())).into_value(py).into_any();
        let error = (self.size() > 0).then(broken);
        self.force_close(slf, error)
    }
}

/// Raises what asyncio's assertion does.
fn check_type(data: &Bound<'_, PyAny>) -> PyResult<()> {
    if is_bytes_like(data) {
        return Ok(());
    }
    Err(PyAssertionError::new_err(data.repr()?.unbind()))
}

fn is_temporary(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted)
}

impl TransportMethods for WritePipe {
    const CLOSE_DOC: &'static CStr = c"close($self, /)\n--\n\n\
    Write what is buffered, then close the file. As ``asyncio.BaseTransport.close``.\n\
    \n\
    If the loop is closed it closes the file at once and calls no method of the\n\
    protocol.";

    fn close(&self, slf: &Bound<'_, PyAny>) -> PyResult<()> {
        end::close(self, slf)
    }

    fn set_protocol(&self, protocol: &Bound<'_, PyAny>) -> PyResult<()> {
        self.protocol.set(protocol.py(), Some(protocol.clone().unbind()));
        Ok(())
    }
}

impl Transport for WritePipe {
    type BaseSlots = FlowControlSlots;
    const NAME: &'static CStr = c"tokioloop._core.WritePipeTransport";
    const DOC: &'static CStr = c"\
        The writing end of a pipe, a FIFO, a socket or a character device.\n\
        \n\
        ``connect_write_pipe`` creates it; an ``asyncio.WriteTransport``. A transport that\n\
        was not closed warns with ``ResourceWarning`` when it is collected.";

    fn class_cell() -> &'static PyOnceLock<Py<PyType>> {
        static CLASS: PyOnceLock<Py<PyType>> = PyOnceLock::new();
        &CLASS
    }

    fn methods() -> Vec<ffi::PyMethodDef> {
        [
            OfTransports::<Self>::METHODS,
            OfForceClose::<Self>::ABORT,
            OfWriting::<Self>::METHODS,
            METHODS,
        ]
        .concat()
    }

    fn fields() -> Vec<ffi::PyGetSetDef> {
        [
            OfTransports::<Self>::FIELDS,
            OfEndpoints::<Self>::FIELDS,
            OfWriting::<Self>::PAUSED,
            OfWriting::<Self>::WATER_MARKS,
            OfPipes::<Self>::FIELDS,
            FIELDS,
        ]
        .concat()
    }

    fn core(&self) -> &Core {
        self
    }

    fn slots(&self) -> impl Iterator<Item = &PySlot> {
        self.end.slots().chain(self.limits.slot())
    }

    fn is_closed(&self, py: Python<'_>) -> bool {
        self.has_no_pipe(py)
    }

    fn abandon(&self, slf: &Bound<'_, PyAny>) -> PyResult<()> {
        self.end.abandon(slf.py())
    }

    fn describe<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyString>> {
        let (start, watched) = (
            self.end.describe(py, "WritePipeTransport"),
            self.describe_watch(py, Direction::Write),
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
// The same as `close()`.
transport_plain!(write_eof, WritePipe, |_py, slf, pipe| end::close(pipe, slf));
transport_field!(get_conn_lost, WritePipe, |_py, _slf, pipe| PyResult::Ok(pipe.conn_lost()));

const METHODS: &[ffi::PyMethodDef] = &[
    fast_method(
        c"write",
        write,
        c"write($self, data)\n--\n\n\
        Write ``data``, a bytes-like object, without blocking.\n\
        \n\
        As ``asyncio.WriteTransport.write``. The caller may change the object afterwards.\n\
        The transport buffers what the kernel does not accept; above the high-water mark it\n\
        calls ``pause_writing()`` of the protocol. Data written after the reader has closed\n\
        its end is dropped.\n\
        \n\
        Raises ``AssertionError`` if ``data`` is not bytes-like, as asyncio does.",
    ),
    plain_method(c"_read_ready", read_ready, c"_read_ready($self, /)\n--\n\n"),
    plain_method(c"_write_ready", write_ready, c"_write_ready($self, /)\n--\n\n"),
    plain_method(
        c"write_eof",
        write_eof,
        c"write_eof($self, /)\n--\n\n\
        Write what is buffered, then close the file. As ``asyncio.WriteTransport.write_eof``.",
    ),
    plain_method(
        c"can_write_eof",
        can_write_eof,
        c"can_write_eof($self, /)\n--\n\n\
        Return True. As ``asyncio.WriteTransport.can_write_eof``.",
    ),
];

const FIELDS: &[ffi::PyGetSetDef] = &[getter(c"_conn_lost", get_conn_lost)];
