//! From `write` to the socket.
//!
//! The writes of a batch wait in the transport and leave in one `sendmsg` before the loop polls its
//! descriptors again: a server that writes its head and its body apart sends one segment.
//! Bytes that would go over the high-water mark are sent at once, so flow control sees what the kernel
//! did not take, as in asyncio.

use std::io;

use pyo3::exceptions::{PyBufferError, PyRuntimeError, PyTypeError};
use pyo3::prelude::*;
use pyo3::types::PyBytes;

use super::Stream;
use crate::driver::reactor::Direction;
use crate::driver::sys;
use crate::ffi::errors::os_error;
use crate::ffi::futures;
use crate::ffi::memory;
use crate::net::Buffer;
use crate::transports::core::Lifecycle;
use crate::transports::core::class;
use crate::transports::core::context::FlushTrigger;
use crate::transports::core::flow_control::{pause_if_full, resume_if_drained};
use crate::transports::core::lifecycle::{lose, lose_now};
use crate::transports::core::report;
use crate::transports::core::write_buffer::is_bytes_like;
use crate::transports::sockets::lifecycle::{self, SocketTransport};

/// The method that errors of `writelines()` name: before CPython 3.12 it called `write()`.
const WRITELINES: &str = if cfg!(Py_3_12) { "writelines" } else { "write" };

/// The data that may be written, as errors call it.
const BYTES_LIKE: &str =
    if cfg!(Py_3_14) { "a bytes, bytearray, or memoryview object" } else { "a bytes-like object" };

/// Sends what a batch wrote to a transport.
///
/// # Safety
///
/// `slf` is a stream transport.
unsafe fn flush(py: Python<'_>, slf: &Py<PyAny>) -> PyResult<()> {
    let slf = slf.bind(py);
    // SAFETY: only `wrote` schedules this, with the transport that it is called for.
    let stream = unsafe { class::state::<Stream>(slf) };
    stream.leave_to_parent();
    stream.pending_flush.clear();
    stream.send_pending(py, slf, FlushTrigger::EndOfBatch)
}

/// Sends bytes of a layer of ours, which has gathered the writes of a batch already.
pub(crate) fn send(
    stream: &Stream,
    slf: &Bound<'_, PyAny>,
    data: &[u8],
    trigger: FlushTrigger,
) -> PyResult<()> {
    let py = slf.py();
    stream.check_writable(py, "write")?;
    if data.is_empty() || stream.refuses(py)? {
        return Ok(());
    }
    let taken = stream.send_from(py, data);
    if let Ok(taken) = taken
        && taken == data.len()
    {
        return stream.emptied(py, slf, trigger);
    }
    let rest = memory::bytes(py, &data[taken.unwrap_or(0)..])?;
    stream.buffer.borrow_mut().push(&rest)?;
    match taken {
        _ if stream.blocked.get() => pause_if_full(stream, slf),
        Ok(_) => stream.block(py, slf, trigger),
        // The error, or whatever waits in front, is met there.
        Err(()) => stream.send_pending(py, slf, trigger),
    }
}

impl Stream {
    /// In the child of a fork: forgets what was written before, which the parent sends.
    #[inline]
    pub(super) fn leave_to_parent(&self) {
        if self.pending_flush.is_parents() {
            self.pending_flush.clear();
            // What the kernel did not take is in the buffer of either, as on asyncio.
            if !self.blocked.get() {
                self.buffer.borrow_mut().clear();
            }
        }
    }

    /// Sends from where the bytes lie: how many of them the kernel took. An error where it can take
    /// none now: something is to be sent before, or it says so.
    fn send_from(&self, py: Python<'_>, data: &[u8]) -> Result<usize, ()> {
        if self.blocked.get() || !self.buffer.borrow().is_empty() {
            return Err(());
        }
        let fd = self.file.open(py).map_err(drop)?;
        sys::socket::send(fd, data).map_err(drop)
    }

