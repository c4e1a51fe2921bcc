//! `ReadPipeTransport`: from a descriptor to a protocol, one `read` a turn.

use std::cell::Cell;
use std::ffi::CStr;
use std::io;

use pyo3::exceptions::PyOSError;
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyBytes, PyString, PyType};

use super::end::{End, Pipe, connection_lost, pipe_field};
use crate::driver::reactor::Direction;
use crate::driver::sys;
use crate::event_loop::NativeLoop;
use crate::ffi::definitions::{fast_method, getter, plain_method};
use crate::ffi::errors::os_error;
use crate::ffi::gil::PySlot;
use crate::ffi::imports;
use crate::ffi::memory;
use crate::ffi::object::Object;
use crate::transports::base::{self, Transport};
use crate::transports::feed::{self, Target};
use crate::{transport_field, transport_plain, transport_unary};

/// Reads of this size are worth receiving in place.
const BULK: usize = 32 * 1024;

pub(crate) struct ReadPipe {
    end: End,
    paused: Cell<bool>,
    /// Exactly asyncio's stream protocol: fed without its Python frames.
    feeds: Cell<bool>,
    /// The last read was a large one.
    bulk: Cell<bool>,
}

impl Pipe for ReadPipe {
    const REFUSAL: &'static str = "Pipe transport is for pipes/sockets only.";

    fn new(end: End, protocol: &Bound<'_, PyAny>) -> PyResult<Self> {
        let feeds = feed::suits(protocol)?.into();
        Ok(Self { end, paused: false.into(), feeds, bulk: false.into() })
    }

    fn end(&self) -> &End {
        &self.end
    }

    fn start(&self, _py: Python<'_>, slf: &Bound<'_, PyAny>) -> PyResult<()> {
        if self.is_reading() { self.watch(slf) } else { Ok(()) }
    }
}

/// Calls `eof_received`, then `connection_lost`.
///
/// # Safety
///
/// `slf` is a transport of this module's.
unsafe fn ended(py: Python<'_>, slf: &Py<PyAny>) -> PyResult<()> {
    // SAFETY: only `received_end` queues this step, with the transport that it is called for.
    let pipe = unsafe { base::state::<ReadPipe>(slf.bind(py)) };
    let told = pipe.end.tell(py, "eof_received", &[]);
    // Whatever came of that, the file is closed.
    // SAFETY: this function's caller vouches for `slf`.
    unsafe { connection_lost::<ReadPipe>(py, slf) }.and(told)
}

impl ReadPipe {
    fn is_reading(&self) -> bool {
        !self.paused.get() && !self.end.closing.get()
    }

    fn watch(&self, slf: &Bound<'_, PyAny>) -> PyResult<()> {
        self.end.watch(slf, Direction::Read, "_read_ready")
    }

    /// The descriptor is ready. What the protocol raises is the loop's to report.
    fn read(&self, py: Python<'_>, slf: &Bound<'_, PyAny>) -> PyResult<()> {
        let (Some(protocol), Some(native)) = (self.end.protocol.get(py), self.end.native(py))
        else {
            return Ok(());
        };
        if !self.is_reading() {
            return Ok(());
        }
        if self.feeds.get() {
            let reader = match feed::target(&protocol)? {
                Target::Reader(reader) => Some(reader),
                Target::Nobody => None,
                Target::Protocol => {
                    self.feeds.set(false);
                    return self.read(py, slf);
                }
            };
            let appended = self.receive(py, &native, |data| {
                reader.as_ref().map(|reader| reader.append(data)).transpose()
            });
            return match self.judge(py, slf, appended)? {
                Some(length) => match (reader, length?) {
                    (Some(reader), Some(length)) => reader.fed(length),
                    _ => Ok(()),
                },
                None => Ok(()),
            };
        }
        let data = self.receive_bytes(py, &native);
        match self.judge(py, slf, data)? {
            Some(data) => {
                protocol.call_method1(pyo3::intern!(py, "data_received"), (data?,)).map(drop)
            }
            None => Ok(()),
        }
    }

    /// One `read`, 0 at the end. The kernel said that there is something to read, so this does not
    /// wait, even if another process made the descriptor blocking.
    ///
    /// # Safety
    /// `at` must be valid for writes of `room` bytes.
    unsafe fn read_into(&self, at: *mut u8, room: usize) -> io::Result<usize> {
        // SAFETY: the caller's promise; a descriptor that is closed, or another file's, is at worst
        // an error or data of another file, and no matter of memory.
        unsafe { sys::descriptor::read(self.end.fd, at, room) }
    }

