//! The system calls behind the operations, and the buffers they read and write.

use std::ffi::c_int;
use std::io;
use std::os::fd::RawFd;

use pyo3::call::PyCallArgs;
use pyo3::exceptions::{PyBlockingIOError, PyInterruptedError, PyOSError};
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyInt, PyMemoryView, PyString, PyTuple};

use super::address::{self, Raw};
use crate::driver::reactor::Direction;
use crate::event_loop::NativeLoop;
use crate::ffi::errors::{check, os_error};
use crate::ffi::gil::{GilCell, PySlot};
use crate::ffi::imports;
use crate::ffi::socket_fd;

/// Which of the calls.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Recv,
    RecvInto,
    SendAll,
    Connect,
}

impl Kind {
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Recv => "sock_recv",
            Self::RecvInto => "sock_recv_into",
            Self::SendAll => "sock_sendall",
            Self::Connect => "sock_connect",
        }
    }

    pub(super) const fn direction(self) -> Direction {
        match self {
            Self::Recv | Self::RecvInto => Direction::Read,
            Self::SendAll | Self::Connect => Direction::Write,
        }
    }
}

/// What became of a call that was tried.
pub(super) enum Attempt {
    Done(Py<PyAny>),
    /// The socket is not ready.
    Blocked,
}

/// A call and how far it is. All of it is behind cells: an attempt runs Python code (a buffer's
/// own, an index'), which may step, close or collect the coroutine that the call is of.
pub(super) struct Call {
    pub kind: Kind,
    /// The number of bytes, the buffer, the data (a view of it once some of it waits), the address.
    argument: PySlot,
    progress: GilCell<Progress>,
}

enum Progress {
    /// Nothing was tried yet.
    Nothing,
    /// Of `sock_recv`.
    Wants(Count),
    /// Of `sock_sendall`.
    Sent(usize),
    Connecting,
}

/// How much `sock_recv` is to receive.
#[derive(Clone, Copy)]
enum Count {
    /// Through the loop's buffer.
    Few(usize),
    /// More than that holds, or nothing that is a number: the socket's own method sees to it.
    Other,
}

