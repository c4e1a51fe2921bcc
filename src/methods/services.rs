//! Methods called once a connection or a descriptor, by the Python side of the loop.

use std::os::fd::RawFd;

use pyo3::exceptions::PyMemoryError;
use pyo3::prelude::*;
use pyo3::types::PyTuple;

use crate::descriptors;
use crate::event_loop::NativeLoop;
use crate::handles::{Call, Handle};
use crate::listener::Listener;
use crate::object::Object;
use crate::reactor::Direction;
use crate::sockets::address;
use crate::transports::life::Parts;
use crate::transports::pipes::{self, ReadPipe, WritePipe};
use crate::transports::{datagram, stream, tls};

impl NativeLoop {
    fn watch<'py>(
        slf: &Bound<'py, Self>,
        fd: &Bound<'py, PyAny>,
        direction: Direction,
        callback: &Bound<'py, PyAny>,
        args: &Bound<'py, PyTuple>,
        context: Option<&Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let py = slf.py();
        // SAFETY: an instance of this class.
        let this = unsafe { Self::of(slf.as_ptr()) };
        this.check_closed(py)?;
        let fd = descriptor(fd)?;
        let mut arguments: Vec<Object> = Vec::new();
        arguments.try_reserve_exact(args.len()).map_err(|_| PyMemoryError::new_err(()))?;
        arguments.extend(args.iter_borrowed().map(|value| value.as_ptr()));
        let context = context.map_or(std::ptr::null_mut(), |context| context.as_ptr());
        let call = Call { callback: callback.as_ptr(), args: &arguments, context };
        let handle = Handle::new(py, this, &call)?;
        let object = handle.give(py, this);
        descriptors::add(py, this, fd, direction, handle)?;
        Ok(object)
    }

    fn unwatch(
        slf: &Bound<'_, Self>,
        fd: &Bound<'_, PyAny>,
        direction: Direction,
    ) -> PyResult<bool> {
        let py = slf.py();
        // SAFETY: an instance of this class.
        let this = unsafe { Self::of(slf.as_ptr()) };
        if this.closed.get(py) {
            return Ok(false);
        }
        descriptors::remove(py, this, descriptor(fd)?, direction)
    }
}

/// A descriptor's number, with `selectors`' errors for what is none.
fn descriptor(fd: &Bound<'_, PyAny>) -> PyResult<RawFd> {
    match fd.extract::<RawFd>() {
        Ok(number) if number >= 0 => Ok(number),
        _ => fd.py().import("selectors")?.call_method1("_fileobj_to_fd", (fd,))?.extract::<RawFd>(),
    }
}

