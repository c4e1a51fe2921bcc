//! The system calls behind the operations, and the buffers they read and write.

use std::io;
use std::os::fd::RawFd;

use pyo3::exceptions::{PyOSError, PyValueError};
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyTuple};

use super::address::{self, Raw};
use crate::cached;
use crate::errors::{check, os_error};
use crate::event_loop::NativeLoop;
use crate::reactor::Direction;

pub enum Call {
    Recv(Py<PyAny>),
    RecvInto(Py<PyAny>),
    SendAll { data: Py<PyAny>, sent: usize },
    Connect { address: Py<PyAny>, raw: Box<Raw>, begun: bool },
}

/// `sock_connect` of a plain TCP or UDP socket to a literal address. `None`: not such a case.
pub fn connect(socket: &Bound<'_, PyAny>, address: &Bound<'_, PyAny>) -> PyResult<Option<Call>> {
    let py = socket.py();
    let class = cached::socket_class(py)?;
    if !socket.get_type().is(class) || !cached::connects_as_ever(py)? {
        return Ok(None);
    }
    let fd = socket.call_method0(pyo3::intern!(py, "fileno"))?.extract::<RawFd>()?;
    // SAFETY: no pointers; a bad descriptor is an error.
    let flags = unsafe { libc::fcntl(fd, libc::F_GETFL) };
    if flags < 0 || flags & libc::O_NONBLOCK == 0 {
        return Ok(None);
    }
    // Both as `_ensure_resolved` of asyncio gives them, for the error's text.
    let (family, items) = match option(fd, libc::SO_DOMAIN) {
        Ok(libc::AF_INET) => (libc::AF_INET, 2),
        Ok(libc::AF_INET6) => (libc::AF_INET6, 4),
        _ => return Ok(None),
    };
    if !address.cast_exact::<PyTuple>().is_ok_and(|address| address.len() == items) {
        return Ok(None);
    }
    let Some(raw) = address::parse(family, address) else {
        return Ok(None);
    };
    // As the method of Python's socket that is not called here.
    cached::audit(py)?.call1((pyo3::intern!(py, "socket.connect"), socket, address))?;
    let (address, raw) = (address.clone().unbind(), Box::new(raw));
    Ok(Some(Call::Connect { address, raw, begun: false }))
}

/// An integer option of a socket.
fn option(fd: RawFd, name: i32) -> io::Result<i32> {
    let mut value: libc::c_int = 0;
    let mut length = size_of_val(&value) as libc::socklen_t;
    // SAFETY: a local integer and its size.
    check(unsafe {
        libc::getsockopt(fd, libc::SOL_SOCKET, name, (&raw mut value).cast(), &raw mut length)
    } as isize)?;
    Ok(value)
}

/// A buffer of a Python object, given back when dropped.
pub struct Buffer(ffi::Py_buffer);

impl Buffer {
    pub fn new(object: &Bound<'_, PyAny>, writable: bool) -> PyResult<Self> {
        let mut view = ffi::Py_buffer::new();
        let flags = if writable { ffi::PyBUF_WRITABLE } else { ffi::PyBUF_SIMPLE };
        // SAFETY: a live object and a local view.
        if unsafe { ffi::PyObject_GetBuffer(object.as_ptr(), &mut view, flags) } != 0 {
            return Err(PyErr::fetch(object.py()));
        }
        Ok(Self(view))
    }

    pub fn len(&self) -> usize {
        self.0.len as usize
    }

    pub fn as_slice(&self) -> &[u8] {
        if self.0.buf.is_null() {
            return &[];
        }
        // SAFETY: a contiguous buffer of `len` bytes, held until `self` is dropped.
        unsafe { std::slice::from_raw_parts(self.as_ptr(), self.len()) }
    }

    pub fn as_ptr(&self) -> *mut u8 {
        self.0.buf.cast()
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        // SAFETY: got in `new`, released once; whoever holds a `Buffer` holds the GIL.
        unsafe { ffi::PyBuffer_Release(&mut self.0) };
    }
}

/// `recv` that never waits.
pub fn receive(fd: RawFd, at: *mut u8, room: usize) -> io::Result<usize> {
    // SAFETY: callers pass a buffer of `room` bytes that lives through the call.
    check(unsafe { libc::recv(fd, at.cast(), room, libc::MSG_DONTWAIT) })
}

