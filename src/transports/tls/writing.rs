//! From `write` to ciphertext.
//!
//! Data is encrypted at once, from where it lies; the ciphertext of a batch leaves in one piece at its
//! end.

use pyo3::exceptions::{PyBufferError, PyTypeError};
use pyo3::prelude::*;
use pyo3::types::PyBytes;

use super::{State, Tls};
use crate::ffi::memory;
use crate::net::Buffer;
use crate::transports::core::class::{state, state_of};
use crate::transports::core::context::FlushTrigger;
use crate::transports::core::flow_control::{FlowChange, Writing};
use crate::transports::core::write_buffer::is_bytes_like;
use crate::transports::stream;

/// Bytes above which the application is asked to pause; asyncio's for TLS.
pub(super) const HIGH_WATER: usize = 512 * 1024;

/// The most ciphertext that waits for the end of the batch, in bytes.
const MOST_DEFERRED: usize = 64 * 1024;

/// Sends the ciphertext of what a batch wrote to a transport.
///
/// # Safety
///
/// `slf` is a TLS transport.
unsafe fn flush_batch(py: Python<'_>, slf: &Py<PyAny>) -> PyResult<()> {
    let slf = slf.bind(py);
    // SAFETY: only `encrypted` schedules this, with the transport that it is called for.
    let this = unsafe { state::<Tls>(slf) };
    // In asyncio the failing `write()` itself ends the connection.
    this.flush_for(slf, FlushTrigger::EndOfBatch).or_else(|error| {
        // The loop calls this in no context: the connection's own is the one.
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

    /// Encrypts data, or keeps it. Does not notify the protocol, which might write in between.
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

    /// Keeps what the engine did not take of `data`: all but the first `taken` bytes.
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
        // All are checked, and have their memory, before the first is taken: a bad one among them
        // sends none.
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

    /// Encrypts as much as the engine takes. An error ends the connection here.
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

    /// After the end data is dropped. Whether it was.
    fn refuses(&self, py: Python<'_>) -> PyResult<bool> {
        self.leave_to_parent(py)?;
        if matches!(self.state.get(), State::Handshake | State::Wrapped) {
            return Ok(false);
        }
        self.drop_write(py, "SSL connection is closed")?;
        Ok(true)
    }

    /// Something was written: it is sent with the batch, or now if that would be too much.
    fn wrote(&self, slf: &Bound<'_, PyAny>) -> PyResult<()> {
        let left = match self.state.get() {
            State::Wrapped if self.backlog.borrow().is_empty() => self.encrypted(slf),
            State::Wrapped => self.write_backlog(slf),
            _ => Ok(()),
        };
        left.or_else(|error| self.write_failed(slf, error))
    }

    /// There is ciphertext to send: at the end of the batch, or now if it is too much.
    pub(super) fn encrypted(&self, slf: &Bound<'_, PyAny>) -> PyResult<()> {
        let py = slf.py();
        let Some(native) = self.native(py) else {
            return Ok(());
        };
        let most = MOST_DEFERRED.min(self.write_limits.get().high);
        if self.writing_paused.get() || !native.is_running(py) || self.unsent(py) >= most {
            return self.flush(slf);
        }
        // SAFETY: `slf` is this transport, and the function is for its kind.
        unsafe { self.pending_flush.schedule(&native, slf, flush_batch) };
        Ok(())
    }

    /// In the child of a fork: forgets the ciphertext of before, which the parent sends.
    pub(super) fn leave_to_parent(&self, py: Python<'_>) -> PyResult<()> {
        if self.pending_flush.is_parents() {
            self.pending_flush.clear();
            // What the transport below did not take is in the buffer of either process, as on asyncio.
            if !self.writing_paused.get() {
                self.engine.take(py, |_| Ok(()))?;
            }
        }
        Ok(())
    }

    /// Passes the ciphertext to the transport below, unless that has paused writing.
    pub(super) fn flush(&self, slf: &Bound<'_, PyAny>) -> PyResult<()> {
        self.flush_for(slf, FlushTrigger::Caller)
    }

    fn flush_for(&self, slf: &Bound<'_, PyAny>, trigger: FlushTrigger) -> PyResult<()> {
        self.leave_to_parent(slf.py())?;
        self.pending_flush.clear();
        if !self.writing_paused.get() {
            self.pass_down(slf.py(), trigger)?;
        }
        self.control_writing(slf, trigger)
    }

    fn pass_down(&self, py: Python<'_>, trigger: FlushTrigger) -> PyResult<()> {
        let Some(lower) = self.lower.get(py) else {
            return Ok(());
        };
        self.engine.take(py, |data| {
            if let Some(stream) = state_of::<stream::Stream>(&lower)? {
                return stream::send(stream, &lower, data, trigger);
            }
            let data = memory::bytes(py, data)?;
            if let Some(outer) = state_of::<Self>(&lower)? {
                outer.write(&lower, data.as_any())?;
                return outer.flush_for(&lower, trigger);
            }
            lower.call_method1(pyo3::intern!(py, "write"), (data,)).map(drop)
        })
    }

    // --- flow control ------------------------------------------------------------------------

    /// Pauses or resumes the application's writing. (asyncio compares with `>=` here, and with a mark of
    /// 0 it pauses writers that nothing will ever resume.)
    pub(super) fn control_writing(
        &self,
        slf: &Bound<'_, PyAny>,
        trigger: FlushTrigger,
    ) -> PyResult<()> {
        let py = slf.py();
        let (size, marks, paused) =
            (self.unsent(py), self.write_limits.get(), &self.protocol_paused);
        let change = if size >= marks.high.max(1) && !paused.get() {
            FlowChange::Pause
        } else if size <= marks.low && paused.get() {
            FlowChange::Resume
        } else {
            return Ok(());
        };
        paused.set(matches!(change, FlowChange::Pause));
        let notify = || self.notify_flow(slf, Some(change));
        if trigger == FlushTrigger::EndOfBatch { self.in_context(py, notify) } else { notify() }
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
    if is_bytes_like(data) {
        return Ok(());
    }
    let text = "data: expecting a bytes-like instance, got {}";
    Err(memory::error::<PyTypeError>(data.py(), text, (data.get_type().name()?,)))
}
