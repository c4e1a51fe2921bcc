//! From `write` to ciphertext.
//!
//! What is written is encrypted at once, from where it lies; the ciphertext of a turn leaves in
//! one piece at its end.

use pyo3::exceptions::{PyBufferError, PyTypeError};
use pyo3::prelude::*;
use pyo3::types::{PyByteArray, PyBytes, PyMemoryView};

use super::{State, Tls};
use crate::ffi::memory;
use crate::net::Buffer;
use crate::transports::flow::Signal;
use crate::transports::life::Sender;
use crate::transports::{base, stream};

/// Bytes above which the application is asked to pause; asyncio's for TLS.
pub(super) const HIGH_WATER: usize = 512 * 1024;

/// Ciphertext that waits for the end of the turn at most, in bytes.
const MOST_DEFERRED: usize = 64 * 1024;

/// Sends what the turn's writes left in a transport.
///
/// # Safety
///
/// `slf` is a TLS transport.
unsafe fn flush_turn(py: Python<'_>, slf: &Py<PyAny>) -> PyResult<()> {
    let slf = slf.bind(py);
    // SAFETY: only `encrypted` lists this, with the transport that it is called for.
    let this = unsafe { base::state::<Tls>(slf) };
    // In asyncio the `write()` that this was meant for ends the connection.
    this.flush_for(slf, Sender::Batch).or_else(|error| {
        // Out of the loop, and so in no context: the connection's own.
        this.in_context(slf.py(), || this.write_failed(slf, error))
    })
}

impl Tls {
    /// `write(data)`
    pub(super) fn write(&self, slf: &Bound<'_, PyAny>, data: &Bound<'_, PyAny>) -> PyResult<()> {
        check_type(data)?;
        if !data.is_truthy()? || self.refuses(slf.py())? {
            return Ok(());
        }
        self.take_in(slf, data)?;
        self.wrote(slf)
    }

    /// Encrypts data, or keeps it. Tells the protocol nothing: it might write in between.
    fn take_in(&self, slf: &Bound<'_, PyAny>, data: &Bound<'_, PyAny>) -> PyResult<()> {
        if let Ok(bytes) = data.cast_exact::<PyBytes>() {
            let taken = self.encrypt_directly(slf, bytes.as_bytes())?;
            return self.keep(slf, bytes, taken);
        }
        let buffer = match Buffer::readable(data) {
            Ok(buffer) => buffer,
            // Bytes that do not lie in a row: as on asyncio a write that fails.
            Err(error)
                if self.encrypts_at_once() && error.is_instance_of::<PyBufferError>(slf.py()) =>
            {
                return self.write_failed(slf, error);
            }
            Err(error) => return Err(error),
        };
        let taken = self.encrypt_directly(slf, buffer.as_slice())?;
        if taken == buffer.len() {
            return Ok(());
        }
        match memory::bytes(slf.py(), &buffer.as_slice()[taken..]) {
            Ok(rest) => self.keep(slf, &rest, 0),
            Err(error) => self.not_kept(slf, error, taken),
        }
    }

    /// What the engine did not take of `data`: all but the first `taken` bytes.
    fn keep(
        &self,
        slf: &Bound<'_, PyAny>,
        data: &Bound<'_, PyBytes>,
        taken: usize,
    ) -> PyResult<()> {
        if taken == data.as_bytes().len() {
            return Ok(());
        }
        let kept = self.backlog.borrow_mut().push_from(data, taken);
        kept.or_else(|error| self.not_kept(slf, error, taken))
    }

    /// No memory. Where nothing was encrypted nothing has happened. Where the first part was, the
    /// peer would take what is written next for the second.
    #[cold]
    fn not_kept(&self, slf: &Bound<'_, PyAny>, error: PyErr, taken: usize) -> PyResult<()> {
        if taken == 0 { Err(error) } else { self.write_failed(slf, error) }
    }

