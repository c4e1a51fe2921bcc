//! One `SSL`, read and written with the GIL held.

use std::cell::Cell;
use std::ffi::c_int;
use std::ptr::{NonNull, null_mut};
use std::sync::Arc;

use pyo3::ffi;
use pyo3::prelude::*;

use super::library::{Library, Ssl, SslContext};
use super::probe::probed;
use super::wire::{Wire, new_bio};
use crate::ffi::memory;

/// `SSL_READING`: OpenSSL stopped for want of ciphertext.
const READING: c_int = 2;

/// `SSL_OP_ALLOW_CLIENT_RENEGOTIATION`: a client may have the server's callbacks called at any time.
const ALLOW_CLIENT_RENEGOTIATION: u64 = 1 << 8;

/// The most plaintext of one `SSL_write`.
pub(in super::super) const PIECE: usize = 256 * 1024;

/// What TLS adds to so much plaintext, at most: a header, a nonce, a tag and padding for each record.
const fn with_overhead(plain: usize) -> usize {
    plain + (plain / 16_384 + 1) * 320
}

/// The references to a `_SSLSocket` while nobody else can be in its methods: the `SSLObject`'s, and the
/// engine's own.
const OURS: ffi::Py_ssize_t = 2;

/// How a call ended.
pub(in super::super) enum Outcome {
    Done(usize),
    /// It goes on when the peer has sent more.
    Again,
    /// `_ssl`'s method has the answer, or the exception.
    Ask,
}

/// An `SSL` whose `BIO` is a wire.
///
/// # Invariants
///
/// `ssl` belongs to the `_SSLSocket` that the engine holds, and is used only in methods that get that
/// object, so it is alive. `trusted` is null until the handshake has ended. `busy` is set while OpenSSL is
/// in a call: a callback of the program's may come in there, and must not enter it again.
pub(in super::super) struct Connection {
    library: &'static Library,
    ssl: NonNull<Ssl>,
    wire: Arc<Wire>,
    /// The context with which calls may come directly.
    trusted: Cell<*mut SslContext>,
    busy: Cell<bool>,
}

impl Connection {
    /// Takes the place of the two `MemoryBIO`s that an object was made between. `None` where that cannot
    /// be: then nothing was changed.
    ///
    /// # Safety
    /// `socket` must be exactly a `_ssl._SSLSocket`, and the others exactly `_ssl.MemoryBIO`s, which
    /// nothing was written to yet.
    pub(in super::super) unsafe fn new(
        socket: &Bound<'_, PyAny>,
        incoming: &Bound<'_, PyAny>,
        outgoing: &Bound<'_, PyAny>,
    ) -> Option<Self> {
        let (library, layout) = probed(socket.py())?;
        // SAFETY: the caller's promise.
        let ssl = unsafe { layout.ssl_of(library, socket, incoming, outgoing) }?;
        let wire = Arc::default();
        let bio = new_bio(library, &wire)?;
        // SAFETY: an `SSL` that the object keeps, and a `BIO` that nobody else has. It passes on to the
        // `SSL`, whose two before lose the reference that it had.
        unsafe { (library.ssl_set_bio)(ssl.as_ptr(), bio.as_ptr(), bio.as_ptr()) };
        Some(Self { library, ssl, wire, trusted: Cell::new(null_mut()), busy: false.into() })
    }

    /// The handshake has ended. `plain`: no callback of the program's is called for each record.
    ///
    /// # Safety
    /// `socket` must be the object that this was made of.
    pub(in super::super) unsafe fn settle(&self, _socket: &Bound<'_, PyAny>, plain: bool) {
        // SAFETY: the object is alive, by the caller's promise, and so is its `SSL`.
        let (options, context) = unsafe {
            let ssl = self.ssl.as_ptr();
            ((self.library.ssl_get_options)(ssl), (self.library.ssl_get_ssl_ctx)(ssl))
        };
        if plain && options & ALLOW_CLIENT_RENEGOTIATION == 0 {
            self.trusted.set(context);
        }
    }

    /// Whether calls may come directly from now on.
    pub(in super::super) fn is_settled(&self) -> bool {
        !self.trusted.get().is_null()
    }