    /// One `read` through the loop's buffer. `None`: the end.
    fn receive<T>(
        &self,
        py: Python<'_>,
        native: &NativeLoop,
        take: impl FnOnce(&[u8]) -> T,
    ) -> io::Result<Option<T>> {
        native.with_scratch(py, |scratch| {
            // SAFETY: all of the buffer that is lent.
            let count = unsafe { self.read_into(scratch.as_mut_ptr(), scratch.len())? };
            Ok((count > 0).then(|| take(&scratch[..count])))
        })
    }

    /// One `read` as `bytes` of exactly its size; large ones are received in place.
    fn receive_bytes<'py>(
        &self,
        py: Python<'py>,
        native: &NativeLoop,
    ) -> io::Result<Option<PyResult<Bound<'py, PyBytes>>>> {
        let room = if self.bulk.get() {
            sys::descriptor::bytes_waiting(self.end.fd).min(native.most_at_once())
        } else {
            0
        };
        if room >= BULK
            && let Ok(bytes) = memory::uninitialised(py, room)
        {
            // SAFETY: `bytes` were just made, of this size; nothing else has seen them, and nothing
            // reads from them before the kernel has written.
            let count = unsafe {
                let start = ffi::PyBytes_AsString(bytes.as_ptr()).cast::<u8>();
                self.read_into(start, room)?
            };
            return Ok(match count {
                0 => None,
                _ if count == room => Some(Ok(bytes)),
                _ => Some(memory::bytes(py, &bytes.as_bytes()[..count])),
            });
        }
        let mut size = 0;
        let received = self.receive(py, native, |data| {
            size = data.len();
            memory::bytes(py, data)
        })?;
        self.bulk.set(size >= BULK);
        Ok(received)
    }

    /// Gives what was received. The end and errors are dealt with here.
    fn judge<T>(
        &self,
        py: Python<'_>,
        slf: &Bound<'_, PyAny>,
        received: io::Result<Option<T>>,
    ) -> PyResult<Option<T>> {
        match received {
            Ok(Some(received)) => return Ok(Some(received)),
            Ok(None) => self.received_end(py, slf)?,
            Err(error)
                if matches!(
                    error.kind(),
                    io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted
                ) => {}
            Err(error) => self.failed(py, slf, &error)?,
        }
        Ok(None)
    }

    fn received_end(&self, py: Python<'_>, slf: &Bound<'_, PyAny>) -> PyResult<()> {
        self.end.log_in_debug(slf, "info", "%r was closed by peer")?;
        self.end.closing.set(true);
        self.end.unwatch(py, Direction::Read)?;
        self.end.lose_after(slf, None, ended);
        Ok(())
    }

    #[cold]
    fn failed(&self, py: Python<'_>, slf: &Bound<'_, PyAny>, error: &io::Error) -> PyResult<()> {
        const MESSAGE: &str = "Fatal read error on pipe transport";
        let hung_up = error.raw_os_error() == Some(libc::EIO);
        let error = os_error(py, error);
        debug_assert!(error.is_instance_of::<PyOSError>(py));
        let value = error.clone_ref(py).into_value(py).into_any();
        if let Some(native) = self.end.native(py) {
            // What a terminal says when its other side is gone is no surprise.
            if !hung_up {
                let none = py.None().into_bound(py);
                let protocol = self.end.protocol.get(py).unwrap_or(none);
                let context = [("transport", slf), ("protocol", &protocol)];
                native.report(py, MESSAGE, error, &context)?;
            } else if native.is_debug(py) {
                imports::helpers(py)?.bind(py).call_method1("log_fatal", (slf, MESSAGE, &value))?;
            }
        }
        self.lose(py, slf, Some(value))
    }

    fn lose(
        &self,
        py: Python<'_>,
        slf: &Bound<'_, PyAny>,
        error: Option<Py<PyAny>>,
    ) -> PyResult<()> {
        self.end.unwatch(py, Direction::Read)?;
        self.end.lose::<Self>(slf, error);
        Ok(())
    }

    fn close(&self, py: Python<'_>, slf: &Bound<'_, PyAny>) -> PyResult<()> {
        if self.end.closing.get() || self.end.close_without_loop(py)? {
            return Ok(());
        }
        self.lose(py, slf, None)
    }

    fn pause(&self, py: Python<'_>, slf: &Bound<'_, PyAny>) -> PyResult<()> {
        if !self.is_reading() {
            return Ok(());
        }
        self.paused.set(true);
        self.end.unwatch(py, Direction::Read)?;
        self.end.log_in_debug(slf, "debug", "%r pauses reading")
    }

    fn resume(&self, slf: &Bound<'_, PyAny>) -> PyResult<()> {
        if self.end.closing.get() || !self.paused.get() {
            return Ok(());
        }
        self.paused.set(false);
        self.end.watch_for_caller(slf, Direction::Read, "_read_ready")?;
        self.end.log_in_debug(slf, "debug", "%r resumes reading")
    }

    fn set_protocol(&self, protocol: &Bound<'_, PyAny>) -> PyResult<()> {
        self.feeds.set(feed::suits(protocol)?);
        self.end.protocol.set(protocol.py(), Some(protocol.clone().unbind()));
        Ok(())
    }
}

