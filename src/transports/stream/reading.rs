//! From the socket to the protocol: one `recv` an event, so that no connection starves another.

use std::io;

use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyString};

use super::Stream;
use crate::driver::reactor::{After, Direction};
use crate::driver::sys::descriptor::bytes_waiting;
use crate::driver::sys::socket::receive;
use crate::event_loop::{Entry, NativeLoop};
use crate::ffi::errors::os_error;
use crate::ffi::memory;
use crate::net::Buffer;
use crate::transports::core::Lifecycle;
use crate::transports::core::class;
use crate::transports::core::protocol::Delivery;
use crate::transports::core::received::{BULK, cut};
use crate::transports::core::report::Level;
use crate::transports::core::stream_reader::{self, Destination};
use crate::transports::sockets::lifecycle;

const FATAL: &str = "Fatal read error on socket transport";

/// Whether a `recv` that fills its buffer leaves bytes in the socket.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Expected {
    /// It may.
    More,
    /// The kernel had no more when it was asked.
    All,
}

/// The outcome of one `recv`.
pub(super) enum Received<T> {
    Nothing,
    End,
    Data(T),
}

/// The reactor has an event for the socket.
///
/// # Safety
/// `slf` must be a stream transport.
pub(super) unsafe fn ready(
    py: Python<'_>,
    _event_loop: &NativeLoop,
    slf: &Py<PyAny>,
) -> PyResult<()> {
    let slf = slf.bind(py);
    // SAFETY: the caller's promise.
    let stream = unsafe { class::state::<Stream>(slf) };
    // Reading first, as asyncio: what a peer has sent comes before the error of writing to it.
    let mut result = Ok(());
    if stream.lifecycle() == Lifecycle::Open && stream.is_reading() && !stream.ended.get() {
        result = stream.read_unless_delivering(|| stream.read(py, slf));
    }
    if stream.blocked.get() {
        result = result.and(stream.writable(py, slf));
    }
    result
}

impl Stream {
    fn read(&self, py: Python<'_>, slf: &Bound<'_, PyAny>) -> PyResult<()> {
        let (Some(protocol), Some(native)) = (self.protocol.get(py), self.native(py)) else {
            return Ok(());
        };
        let result = match self.delivery.get() {
            Delivery::Data => self.read_bytes(py, slf, &native, &protocol),
            Delivery::Buffer => self.read_into(py, slf, &native, &protocol),
            Delivery::Reader => self.read_for_reader(py, slf, &native, &protocol),
            Delivery::Layer => self.read_for_layer(py, slf, &native, &protocol),
        };
        // Also after an error that ends the loop: it may be run again.
        self.ask_for_data(py, &native);
        result
    }

    /// Has the reactor notify the transport of the next data.
    pub(super) fn ask_for_data(&self, py: Python<'_>, native: &NativeLoop) {
        if self.lifecycle() != Lifecycle::Open || self.reading_paused.get() || self.ended.get() {
            return;
        }
        if self.arm(Direction::Read) {
            native.push(py, Entry::Io(self.key));
        }
    }

    /// One `recv` into `room` bytes at `at`.
    ///
    /// # Safety
    /// `at` must be valid for writes of `room` bytes.
    unsafe fn receive(
        &self,
        py: Python<'_>,
        at: *mut u8,
        room: usize,
        expected: Expected,
    ) -> io::Result<Received<usize>> {
        let fd = self.file.open(py)?;
        let registration = self.registration.borrow();
        let Some(registration) = &*registration else {
            return Ok(Received::Nothing);
        };
        let received = registration.attempt(Direction::Read, || {
            // SAFETY: the caller's promise.
            let count = unsafe { receive(fd, at, room)? };
            // A short read emptied the socket. (An end comes with a readiness that stays.)
            let drained = count > 0 && (count < room || expected == Expected::All);
            Ok((count, if drained { After::Drained } else { After::StillReady }))
        })?;
        Ok(match received {
            None => Received::Nothing,
            Some(0) => Received::End,
            Some(count) => Received::Data(count),
        })
    }

    /// Reads through the loop's scratch buffer and hands `take` the bytes.
    fn receive_scratch<T>(
        &self,
        py: Python<'_>,
        native: &NativeLoop,
        take: impl FnOnce(&[u8]) -> T,
    ) -> io::Result<Received<T>> {
        self.receive_whole_scratch(py, native, |scratch, count| take(&scratch[..count]))
    }