    pub(in super::super) fn waiting(&self) -> usize {
        self.wire.waiting()
    }

    pub(in super::super) fn unsent(&self) -> usize {
        self.wire.unsent()
    }

    pub(in super::super) fn feed(&self, data: &[u8]) -> PyResult<()> {
        if self.wire.feed(data) { Ok(()) } else { Err(memory::exhausted()) }
    }

    pub(in super::super) fn adopt(&self, buffer: &mut Vec<u8>, count: usize) -> bool {
        self.wire.adopt(buffer, count)
    }

    pub(in super::super) fn adopted(&self) -> Option<Vec<u8>> {
        self.wire.adopted()
    }

    pub(in super::super) fn take<R>(&self, send: impl FnOnce(&[u8]) -> R) -> R {
        self.wire.take(send)
    }

    pub(in super::super) fn clear(&self) {
        self.wire.clear();
    }

    /// Whether nothing else can be in OpenSSL with this `SSL`, nor come in: nobody else has the object,
    /// and no code of the program's is called. Nor is the key log written, which gives the GIL up: a
    /// server of TLS 1.2 may have a client make new keys at any time.
    fn is_ours(&self, socket: &Bound<'_, PyAny>) -> bool {
        // SAFETY: a live object, whose count only changes with the GIL held.
        let references = unsafe { ffi::Py_REFCNT(socket.as_ptr()) };
        // SAFETY: the object is alive, and so is its `SSL`.
        let context = unsafe { (self.library.ssl_get_ssl_ctx)(self.ssl.as_ptr()) };
        // SAFETY: the context of a live `SSL`.
        let logs = || unsafe { !(self.library.ssl_ctx_get_keylog_callback)(context).is_null() };
        // One is `socket` itself.
        references == OURS + 1 && context == self.trusted.get() && !logs()
    }

    fn call(&self, f: impl FnOnce(*mut Ssl) -> c_int) -> c_int {
        self.busy.set(true);
        let result = f(self.ssl.as_ptr());
        self.busy.set(false);
        result
    }

    fn outcome(&self, result: c_int, count: usize) -> Outcome {
        match result {
            1 => Outcome::Done(count),
            // SAFETY: the caller has the object, and so the `SSL` is alive.
            _ if unsafe { (self.library.ssl_want)(self.ssl.as_ptr()) } != READING => Outcome::Ask,
            _ => Outcome::Again,
        }
    }

    /// `SSL_read`.
    ///
    /// # Safety
    /// `start` must be valid for writes of `room` bytes, throughout a call that may run Python code, and
    /// `socket` the object that this was made of.
    pub(in super::super) unsafe fn read(
        &self,
        socket: &Bound<'_, PyAny>,
        start: *mut u8,
        room: usize,
    ) -> Outcome {
        if self.busy.get() {
            return Outcome::Again;
        }
        if !self.is_ours(socket) {
            return Outcome::Ask;
        }
        let mut count = 0;
        // SAFETY: the `SSL` is alive, and nobody else is in OpenSSL with it; the caller's promise.
        let result = self
            .call(|ssl| unsafe { (self.library.ssl_read_ex)(ssl, start.cast(), room, &mut count) });
        self.outcome(result, count)
    }

    /// `SSL_write` of at most `PIECE` bytes.
    ///
    /// # Safety
    /// `socket` must be the object that this was made of.
    pub(in super::super) unsafe fn write(
        &self,
        socket: &Bound<'_, PyAny>,
        data: &[u8],
    ) -> PyResult<Outcome> {
        if self.busy.get() {
            return Ok(Outcome::Again);
        }
        if !self.is_ours(socket) {
            return Ok(Outcome::Ask);
        }
        if !self.wire.reserve(with_overhead(data.len())) {
            return Err(memory::exhausted());
        }
        let mut count = 0;
        // SAFETY: the `SSL` is alive, and nobody else is in OpenSSL with it; the data is the caller's.
        let result = self.call(|ssl| unsafe {
            (self.library.ssl_write_ex)(ssl, data.as_ptr().cast(), data.len(), &mut count)
        });
        Ok(self.outcome(result, count))
    }
}
