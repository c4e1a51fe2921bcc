//! `ReadPipeTransport`: from a descriptor to a protocol, one `read` an event.

use std::cell::Cell;
use std::ffi::CStr;
use std::io;
use std::ops::Deref;

use pyo3::exceptions::PyOSError;
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyBytes, PyString, PyType};

use super::end::{self, End, OfPipes, Pipe};
use crate::driver::reactor::Direction;
use crate::driver::sys;
use crate::event_loop::NativeLoop;
use crate::ffi::definitions::plain_method;
use crate::ffi::errors::os_error;
use crate::ffi::gil::PySlot;
use crate::ffi::memory;
use crate::ffi::object::Object;
use crate::transports::core::Core;
use crate::transports::core::Lifecycle;
use crate::transports::core::class::{self, Transport};
use crate::transports::core::flow_control::Reading;
use crate::transports::core::lifecycle::{Endpoint, connection_lost, lose};
use crate::transports::core::methods::{OfEndpoints, OfReading, OfTransports, TransportMethods};
use crate::transports::core::received::{BULK, cut};
use crate::transports::core::report::{Level, Severity};
use crate::transports::core::stream_reader::{self, Destination};
use crate::transports::core::trampolines::transport_plain;

pub(crate) struct ReadPipe {
    end: End,
    /// Exactly asyncio's stream protocol: its stream reader is fed without Python frames.
    feeds: Cell<bool>,
    /// The last read was a large one.
    bulk: Cell<bool>,
}

impl Pipe for ReadPipe {
    const REFUSAL: &'static str = "Pipe transport is for pipes/sockets only.";

    fn new(end: End, protocol: &Bound<'_, PyAny>) -> PyResult<Self> {
        let feeds = stream_reader::can_feed(protocol)?.into();
        Ok(Self { end, feeds, bulk: false.into() })
    }
}

impl Deref for ReadPipe {
    type Target = End;

    fn deref(&self) -> &End {
        &self.end
    }
}

impl Endpoint for ReadPipe {
    fn start(&self, slf: &Bound<'_, PyAny>, _native: &NativeLoop) -> PyResult<()> {
        if self.is_reading() { self.start_watching(slf) } else { Ok(()) }
    }

    fn release(&self, slf: &Bound<'_, PyAny>) -> PyResult<()> {
        self.close_pipe(slf.py())
    }
}

impl Reading for ReadPipe {
    fn pause_reading(&self, slf: &Bound<'_, PyAny>) -> PyResult<()> {
        self.core().pause_reading(slf, || self.unwatch(slf.py(), Direction::Read))
    }

    fn resume_reading(&self, slf: &Bound<'_, PyAny>) -> PyResult<()> {
        self.core()
            .resume_reading(slf, || self.watch_for_caller(slf, Direction::Read, "_read_ready"))
    }
}

/// Calls `eof_received`, then `connection_lost`.
///
/// # Safety
///
/// `slf` is a transport of this module's.
unsafe fn ended(py: Python<'_>, slf: &Py<PyAny>) -> PyResult<()> {
    // SAFETY: only `received_end` queues this step, with the transport that it is called for.
    let pipe = unsafe { class::state::<ReadPipe>(slf.bind(py)) };
    let notified = match (pipe.protocol.get(py), pipe.native(py)) {
        (Some(protocol), Some(native)) => {
            pipe.notify_protocol(&native, &protocol, pyo3::intern!(py, "eof_received"), &[])
        }
        _ => Ok(()),
    };
    // Also where that failed: the file is closed.
    // SAFETY: this function's caller vouches for `slf`.
    unsafe { connection_lost::<ReadPipe>(py, slf) }.and(notified)
}

impl ReadPipe {
    /// The descriptor is readable. The loop reports what the protocol raises.
    fn read(&self, py: Python<'_>, slf: &Bound<'_, PyAny>) -> PyResult<()> {
        let (Some(protocol), Some(native)) = (self.protocol.get(py), self.native(py)) else {
            return Ok(());
        };
        if !self.is_reading() {
            return Ok(());
        }
        if self.feeds.get() {
            let reader = match stream_reader::destination(&protocol)? {
                Destination::Reader(reader) => Some(reader),
                Destination::Dropped => None,
                Destination::Protocol => {
                    self.feeds.set(false);
                    return self.read(py, slf);
                }
            };
            let appended = self.receive(py, &native, |data| {
                reader.as_ref().map(|reader| reader.append(data)).transpose()
            });
            return match self.judge(py, slf, appended)? {
                Some(length) => match (reader, length?) {
                    (Some(reader), Some(length)) => reader.finish_feed(length),
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

    /// One `read`, 0 at the end. It follows an event of the kernel's, so it does not block, even if
    /// another process made the descriptor blocking.
    ///
    /// # Safety
    /// `at` must be valid for writes of `room` bytes.
    unsafe fn read_into(&self, at: *mut u8, room: usize) -> io::Result<usize> {
        // SAFETY: the caller's promise; a descriptor that is closed, or another file's, is at worst
        // an error or data of another file, and no matter of memory.
        unsafe { sys::descriptor::read(self.fd, at, room) }
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
        })?
    }

    /// One `read` as `bytes` of exactly its size; large ones are received in place.
    fn receive_bytes<'py>(
        &self,
        py: Python<'py>,
        native: &NativeLoop,
    ) -> io::Result<Option<PyResult<Bound<'py, PyBytes>>>> {
        let room = if self.bulk.get() {
            sys::descriptor::bytes_waiting(self.fd).min(native.most_at_once())
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
            return Ok((count > 0).then(|| cut(bytes, count)));
        }
        let mut size = 0;
        let received = self.receive(py, native, |data| {
            size = data.len();
            memory::bytes(py, data)
        })?;
        self.bulk.set(size >= BULK);
        Ok(received)
    }