impl Transport for ReadPipe {
    type BaseSlots = [Object; 1];
    const NAME: &'static CStr = c"tokioloop._core.ReadPipeTransport";
    const METHODS: &'static [&'static [ffi::PyMethodDef]] = &[METHODS];
    const FIELDS: &'static [&'static [ffi::PyGetSetDef]] = &[FIELDS];

    fn class_cell() -> &'static PyOnceLock<Py<PyType>> {
        static CLASS: PyOnceLock<Py<PyType>> = PyOnceLock::new();
        &CLASS
    }

    fn bases(py: Python<'_>) -> PyResult<Vec<Bound<'_, PyType>>> {
        Ok(vec![py.import("asyncio")?.getattr("ReadTransport")?.cast_into()?])
    }

    fn decorate(_class: &Bound<'_, PyType>) -> PyResult<()> {
        Ok(())
    }

    fn slots(&self) -> impl Iterator<Item = &PySlot> {
        self.end.slots()
    }

    fn is_closed(&self, py: Python<'_>) -> bool {
        self.end.is_closed(py)
    }

    fn abandon(&self, py: Python<'_>, _slf: &Bound<'_, PyAny>) -> PyResult<()> {
        self.end.abandon(py)
    }

    fn describe<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyString>> {
        let watched = self.end.describe_watch(py, Direction::Read);
        let text = format!("{} {watched}>", self.end.describe(py, "ReadPipeTransport"));
        Ok(PyString::new(py, &text))
    }
}

transport_plain!(read_ready, ReadPipe, |py, slf, pipe| pipe.read(py, slf));
transport_plain!(close, ReadPipe, |py, slf, pipe| pipe.close(py, slf));
transport_plain!(is_closing, ReadPipe, |_py, _slf, pipe| PyResult::Ok(pipe.end.closing.get()));
transport_plain!(is_reading, ReadPipe, |_py, _slf, pipe| PyResult::Ok(pipe.is_reading()));
transport_plain!(pause_reading, ReadPipe, |py, slf, pipe| pipe.pause(py, slf));
transport_plain!(resume_reading, ReadPipe, |py, slf, pipe| pipe.resume(slf));
transport_plain!(get_protocol, ReadPipe, |py, _slf, pipe| PyResult::Ok(pipe.end.protocol.get(py)));
transport_unary!(set_protocol, ReadPipe, "protocol", |py, _slf, pipe, protocol| pipe
    .set_protocol(protocol));

transport_field!(get_loop, ReadPipe, |py, _slf, pipe| PyResult::Ok(pipe.end.loop_object(py)));
transport_field!(get_extra, ReadPipe, |py, _slf, pipe| PyResult::Ok(pipe.end.extra_dict(py)));
transport_field!(get_fileno, ReadPipe, |_py, _slf, pipe| PyResult::Ok(pipe.end.fd));
transport_field!(get_protocol_field, ReadPipe, |py, _slf, pipe| PyResult::Ok(
    pipe.end.protocol.get(py)
));
transport_field!(get_closing, ReadPipe, |_py, _slf, pipe| PyResult::Ok(pipe.end.closing.get()));
transport_field!(get_paused, ReadPipe, |_py, _slf, pipe| PyResult::Ok(pipe.paused.get()));

const METHODS: &[ffi::PyMethodDef] = &[
    plain_method(c"_read_ready", read_ready, c"_read_ready($self, /)\n--\n\n"),
    plain_method(c"close", close, c"close($self, /)\n--\n\nClose; what was not read is lost."),
    plain_method(c"is_closing", is_closing, c"is_closing($self, /)\n--\n\n"),
    plain_method(c"is_reading", is_reading, c"is_reading($self, /)\n--\n\n"),
    plain_method(c"pause_reading", pause_reading, c"pause_reading($self, /)\n--\n\n"),
    plain_method(c"resume_reading", resume_reading, c"resume_reading($self, /)\n--\n\n"),
    fast_method(c"set_protocol", set_protocol, c"set_protocol($self, protocol)\n--\n\n"),
    plain_method(c"get_protocol", get_protocol, c"get_protocol($self, /)\n--\n\n"),
];

const FIELDS: &[ffi::PyGetSetDef] = &[
    getter(c"_loop", get_loop),
    pipe_field::<ReadPipe>(),
    getter(c"_extra", get_extra),
    getter(c"_fileno", get_fileno),
    getter(c"_protocol", get_protocol_field),
    getter(c"_closing", get_closing),
    getter(c"_paused", get_paused),
];
