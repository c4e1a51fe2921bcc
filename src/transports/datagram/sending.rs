//! From `sendto` to the socket: at once, so that errors are the caller's. Datagrams that the kernel
//! does not take wait in the buffer for the socket to become writable.

use std::io;

use pyo3::exceptions::{
    PyAttributeError, PyBlockingIOError, PyInterruptedError, PyOSError, PyTypeError, PyValueError,
};
use pyo3::prelude::*;
use pyo3::types::PyBytes;

use super::Datagram;
use crate::driver::reactor::Direction;
use crate::driver::sys;
use crate::event_loop::ends_loop;
use crate::event_loop::handles::{Call, Handle};
use crate::event_loop::watching;
use crate::ffi::audit;
use crate::ffi::errors::os_error;
use crate::ffi::memory;
use crate::net::Buffer;
use crate::net::address::parse;
use crate::transports::core::Lifecycle;
use crate::transports::core::flow_control::{pause_if_full, resume_if_drained};
use crate::transports::core::lifecycle::lose_now;
use crate::transports::core::report;
use crate::transports::core::write_buffer::is_bytes_like;

/// The outcome of sending a datagram.
enum Sent {
    Whole,
    /// The kernel takes no more now.
    Full,
}

/// From 3.13 on a datagram may be empty, and asyncio counts more than the bytes of a buffered one.
/// Before, `sendto(b"")` does nothing.
const SENDS_EMPTY: bool = cfg!(Py_3_13);
const HEADER_SIZE: usize = if SENDS_EMPTY { 8 } else { 0 };