/// The address to connect a plain TCP or UDP socket to. `None`: asyncio's own way is for that.
fn literal(fd: RawFd, address: &Bound<'_, PyAny>) -> Option<Raw> {
    // SAFETY: no pointers; a bad descriptor is an error.
    let flags = unsafe { libc::fcntl(fd, libc::F_GETFL) };
    if flags < 0 || flags & libc::O_NONBLOCK == 0 {
        return None;
    }
    // Both as `_ensure_resolved` of asyncio gives them, for the error's text.
    let (family, items) = match option(fd, libc::SO_DOMAIN) {
        Ok(libc::AF_INET) => (libc::AF_INET, 2),
        Ok(libc::AF_INET6) => (libc::AF_INET6, 4),
        _ => return None,
    };
    if !address.cast_exact::<PyTuple>().is_ok_and(|address| address.len() == items) {
        return None;
    }
    address::parse(family, address)
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
pub(crate) struct Buffer(ffi::Py_buffer);

impl Buffer {
    /// To be read, whatever may be written to it by others.
    pub(crate) fn readable(object: &Bound<'_, PyAny>) -> PyResult<Self> {
        Self::new(object, ffi::PyBUF_SIMPLE)
    }

    pub(crate) fn writable(object: &Bound<'_, PyAny>) -> PyResult<Self> {
        Self::new(object, ffi::PyBUF_WRITABLE)
    }

    fn new(object: &Bound<'_, PyAny>, flags: c_int) -> PyResult<Self> {
        let mut view = ffi::Py_buffer::new();
        // SAFETY: a live object and a local view, which may be moved afterwards: without a shape,
        // which the flags do not ask for, nothing in a view points into the view itself.
        if unsafe { ffi::PyObject_GetBuffer(object.as_ptr(), &mut view, flags) } != 0 {
            return Err(PyErr::fetch(object.py()));
        }
        Ok(Self(view))
    }

    pub(crate) fn len(&self) -> usize {
        self.0.len as usize
    }

    pub(crate) fn as_slice(&self) -> &[u8] {
        if self.0.buf.is_null() {
            return &[];
        }
        // SAFETY: neither flag allows anything but `len` bytes in a row, which stay where they are
        // until the view is given back, when `self` is dropped. Another thread of the program's may
        // write to them while they are read, as with every buffer in Python: then what is read is
        // either.
        unsafe { std::slice::from_raw_parts(self.as_ptr(), self.len()) }
    }

    pub(crate) fn as_ptr(&self) -> *mut u8 {
        self.0.buf.cast()
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        // SAFETY: got in `new`, released once. The GIL is held: a view has raw pointers, so a
        // `Buffer` cannot go to a thread, or into a closure, without it.
        unsafe { ffi::PyBuffer_Release(&mut self.0) };
    }
}

/// `recv` that never waits.
///
/// # Safety
/// `at` must be valid for writes of `room` bytes. (What lies there may be a program's buffer, which
/// others reach as well: hence no slice.)
pub(crate) unsafe fn receive(fd: RawFd, at: *mut u8, room: usize) -> io::Result<usize> {
    // SAFETY: the caller's promise.
    check(unsafe { libc::recv(fd, at.cast(), room, libc::MSG_DONTWAIT) })
}

/// `send` that neither waits nor raises `SIGPIPE`.
pub(crate) fn send(fd: RawFd, data: &[u8]) -> io::Result<usize> {
    let (start, length) = (data.as_ptr().cast(), data.len());
    // SAFETY: the kernel only reads the borrowed bytes, before the call returns.
    check(unsafe { libc::send(fd, start, length, libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL) })
}

fn retrying<R>(py: Python<'_>, mut call: impl FnMut() -> io::Result<R>) -> PyResult<Option<R>> {
    loop {
        match call() {
            Ok(value) => return Ok(Some(value)),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(None),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(os_error(py, &error)),
        }
    }
}

impl Call {
    pub(super) fn new(kind: Kind, argument: &Bound<'_, PyAny>) -> Self {
        Self {
            kind,
            argument: PySlot::new(argument.clone().unbind()),
            progress: GilCell::new(Progress::Nothing),
        }
    }

    /// What refers to Python objects, for the collector.
    pub(super) fn slot(&self) -> &PySlot {
        &self.argument
    }

    /// The first attempt. `None`: not a case for the core, and nothing was done.
    pub(super) fn begin(
        &self,
        py: Python<'_>,
        event_loop: &NativeLoop,
        socket: &Bound<'_, PyAny>,
    ) -> PyResult<Option<Attempt>> {
        match self.kind {
            Kind::Recv => {
                let few = self
                    .argument(py)
                    .cast_exact::<PyInt>()
                    .ok()
                    .and_then(|count| count.extract::<usize>().ok())
                    .filter(|count| *count <= event_loop.most_at_once());
                let count = few.map_or(Count::Other, Count::Few);
                self.progress.with(py, |progress| *progress = Progress::Wants(count));
            }
            Kind::Connect => return self.begin_connecting(py, socket),
            Kind::RecvInto | Kind::SendAll => {}
        }
        self.attempt(py, event_loop, socket).map(Some)
    }

    fn begin_connecting(
        &self,
        py: Python<'_>,
        socket: &Bound<'_, PyAny>,
    ) -> PyResult<Option<Attempt>> {
        let address = self.argument(py);
        let Some(raw) = literal(socket_fd::now(socket)?, &address) else {
            return Ok(None);
        };
        // As the method of Python's socket that is not called here.
        imports::audit(py)?.call1((pyo3::intern!(py, "socket.connect"), socket, address))?;
        self.progress.with(py, |progress| *progress = Progress::Connecting);
        // Also where it is there already, as on the same machine, mostly: a listener of this
        // loop is to hear of it before whoever connects goes on.
        let connected = start_connecting(py, socket_fd::now(socket)?, &raw)?;
        Ok(Some(if connected { Attempt::Done(py.None()) } else { Attempt::Blocked }))
    }

    /// Does what can be done without waiting.
    ///
    /// The descriptor is the one that the socket has by then: none, if it was closed meanwhile,
    /// even if its number is another socket's.
    pub(super) fn attempt(
        &self,
        py: Python<'_>,
        event_loop: &NativeLoop,
        socket: &Bound<'_, PyAny>,
    ) -> PyResult<Attempt> {
        match self.kind {
            Kind::Recv => self.receive(py, event_loop, socket),
            Kind::RecvInto => self.receive_into(py, socket),
            Kind::SendAll => self.send_all(py, socket),
            Kind::Connect => {
                let error = option(socket_fd::now(socket)?, libc::SO_ERROR)
                    .map_err(|error| os_error(py, &error))?;
                if error == 0 {
                    return Ok(Attempt::Done(py.None()));
                }
                let text = format!("Connect call failed {}", self.argument(py).str()?);
                Err(PyOSError::new_err((error, text)))
            }
        }
    }

    fn receive(
        &self,
        py: Python<'_>,
        event_loop: &NativeLoop,
        socket: &Bound<'_, PyAny>,
    ) -> PyResult<Attempt> {
        let count = self.progress.with(py, |progress| match progress {
            Progress::Wants(count) => *count,
            _ => Count::Other,
        });
        let room = match count {
            Count::Few(0) => return Ok(Attempt::Done(PyBytes::new(py, b"").into_any().unbind())),
            Count::Few(room) => room,
            Count::Other => {
                let args = (self.argument(py), libc::MSG_DONTWAIT);
                return through_socket(socket, pyo3::intern!(py, "recv"), args);
            }
        };
        let fd = socket_fd::now(socket)?;
        event_loop.with_scratch(py, |scratch| {
            // SAFETY: `room` was found to be no more than the buffer that is lent holds.
            Ok(match retrying(py, || unsafe { receive(fd, scratch.as_mut_ptr(), room) })? {
                Some(length) => {
                    Attempt::Done(PyBytes::new(py, &scratch[..length]).into_any().unbind())
                }
                None => Attempt::Blocked,
            })
        })
    }

    fn receive_into(&self, py: Python<'_>, socket: &Bound<'_, PyAny>) -> PyResult<Attempt> {
        let argument = self.argument(py);
        let Ok(buffer) = Buffer::writable(&argument) else {
            // Says so in Python's words.
            let args = (argument, 0, libc::MSG_DONTWAIT);
            return through_socket(socket, pyo3::intern!(py, "recv_into"), args);
        };
        let received = match buffer.len() {
            0 => Some(0),
            room => {
                let fd = socket_fd::now(socket)?;
                // SAFETY: a writable buffer of that size, held until after the call.
                retrying(py, || unsafe { receive(fd, buffer.as_ptr(), room) })?
            }
        };
        Ok(match received {
            Some(count) => Attempt::Done(count.into_pyobject(py)?.into_any().unbind()),
            None => Attempt::Blocked,
        })
    }

    fn send_all(&self, py: Python<'_>, socket: &Bound<'_, PyAny>) -> PyResult<Attempt> {
        let data = self.argument(py);
        let buffer = Buffer::readable(&data)?;
        let sent_before = self.progress.with(py, |progress| match progress {
            Progress::Sent(sent) => Some(*sent),
            _ => None,
        });
        let mut sent = sent_before.unwrap_or(0);
        let fd = socket_fd::now(socket)?;
        // Of nothing, too: it is a datagram, and says whether the socket is connected.
        loop {
            // An object may give a shorter buffer to the view than it gave to the first attempt.
            let left = buffer.as_slice().get(sent..).unwrap_or_default();
            match retrying(py, || send(fd, left))? {
                Some(count) => sent += count,
                None => break,
            }
            if sent >= buffer.len() {
                return Ok(Attempt::Done(py.None()));
            }
        }
        if sent_before.is_none() {
            // Keeps its length, and the buffer where it is, until all of it was sent.
            let view = PyMemoryView::from(&data)?;
            self.argument.set(py, Some(view.into_any().unbind()));
        }
        self.progress.with(py, |progress| *progress = Progress::Sent(sent));
        Ok(Attempt::Blocked)
    }

    fn argument<'py>(&self, py: Python<'py>) -> Bound<'py, PyAny> {
        self.argument.get(py).unwrap_or_else(|| py.None().into_bound(py))
    }
}

/// Calls a method of the socket that does not wait.
#[cold]
fn through_socket<'py>(
    socket: &Bound<'py, PyAny>,
    method: &Bound<'py, PyString>,
    args: impl PyCallArgs<'py>,
) -> PyResult<Attempt> {
    let py = socket.py();
    match socket.call_method1(method, args) {
        Ok(value) => Ok(Attempt::Done(value.unbind())),
        Err(error)
            if error.is_instance_of::<PyBlockingIOError>(py)
                || error.is_instance_of::<PyInterruptedError>(py) =>
        {
            Ok(Attempt::Blocked)
        }
        Err(error) => Err(error),
    }
}

/// Whether the connection was there at once; else the kernel goes on by itself.
fn start_connecting(py: Python<'_>, fd: RawFd, to: &Raw) -> PyResult<bool> {
    let to = to.as_bytes();
    // SAFETY: the kernel only reads the address, before the call returns; a bad descriptor is an
    // error.
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
        Err(error) => Err(os_error(py, &error)),
    }
}
