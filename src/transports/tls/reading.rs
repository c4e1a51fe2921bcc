//! From ciphertext to the protocol: all records of a wake-up at once.

use pyo3::exceptions::PyException;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyString};

use super::engine::{RECORD, Stop};
use super::{State, Tls};
use crate::event_loop::NativeLoop;
use crate::ffi::errors::os_error;
use crate::ffi::memory;
use crate::net::Buffer;
use crate::transports::core::class;
use crate::transports::core::protocol::Delivery;
use crate::transports::core::stream_reader::{self, Destination};

/// Bytes of ciphertext above which the transport below is paused while the application is.
pub(super) const HIGH_WATER: usize = 256 * 1024;

/// Bytes that the engine may answer on its own (to renegotiations, key updates) to a peer that does
/// not read: then nothing more is read from that peer.
const MOST_UNASKED: usize = 64 * 1024;

/// Bytes of ciphertext from which on a protocol's `bytes` are decrypted in place.
const MUCH: usize = 16 * 1024;

/// Decrypted bytes on the way to the protocol.
enum Parcel<'py> {
    Bytes(Bound<'py, PyBytes>),
    /// In the stream reader already; its buffer's new length.
    Fed(stream_reader::Reader<'py>, usize),
    /// In the engine of another TLS transport already.
    Passed(Bound<'py, PyAny>),
    Nothing,
}

/// Where decrypted bytes go.
enum Receiver<'py> {
    Protocol,
    Reader(stream_reader::Reader<'py>),
    /// Exactly a TLS transport.
    Layer(Bound<'py, PyAny>),
    /// They are dropped.
    Nothing,
}

/// Takes ciphertext from a stream of ours below: much of it in the buffer that it was received into.
///
/// # Safety
/// `slf` must be a TLS transport.
pub(super) unsafe fn feed(
    py: Python<'_>,
    slf: &Bound<'_, PyAny>,
    scratch: &mut Vec<u8>,
    count: usize,
) -> PyResult<()> {
    // SAFETY: the caller's promise.
    let tls = unsafe { class::state::<Tls>(slf) };
    // What is decrypted through the scratch buffer needs it.
    let direct = count >= MUCH && matches!(tls.delivery.get(), Delivery::Data);
    if direct && tls.engine.adopt(py, scratch, count) {
        return Ok(());
    }
    tls.engine.feed(py, &scratch[..count])
}

/// Processes ciphertext from a stream of ours below.
///
/// # Safety
/// `slf` must be a TLS transport.
pub(super) unsafe fn process(slf: &Bound<'_, PyAny>) -> PyResult<()> {
    // SAFETY: the caller's promise.
    let tls = unsafe { class::state::<Tls>(slf) };
    let result = tls.process(slf);
    if let Some(scratch) = tls.engine.adopted()
        && let Some(native) = tls.native(slf.py())
    {
        native.return_scratch(slf.py(), scratch);
    }
    result
}

impl Tls {
    /// Processes the ciphertext that the engine was fed.
    pub(super) fn process(&self, slf: &Bound<'_, PyAny>) -> PyResult<()> {
        self.leave_to_parent(slf.py())?;
        match self.state.get() {
            State::Handshake => self.shake_hands(slf),
            State::Wrapped => self.read(slf),
            State::Flushing => self.read_out(slf),
            State::Shutdown => self.shut_down(slf),
            State::Unwrapped => Ok(()),
        }
    }

    /// Decrypts all that was received; an error ends the connection.
    pub(super) fn read(&self, slf: &Bound<'_, PyAny>) -> PyResult<()> {
        if !self.is_readable() {
            return Ok(());
        }
        match self.read_records(slf) {
            Err(error) if error.is_instance_of::<PyException>(slf.py()) => {
                self.fatal(slf, error, "Fatal error on SSL protocol")
            }
            result => result,
        }
    }

    fn read_records(&self, slf: &Bound<'_, PyAny>) -> PyResult<()> {
        let py = slf.py();
        if !self.reading_paused.get() {
            match self.delivery.get() {
                Delivery::Buffer => self.read_into_buffer(slf)?,
                _ => self.read_into_scratch(slf)?,
            }
        }
        // Also while paused (unlike asyncio): the peer waits for the end of the handshake.
        if !self.backlog.borrow().is_empty() {
            self.write_backlog(slf)?;
        } else if self.engine.unsent(py) > 0 {
            self.encrypted(slf)?;
        }
        self.control_lower_reading(py)
    }

    fn read_into_scratch(&self, slf: &Bound<'_, PyAny>) -> PyResult<()> {
        let py = slf.py();
        let Some(native) = self.native(py) else {
            return Ok(());
        };
        loop {
            let Some(protocol) = self.protocol.get(py) else {
                return Ok(());
            };
            // Fixed before anything is decrypted: an engine of the program's may change it.
            let receiver = match self.delivery.get() {
                Delivery::Data => Receiver::Protocol,
                Delivery::Reader => match stream_reader::destination(&protocol)? {
                    Destination::Reader(reader) => Receiver::Reader(reader),
                    Destination::Dropped => Receiver::Nothing,
                    Destination::Protocol => {
                        self.delivery.set(Delivery::Data);
                        Receiver::Protocol
                    }
                },
                Delivery::Layer => self.layer.get(py).map_or(Receiver::Nothing, Receiver::Layer),
                // `set_protocol` was called while there was more to read.
                Delivery::Buffer => return self.read_into_buffer(slf),
            };
            let (parcel, stop) = match (receiver, self.room_for_much(py, &native)) {
                (Receiver::Protocol, Some(bytes)) => self.decrypt_into(py, bytes),
                (receiver, _) => {
                    let decrypted = native.with_scratch(py, |scratch| {
                        let (start, room) = (scratch.as_mut_ptr(), scratch.len());
                        // SAFETY: all of the scratch buffer, which is lent until the closure returns.
                        let decrypt = || unsafe { self.engine.drain(py, start, room) };
                        let (count, stop) = self.counting_unasked(py, decrypt);
                        (pack(py, receiver, &scratch[..count]), stop)
                    });
                    decrypted.map_err(|error| os_error(py, &error))?
                }
            };
            self.deliver(&protocol, parcel?)?;
            match stop {
                Stop::Dry => return Ok(()),
                Stop::End => return self.peer_closed(slf),
                Stop::Failed(error) => return Err(error),
                // Decrypting goes on where it stopped when the application resumes, if it ever does.
                Stop::Full if self.reading_paused.get() || !self.is_readable() => return Ok(()),
                Stop::Full => {}
            }
        }
    }

    /// Where much has been received: `bytes` for all of it, which spares a copy.
    fn room_for_much<'py>(
        &self,
        py: Python<'py>,
        native: &NativeLoop,
    ) -> Option<Bound<'py, PyBytes>> {
        let waiting = self.engine.waiting(py);
        if waiting < MUCH || !matches!(self.delivery.get(), Delivery::Data) {
            return None;
        }
        memory::uninitialised(py, (waiting + RECORD).min(native.most_at_once())).ok()
    }

    fn decrypt_into<'py>(
        &self,
        py: Python<'py>,
        bytes: Bound<'py, PyBytes>,
    ) -> (PyResult<Parcel<'py>>, Stop) {
        let (start, room) = (bytes.as_bytes().as_ptr().cast_mut(), bytes.as_bytes().len());
        // SAFETY: `bytes` that were just made, of this size, and that nothing else has seen.
        let decrypt = || unsafe { self.engine.drain(py, start, room) };
        let (count, stop) = self.counting_unasked(py, decrypt);
        let parcel = match count {
            0 => Ok(Parcel::Nothing),
            _ => memory::shortened(bytes, count).map(Parcel::Bytes),
        };
        (parcel, stop)
    }

    /// Counts the bytes that the engine wants to send while it decrypts, and not those that the
    /// application writes in answer: two that answer each other without end must both go on reading.
    fn counting_unasked<R>(&self, py: Python<'_>, decrypt: impl FnOnce() -> R) -> R {
        if !self.writing_paused.get() {
            return decrypt();
        }
        let before = self.engine.unsent(py);
        let result = decrypt();
        self.unasked.set(self.unasked.get() + self.engine.unsent(py).saturating_sub(before));
        result
    }

    fn deliver<'py>(&self, protocol: &Bound<'py, PyAny>, parcel: Parcel<'py>) -> PyResult<()> {
        let py = protocol.py();
        match parcel {
            Parcel::Bytes(data) => {
                protocol.call_method1(pyo3::intern!(py, "data_received"), (data,)).map(drop)
            }
            Parcel::Fed(reader, length) => reader.finish_feed(length),
            // SAFETY: a layer, see `Receiver`.
            Parcel::Passed(layer) => unsafe { class::state::<Self>(&layer) }.process(&layer),
            Parcel::Nothing => Ok(()),
        }
    }

    /// Decrypts straight into the buffer of a `BufferedProtocol`.
    fn read_into_buffer(&self, slf: &Bound<'_, PyAny>) -> PyResult<()> {
        let py = slf.py();
        let (Some(get_buffer), Some(buffer_updated)) =
            (self.get_buffer.get(py), self.buffer_updated.get(py))
        else {
            return Ok(());
        };
        let object = get_buffer.call1((self.engine.waiting(py),))?;
        let buffer = Buffer::writable(&object)?;
        let (count, stop) = self.counting_unasked(py, || self.engine.fill(py, &buffer));
        drop(buffer);
        if matches!(stop, Stop::Full) {
            self.read_soon(slf)?;
        }
        if count > 0 {
            buffer_updated.call1((count,))?;
        }
        match stop {
            Stop::Dry | Stop::Full => Ok(()),
            Stop::End => self.peer_closed(slf),
            Stop::Failed(error) => Err(error),
        }
    }

    /// The peer's `close_notify`.
    fn peer_closed(&self, slf: &Bound<'_, PyAny>) -> PyResult<()> {
        self.notify_eof(slf)?;
        self.start_shutdown(slf)
    }

    // --- flow control ------------------------------------------------------------------------

    /// `loop.call_soon(self._read_on)`
    pub(super) fn read_soon(&self, slf: &Bound<'_, PyAny>) -> PyResult<()> {
        self.call_soon(&slf.getattr(pyo3::intern!(slf.py(), "_read_on"))?)
    }

    /// Reading goes on after a pause, or in the next piece of a small buffer.
    pub(super) fn read_on(&self, slf: &Bound<'_, PyAny>) -> PyResult<()> {
        match self.state.get() {
            State::Wrapped | State::Flushing | State::Shutdown => self.process(slf),
            State::Handshake | State::Unwrapped => Ok(()),
        }
    }

    fn is_readable(&self) -> bool {
        matches!(self.state.get(), State::Wrapped | State::Flushing)
    }

    /// Pauses or resumes the transport below, by the ciphertext that waits on this side of it.
    pub(super) fn control_lower_reading(&self, py: Python<'_>) -> PyResult<()> {
        let waiting = self.engine.waiting(py);
        let marks = self.read_limits.get();
        let flooded = self.unasked.get() > MOST_UNASKED;
        let Some(lower) = self.lower.get(py) else {
            return Ok(());
        };
        if (waiting >= marks.high.max(1) || flooded) && !self.lower_paused.get() {
            self.lower_paused.set(true);
            call(&lower, pyo3::intern!(py, "pause_reading"))
        } else if waiting <= marks.low && !flooded && self.lower_paused.get() {
            self.lower_paused.set(false);
            call(&lower, pyo3::intern!(py, "resume_reading"))
        } else {
            Ok(())
        }
    }
}

/// Copies decrypted bytes out of the scratch buffer. That is lent meanwhile; should an engine of the
/// program's run Python code that reads as well, that code gets a buffer of its own.
fn pack<'py>(py: Python<'py>, receiver: Receiver<'py>, data: &[u8]) -> PyResult<Parcel<'py>> {
    if data.is_empty() {
        return Ok(Parcel::Nothing);
    }
    match receiver {
        Receiver::Protocol => memory::bytes(py, data).map(Parcel::Bytes),
        Receiver::Reader(reader) => reader.append(data).map(|length| Parcel::Fed(reader, length)),
        Receiver::Layer(layer) => {
            // SAFETY: a layer, see `Receiver`.
            unsafe { class::state::<Tls>(&layer) }.engine.feed(py, data)?;
            Ok(Parcel::Passed(layer))
        }
        Receiver::Nothing => Ok(Parcel::Nothing),
    }
}

fn call(object: &Bound<'_, PyAny>, method: &Bound<'_, PyString>) -> PyResult<()> {
    object.call_method0(method).map(drop)
}
