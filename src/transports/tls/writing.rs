//! From `write` to ciphertext.
//!
//! What is written is encrypted at once, from where it lies; the ciphertext of a turn leaves in
//! one piece at its end.

use pyo3::exceptions::PyTypeError;
use pyo3::prelude::*;
use pyo3::types::{PyByteArray, PyBytes, PyMemoryView};

use super::{State, Tls, tls};
use crate::sockets::Buffer;
use crate::transports::flow::Signal;
use crate::transports::outgoing::Data;
use crate::transports::{base, stream};

/// Bytes above which the application is asked to pause; asyncio's for TLS.
pub const HIGH_WATER: isize = 512 * 1024;

/// Ciphertext that waits for the end of the turn at most, in bytes.
const MOST_DEFERRED: usize = 64 * 1024;

/// Sends what the turn's writes left in a transport.
fn flush_turn(py: Python<'_>, slf: &Py<PyAny>) -> PyResult<()> {
    let slf = slf.bind(py);
    tls(slf).flush(slf)
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
        let py = slf.py();
        if let Ok(bytes) = data.cast_exact::<PyBytes>() {
            let taken = self.encrypt_directly(slf, bytes.as_bytes())?;
            if taken < bytes.as_bytes().len() {
                self.backlog.borrow_mut().push_from(py, Data::Bytes(bytes.clone().unbind()), taken);
            }
        } else {
            let buffer = Buffer::new(data, false)?;
            let data = buffer.as_slice();
            let taken = self.encrypt_directly(slf, data)?;
            if taken < data.len() {
                self.backlog.borrow_mut().push(py, Data::Copied(data[taken..].into()));
            }
        }
        Ok(())
    }

    /// `writelines(list_of_data)`
    pub(super) fn write_lines(
        &self,
        slf: &Bound<'_, PyAny>,
        lines: &Bound<'_, PyAny>,
    ) -> PyResult<()> {
        // All are looked at before the first is taken: a bad one among them sends none.
        let lines = lines
            .try_iter()?
            .map(|line| {
                let line = line?;
                Buffer::new(&line, false).map(|_whole| line)
            })
            .collect::<PyResult<Vec<_>>>()?;
        if self.refuses(slf.py())? {
            return Ok(());
        }
        lines.iter().try_for_each(|line| self.take_in(slf, line))?;
        self.wrote(slf)
    }

    /// Encrypts as much as the engine takes; what ends the connection is dealt with here.
    fn encrypt_directly(&self, slf: &Bound<'_, PyAny>, data: &[u8]) -> PyResult<usize> {
        if self.state.get() != State::Wrapped || !self.backlog.borrow().is_empty() {
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
        drop(self.backlog.borrow_mut().clear());
        self.fatal(slf, error, "Fatal error on SSL protocol")
    }

    /// Encrypts what the engine did not take before.
    pub(super) fn write_backlog(&self, slf: &Bound<'_, PyAny>) -> PyResult<()> {
        loop {
            let chunk = match self.backlog.borrow().first(slf.py()) {
                Some(chunk) => chunk,
                None => break,
            };
            match self.engine.encrypt(slf.py(), chunk.as_slice()) {
                Ok(Some(count)) => {
                    // The connection may have been lost meanwhile, and the backlog with it.
                    let left = self.backlog.borrow().size();
                    let spent = self.backlog.borrow_mut().advance(count.min(left));
                    drop(spent);
                }
                Ok(None) => break,
                Err(error) => return Err(error),
            }
        }
        self.encrypted(slf)
    }

    /// After the end data is dropped, with asyncio's warning from the fifth time on.
    fn refuses(&self, py: Python<'_>) -> PyResult<bool> {
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
        match self.state.get() {
            State::Wrapped if self.backlog.borrow().is_empty() => self.encrypted(slf),
            State::Wrapped => {
                self.write_backlog(slf).or_else(|error| self.write_failed(slf, error))
            }
            _ => Ok(()),
        }
    }

    /// There is ciphertext to send.
    pub(super) fn encrypted(&self, slf: &Bound<'_, PyAny>) -> PyResult<()> {
        let py = slf.py();
        let Some((_loop, native)) = self.native(py) else {
            return Ok(());
        };
        let most = MOST_DEFERRED.min(self.flow.marks.get().high);
        if self.writing_paused.get() || !native.is_running(py) || self.unsent(py) >= most {
            return self.flush(slf);
        }
        if !self.listed.replace(true) {
            let transport = slf.clone().unbind();
            native.unflushed.with(py, |unflushed| unflushed.push((transport, flush_turn)));
            native.wake(py);
        }
        Ok(())
    }

    /// Hands the ciphertext to the transport below, unless that one has enough.
    pub(super) fn flush(&self, slf: &Bound<'_, PyAny>) -> PyResult<()> {
        self.listed.set(false);
        if !self.writing_paused.get() {
            self.hand_down(slf.py())?;
        }
        self.control_writing(slf)
    }

    pub(super) fn hand_down(&self, py: Python<'_>) -> PyResult<()> {
        let (Some(lower), Some(data)) = (self.lower.get(py), self.engine.take(py)?) else {
            return Ok(());
        };
        if base::is::<Self>(&lower)? {
            let outer = tls(&lower);
            outer.write(&lower, data.as_any())?;
            return outer.flush(&lower);
        }
        if base::is::<stream::Stream>(&lower)? {
            return stream::send(&lower, &data);
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
        if self.listed.get() {
            self.flush(slf)?;
        }
        Ok(self.unsent(slf.py()))
    }

    /// Tells the application to pause or to go on. (asyncio compares with `>=` here, and with a
    /// mark of 0 it pauses writers that nothing will ever resume.)
    pub(super) fn control_writing(&self, slf: &Bound<'_, PyAny>) -> PyResult<()> {
        let py = slf.py();
        let (size, marks, paused) = (self.unsent(py), self.flow.marks.get(), &self.flow.paused);
        let signal = if size >= marks.high.max(1) && !paused.get() {
            Signal::Pause
        } else if size <= marks.low && paused.get() {
            Signal::Resume
        } else {
            return Ok(());
        };
        paused.set(matches!(signal, Signal::Pause));
        match (self.protocol.get(py), self.native(py)) {
            (Some(protocol), Some((_loop, native))) => signal.tell(native, slf, &protocol),
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
    Err(PyTypeError::new_err(format!(
        "data: expecting a bytes-like instance, got {}",
        data.get_type().name()?
    )))
}
