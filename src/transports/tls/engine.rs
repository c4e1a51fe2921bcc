//! The user's `ssl.SSLContext` at work: an `ssl.SSLObject` that was made between two `ssl.MemoryBIO`s.
//!
//! Where OpenSSL can be called directly (`openssl`) a connection there takes the place of the two, and
//! reads and writes. Elsewhere bytes cross once each way: received ones are written to the incoming BIO
//! from the loop's scratch buffer and decrypted into it again; what is to be sent is encrypted from
//! where it lies and taken out of the outgoing BIO as one `bytes`.

use std::cell::Cell;
use std::ptr::{copy, null_mut};

use pyo3::exceptions::PyValueError;
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyBytes, PyDict, PyString};

use super::openssl::{Connection, Outcome, PIECE, is_exactly};
use super::window::lend;
use crate::ffi::gil::PySlot;
use crate::ffi::memory;
use crate::net::Buffer;

/// The longest plaintext of one TLS record.
pub(super) const RECORD: usize = 16 * 1024;

/// The parts of the `ssl` module that are needed per packet.
struct SslModule {
    error: Py<PyAny>,
    want_read: Py<PyAny>,
    system_call: Py<PyAny>,
    certificate: Py<PyAny>,
    object: Py<PyAny>,
    /// The C types behind an `SSLObject`: neither can be derived from or changed.
    connection: Py<PyAny>,
    memory_bio: Py<PyAny>,
    /// How a context's C type gives its message callback, whatever a class derived from it does.
    message_callback: Py<PyAny>,
}

fn ssl_module(py: Python<'_>) -> PyResult<&SslModule> {
    static CACHE: PyOnceLock<SslModule> = PyOnceLock::new();
    CACHE.get_or_try_init(py, || {
        let (module, core) = (py.import("ssl")?, py.import("_ssl")?);
        let get = |name: &str| module.getattr(name).map(Bound::unbind);
        Ok(SslModule {
            error: get("SSLError")?,
            want_read: get("SSLWantReadError")?,
            system_call: get("SSLSyscallError")?,
            certificate: get("CertificateError")?,
            object: get("SSLObject")?,
            connection: core.getattr("_SSLSocket")?.unbind(),
            memory_bio: core.getattr("MemoryBIO")?.unbind(),
            message_callback: core.getattr("_SSLContext")?.getattr("_msg_callback")?.unbind(),
        })
    })
}

/// An `ssl.SSLError`, as opposed to what a user's callback raised.
pub(super) fn is_tls_error(py: Python<'_>, error: &PyErr) -> PyResult<bool> {
    error.value(py).is_instance(ssl_module(py)?.error.bind(py))
}

pub(super) fn is_certificate_error(py: Python<'_>, error: &PyErr) -> PyResult<bool> {
    error.value(py).is_instance(ssl_module(py)?.certificate.bind(py))
}

/// Whether the engine waits for bytes of its peer.
fn is_again(py: Python<'_>, error: &PyErr) -> PyResult<bool> {
    let ssl = ssl_module(py)?;
    let value = error.value(py);
    Ok(value.is_instance(ssl.want_read.bind(py))? || value.is_instance(ssl.system_call.bind(py))?)
}

/// How a step of the TLS state machine ended.
pub(super) enum Step {
    Done,
    /// It goes on when the peer has sent more.
    Again,
}

/// Why decrypting stopped.
pub(super) enum Stop {
    /// All that was received has been read.
    Dry,
    /// The room is used up, there may be more.
    Full,
    /// The peer has shut its sending side down.
    End,
    Failed(PyErr),
}

pub(super) struct Engine {
    /// The `ssl.SSLObject`.
    pub object: PySlot,
    /// The C object behind it; the `SSLObject` itself if either is of a class of the program's.
    raw: PySlot,
    /// The two BIOs, unless `direct` has taken their place.
    incoming: PySlot,
    outgoing: PySlot,
    direct: Option<Connection>,
    /// A record was read in part only: decrypting goes on with nothing in the BIO.
    partial: Cell<bool>,
    /// Which of them are lent memory of ours for a call. An object of the program's may keep what it is
    /// passed, and look at it when the memory is used for something else: it gets copies.
    raw_is_lent: bool,
    incoming_is_lent: bool,
}

