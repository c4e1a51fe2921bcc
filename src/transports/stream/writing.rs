//! From `write` to the socket.
//!
//! Writes of one turn wait in the transport and leave in one `sendmsg` before the loop looks at
//! its descriptors again: a server that writes its head and its body apart sends one segment.
//! What would go over the high-water mark is sent at once, so flow control sees what the kernel
//! did not take, as in asyncio.

use std::io;

use pyo3::exceptions::{PyBufferError, PyRuntimeError, PyTypeError};
use pyo3::prelude::*;
use pyo3::types::{PyByteArray, PyBytes, PyMemoryView};

use super::Stream;
use crate::driver::reactor::Direction;
use crate::driver::sys;
use crate::ffi::errors::os_error;
use crate::ffi::memory;
use crate::net::Buffer;
use crate::transports::base;
use crate::transports::life::{self, Life, Sender, SocketTransport};

/// What errors of `writelines()` call it: before CPython 3.12 it was a `write()`.
const WRITELINES: &str = if cfg!(Py_3_12) { "writelines" } else { "write" };

/// What errors call the data that may be written.
const BYTES_LIKE: &str =
    if cfg!(Py_3_14) { "a bytes, bytearray, or memoryview object" } else { "a bytes-like object" };

/// Sends what the turn's writes left in a transport.
///
/// # Safety
///
/// `slf` is a stream transport.
unsafe fn flush(py: Python<'_>, slf: &Py<PyAny>) -> PyResult<()> {
    let slf = slf.bind(py);
    // SAFETY: only `wrote` lists this, with the transport that it is called for.
    let stream = unsafe { base::state::<Stream>(slf) };
    stream.leave_to_parent();
    stream.listed.leave();
    stream.send_pending(py, slf, Sender::Batch)
}

/// Sends bytes of a layer of ours, which has gathered the writes of a turn already.
pub(crate) fn send(
    stream: &Stream,
    slf: &Bound<'_, PyAny>,
    data: &Bound<'_, PyBytes>,
    sender: Sender,
) -> PyResult<()> {
    let py = slf.py();
    stream.check_writable(py, "write")?;
    if stream.refuses(py)? {
        return Ok(());
    }
    stream.outgoing.borrow_mut().push(data)?;
    if stream.blocked.get() {
        life::maybe_pause(stream, slf)
    } else {
        stream.send_pending(py, slf, sender)
    }
}

impl Stream {
    /// In the child of a fork: forgets what was written before, which the parent sends.
    #[inline]
    pub(super) fn leave_to_parent(&self) {
        if self.listed.is_parents() {
            self.listed.leave();
            // What the kernel did not take is in the buffer of either, as on asyncio.
            if !self.blocked.get() {
                self.outgoing.borrow_mut().clear();
            }
        }
    }

