//! The loop's methods that make transports and listeners: called once a connection.

use std::os::fd::RawFd;

use pyo3::prelude::*;

use super::core::CoreConfig;
use super::listener::Listener;
use super::pipes::{self, PipeConfig, ReadPipe, WritePipe};
use super::sockets::lifecycle::{Socket, SocketConfig};
use super::{datagram, stream, tls};
use crate::event_loop::NativeLoop;
use crate::net::{ConnectionAttempt, address};

#[pymethods]
impl NativeLoop {
    /// Undoes `_disown_fd`. Whether this is a transport of ours.
    fn _own_fd(slf: &Bound<'_, Self>, transport: &Bound<'_, PyAny>) -> PyResult<bool> {
        stream::claim(slf.py(), Self::entered(slf), transport)
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
        let this = Self::entered(slf);
        let fd = sock.call_method0("fileno")?.extract::<RawFd>()?;
        stream::new(
            py,
            this,
            stream::StreamConfig {
                socket: SocketConfig {
                    socket: Socket::Object(sock, fd),
                    core: CoreConfig { protocol, waiter, extra },
                },
                server,
                peername: address::remote(py, fd),
            },
        )
    }

    /// A transport over the socket that an attempt has connected; `connection_made` is scheduled.
    fn _connected_transport<'py>(
        slf: &Bound<'py, Self>,
        attempt: &Bound<'py, ConnectionAttempt>,
        protocol: Bound<'py, PyAny>,
        waiter: Bound<'py, PyAny>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let py = slf.py();
        let this = Self::entered(slf);
        stream::new(
            py,
            this,
            stream::StreamConfig {
                socket: SocketConfig {
                    socket: Socket::Connected(attempt.clone()),
                    core: CoreConfig { protocol, waiter: Some(waiter), extra: None },
                },
                server: None,
                peername: attempt.get().remote(py),
            },
        )
    }

    /// A TLS transport; it starts when a transport below calls its `connection_made`.
    fn _tls_transport<'py>(
        slf: &Bound<'py, Self>,
        parts: tls::TlsConfig<'py>,
    ) -> PyResult<Bound<'py, PyAny>> {
        tls::new(slf.py(), Self::entered(slf), parts)
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
        let this = Self::entered(slf);
        datagram::new(
            slf.py(),
            this,
            datagram::DatagramConfig {
                socket: sock,
                core: CoreConfig { protocol, waiter, extra },
                address,
            },
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
        let this = Self::entered(slf);
        let core = CoreConfig { protocol, waiter, extra };
        pipes::new::<ReadPipe>(slf.py(), this, PipeConfig { pipe, core })
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
        let this = Self::entered(slf);
        let core = CoreConfig { protocol, waiter, extra };
        pipes::new::<WritePipe>(slf.py(), this, PipeConfig { pipe, core })
    }

    /// Accepts connections for `server` on a listening socket.
    fn _listen<'py>(
        slf: &Bound<'py, Self>,
        sock: &Bound<'py, PyAny>,
        backlog: i64,
        protocol_factory: Bound<'py, PyAny>,
        server: Bound<'py, PyAny>,
    ) -> PyResult<Py<Listener>> {
        let this = Self::entered(slf);
        Listener::start(slf.py(), this, sock, backlog, protocol_factory, server)
    }

    /// Accepts connections again after `_unlisten`.
    fn _relisten(slf: &Bound<'_, Self>, listener: &Bound<'_, Listener>) -> PyResult<()> {
        let this = Self::entered(slf);
        Listener::resume(listener, this)
    }

    /// Stops accepting; the socket stays open.
    fn _unlisten(slf: &Bound<'_, Self>, listener: &Bound<'_, Listener>) {
        let this = Self::entered(slf);
        listener.get().stop(slf.py(), this);
    }
}