    /// Gives what was received. The end and errors are handled here.
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
        self.log_in_debug(slf, Level::Info, "%r was closed by peer")?;
        self.advance(Lifecycle::Closing);
        self.unwatch(py, Direction::Read)?;
        self.lose_through(slf, None, ended);
        Ok(())
    }

    #[cold]
    fn failed(&self, py: Python<'_>, slf: &Bound<'_, PyAny>, error: &io::Error) -> PyResult<()> {
        // EIO: a terminal's other side is gone.
        let severity = match error.raw_os_error() {
            Some(libc::EIO) => Severity::Expected,
            _ => Severity::Unexpected,
        };
        let error = os_error(py, error);
        debug_assert!(error.is_instance_of::<PyOSError>(py));
        let message = "Fatal read error on pipe transport";
        let value = self.report_fatal_as(severity, slf, error, message)?;
        self.unwatch(py, Direction::Read)?;
        lose(self, slf, Some(value));
        Ok(())
    }
}

impl TransportMethods for ReadPipe {
    const CLOSE_DOC: &'static CStr = c"close($self, /)\n--\n\n\
    Stop reading and close the file. As ``asyncio.BaseTransport.close``.\n\
    \n\
    If the loop is closed it calls no method of the protocol.";

    fn close(&self, slf: &Bound<'_, PyAny>) -> PyResult<()> {
        end::close(self, slf)
    }

    fn set_protocol(&self, protocol: &Bound<'_, PyAny>) -> PyResult<()> {
        self.feeds.set(stream_reader::can_feed(protocol)?);
        self.protocol.set(protocol.py(), Some(protocol.clone().unbind()));
        Ok(())
    }
}

impl Transport for ReadPipe {
    type BaseSlots = [Object; 1];
    const NAME: &'static CStr = c"tokioloop._core.ReadPipeTransport";
    const DOC: &'static CStr = c"\
        The reading end of a pipe, a FIFO, a socket or a character device.\n\
        \n\
        ``connect_read_pipe`` creates it; an ``asyncio.ReadTransport``. A transport that was\n\
        not closed warns with ``ResourceWarning`` when it is collected.";

    fn class_cell() -> &'static PyOnceLock<Py<PyType>> {
        static CLASS: PyOnceLock<Py<PyType>> = PyOnceLock::new();
        &CLASS
    }

    fn methods() -> Vec<ffi::PyMethodDef> {
        [OfTransports::<Self>::METHODS, OfReading::<Self>::METHODS, METHODS].concat()
    }

    fn fields() -> Vec<ffi::PyGetSetDef> {
        [
            OfTransports::<Self>::FIELDS,
            OfEndpoints::<Self>::FIELDS,
            OfReading::<Self>::PAUSED,
            OfPipes::<Self>::FIELDS,
        ]
        .concat()
    }

    fn bases(py: Python<'_>) -> PyResult<Vec<Bound<'_, PyType>>> {
        Ok(vec![py.import("asyncio")?.getattr("ReadTransport")?.cast_into()?])
    }

    fn core(&self) -> &Core {
        self
    }

    fn slots(&self) -> impl Iterator<Item = &PySlot> {
        self.end.slots()
    }

    fn is_closed(&self, py: Python<'_>) -> bool {
        self.has_no_pipe(py)
    }

    fn abandon(&self, slf: &Bound<'_, PyAny>) -> PyResult<()> {
        self.end.abandon(slf.py())
    }

    fn describe<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyString>> {
        let watched = self.describe_watch(py, Direction::Read);
        let text = format!("{} {watched}>", self.end.describe(py, "ReadPipeTransport"));
        Ok(PyString::new(py, &text))
    }
}

transport_plain!(read_ready, ReadPipe, |py, slf, pipe| pipe.read(py, slf));

const METHODS: &[ffi::PyMethodDef] =
    &[plain_method(c"_read_ready", read_ready, c"_read_ready($self, /)\n--\n\n")];
