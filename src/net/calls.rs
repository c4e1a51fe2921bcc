//! The attempts of `sock_*` calls, and how far each call has come.

use std::io;
use std::os::fd::RawFd;

use pyo3::call::PyCallArgs;
use pyo3::exceptions::{PyBlockingIOError, PyInterruptedError, PyOSError};
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyInt, PyMemoryView, PyString, PyTuple};

use super::address;
use super::buffer::Buffer;
use crate::driver::reactor::Direction;
use crate::driver::sys::address::SockAddr;
use crate::driver::sys::{self, Connecting};
use crate::event_loop::NativeLoop;
use crate::ffi::audit;
use crate::ffi::errors::os_error;
use crate::ffi::gil::{GilCell, PySlot};
use crate::ffi::memory;
use crate::ffi::socket_fd;

/// Which of the loop's methods.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum SocketMethod {
    Recv,
    RecvInto,
    SendAll,
    Connect,
}

impl SocketMethod {
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

/// What an attempt of a call came to.
pub(super) enum Attempt {
    Done(Py<PyAny>),
    /// The socket is not ready: another attempt follows when it is.
    Blocked,
}

/// A call and its progress. All of it is behind cells: an attempt may run Python code (of a buffer,
/// of an index), which may step, close or collect the coroutine that the call belongs to.
pub(super) struct SocketCall {
    pub method: SocketMethod,
    /// Of each method its own: the number of bytes, the buffer, the data (or a view of it, once
    /// some of it waits), the address.
    argument: PySlot,
    progress: GilCell<Progress>,
}

enum Progress {
    /// Before the first attempt.
    Nothing,
    /// Of `sock_recv`.
    Wants(ByteCount),
    /// Of `sock_sendall`.
    Sent(usize),
    Connecting,
}

/// How much `sock_recv` is to receive.
#[derive(Clone, Copy)]
enum ByteCount {
    /// Through the loop's buffer.
    Few(usize),
    /// More than that buffer holds, or no number: left to the socket's own method.
    Other,
}

/// The address to connect a plain TCP or UDP socket to. `None`: leave it to asyncio's own method.
fn literal(fd: RawFd, address: &Bound<'_, PyAny>) -> Option<SockAddr> {
    if !matches!(sys::descriptor::is_non_blocking(fd), Ok(true)) {
        return None;
    }
    // Both as `_ensure_resolved` of asyncio gives them, for the error's text.
    let (family, items) = match sys::socket::family(fd) {
        Ok(libc::AF_INET) => (libc::AF_INET, 2),
        Ok(libc::AF_INET6) => (libc::AF_INET6, 4),
        _ => return None,
    };
    if !address.cast_exact::<PyTuple>().is_ok_and(|address| address.len() == items) {
        return None;
    }
    address::parse(family, address)
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

impl SocketCall {
    pub(super) fn new(method: SocketMethod, argument: &Bound<'_, PyAny>) -> Self {
        Self {
            method,
            argument: PySlot::new(argument.clone().unbind()),
            progress: GilCell::new(Progress::Nothing),
        }
    }

    /// The reference to a Python object, for the garbage collector.
    pub(super) fn slot(&self) -> &PySlot {
        &self.argument
    }

    /// The first attempt. `None`: nothing was done, and the call is left to asyncio's own method.
    pub(super) fn begin(
        &self,
        py: Python<'_>,
        event_loop: &NativeLoop,
        socket: &Bound<'_, PyAny>,
    ) -> PyResult<Option<Attempt>> {
        match self.method {
            SocketMethod::Recv => {
                let few = self
                    .argument(py)
                    .cast_exact::<PyInt>()
                    .ok()
                    .and_then(|count| count.extract::<usize>().ok())
                    .filter(|count| *count <= event_loop.most_at_once());
                let count = few.map_or(ByteCount::Other, ByteCount::Few);
                self.progress.with(py, |progress| *progress = Progress::Wants(count));
            }
            SocketMethod::Connect => return self.begin_connecting(py, socket),
            SocketMethod::RecvInto | SocketMethod::SendAll => {}
        }
        self.attempt(py, event_loop, socket).map(Some)
    }

    fn begin_connecting(
        &self,
        py: Python<'_>,
        socket: &Bound<'_, PyAny>,
    ) -> PyResult<Option<Attempt>> {
        let address = self.argument(py);
        let Some(to) = literal(socket_fd::now(socket)?, &address) else {
            return Ok(None);
        };
        // As the method of Python's socket that is not called here.
        audit::event(c"socket.connect", socket, &address)?;
        self.progress.with(py, |progress| *progress = Progress::Connecting);
        // (On the same machine the connection is usually there at once.)
        match sys::socket::connect(socket_fd::now(socket)?, &to) {
            Ok(Connecting::Done) => Ok(Some(Attempt::Done(py.None()))),
            Ok(Connecting::InProgress) => Ok(Some(Attempt::Blocked)),
            Err(error) => Err(os_error(py, &error)),
        }
    }

    /// Does as much as can be done without blocking.
    ///
    /// The descriptor is asked of the socket each time: a socket that was closed meanwhile has
    /// none, even if its number is another socket's.
    pub(super) fn attempt(
        &self,
        py: Python<'_>,
        event_loop: &NativeLoop,
        socket: &Bound<'_, PyAny>,
    ) -> PyResult<Attempt> {
        match self.method {
            SocketMethod::Recv => self.receive(py, event_loop, socket),
            SocketMethod::RecvInto => self.receive_into(py, socket),
            SocketMethod::SendAll => self.send_all(py, socket),
            SocketMethod::Connect => {
                let error = sys::socket::take_error(socket_fd::now(socket)?)
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
            _ => ByteCount::Other,
        });
        let room = match count {
            ByteCount::Few(0) => {
                return Ok(Attempt::Done(PyBytes::new(py, b"").into_any().unbind()));
            }
            ByteCount::Few(room) => room,
            ByteCount::Other => {
                let args = (self.argument(py), libc::MSG_DONTWAIT);
                return through_socket(socket, pyo3::intern!(py, "recv"), args);
            }
        };
        let fd = socket_fd::now(socket)?;
        let attempt = event_loop.with_scratch(py, |scratch| {
            let room = room.min(scratch.len());
            // SAFETY: no more than the buffer that is lent holds.
            let receive = || unsafe { sys::socket::receive(fd, scratch.as_mut_ptr(), room) };
            Ok(match retrying(py, receive)? {
                Some(length) => {
                    Attempt::Done(memory::bytes(py, &scratch[..length])?.into_any().unbind())
                }
                None => Attempt::Blocked,
            })
        });
        attempt.unwrap_or_else(|error| Err(os_error(py, &error)))
    }

    fn receive_into(&self, py: Python<'_>, socket: &Bound<'_, PyAny>) -> PyResult<Attempt> {
        let argument = self.argument(py);
        let Ok(buffer) = Buffer::writable(&argument) else {
            // The socket's own method refuses it in Python's words.
            let args = (argument, 0, libc::MSG_DONTWAIT);
            return through_socket(socket, pyo3::intern!(py, "recv_into"), args);
        };
        let received = match buffer.len() {
            0 => Some(0),
            room => {
                let fd = socket_fd::now(socket)?;
                // SAFETY: a writable buffer of that size, held until after the call.
                retrying(py, || unsafe { sys::socket::receive(fd, buffer.as_ptr(), room) })?
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
        // Also where there is no data: an empty datagram is sent, and an error tells whether the
        // socket is connected.
        loop {
            // An object may give a shorter buffer than it gave to the first attempt.
            let left = buffer.as_slice().get(sent..).unwrap_or_default();
            match retrying(py, || sys::socket::send(fd, left))? {
                Some(count) => sent += count,
                None => break,
            }
            if sent >= buffer.len() {
                return Ok(Attempt::Done(py.None()));
            }
        }
        if sent_before.is_none() {
            // The view keeps the buffer's length and place until all of it was sent.
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

/// Calls a method of the socket, which does not block.
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