/// `send` that neither waits nor raises `SIGPIPE`.
pub fn send(fd: RawFd, data: *const u8, length: usize) -> io::Result<usize> {
    // SAFETY: as above.
    check(unsafe { libc::send(fd, data.cast(), length, libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL) })
}

fn retrying<R>(mut call: impl FnMut() -> io::Result<R>) -> PyResult<Option<R>> {
    loop {
        match call() {
            Ok(value) => return Ok(Some(value)),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(None),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(os_error(&error)),
        }
    }
}

impl Call {
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Recv(_) => "sock_recv",
            Self::RecvInto(_) => "sock_recv_into",
            Self::SendAll { .. } => "sock_sendall",
            Self::Connect { .. } => "sock_connect",
        }
    }

    pub const fn direction(&self) -> Direction {
        match self {
            Self::Recv(_) | Self::RecvInto(_) => Direction::Read,
            Self::SendAll { .. } | Self::Connect { .. } => Direction::Write,
        }
    }

    pub const fn argument(&self) -> &Py<PyAny> {
        match self {
            Self::Recv(object) | Self::RecvInto(object) => object,
            Self::SendAll { data, .. } => data,
            Self::Connect { address, .. } => address,
        }
    }

    /// Does what can be done without waiting. `None`: not finished.
    pub fn attempt(
        &mut self,
        py: Python<'_>,
        event_loop: &NativeLoop,
        fd: RawFd,
    ) -> PyResult<Option<Py<PyAny>>> {
        match self {
            Self::Recv(count) => {
                let count = count.bind(py).extract::<isize>()?;
                let count = usize::try_from(count)
                    .map_err(|_| PyValueError::new_err("negative buffersize in recv"))?;
                let received = event_loop.with_scratch(py, |scratch| {
                    let room = count.min(scratch.len());
                    retrying(|| receive(fd, scratch.as_mut_ptr(), room)).map(|length| {
                        length.map(|length| PyBytes::new(py, &scratch[..length]).into_any())
                    })
                })?;
                Ok(received.map(Bound::unbind))
            }
            Self::RecvInto(buffer) => {
                let buffer = Buffer::new(buffer.bind(py), true)?;
                let received = retrying(|| receive(fd, buffer.as_ptr(), buffer.len()))?;
                received.map(|count| Ok(count.into_pyobject(py)?.into_any().unbind())).transpose()
            }
            Self::SendAll { data, sent } => {
                let buffer = Buffer::new(data.bind(py), false)?;
                while *sent < buffer.len() {
                    let left = buffer.len() - *sent;
                    // SAFETY: `sent` is within the buffer.
                    let at = unsafe { buffer.as_ptr().add(*sent) };
                    match retrying(|| send(fd, at, left))? {
                        Some(count) => *sent += count,
                        None => return Ok(None),
                    }
                }
                Ok(Some(py.None()))
            }
            Self::Connect { address, raw, begun } => {
                if !std::mem::replace(begun, true) {
                    // Also where it is there already, as on the same machine, mostly: a listener
                    // of this loop is to hear of it before whoever connects goes on.
                    return Ok(start_connecting(fd, raw)?.then(|| py.None()));
                }
                let error = option(fd, libc::SO_ERROR).map_err(|error| os_error(&error))?;
                if error == 0 {
                    return Ok(Some(py.None()));
                }
                let text = format!("Connect call failed {}", address.bind(py).str()?);
                Err(PyOSError::new_err((error, text)))
            }
        }
    }
}

/// Whether the connection was there at once; else the kernel goes on by itself.
fn start_connecting(fd: RawFd, to: &Raw) -> PyResult<bool> {
    let to = to.as_bytes();
    // SAFETY: an address that lives through the call.
    let result =
        unsafe { libc::connect(fd, to.as_ptr().cast(), to.len() as libc::socklen_t) } as isize;
    match check(result) {
        Ok(_) => Ok(true),
        Err(error)
            if matches!(
                error.raw_os_error(),
                Some(libc::EINPROGRESS | libc::EINTR | libc::EAGAIN | libc::EALREADY)
            ) =>
        {
            Ok(false)
        }
        Err(error) => Err(os_error(&error)),
    }
}