    /// `writelines(list_of_data)`
    pub(super) fn write_lines(
        &self,
        slf: &Bound<'_, PyAny>,
        lines: &Bound<'_, PyAny>,
    ) -> PyResult<()> {
        let py = slf.py();
        // All are looked at, and have their memory, before the first is taken: a bad one among
        // them sends none.
        let mut accepted = Vec::new();
        for line in lines.try_iter()? {
            let bytes = match line?.cast_into_exact::<PyBytes>() {
                Ok(bytes) => bytes,
                Err(line) => memory::bytes(py, Buffer::readable(&line.into_inner())?.as_slice())?,
            };
            if !bytes.as_bytes().is_empty() {
                memory::push(&mut accepted, bytes)?;
            }
        }
        if self.refuses(py)? || accepted.is_empty() {
            return Ok(());
        }
        if self.encrypts_at_once() {
            accepted.iter().try_for_each(|line| self.take_in(slf, line))?;
        } else {
            self.backlog.borrow_mut().push_all(py, &accepted)?;
        }
        self.wrote(slf)
    }

    fn encrypts_at_once(&self) -> bool {
        self.state.get() == State::Wrapped && self.backlog.borrow().is_empty()
    }

    /// Encrypts as much as the engine takes; what ends the connection is dealt with here.
    fn encrypt_directly(&self, slf: &Bound<'_, PyAny>, data: &[u8]) -> PyResult<usize> {
        if !self.encrypts_at_once() {
            return Ok(0);
        }
        let mut taken = 0;
        while taken < data.len() {
            match self.engine.encrypt(slf.py(), &data[taken..]) {
                Ok(Some(count)) => taken += count,
                Ok(None) => break,
                Err(error) => {
                    self.write_failed(slf, error)?;
                    return Ok(data.len());
                }
            }
        }
        Ok(taken)
    }

    fn write_failed(&self, slf: &Bound<'_, PyAny>, error: PyErr) -> PyResult<()> {
        self.backlog.borrow_mut().clear();
        self.fatal(slf, error, "Fatal error on SSL protocol")
    }

    /// Encrypts what the engine did not take before.
    pub(super) fn write_backlog(&self, slf: &Bound<'_, PyAny>) -> PyResult<()> {
        loop {
            let chunk = match self.backlog.borrow().first(slf.py()) {
                Some(chunk) => chunk,
                None => break,
            };
            match self.engine.encrypt(slf.py(), chunk.as_slice(slf.py())) {
                Ok(Some(count)) => {
                    // The connection may have been lost meanwhile, and the backlog with it.
                    let left = self.backlog.borrow().size();
                    self.backlog.borrow_mut().advance(slf.py(), count.min(left));
                }
                Ok(None) => break,
                Err(error) => return Err(error),
            }
        }
        self.encrypted(slf)
    }

    /// After the end data is dropped, with asyncio's warning from the fifth time on.
    fn refuses(&self, py: Python<'_>) -> PyResult<bool> {
        self.leave_to_parent(py)?;
        if matches!(self.state.get(), State::Handshake | State::Wrapped) {
            return Ok(false);
        }
        let count = self.writes_after_loss.get();
        self.writes_after_loss.set(count + 1);
        if count >= 5 {
            py.import("asyncio.log")?
                .getattr("logger")?
                .call_method1("warning", ("SSL connection is closed",))?;
        }
        Ok(true)
    }

    /// Something was written: it leaves with the turn, or now if that would be too much.
    fn wrote(&self, slf: &Bound<'_, PyAny>) -> PyResult<()> {
        let left = match self.state.get() {
            State::Wrapped if self.backlog.borrow().is_empty() => self.encrypted(slf),
            State::Wrapped => self.write_backlog(slf),
            _ => Ok(()),
        };
        left.or_else(|error| self.write_failed(slf, error))
    }

    /// There is ciphertext to send.
    pub(super) fn encrypted(&self, slf: &Bound<'_, PyAny>) -> PyResult<()> {
        let py = slf.py();
        let Some(native) = self.native(py) else {
            return Ok(());
        };
        let most = MOST_DEFERRED.min(self.flow.limits.get().high);
        if self.writing_paused.get() || !native.is_running(py) || self.unsent(py) >= most {
            return self.flush(slf);
        }
        if self.listed.enter() {
            let transport = slf.clone().unbind();
            // SAFETY: `slf` is this transport, and the function is for its kind.
            unsafe { native.flush_later(py, transport, flush_turn) };
        }
        Ok(())
    }