/// Whether an `SSLObject` still has the C object that it was made with.
fn is_within(object: &Bound<'_, PyAny>, raw: &Bound<'_, PyAny>) -> bool {
    let py = object.py();
    // SAFETY: a live object; the result is a new reference, or null with an exception set. No attribute
    // is asked for: a class may have been given code for that.
    let attributes = unsafe {
        let attributes = ffi::PyObject_GenericGetDict(object.as_ptr(), null_mut());
        Bound::from_owned_ptr_or_err(py, attributes)
    };
    let within = attributes
        .and_then(|attributes| attributes.cast::<PyDict>()?.get_item(pyo3::intern!(py, "_sslobj")));
    within.ok().flatten().is_some_and(|within| within.is(raw))
}

/// Whether no code of the program's runs for each record of a `_SSLSocket`.
fn has_no_message_callback(raw: &Bound<'_, PyAny>) -> PyResult<bool> {
    let py = raw.py();
    // Neither runs code of the program's: they are attributes of C types.
    let context = raw.getattr(pyo3::intern!(py, "context"))?;
    let callback = ssl_module(py)?.message_callback.bind(py);
    Ok(callback.call_method1(pyo3::intern!(py, "__get__"), (context,))?.is_none())
}

impl Engine {
    pub(super) fn new(
        object: &Bound<'_, PyAny>,
        incoming: Bound<'_, PyAny>,
        outgoing: Bound<'_, PyAny>,
        directly: bool,
    ) -> PyResult<Self> {
        let py = object.py();
        let ssl = ssl_module(py)?;
        let mut raw = object.clone();
        if object.get_type().is(&ssl.object) {
            let within = object.getattr(pyo3::intern!(py, "_sslobj"))?;
            if is_exactly(&within, ssl.connection.bind(py)) {
                raw = within;
            }
        }
        let memory_bio = ssl.memory_bio.bind(py);
        let incoming_is_lent = is_exactly(&incoming, memory_bio);
        let raw_is_object = raw.is(object);
        let untouched = incoming_is_lent
            && is_exactly(&outgoing, memory_bio)
            && pending(&incoming) + pending(&outgoing) == 0;
        let possible = directly && !raw_is_object && untouched;
        // OpenSSL takes the callback when it makes the `SSL`, or with another context later.
        let direct = if possible && has_no_message_callback(&raw)? {
            // SAFETY: all three are of the C types, as was just seen, and nothing is in the BIOs.
            unsafe { Connection::new(&raw, &incoming, &outgoing) }
        } else {
            None
        };
        let bio = |bio: Bound<'_, PyAny>| match direct {
            Some(_) => PySlot::empty(),
            None => PySlot::new(bio.unbind()),
        };
        Ok(Self {
            object: PySlot::new(object.clone().unbind()),
            raw: PySlot::new(raw.unbind()),
            incoming: bio(incoming),
            outgoing: bio(outgoing),
            direct,
            partial: false.into(),
            raw_is_lent: !raw_is_object,
            incoming_is_lent,
        })
    }

    pub(super) fn slots(&self) -> [&PySlot; 4] {
        [&self.object, &self.raw, &self.incoming, &self.outgoing]
    }

    /// The handshake has ended.
    pub(super) fn settle(&self, py: Python<'_>) -> PyResult<()> {
        let (Some(direct), Some(raw)) = (&self.direct, self.raw.get(py)) else {
            return Ok(());
        };
        let plain = has_no_message_callback(&raw)?;
        // SAFETY: the object that the connection was made of.
        unsafe { direct.settle(&raw, plain) };
        Ok(())
    }

    pub(super) fn is_direct(&self) -> bool {
        self.direct.as_ref().is_some_and(Connection::is_settled)
    }

    /// The connection is lost: nothing more is encrypted or decrypted.
    pub(super) fn release(&self, py: Python<'_>) {
        self.slots().iter().for_each(|slot| slot.set(py, None));
        if let Some(direct) = &self.direct {
            direct.clear();
        }
    }

    /// Ciphertext of the peer that was not decrypted yet, in bytes.
    pub(super) fn waiting(&self, py: Python<'_>) -> usize {
        match &self.direct {
            Some(direct) => direct.waiting(),
            None => self.incoming.get(py).map_or(0, |bio| pending(&bio)),
        }
    }

    /// There is plaintext that a full buffer had no room for.
    pub(super) fn is_partial(&self) -> bool {
        self.partial.get()
    }

    /// Ciphertext for the peer that was not taken yet, in bytes.
    pub(super) fn unsent(&self, py: Python<'_>) -> usize {
        match &self.direct {
            Some(direct) => direct.unsent(),
            None => self.outgoing.get(py).map_or(0, |bio| pending(&bio)),
        }
    }

    /// Takes ciphertext of the peer. Runs no Python code.
    pub(super) fn feed(&self, py: Python<'_>, data: &[u8]) -> PyResult<()> {
        if let Some(direct) = &self.direct {
            return if self.raw.is_set(py) { direct.feed(data) } else { Ok(()) };
        }
        let Some(incoming) = self.incoming.get(py) else {
            return Ok(());
        };
        let write = |data: &Bound<'_, PyAny>| {
            incoming.call_method1(pyo3::intern!(py, "write"), (data,)).map(drop)
        };
        if !self.incoming_is_lent {
            return write(memory::bytes(py, data)?.as_any());
        }
        // SAFETY: `_ssl.MemoryBIO.write`, as was seen in `new`, only reads and keeps nothing.
        unsafe { lend(py, data.as_ptr().cast_mut(), data.len(), write) }
    }

    /// Takes the first `count` bytes of a buffer as ciphertext of the peer, and the buffer with them until
    /// `adopted`. `false` where they can only be fed.
    pub(super) fn adopt(&self, py: Python<'_>, buffer: &mut Vec<u8>, count: usize) -> bool {
        let direct = self.direct.as_ref().filter(|_| self.raw.is_set(py));
        direct.is_some_and(|direct| direct.is_settled() && direct.adopt(buffer, count))
    }

    /// The buffer that was adopted; what OpenSSL has not taken of it is kept.
    pub(super) fn adopted(&self) -> Option<Vec<u8>> {
        self.direct.as_ref()?.adopted()
    }

    /// Passes all ciphertext for the peer to `send` in one piece, if there is any.
    pub(super) fn take(
        &self,
        py: Python<'_>,
        send: impl FnOnce(&[u8]) -> PyResult<()>,
    ) -> PyResult<()> {
        if self.unsent(py) == 0 {
            return Ok(());
        }
        if let Some(direct) = &self.direct {
            return direct.take(send);
        }
        let Some(outgoing) = self.outgoing.get(py) else {
            return Ok(());
        };
        let bytes = outgoing.call_method0(pyo3::intern!(py, "read"))?;
        send(bytes.cast_into::<PyBytes>()?.as_bytes())
    }

    /// `do_handshake` or `unwrap`.
    pub(super) fn step(&self, py: Python<'_>, method: &Bound<'_, PyString>) -> PyResult<Step> {
        let Some(object) = self.object.get(py) else {
            return Ok(Step::Again);
        };
        match object.call_method0(method) {
            Ok(_) => Ok(Step::Done),
            Err(error) if is_again(py, &error)? => Ok(Step::Again),
            Err(error) => Err(error),
        }
    }

    /// What reads and writes, and whether that is the C object. A program that has taken it out of the
    /// `SSLObject` may be in one of its methods, on another thread, or have put another in its place.
    fn endpoint<'py>(&self, py: Python<'py>) -> Option<(Bound<'py, PyAny>, bool)> {
        let (raw, object) = (self.raw.get(py)?, self.object.get(py)?);
        if !self.raw_is_lent {
            return Some((raw, false));
        }
        let within = is_within(&object, &raw);
        if within { Some((raw, true)) } else { Some((object, false)) }
    }

    /// Encrypts. How many of the bytes were taken; `None` while bytes of the peer are needed first.
    pub(super) fn encrypt(&self, py: Python<'_>, data: &[u8]) -> PyResult<Option<usize>> {
        let Some((raw, lent)) = self.endpoint(py) else {
            return Ok(None);
        };
        let mut data = data;
        if let (Some(direct), true) = (&self.direct, lent) {
            // Bytes that OpenSSL could not write yet must be given again as they were, either way.
            data = &data[..data.len().min(PIECE)];
            // SAFETY: the object that the connection was made of.
            match unsafe { direct.write(&raw, data)? } {
                Outcome::Done(count) => return Ok(Some(count)),
                Outcome::Again => return Ok(None),
                Outcome::Ask => {}
            }
        }
        let write = |data: &Bound<'_, PyAny>| {
            raw.call_method1(pyo3::intern!(py, "write"), (data,))?.extract::<usize>()
        };
        let taken = if !lent {
            // An object of the program's may claim to have taken more than there is.
            let taken = memory::bytes(py, data).and_then(|data| write(data.as_any()));
            taken.map(|count| count.min(data.len()))
        } else {
            // SAFETY: `_ssl._SSLSocket.write`, as was seen in `new`, only reads and keeps nothing;
            // the caller holds the data, whose memory stays in place.
            unsafe { lend(py, data.as_ptr().cast_mut(), data.len(), write) }
        };
        match taken {
            Ok(count) => Ok(Some(count)),
            Err(error) if is_again(py, &error)? => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Decrypts all that was received, in whole records. How many bytes, and why it stopped. There has to
    /// be room for a record, else none is ever read.
    ///
    /// # Safety
    /// `start` must be valid for writes of `room` bytes, throughout calls that may run Python code.
    pub(super) unsafe fn drain(
        &self,
        py: Python<'_>,
        start: *mut u8,
        room: usize,
    ) -> (usize, Stop) {
        let mut filled = 0;
        loop {
            let left = room - filled;
            if left < RECORD {
                return (filled, Stop::Full);
            }
            // Asking a dry engine costs an exception.
            if !self.partial.replace(false) && self.waiting(py) == 0 {
                return (filled, Stop::Dry);
            }
            // SAFETY: all of the room that is left, by the caller's promise.
            match unsafe { self.read(py, start.add(filled), left) } {
                Ok(Some(0)) => return (filled, Stop::End),
                Ok(Some(count)) => filled += count,
                Ok(None) => return (filled, Stop::Dry),
                Err(error) => return (filled, Stop::Failed(error)),
            }
        }
    }

    /// Decrypts until a buffer of a program's is full.
    pub(super) fn fill(&self, py: Python<'_>, buffer: &Buffer) -> (usize, Stop) {
        let (start, room) = (buffer.as_ptr(), buffer.len());
        if room == 0 {
            // As in asyncio: nothing could be read, so nothing is left.
            return (0, Stop::End);
        }
        let mut filled = 0;
        self.partial.set(false);
        while filled < room {
            // SAFETY: what is not filled yet of the buffer, which the caller holds. It is writable:
            // the only other kind is asked for to be read.
            match unsafe { self.read(py, start.add(filled), room - filled) } {
                Ok(Some(0)) => return (filled, Stop::End),
                Ok(Some(count)) => filled += count,
                Ok(None) => return (filled, Stop::Dry),
                Err(error) => return (filled, Stop::Failed(error)),
            }
        }
        self.partial.set(true);
        (filled, Stop::Full)
    }

    /// One `SSL_read`.
    ///
    /// # Safety
    /// `start` must be valid for writes of `room` bytes, throughout a call that may run Python code.
    unsafe fn read(&self, py: Python<'_>, start: *mut u8, room: usize) -> PyResult<Option<usize>> {
        let Some((raw, lent)) = self.endpoint(py) else {
            return Ok(None);
        };
        if let (Some(direct), true) = (&self.direct, lent) {
            // SAFETY: the caller's promise, and the object that the connection was made of.
            match unsafe { direct.read(&raw, start, room) } {
                Outcome::Done(count) => return Ok(Some(count)),
                Outcome::Again => return Ok(None),
                Outcome::Ask => {}
            }
        }
        let name = pyo3::intern!(py, "read");
        let count = if !lent {
            raw.call_method1(name, (room,)).and_then(|data| {
                let data = Buffer::readable(&data)?;
                if data.len() > room {
                    return Err(PyValueError::new_err("read() gave more than it was asked for"));
                }
                // SAFETY: no more than the room that the caller promises. The two may overlap, where
                // a program gives a view of the very buffer that it is to be read into.
                unsafe { copy(data.as_slice().as_ptr(), start, data.len()) };
                Ok(data.len())
            })
        } else {
            // SAFETY: the caller's promise. What is called is `_ssl._SSLSocket.read`, as was seen in
            // `new`, which writes to the window and keeps nothing.
            unsafe {
                lend(py, start, room, |window| {
                    raw.call_method1(name, (room, window))?.extract::<usize>()
                })
            }
        };
        match count {
            Ok(count) => Ok(Some(count)),
            Err(error) if is_again(py, &error)? => Ok(None),
            Err(error) => Err(error),
        }
    }
}

/// Bytes in a `MemoryBIO`, which always answers.
fn pending(bio: &Bound<'_, PyAny>) -> usize {
    let count = bio.getattr(pyo3::intern!(bio.py(), "pending"));
    count.and_then(|count| count.extract()).unwrap_or(0)
}