#[pymethods]
impl NativeLoop {
    #[pyo3(signature = (fd, callback, *args, context=None))]
    fn _add_reader<'py>(
        slf: &Bound<'py, Self>,
        fd: &Bound<'py, PyAny>,
        callback: &Bound<'py, PyAny>,
        args: &Bound<'py, PyTuple>,
        context: Option<&Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        Self::watch(slf, fd, Direction::Read, callback, args, context)
    }

    #[pyo3(signature = (fd, callback, *args, context=None))]
    fn _add_writer<'py>(
        slf: &Bound<'py, Self>,
        fd: &Bound<'py, PyAny>,
        callback: &Bound<'py, PyAny>,
        args: &Bound<'py, PyTuple>,
        context: Option<&Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        Self::watch(slf, fd, Direction::Write, callback, args, context)
    }

    fn _remove_reader(slf: &Bound<'_, Self>, fd: &Bound<'_, PyAny>) -> PyResult<bool> {
        Self::unwatch(slf, fd, Direction::Read)
    }

    fn _remove_writer(slf: &Bound<'_, Self>, fd: &Bound<'_, PyAny>) -> PyResult<bool> {
        Self::unwatch(slf, fd, Direction::Write)
    }

    /// Opens the descriptors that the loop itself needs. Not left to first need: a number that the
    /// user has just closed must not come back as one of ours.
    fn _open(slf: &Bound<'_, Self>) -> PyResult<()> {
        // SAFETY: an instance of this class.
        descriptors::open(slf.py(), unsafe { Self::of(slf.as_ptr()) })
    }

    /// `selectors` events that `fd` is watched for, 0 for none.
    fn _watched(slf: &Bound<'_, Self>, fd: RawFd) -> u32 {
        // SAFETY: an instance of this class.
        descriptors::mask(slf.py(), unsafe { Self::of(slf.as_ptr()) }, fd)
    }

    /// The native transport that uses `fd`.
    fn _fd_owner(slf: &Bound<'_, Self>, fd: RawFd) -> Option<Py<PyAny>> {
        slf.get().sources.with(slf.py(), |sources| sources.owner_of(slf.py(), fd))
    }

    /// Forgets that a native transport uses `fd`; whether one did.
    fn _disown_fd(slf: &Bound<'_, Self>, fd: RawFd) -> bool {
        slf.get().sources.with(slf.py(), |sources| sources.disown_fd(fd))
    }

    /// Takes `_disown_fd` back; whether this is a native transport.
    fn _own_fd(slf: &Bound<'_, Self>, transport: &Bound<'_, PyAny>) -> PyResult<bool> {
        stream::claim(slf.py(), slf.get(), transport)
    }

    /// A transport over a connected socket; `connection_made` is scheduled.
    fn _stream_transport<'py>(
        slf: &Bound<'py, Self>,
        sock: Bound<'py, PyAny>,
        protocol: Bound<'py, PyAny>,
        waiter: Option<Bound<'py, PyAny>>,
        extra: Option<Bound<'py, PyAny>>,
        server: Option<Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let py = slf.py();
        let fd = sock.call_method0("fileno")?.extract::<RawFd>()?;
        // SAFETY: an instance of this class.
        let this = unsafe { Self::of(slf.as_ptr()) };
        stream::new(
            py,
            this,
            stream::New {
                parts: Parts { fd, socket: Some(sock), protocol, waiter, extra },
                server,
                peername: address::remote(py, fd),
            },
        )
    }

    /// A TLS transport; it starts when a transport below calls its `connection_made`.
    fn _tls_transport<'py>(
        slf: &Bound<'py, Self>,
        parts: tls::New<'py>,
    ) -> PyResult<Bound<'py, PyAny>> {
        // SAFETY: an instance of this class.
        tls::new(slf.py(), unsafe { Self::of(slf.as_ptr()) }, parts)
    }

    /// A transport over a datagram socket; `connection_made` is scheduled.
    fn _datagram_transport<'py>(
        slf: &Bound<'py, Self>,
        sock: Bound<'py, PyAny>,
        protocol: Bound<'py, PyAny>,
        address: Option<Bound<'py, PyAny>>,
        waiter: Option<Bound<'py, PyAny>>,
        extra: Option<Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        // SAFETY: an instance of this class.
        let this = unsafe { Self::of(slf.as_ptr()) };
        datagram::new(
            slf.py(),
            this,
            datagram::New { socket: sock, protocol, address, waiter, extra },
        )
    }

    /// A transport that reads from `pipe`; `connection_made` is scheduled.
    #[pyo3(signature = (pipe, protocol, waiter=None, extra=None))]
    fn _make_read_pipe_transport<'py>(
        slf: &Bound<'py, Self>,
        pipe: Bound<'py, PyAny>,
        protocol: Bound<'py, PyAny>,
        waiter: Option<Bound<'py, PyAny>>,
        extra: Option<Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        // SAFETY: an instance of this class.
        let this = unsafe { Self::of(slf.as_ptr()) };
        pipes::new::<ReadPipe>(slf.py(), this, pipes::New { pipe, protocol, waiter, extra })
    }

    /// A transport that writes to `pipe`; `connection_made` is scheduled.
    #[pyo3(signature = (pipe, protocol, waiter=None, extra=None))]
    fn _make_write_pipe_transport<'py>(
        slf: &Bound<'py, Self>,
        pipe: Bound<'py, PyAny>,
        protocol: Bound<'py, PyAny>,
        waiter: Option<Bound<'py, PyAny>>,
        extra: Option<Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        // SAFETY: an instance of this class.
        let this = unsafe { Self::of(slf.as_ptr()) };
        pipes::new::<WritePipe>(slf.py(), this, pipes::New { pipe, protocol, waiter, extra })
    }

    /// Accepts connections for `server` on the listening socket `fd`.
    fn _listen<'py>(
        slf: &Bound<'py, Self>,
        fd: RawFd,
        backlog: usize,
        protocol_factory: Bound<'py, PyAny>,
        server: Bound<'py, PyAny>,
    ) -> PyResult<Py<Listener>> {
        // SAFETY: an instance of this class.
        let this = unsafe { Self::of(slf.as_ptr()) };
        Listener::start(slf.py(), this, fd, backlog, protocol_factory, server)
    }

    /// Goes on accepting after `_unlisten`.
    fn _relisten(slf: &Bound<'_, Self>, listener: &Bound<'_, Listener>) -> PyResult<()> {
        // SAFETY: an instance of this class.
        let this = unsafe { Self::of(slf.as_ptr()) };
        Listener::resume(listener, this)
    }

    /// Stops accepting; the socket stays open.
    fn _unlisten(slf: &Bound<'_, Self>, listener: &Bound<'_, Listener>) {
        // SAFETY: an instance of this class.
        let this = unsafe { Self::of(slf.as_ptr()) };
        listener.get().stop(slf.py(), this);
    }
}