    /// The same; `take` gets the buffer and how many bytes are in it, and may keep it for a while.
    fn receive_whole_scratch<T>(
        &self,
        py: Python<'_>,
        native: &NativeLoop,
        take: impl FnOnce(&mut Vec<u8>, usize) -> T,
    ) -> io::Result<Received<T>> {
        native.with_whole_scratch(py, |scratch| {
            // SAFETY: all of the buffer that is lent.
            let received =
                unsafe { self.receive(py, scratch.as_mut_ptr(), scratch.len(), Expected::More)? };
            Ok(match received {
                Received::Nothing => Received::Nothing,
                Received::End => Received::End,
                Received::Data(count) => Received::Data(take(scratch, count)),
            })
        })?
    }

    /// One read as `bytes` of exactly its size.
    ///
    /// Small reads come through the scratch buffer. While large ones come in, the kernel is asked
    /// how much there is, and that is received in place.
    fn receive_bytes<'py>(
        &self,
        py: Python<'py>,
        native: &NativeLoop,
    ) -> io::Result<Received<PyResult<Bound<'py, PyBytes>>>> {
        let waiting = if self.bulk.get() { bytes_waiting(self.file.open(py)?) } else { 0 };
        if waiting < BULK {
            let mut size = None;
            let received = self.receive_scratch(py, native, |data| {
                size = Some(data.len());
                memory::bytes(py, data)
            })?;
            if let Some(size) = size {
                self.bulk.set(size >= BULK);
            }
            return Ok(received);
        }
        let room = waiting.min(native.most_at_once());
        let Ok(bytes) = memory::uninitialised(py, room) else {
            // No memory for a large object: a small one may do.
            return self.receive_scratch(py, native, |data| memory::bytes(py, data));
        };
        let start = bytes.as_bytes().as_ptr().cast_mut();
        // Data that comes in after the question is a new event.
        let expected = if waiting <= room { Expected::All } else { Expected::More };
        // SAFETY: `bytes` were just made, of this size, and nothing else has seen them.
        let received = unsafe { self.receive(py, start, room, expected)? };
        Ok(match received {
            Received::Data(count) => Received::Data(cut(bytes, count)),
            Received::Nothing => Received::Nothing,
            Received::End => Received::End,
        })
    }

    fn read_bytes(
        &self,
        py: Python<'_>,
        slf: &Bound<'_, PyAny>,
        native: &NativeLoop,
        protocol: &Bound<'_, PyAny>,
    ) -> PyResult<()> {
        let received = self.receive_bytes(py, native);
        self.conclude(slf, native, protocol, received, |data| match data {
            Ok(data) => {
                let name = pyo3::intern!(py, "data_received");
                self.hand_over(slf, native, protocol, name, data.as_any())
            }
            Err(error) => lifecycle::fatal(self, slf, error, FATAL),
        })
    }

    /// Reads straight into the buffer of a `BufferedProtocol`.
    fn read_into(
        &self,
        py: Python<'_>,
        slf: &Bound<'_, PyAny>,
        native: &NativeLoop,
        protocol: &Bound<'_, PyAny>,
    ) -> PyResult<()> {
        // An event may be that there is room to write: a buffer is asked for only to be filled.
        if !self.arm(Direction::Read) {
            return Ok(());
        }
        let buffer = self
            .call_protocol(
                native,
                protocol,
                pyo3::intern!(py, "get_buffer"),
                &[&(-1i32).into_pyobject(py)?.into_any()],
            )
            .and_then(|object| {
                if object.len()? == 0 {
                    return Err(PyRuntimeError::new_err("get_buffer() returned an empty buffer"));
                }
                Ok(object)
            });
        let buffer = match buffer {
            Ok(object) => Buffer::writable(&object),
            Err(error) => {
                let message = "Fatal error: protocol.get_buffer() call failed.";
                return lifecycle::fatal(self, slf, error, message);
            }
        };
        let buffer = match buffer {
            Ok(buffer) => buffer,
            Err(error) => {
                return lifecycle::fatal(self, slf, error, FATAL);
            }
        };
        // If `get_buffer` has closed the transport or set another protocol, asyncio goes on with what
        // the transport has now.
        let Some(protocol) = self.protocol.get(py) else {
            return Ok(());
        };
        // SAFETY: a writable buffer of the protocol's, which is held until after the call.
        let received = unsafe { self.receive(py, buffer.as_ptr(), buffer.len(), Expected::More) };
        drop(buffer);
        self.conclude(slf, native, &protocol, received, |count| {
            let count = count.into_pyobject(py)?.into_any();
            let name = pyo3::intern!(py, "buffer_updated");
            self.hand_over(slf, native, &protocol, name, &count)
        })
    }

    /// Reads for a layer of ours.
    fn read_for_layer(
        &self,
        py: Python<'_>,
        slf: &Bound<'_, PyAny>,
        native: &NativeLoop,
        protocol: &Bound<'_, PyAny>,
    ) -> PyResult<()> {
        let Some(sink) = self.sink() else {
            return Ok(());
        };
        // SAFETY: the delivery is `Layer`, so the protocol is the layer that the sink came with:
        // `feed_natively` sets both for it, and another protocol comes with another delivery.
        let received = self.receive_whole_scratch(py, native, |scratch, count| unsafe {
            (sink.feed)(py, protocol, scratch, count)
        });
        self.conclude(slf, native, protocol, received, |fed| {
            // SAFETY: the same layer.
            let process = || unsafe { (sink.process)(protocol) };
            let taken = fed.and_then(|()| self.context.run(py, native.contexts(), process));
            taken.or_else(|error| {
                // The layer below TLS takes its bytes with this call in asyncio.
                let message = "Fatal error: protocol.buffer_updated() call failed.";
                lifecycle::fatal(self, slf, error, message)
            })
        })
    }

    /// Reads straight into a stream's reader.
    fn read_for_reader(
        &self,
        py: Python<'_>,
        slf: &Bound<'_, PyAny>,
        native: &NativeLoop,
        protocol: &Bound<'_, PyAny>,
    ) -> PyResult<()> {
        let reader = match stream_reader::destination(protocol)? {
            Destination::Reader(reader) => Some(reader),
            Destination::Dropped => None,
            Destination::Protocol => {
                // The reader's attributes may be code that sets another protocol.
                if !self.protocol.holds(protocol) {
                    return Ok(());
                }
                self.delivery.set(Delivery::Data);
                return self.read_bytes(py, slf, native, protocol);
            }
        };
        let received = match &reader {
            Some(reader) if self.bulk.get() && reader.keeps_objects() => {
                self.receive_bytes(py, native).map(|received| match received {
                    Received::Data(data) => {
                        Received::Data(data.and_then(|data| reader.append_whole(data).map(Some)))
                    }
                    Received::Nothing => Received::Nothing,
                    Received::End => Received::End,
                })
            }
            _ => {
                let mut size = 0;
                let received = self.receive_scratch(py, native, |data| {
                    size = data.len();
                    reader.as_ref().map(|reader| reader.append(data)).transpose()
                });
                self.bulk.set(size >= BULK);
                received
            }
        };
        self.conclude(slf, native, protocol, received, |appended| {
            let fed = appended.and_then(|length| match (&reader, length) {
                (Some(reader), Some(length)) => reader.finish_feed(length),
                _ => Ok(()),
            });
            fed.or_else(|error| {
                let message = "Fatal error: protocol.data_received() call failed.";
                lifecycle::fatal(self, slf, error, message)
            })
        })
    }

    /// Handles the outcome of a `recv`: `take` gets the data.
    #[inline]
    fn conclude<T>(
        &self,
        slf: &Bound<'_, PyAny>,
        native: &NativeLoop,
        protocol: &Bound<'_, PyAny>,
        received: io::Result<Received<T>>,
        take: impl FnOnce(T) -> PyResult<()>,
    ) -> PyResult<()> {
        match received {
            Ok(Received::Data(data)) => take(data),
            Ok(Received::Nothing) => Ok(()),
            Ok(Received::End) => self.received_end(slf.py(), slf, native, protocol),
            Err(error) => {
                let error = os_error(slf.py(), &error);
                lifecycle::fatal(self, slf, error, FATAL)
            }
        }
    }

    /// The peer sends no more: the protocol decides whether the connection stays open for writing.
    fn received_end(
        &self,
        py: Python<'_>,
        slf: &Bound<'_, PyAny>,
        native: &NativeLoop,
        protocol: &Bound<'_, PyAny>,
    ) -> PyResult<()> {
        self.log_in_debug(slf, Level::Debug, "%r received EOF")?;
        let keep_open = self
            .call_protocol(native, protocol, pyo3::intern!(py, "eof_received"), &[])
            .and_then(|answer| answer.is_truthy());
        match keep_open {
            Ok(true) => {
                self.ended.set(true);
                lifecycle::relax(self, slf);
                Ok(())
            }
            Ok(false) => lifecycle::close_in_context(self, slf),
            Err(error) => lifecycle::fatal(
                self,
                slf,
                error,
                "Fatal error: protocol.eof_received() call failed.",
            ),
        }
    }

    /// Notifies the protocol of what was received; an error that it raises ends the connection.
    fn hand_over<'py>(
        &self,
        slf: &Bound<'py, PyAny>,
        native: &NativeLoop,
        protocol: &Bound<'py, PyAny>,
        name: &Bound<'py, PyString>,
        read: &Bound<'py, PyAny>,
    ) -> PyResult<()> {
        match self.call_protocol(native, protocol, name, &[read]) {
            Ok(_) => Ok(()),
            Err(error) => {
                let message = format!("Fatal error: protocol.{name}() call failed.");
                lifecycle::fatal(self, slf, error, &message)
            }
        }
    }
}
