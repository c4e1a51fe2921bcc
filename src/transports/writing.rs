//! From `write` to the socket.
//!
//! Writes of one turn wait in the transport and leave in one `sendmsg` before the loop looks at
//! its descriptors again: a server that writes its head and its body apart sends one segment.
//! What would go over the high-water mark is sent at once, so flow control sees what the kernel
//! did not take, as in asyncio.

use std::collections::VecDeque;
use std::io;
use std::os::fd::RawFd;

use pyo3::exceptions::{PyRuntimeError, PyTypeError};
use pyo3::prelude::*;
use pyo3::types::{PyByteArray, PyBytes, PyMemoryView};

use super::object::stream;
use super::{Life, Stream};
use crate::errors::{check, os_error};
use crate::reactor::Direction;
use crate::sockets::{Buffer, send};

const VECTORS: usize = 64;

enum Data {
    /// Immutable, so kept as it is.
    Bytes(Py<PyBytes>),
    Copied(Box<[u8]>),
}

#[derive(Default)]
pub struct Outgoing {
    chunks: VecDeque<Data>,
    /// Bytes of the first chunk that have left already.
    sent: usize,
    size: usize,
}

impl Data {
    fn as_slice(&self) -> &[u8] {
        match self {
            // SAFETY: callers hold the GIL, as for everything in a transport.
            Self::Bytes(bytes) => bytes.as_bytes(unsafe { Python::assume_attached() }),
            Self::Copied(bytes) => bytes,
        }
    }
}

impl Outgoing {
    pub fn size(&self) -> usize {
        self.size
    }

    pub fn is_empty(&self) -> bool {
        self.size == 0
    }

    fn push(&mut self, data: Data) {
        self.size += data.as_slice().len();
        self.chunks.push_back(data);
    }

    /// One `send` or `sendmsg` of as much as the vectors hold: what was offered, what was taken.
    fn send(&self, fd: RawFd) -> io::Result<(usize, usize)> {
        if let [only] = self.chunks.as_slices().0
            && self.chunks.len() == 1
        {
            let rest = &only.as_slice()[self.sent..];
            return Ok((rest.len(), send(fd, rest.as_ptr(), rest.len())?));
        }
        let mut vectors = [libc::iovec { iov_base: std::ptr::null_mut(), iov_len: 0 }; VECTORS];
        let mut offered = 0;
        let mut count = 0;
        for (vector, chunk) in vectors.iter_mut().zip(&self.chunks) {
            let rest = &chunk.as_slice()[if count == 0 { self.sent } else { 0 }..];
            vector.iov_base = rest.as_ptr().cast_mut().cast();
            vector.iov_len = rest.len();
            offered += rest.len();
            count += 1;
        }
        // SAFETY: all zeros is a valid `msghdr`; the vectors point into chunks we hold.
        let taken = unsafe {
            let mut message: libc::msghdr = std::mem::zeroed();
            message.msg_iov = vectors.as_mut_ptr();
            message.msg_iovlen = count as _;
            check(libc::sendmsg(fd, &message, libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL))?
        };
        Ok((offered, taken))
    }

    /// Forgets `taken` bytes; spent chunks come back, to be dropped outside the borrow.
    fn advance(&mut self, taken: usize) -> Option<Data> {
        self.size -= taken;
        let mut passed = self.sent + taken;
        let mut last = None;
        while let Some(first) = self.chunks.front() {
            let length = first.as_slice().len();
            if passed < length {
                break;
            }
            passed -= length;
            // `bytes` have no destructor of their own: nothing runs when all but the last go.
            last = self.chunks.pop_front();
        }
        self.sent = passed;
        last
    }

    fn clear(&mut self) -> VecDeque<Data> {
        self.sent = 0;
        self.size = 0;
        std::mem::take(&mut self.chunks)
    }
}

/// Sends what the turn's writes left in a transport.
fn flush(py: Python<'_>, slf: &Py<PyAny>) -> PyResult<()> {
    let slf = slf.bind(py);
    let stream = stream(slf);
    stream.listed.set(false);
    stream.send_pending(py, slf)
}