    /// Sends until the buffer is empty or the kernel takes no more.
    pub(super) fn send_pending(
        &self,
        py: Python<'_>,
        slf: &Bound<'_, PyAny>,
        trigger: FlushTrigger,
    ) -> PyResult<()> {
        if self.blocked.get() || self.lifecycle() >= Lifecycle::Losing {
            return Ok(());
        }
        self.leave_to_parent();
        loop {
            if self.buffer.borrow().is_empty() {
                self.buffer.borrow_mut().relax(py);
                return self.emptied(py, slf, trigger);
            }
            // Apart from the match: the borrow must end before anything else happens.
            let fd = self.file.open(py);
            let sent = fd.and_then(|fd| self.buffer.borrow().send(py, fd));
            match sent {
                Ok((offered, taken)) => {
                    self.buffer.borrow_mut().advance(py, taken);
                    if taken < offered {
                        return self.block(py, slf, trigger);
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    return self.block(py, slf, trigger);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => {
                    self.discard(py)?;
                    let error = os_error(py, &error);
                    let waiter = self.empty_waiter(py);
                    let for_waiter = waiter.is_some().then(|| error.clone_ref(py));
                    self.write_failed(slf, error, trigger)?;
                    if let (Some(waiter), Some(error)) = (waiter, for_waiter) {
                        waiter.call_method1("set_exception", (error.into_value(py),))?;
                    }
                    return Ok(());
                }
            }
        }
    }

    /// Sends this batch's writes before an error ends the connection. Whether that works makes no
    /// difference any more: the first error is the one to report.
    pub(super) fn send_last_batch(&self, py: Python<'_>) {
        self.leave_to_parent();
        while self.pending_flush.is_set() && !self.blocked.get() && !self.buffer.borrow().is_empty()
        {
            let fd = self.file.open(py);
            let sent = fd.and_then(|fd| self.buffer.borrow().send(py, fd));
            let Ok((offered, taken)) = sent else { return };
            self.buffer.borrow_mut().advance(py, taken);
            if taken < offered {
                return;
            }
        }
    }

    /// The kernel takes no more: waits until the socket is writable, and has flow control look at what
    /// is left.
    fn block(&self, py: Python<'_>, slf: &Bound<'_, PyAny>, trigger: FlushTrigger) -> PyResult<()> {
        self.blocked.set(true);
        if trigger != FlushTrigger::EndOfBatch {
            // Where there is no memory for it the transport's own context has to do.
            let _ = self.remember_writer(py);
        }
        if let Some(native) = self.native(py) {
            // Room comes by and by: a loop that waits longer sends more at once.
            native.set_answered(py, false);
        }
        if let Err(error) = self.wait_for_room(py) {
            self.discard(py)?;
            return self.write_failed(slf, error, trigger);
        }
        lifecycle::keep_alive(self, slf);
        let adjust = || resume_if_drained(self, slf).and_then(|()| pause_if_full(self, slf));
        if trigger == FlushTrigger::EndOfBatch { self.in_context(py, adjust) } else { adjust() }
    }

    /// Has the reactor notify the transport when the socket is writable: a transport that was only
    /// reading is registered anew, once.
    fn wait_for_room(&self, py: Python<'_>) -> PyResult<()> {
        // The old registration goes first: the kernel keeps one entry of a socket.
        let reader =
            self.registration.borrow_mut().take_if(|registration| !registration.notifies_writers());
        let read = reader.is_some();
        drop(reader);
        lifecycle::register(self, py)?;
        if let Some(registration) = &*self.registration.borrow() {
            registration.blocked(Direction::Write);
        }
        // The new one reports data that the old one has reported already.
        if read && let Some(native) = self.native(py) {
            self.ask_for_data(py, &native);
        }
        Ok(())
    }

    /// The socket may take more.
    pub(super) fn writable(&self, py: Python<'_>, slf: &Bound<'_, PyAny>) -> PyResult<()> {
        if !self.arm(Direction::Write) {
            return Ok(());
        }
        self.blocked.set(false);
        self.in_writers_context(py, || self.send_pending(py, slf, FlushTrigger::Writable))
    }

    #[cold]
    fn write_failed(
        &self,
        slf: &Bound<'_, PyAny>,
        error: PyErr,
        trigger: FlushTrigger,
    ) -> PyResult<()> {
        let message = "Fatal write error on socket transport";
        match trigger {
            FlushTrigger::EndOfBatch => lifecycle::fatal(self, slf, error, message),
            FlushTrigger::Caller | FlushTrigger::Writable => {
                report::fatal(self, slf, error, message)
            }
        }
    }

    /// Nothing is left to send: resumes the protocol, wakes `sendfile`, closes.
    fn emptied(
        &self,
        py: Python<'_>,
        slf: &Bound<'_, PyAny>,
        trigger: FlushTrigger,
    ) -> PyResult<()> {
        if self.protocol_paused.get() && trigger == FlushTrigger::EndOfBatch {
            self.in_context(py, || resume_if_drained(self, slf))?;
        } else {
            resume_if_drained(self, slf)?;
        }
        // `resume_writing` may have written more.
        if !self.buffer.borrow().is_empty() {
            return Ok(());
        }
        if let Some(waiter) = self.empty_waiter(py) {
            futures::wake_unless_done(&waiter, None)?;
        }
        if self.lifecycle() == Lifecycle::Closing {
            match trigger {
                // The bytes could have been sent when they were written.
                FlushTrigger::Caller => lose(self, slf, None),
                FlushTrigger::EndOfBatch => self.in_context(py, || {
                    lose(self, slf, None);
                    Ok(())
                })?,
                FlushTrigger::Writable => return lose_now(self, slf),
            }
        } else if self.eof_written.get() {
            // That a peer is gone is reported by the next read or write.
            let _ = self.shut_down_writing(py);
        }
        lifecycle::relax(self, slf);
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
                // Data that is refused is not copied.
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
        self.buffer.borrow_mut().push(bytes)?;
        self.wrote(py, slf)
    }

    /// A view whose bytes do not lie in a row cannot be sent, which ends the connection where asyncio
    /// would have sent it at once (and from 3.12 on later where not).
    #[cold]
    fn not_copied(&self, py: Python<'_>, slf: &Bound<'_, PyAny>, error: PyErr) -> PyResult<()> {
        let sends = self.buffered(py, slf)? == 0 || cfg!(Py_3_12);
        if sends && error.is_instance_of::<PyBufferError>(py) {
            return self.write_failed(slf, error, FlushTrigger::Caller);
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
        // All are checked before the first is taken: a bad one among them sends none.
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
        self.buffer.borrow_mut().push_all(py, &accepted)?;
        self.wrote(py, slf)
    }

    fn check_writable(&self, py: Python<'_>, method: &str) -> PyResult<()> {
        if self.eof_written.get() {
            return Err(PyRuntimeError::new_err(format!(
                "Cannot call {method}() after write_eof()"
            )));
        }
        if self.has_empty_waiter(py) {
            return Err(PyRuntimeError::new_err(format!(
                "unable to {method}; sendfile is in progress"
            )));
        }
        Ok(())
    }

    /// After a loss data is dropped.
    fn refuses(&self, py: Python<'_>) -> PyResult<bool> {
        self.leave_to_parent();
        let lost = self.lifecycle() >= Lifecycle::Losing;
        if lost {
            self.write_after_loss(py)?;
        }
        Ok(lost)
    }

    /// The buffer has grown: sends it now or at the end of the batch.
    fn wrote(&self, py: Python<'_>, slf: &Bound<'_, PyAny>) -> PyResult<()> {
        if self.blocked.get() {
            return pause_if_full(self, slf);
        }
        let Some(native) = self.native(py) else {
            return Ok(());
        };
        if self.buffer.borrow().size() > self.limits.get().high || !native.is_running(py) {
            return self.send_pending(py, slf, FlushTrigger::Caller);
        }
        // SAFETY: `slf` is this transport, and the function is for its kind.
        unsafe { self.pending_flush.schedule(&native, slf, flush) };
        Ok(())
    }

    /// `write_eof()`
    pub(super) fn write_eof(&self, py: Python<'_>, slf: &Bound<'_, PyAny>) -> PyResult<()> {
        if self.is_closing() || self.eof_written.get() {
            return Ok(());
        }
        // asyncio would have sent this batch's writes before it came to the end.
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
        if self.pending_flush.is_set() {
            self.send_pending(py, slf, FlushTrigger::Caller)?;
        }
        Ok(self.buffer.borrow().size())
    }
}

/// asyncio's check of what is written.
fn check_type(data: &Bound<'_, PyAny>) -> PyResult<()> {
    if is_bytes_like(data) {
        return Ok(());
    }
    let text = "data argument must be {}, not '{}'";
    Err(memory::error::<PyTypeError>(data.py(), text, (BYTES_LIKE, data.get_type().name()?)))
}

/// A copy of data that its owner may change.
fn copied<'py>(data: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyBytes>> {
    memory::bytes(data.py(), Buffer::readable(data)?.as_slice())
}