    /// In the child of a fork: forgets the ciphertext of before, which the parent sends.
    pub(super) fn leave_to_parent(&self, py: Python<'_>) -> PyResult<()> {
        if self.listed.is_parents() {
            self.listed.leave();
            // What the transport below did not want is in the buffer of either, as on asyncio.
            if !self.writing_paused.get() {
                drop(self.engine.take(py)?);
            }
        }
        Ok(())
    }

    /// Hands the ciphertext to the transport below, unless that one has enough.
    pub(super) fn flush(&self, slf: &Bound<'_, PyAny>) -> PyResult<()> {
        self.flush_for(slf, Sender::Caller)
    }

    fn flush_for(&self, slf: &Bound<'_, PyAny>, sender: Sender) -> PyResult<()> {
        self.leave_to_parent(slf.py())?;
        self.listed.leave();
        if !self.writing_paused.get() {
            self.hand_down(slf.py(), sender)?;
        }
        self.control_writing(slf, sender)
    }

    fn hand_down(&self, py: Python<'_>, sender: Sender) -> PyResult<()> {
        let (Some(lower), Some(data)) = (self.lower.get(py), self.engine.take(py)?) else {
            return Ok(());
        };
        if let Some(outer) = base::state_of::<Self>(&lower)? {
            outer.write(&lower, data.as_any())?;
            return outer.flush_for(&lower, sender);
        }
        if let Some(stream) = base::state_of::<stream::Stream>(&lower)? {
            return stream::send(stream, &lower, &data, sender);
        }
        lower.call_method1(pyo3::intern!(py, "write"), (data,)).map(drop)
    }

    // --- flow control ------------------------------------------------------------------------

    /// Bytes that were written and not handed down.
    fn unsent(&self, py: Python<'_>) -> usize {
        self.engine.unsent(py) + self.backlog.borrow().size()
    }

    /// `get_write_buffer_size()`
    pub(super) fn buffered(&self, slf: &Bound<'_, PyAny>) -> PyResult<usize> {
        if self.listed.is_listed() {
            self.flush(slf)?;
        }
        Ok(self.unsent(slf.py()))
    }

    /// Tells the application to pause or to go on. (asyncio compares with `>=` here, and with a
    /// mark of 0 it pauses writers that nothing will ever resume.)
    pub(super) fn control_writing(&self, slf: &Bound<'_, PyAny>, sender: Sender) -> PyResult<()> {
        let py = slf.py();
        let (size, marks, paused) = (self.unsent(py), self.flow.limits.get(), &self.flow.paused);
        let signal = if size >= marks.high.max(1) && !paused.get() {
            Signal::Pause
        } else if size <= marks.low && paused.get() {
            Signal::Resume
        } else {
            return Ok(());
        };
        paused.set(matches!(signal, Signal::Pause));
        match (self.protocol.get(py), self.native(py)) {
            (Some(protocol), Some(native)) => {
                let tell = || signal.tell(&native, slf, &protocol);
                if sender == Sender::Batch { self.in_context(py, tell) } else { tell() }
            }
            _ => Ok(()),
        }
    }

    /// `resume_writing` from below.
    pub(super) fn lower_resumed(&self, slf: &Bound<'_, PyAny>) -> PyResult<()> {
        self.writing_paused.set(false);
        self.unasked.set(0);
        self.flush(slf)?;
        self.control_lower_reading(slf.py())
    }
}

fn check_type(data: &Bound<'_, PyAny>) -> PyResult<()> {
    if data.is_instance_of::<PyBytes>()
        || data.is_instance_of::<PyByteArray>()
        || data.is_instance_of::<PyMemoryView>()
    {
        return Ok(());
    }
    let text = "data: expecting a bytes-like instance, got {}";
    Err(memory::error::<PyTypeError>(data.py(), text, (data.get_type().name()?,)))
}