impl Datagram {
    /// `sendto(data, addr)`
    pub(super) fn send_to(
        &self,
        py: Python<'_>,
        slf: &Bound<'_, PyAny>,
        data: &Bound<'_, PyAny>,
        address: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<()> {
        if !data.is_exact_instance_of::<PyBytes>() && !is_bytes_like(data) {
            let text = "data argument must be a bytes-like object, not {!r}";
            return Err(memory::error::<PyTypeError>(py, text, (data.get_type().name()?,)));
        }
        if !SENDS_EMPTY && data.len()? == 0 {
            return Ok(());
        }
        let only = self.address.get(py);
        if let Some(only) = &only {
            if let Some(address) = address
                && !address.is(only)
                && !address.eq(only)?
            {
                let text = "Invalid address: must be None or {!s}";
                return Err(memory::error::<PyValueError>(py, text, (only,)));
            }
            if self.lifecycle() >= Lifecycle::Losing {
                return self.write_after_loss(py);
            }
        }
        let address = only.as_ref().or(address);
        if self.waiting.get() == 0 {
            match self.send(py, data, address) {
                Ok(Sent::Whole) => {
                    if let Some(native) = self.native(py) {
                        native.set_answered(py, true);
                    }
                    return Ok(());
                }
                Ok(Sent::Full) => self.wait_for_room(py, slf)?,
                Err(error) => return self.send_failed(py, slf, error),
            }
        }
        // Immutable from here on.
        let data = match data.cast_exact::<PyBytes>() {
            Ok(bytes) => bytes.clone(),
            Err(_) => memory::bytes(py, Buffer::readable(data)?.as_slice())?,
        };
        let size = data.len()? + HEADER_SIZE;
        self.buffer(py)?.call_method1("append", ((data, address),))?;
        self.waiting_size.set(self.waiting_size.get() + size);
        self.waiting.set(self.waiting.get() + 1);
        pause_if_full(self, slf)
    }

    fn send(
        &self,
        py: Python<'_>,
        data: &Bound<'_, PyAny>,
        address: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<Sent> {
        if self.lifecycle() == Lifecycle::Closed {
            // As in asyncio, where the socket is `None` by now, and then the loop.
            return Err(PyAttributeError::new_err(
                "'NoneType' object has no attribute 'call_exception_handler'",
            ));
        }
        if self.connected {
            return self.send_bytes(data, &[]);
        }
        // Python's socket parses all other addresses, and raises the error if there is none.
        let Some(address) = address else {
            return self.send_through_socket(py, data, None);
        };
        // A copy: audit hooks and a buffer's owner may be written in Python.
        let known = self.peers.borrow().reply(address);
        match known.or_else(|| parse(self.family, address)) {
            Some(to) => {
                self.audit(py, address)?;
                self.send_bytes(data, to.as_bytes())
            }
            None => self.send_through_socket(py, data, Some(address)),
        }
    }

    /// Raises the audit event of the socket's method, which is not called here.
    fn audit(&self, py: Python<'_>, address: &Bound<'_, PyAny>) -> PyResult<()> {
        match self.file.socket(py) {
            Some(socket) => audit::event(c"socket.sendto", &socket, address),
            None => Ok(()),
        }
    }

    /// One datagram to an address, or to the socket's peer.
    fn send_bytes(&self, data: &Bound<'_, PyAny>, to: &[u8]) -> PyResult<Sent> {
        let buffer;
        let bytes = match data.cast_exact::<PyBytes>() {
            Ok(bytes) => bytes.as_bytes(),
            Err(_) => {
                buffer = Buffer::readable(data)?;
                buffer.as_slice()
            }
        };
        // Last: the buffer's owner may be written in Python.
        let fd = self.file.open(data.py()).map_err(|error| os_error(data.py(), &error))?;
        match sys::socket::send_to(fd, bytes, to) {
            Ok(_) => Ok(Sent::Whole),
            Err(error) => match error.kind() {
                io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted => Ok(Sent::Full),
                _ => Err(os_error(data.py(), &error)),
            },
        }
    }

    #[cold]
    fn send_through_socket(
        &self,
        py: Python<'_>,
        data: &Bound<'_, PyAny>,
        address: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<Sent> {
        let Some(socket) = self.file.socket(py) else {
            return Ok(Sent::Whole);
        };
        match socket.call_method1("sendto", (data, address)) {
            Ok(_) => Ok(Sent::Whole),
            Err(error)
                if error.is_instance_of::<PyBlockingIOError>(py)
                    || error.is_instance_of::<PyInterruptedError>(py) =>
            {
                Ok(Sent::Full)
            }
            Err(error) => Err(error),
        }
    }

    /// The network's errors are for the protocol; others end the transport, as on asyncio.
    #[cold]
    fn send_failed(&self, py: Python<'_>, slf: &Bound<'_, PyAny>, error: PyErr) -> PyResult<()> {
        if self.lifecycle() == Lifecycle::Closed || ends_loop(py, &error) {
            return Err(error);
        }
        if !error.is_instance_of::<PyOSError>(py) {
            return report::fatal(self, slf, error, "Fatal write error on datagram transport");
        }
        match self.protocol.get(py) {
            Some(protocol) => {
                let name = pyo3::intern!(py, "error_received");
                protocol.call_method1(name, (error.into_value(py),)).map(drop)
            }
            None => Ok(()),
        }
    }

    /// asyncio's `_buffer`, made when it is first needed.
    fn buffer<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        if let Some(buffer) = self.buffer.get(py) {
            return Ok(buffer);
        }
        let buffer = py.import("collections")?.call_method0("deque")?;
        self.buffer.set(py, Some(buffer.clone().unbind()));
        Ok(buffer)
    }

    /// Has the loop call `_sendto_ready` while the socket is writable. Level-triggered: an unconnected
    /// Unix socket gets no event when its receiver, full of others' datagrams, has room again.
    fn wait_for_room(&self, py: Python<'_>, slf: &Bound<'_, PyAny>) -> PyResult<()> {
        let Some(native) = self.native(py) else {
            return Ok(());
        };
        let callback = slf.getattr(pyo3::intern!(py, "_sendto_ready"))?;
        let fd = self.file.open(py).map_err(|error| os_error(py, &error))?;
        let call = Call { callback: callback.as_borrowed(), args: &[], context: None };
        let handle = Handle::with_source(py, &native, &call)?;
        match self.file.socket(py) {
            Some(socket) => watching::add_object(&native, fd, &socket, Direction::Write, handle),
            None => Ok(()),
        }
    }

    pub(super) fn stop_waiting_for_room(&self, py: Python<'_>) -> PyResult<()> {
        let Some(native) = self.native(py).filter(|native| !native.is_closed(py)) else {
            return Ok(());
        };
        match (self.file.open(py), self.file.socket(py)) {
            (Ok(fd), _) => watching::remove(py, &native, fd, Direction::Write).map(drop),
            // The number may be another file's: only the registration of this socket goes.
            (Err(_), Some(socket)) => {
                watching::remove_closed(&native, &socket, Direction::Write).map(drop)
            }
            (Err(_), None) => Ok(()),
        }
    }

    /// `_sendto_ready()`: sends what is buffered until the kernel takes no more.
    pub(super) fn send_waiting(&self, py: Python<'_>, slf: &Bound<'_, PyAny>) -> PyResult<()> {
        while self.waiting.get() > 0 {
            let buffer = self.buffer(py)?;
            let datagram = buffer.get_item(0)?;
            let data = datagram.get_item(0)?;
            let address = datagram.get_item(1)?;
            let sent = self.send(py, &data, Some(&address).filter(|address| !address.is_none()));
            if matches!(sent, Ok(Sent::Full)) {
                break;
            }
            // The socket may be of a class of Python's: by now the buffer may be another one.
            if self.waiting.get() > 0 && buffer.get_item(0)?.is(&datagram) {
                buffer.call_method0("popleft")?;
                self.waiting.set(self.waiting.get() - 1);
                self.waiting_size.set(self.waiting_size.get() - data.len()? - HEADER_SIZE);
            }
            if let Err(error) = sent {
                // The rest is sent when this is called again.
                return self.send_failed(py, slf, error);
            }
        }
        // May fill the buffer again.
        resume_if_drained(self, slf)?;
        if self.waiting.get() == 0 && self.lifecycle() < Lifecycle::Losing {
            self.stop_waiting_for_room(py)?;
            if self.lifecycle() == Lifecycle::Closing {
                return lose_now(self, slf);
            }
        }
        Ok(())
    }

    /// Drops the buffer.
    pub(super) fn discard_waiting(&self, py: Python<'_>) -> PyResult<()> {
        self.waiting_size.set(0);
        if self.waiting.replace(0) > 0 {
            self.buffer(py)?.call_method0("clear")?;
            self.stop_waiting_for_room(py)?;
        }
        Ok(())
    }
}