    /// Sends until the buffer is empty or the kernel takes no more.
    pub(super) fn send_pending(
        &self,
        py: Python<'_>,
        slf: &Bound<'_, PyAny>,
        sender: Sender,
    ) -> PyResult<()> {
        if self.blocked.get() || self.life.get() >= Life::Losing {
            return Ok(());
        }
        self.leave_to_parent();
        loop {
            if self.outgoing.borrow().is_empty() {
                self.outgoing.borrow_mut().relax(py);
                return self.emptied(py, slf, sender);
            }
            // Apart from the match: the borrow must end before anything else happens.
            let fd = self.file.open(py);
            let sent = fd.and_then(|fd| self.outgoing.borrow().send(py, fd));
            match sent {
                Ok((offered, taken)) => {
                    self.outgoing.borrow_mut().advance(py, taken);
                    if taken < offered {
                        return self.block(py, slf, sender);
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    return self.block(py, slf, sender);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => {
                    self.discard(py)?;
                    let error = os_error(py, &error);
                    let waiter = self.drained(py);
                    let for_waiter = waiter.is_some().then(|| error.clone_ref(py));
                    self.write_failed(slf, error, sender)?;
                    if let (Some(waiter), Some(error)) = (waiter, for_waiter) {
                        waiter.call_method1("set_exception", (error.into_value(py),))?;
                    }
                    return Ok(());
                }
            }
        }
    }

    /// Sends this turn's writes before an error ends the connection. Whether that works makes no
    /// difference any more: the first error is the one to tell.
    pub(super) fn send_last_words(&self, py: Python<'_>) {
        self.leave_to_parent();
        while self.listed.is_listed() && !self.blocked.get() && !self.outgoing.borrow().is_empty() {
            let fd = self.file.open(py);
            let sent = fd.and_then(|fd| self.outgoing.borrow().send(py, fd));
            let Ok((offered, taken)) = sent else { return };
            self.outgoing.borrow_mut().advance(py, taken);
            if taken < offered {
                return;
            }
        }
    }

    /// The kernel is full: waits for its word, and lets the protocol know what is left.
    fn block(&self, py: Python<'_>, slf: &Bound<'_, PyAny>, sender: Sender) -> PyResult<()> {
        self.blocked.set(true);
        if sender != Sender::Batch {
            // Where there is no memory for it the transport's own context has to do.
            let _ = self.remember_writer(py);
        }
        if let Some(native) = self.native(py) {
            // Room comes by and by: who waits longer sends more at once.
            native.set_answered(py, false);
        }
        life::register(self, py)?;
        if let Some(registration) = &*self.registration.borrow() {
            registration.blocked(Direction::Write);
        }
        life::keep_alive(self, slf);
        let tell = || life::maybe_resume(self, slf).and_then(|()| life::maybe_pause(self, slf));
        if sender == Sender::Batch { self.in_context(py, tell) } else { tell() }
    }

    /// The socket may take more.
    pub(super) fn writable(&self, py: Python<'_>, slf: &Bound<'_, PyAny>) -> PyResult<()> {
        let ready = match &*self.registration.borrow() {
            Some(registration) => registration.arm(Direction::Write),
            None => false,
        };
        if !ready {
            return Ok(());
        }
        self.blocked.set(false);
        self.in_writers_context(py, || self.send_pending(py, slf, Sender::Room))
    }

    #[cold]
    fn write_failed(&self, slf: &Bound<'_, PyAny>, error: PyErr, sender: Sender) -> PyResult<()> {
        let message = "Fatal write error on socket transport";
        match sender {
            Sender::Batch => self.fatal(slf, error, message),
            Sender::Caller | Sender::Room => life::fatal_to_caller(self, slf, error, message),
        }
    }

    /// Nothing is left to send: what waited for that happens.
    fn emptied(&self, py: Python<'_>, slf: &Bound<'_, PyAny>, sender: Sender) -> PyResult<()> {
        if self.flow.paused.get() && sender == Sender::Batch {
            self.in_context(py, || life::maybe_resume(self, slf))?;
        } else {
            life::maybe_resume(self, slf)?;
        }
        // `resume_writing` may have written more.
        if !self.outgoing.borrow().is_empty() {
            return Ok(());
        }
        if let Some(waiter) = self.drained(py)
            && !waiter.call_method0("done")?.is_truthy()?
        {
            waiter.call_method1("set_result", (py.None(),))?;
        }
        if self.life.get() == Life::Closing {
            match sender {
                // It could have been sent when it was written.
                Sender::Caller => life::lose(self, slf, None),
                Sender::Batch => self.in_context(py, || {
                    life::lose(self, slf, None);
                    Ok(())
                })?,
                Sender::Room => return life::lose_now(self, slf),
            }
        } else if self.eof_written.get() {
            // A peer that is gone is told of by the next read or write.
            let _ = self.shut_down_writing(py);
        }
        life::relax(self, slf);
        Ok(())
    }

    fn shut_down_writing(&self, py: Python<'_>) -> io::Result<()> {
        let fd = self.file.open(py)?;
        sys::socket::shut_down_writing(fd)
    }

    /// `write(data)`
    pub(super) fn write(
        &self,
        py: Python<'_>,
        slf: &Bound<'_, PyAny>,
        data: &Bound<'_, PyAny>,
    ) -> PyResult<()> {
        let copy;
        let bytes = match data.cast_exact::<PyBytes>() {
            Ok(bytes) => {
                self.check_writable(py, "write")?;
                bytes
            }
            Err(_) => {
                check_type(data)?;
                self.check_writable(py, "write")?;
                // What is refused is not copied.
                if data.len()? == 0 || self.refuses(py)? {
                    return Ok(());
                }
                copy = match copied(data) {
                    Ok(copy) => copy,
                    Err(error) => return self.not_copied(py, slf, error),
                };
                &copy
            }
        };
        if bytes.as_bytes().is_empty() || self.refuses(py)? {
            return Ok(());
        }
        self.outgoing.borrow_mut().push(bytes)?;
        self.wrote(py, slf)
    }

    /// A view whose bytes do not lie in a row cannot be sent, which ends the connection where asyncio
    /// would have sent it at once (and from 3.12 on later where not).
    #[cold]
    fn not_copied(&self, py: Python<'_>, slf: &Bound<'_, PyAny>, error: PyErr) -> PyResult<()> {
        let sends = self.buffered(py, slf)? == 0 || cfg!(Py_3_12);
        if sends && error.is_instance_of::<PyBufferError>(py) {
            return self.write_failed(slf, error, Sender::Caller);
        }
        Err(error)
    }

    /// `writelines(list_of_data)`
    pub(super) fn write_lines(
        &self,
        py: Python<'_>,
        slf: &Bound<'_, PyAny>,
        lines: &Bound<'_, PyAny>,
    ) -> PyResult<()> {
        self.check_writable(py, WRITELINES)?;
        // All are looked at before the first is taken: a bad one among them sends none.
        let mut accepted = Vec::new();
        for line in lines.try_iter()? {
            let line = line?;
            let bytes = match line.cast_into_exact::<PyBytes>() {
                Ok(bytes) => bytes,
                Err(error) => {
                    let line = error.into_inner();
                    check_type(&line)?;
                    copied(&line)?
                }
            };
            if !bytes.as_bytes().is_empty() {
                memory::push(&mut accepted, bytes)?;
            }
        }
        // Their iterator is code of the program's, and may have ended the connection.
        self.check_writable(py, WRITELINES)?;
        if accepted.is_empty() || self.refuses(py)? {
            return Ok(());
        }
        self.outgoing.borrow_mut().push_all(py, &accepted)?;
        self.wrote(py, slf)
    }

    fn check_writable(&self, py: Python<'_>, method: &str) -> PyResult<()> {
        if self.eof_written.get() {
            return Err(PyRuntimeError::new_err(format!(
                "Cannot call {method}() after write_eof()"
            )));
        }
        if self.awaits_drain(py) {
            return Err(PyRuntimeError::new_err(format!(
                "unable to {method}; sendfile is in progress"
            )));
        }
        Ok(())
    }

    /// After a loss data is dropped.
    fn refuses(&self, py: Python<'_>) -> PyResult<bool> {
        self.leave_to_parent();
        let lost = self.life.get() >= Life::Losing;
        if lost {
            self.write_after_loss(py)?;
        }
        Ok(lost)
    }

    /// Something was put into the buffer: sends it now or lists it for the end of the turn.
    fn wrote(&self, py: Python<'_>, slf: &Bound<'_, PyAny>) -> PyResult<()> {
        if self.blocked.get() {
            return life::maybe_pause(self, slf);
        }
        let Some(native) = self.native(py) else {
            return Ok(());
        };
        if self.outgoing.borrow().size() > self.flow.limits.get().high || !native.is_running(py) {
            return self.send_pending(py, slf, Sender::Caller);
        }
        if self.listed.enter() {
            let transport = slf.clone().unbind();
            // SAFETY: `slf` is this transport, and the function is for its kind.
            unsafe { native.flush_later(py, transport, flush) };
        }
        Ok(())
    }

    /// `write_eof()`
    pub(super) fn write_eof(&self, py: Python<'_>, slf: &Bound<'_, PyAny>) -> PyResult<()> {
        if self.is_closing() || self.eof_written.get() {
            return Ok(());
        }
        // asyncio would have sent this turn's writes before it came to the end.
        if self.buffered(py, slf)? > 0 {
            self.eof_written.set(true);
        } else if !self.is_closing() {
            self.eof_written.set(true);
            self.shut_down_writing(py).map_err(|error| os_error(py, &error))?;
        }
        Ok(())
    }

    /// `get_write_buffer_size()`: bytes that the kernel has not taken.
    pub(super) fn buffered(&self, py: Python<'_>, slf: &Bound<'_, PyAny>) -> PyResult<usize> {
        if self.listed.is_listed() {
            self.send_pending(py, slf, Sender::Caller)?;
        }
        Ok(self.outgoing.borrow().size())
    }
}

/// asyncio's check of what is written.
fn check_type(data: &Bound<'_, PyAny>) -> PyResult<()> {
    if data.is_instance_of::<PyBytes>()
        || data.is_instance_of::<PyByteArray>()
        || data.is_instance_of::<PyMemoryView>()
    {
        return Ok(());
    }
    let text = "data argument must be {}, not '{}'";
    Err(memory::error::<PyTypeError>(data.py(), text, (BYTES_LIKE, data.get_type().name()?)))
}

/// What can change under us is copied.
fn copied<'py>(data: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyBytes>> {
    memory::bytes(data.py(), Buffer::readable(data)?.as_slice())
}