impl Stream {
    /// Sends until the buffer is empty or the kernel takes no more.
    pub(super) fn send_pending(&self, py: Python<'_>, slf: &Bound<'_, PyAny>) -> PyResult<()> {
        if self.blocked.get() || self.life.get() >= Life::Losing {
            return Ok(());
        }
        loop {
            if self.outgoing.borrow().is_empty() {
                return self.emptied(py, slf);
            }
            // Apart from the match: the borrow must end before anything else happens.
            let sent = self.outgoing.borrow().send(self.fd);
            match sent {
                Ok((offered, taken)) => {
                    let spent = self.outgoing.borrow_mut().advance(taken);
                    drop(spent);
                    if taken < offered {
                        return self.block(py, slf);
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    return self.block(py, slf);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => {
                    drop(self.discard());
                    let error = os_error(&error);
                    let waiter = self.drained.get(py);
                    let for_waiter = waiter.is_some().then(|| error.clone_ref(py));
                    self.fatal(py, slf, error, "Fatal write error on socket transport")?;
                    if let (Some(waiter), Some(error)) = (waiter, for_waiter) {
                        waiter.call_method1("set_exception", (error.into_value(py),))?;
                    }
                    return Ok(());
                }
            }
        }
    }

    /// The kernel is full: waits for its word, and lets the protocol know what is left.
    fn block(&self, py: Python<'_>, slf: &Bound<'_, PyAny>) -> PyResult<()> {
        self.blocked.set(true);
        self.register(py, slf)?;
        if let Some(registration) = &*self.registration.borrow() {
            registration.blocked(Direction::Write);
        }
        self.keep_alive(py, slf);
        self.maybe_resume(py, slf)?;
        self.maybe_pause(py, slf)
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
        self.send_pending(py, slf)
    }

    /// Nothing is left to send: what waited for that happens.
    fn emptied(&self, py: Python<'_>, slf: &Bound<'_, PyAny>) -> PyResult<()> {
        self.maybe_resume(py, slf)?;
        // `resume_writing` may have written more.
        if !self.outgoing.borrow().is_empty() {
            return Ok(());
        }
        if let Some(waiter) = self.drained.get(py)
            && !waiter.call_method0("done")?.is_truthy()?
        {
            waiter.call_method1("set_result", (py.None(),))?;
        }
        if self.life.get() == Life::Closing {
            self.lose(py, slf, None);
        } else if self.eof_written.get() {
            self.shut_down_writing();
        }
        self.relax(py, slf);
        Ok(())
    }

    fn shut_down_writing(&self) {
        // SAFETY: our own descriptor. A peer that is gone is told of by the next read or write.
        unsafe { libc::shutdown(self.fd, libc::SHUT_WR) };
    }

    /// Throws the buffer away.
    #[must_use]
    pub(super) fn discard(&self) -> impl Drop + use<> {
        self.blocked.set(false);
        self.outgoing.borrow_mut().clear()
    }

    /// `write(data)`
    pub(super) fn write(
        &self,
        py: Python<'_>,
        slf: &Bound<'_, PyAny>,
        data: &Bound<'_, PyAny>,
    ) -> PyResult<()> {
        let data = self.accept(data, "write")?;
        if data.as_slice().is_empty() || self.refuses(py)? {
            return Ok(());
        }
        self.outgoing.borrow_mut().push(data);
        self.wrote(py, slf)
    }

    /// `writelines(list_of_data)`
    pub(super) fn write_lines(
        &self,
        py: Python<'_>,
        slf: &Bound<'_, PyAny>,
        lines: &Bound<'_, PyAny>,
    ) -> PyResult<()> {
        self.check_writable("writelines")?;
        // All are looked at before the first is taken: a bad one among them sends none.
        let lines = lines
            .try_iter()?
            .map(|line| self.accept(&line?, "writelines"))
            .collect::<PyResult<Vec<_>>>()?;
        if lines.iter().all(|line| line.as_slice().is_empty()) || self.refuses(py)? {
            return Ok(());
        }
        for line in lines.into_iter().filter(|line| !line.as_slice().is_empty()) {
            self.outgoing.borrow_mut().push(line);
        }
        self.wrote(py, slf)
    }

    fn check_writable(&self, method: &str) -> PyResult<()> {
        if self.eof_written.get() {
            return Err(PyRuntimeError::new_err(format!(
                "Cannot call {method}() after write_eof()"
            )));
        }
        if !self.drained.as_ptr().is_null() {
            return Err(PyRuntimeError::new_err(format!(
                "unable to {method}; sendfile is in progress"
            )));
        }
        Ok(())
    }

    /// asyncio's checks, in its order; what can change under us is copied.
    fn accept(&self, data: &Bound<'_, PyAny>, method: &str) -> PyResult<Data> {
        if let Ok(bytes) = data.cast_exact::<PyBytes>() {
            self.check_writable(method)?;
            return Ok(Data::Bytes(bytes.clone().unbind()));
        }
        if !(data.is_instance_of::<PyBytes>()
            || data.is_instance_of::<PyByteArray>()
            || data.is_instance_of::<PyMemoryView>())
        {
            return Err(PyTypeError::new_err(format!(
                "data argument must be a bytes-like object, not '{}'",
                data.get_type().name()?
            )));
        }
        self.check_writable(method)?;
        let buffer = Buffer::new(data, false)?;
        Ok(Data::Copied(buffer.as_slice().into()))
    }

    /// After a loss data is dropped, with asyncio's warning from the fifth time on.
    fn refuses(&self, py: Python<'_>) -> PyResult<bool> {
        if self.life.get() < Life::Losing {
            return Ok(false);
        }
        let count = self.writes_after_loss.get() + 1;
        self.writes_after_loss.set(count);
        if count >= 5 {
            py.import("asyncio.log")?
                .getattr("logger")?
                .call_method1("warning", ("socket.send() raised exception.",))?;
        }
        Ok(true)
    }

    /// Something was put into the buffer: sends it now or lists it for the end of the turn.
    fn wrote(&self, py: Python<'_>, slf: &Bound<'_, PyAny>) -> PyResult<()> {
        if self.blocked.get() {
            return self.maybe_pause(py, slf);
        }
        let Some((_loop, native)) = self.native(py) else {
            return Ok(());
        };
        if self.outgoing.borrow().size() > self.marks.get().high || !native.is_running(py) {
            return self.send_pending(py, slf);
        }
        if !self.listed.replace(true) {
            let transport = slf.clone().unbind();
            native.unflushed.with(py, |unflushed| unflushed.push((transport, flush)));
            native.wake(py);
        }
        Ok(())
    }

    /// `write_eof()`
    pub(super) fn write_eof(&self, py: Python<'_>, slf: &Bound<'_, PyAny>) -> PyResult<()> {
        if self.is_closing() || self.eof_written.get() {
            return Ok(());
        }
        if self.outgoing.borrow().is_empty() {
            self.eof_written.set(true);
            self.shut_down_writing();
            return Ok(());
        }
        self.eof_written.set(true);
        self.send_pending(py, slf)
    }

    /// `get_write_buffer_size()`: bytes that the kernel has not taken.
    pub(super) fn buffered(&self, py: Python<'_>, slf: &Bound<'_, PyAny>) -> PyResult<usize> {
        if self.listed.get() {
            self.send_pending(py, slf)?;
        }
        Ok(self.outgoing.borrow().size())
    }
}
