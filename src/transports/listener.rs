//! Listening sockets: accepts in bursts, and makes a transport of each connection.
//!
//! As on asyncio, the protocol and the transport of a connection are made in the iteration after
//! the one that accepted it. Until then the listener owns the connection's descriptor.
//!
//! # Who owns what
//!
//! - The listening socket is the server's. The listener asks the socket object for its number before
//!   each system call, and drops its registration before the server closes it (`stop`).
//! - A listener that accepts has a key and a registration, and is held by the loop's table; a stopped
//!   one has neither, and may start again. A loop that closes takes the registration back.
//! - `accepted` has one connection for each `welcome` in the ready queue, first in first out, and owns
//!   its descriptor; `stream::new` takes it over only when the transport exists. A connection without
//!   a `welcome` (the loop was closed) is closed by `detach`, or with the listener.
//!
//! All of it is in cells that the GIL guards. `accept` runs no Python code while it borrows one; the
//! protocol factory and the server, which do, are called from `welcome` with nothing borrowed.

use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsRawFd, IntoRawFd, OwnedFd, RawFd};
use std::sync::Arc;

use pyo3::exceptions::PyOSError;
use pyo3::prelude::*;
use pyo3::{PyTraverseError, PyVisit, ffi, intern};

use crate::driver::reactor::{After, Direction, Key, Reactor, Registration};
use crate::driver::sys::{self, address::SockAddr};
use crate::event_loop::{Entry, LoopSlot, NativeLoop, ends_loop};
use crate::event_loop::{Source, SourceVTable, deregister};
use crate::ffi::audit;
use crate::ffi::contexts::within;
use crate::ffi::errors::os_error;
use crate::ffi::finalizing;
use crate::ffi::gil::{GilCell, GilFlag, PySlot};
use crate::ffi::imports;
use crate::ffi::memory;
use crate::ffi::object;
use crate::ffi::socket_fd::{self, Descriptor};
use crate::net::address::Address;
use crate::transports::core::CoreConfig;
use crate::transports::sockets::lifecycle::{Socket, SocketConfig};
use crate::transports::{stream, tls};

/// A socket that accepts connections for an ``asyncio.Server``.
#[pyclass(frozen, module = "tokioloop._core")]
pub struct Listener {
    file: Descriptor,
    backlog: usize,
    protocol_factory: PySlot,
    server: PySlot,
    /// Each connection's callbacks run in a copy of this context.
    context: PySlot,
    event_loop: LoopSlot,
    key: GilFlag<Option<Key>>,
    registration: GilCell<Option<Registration>>,
    /// Connections that have no transport yet: one for each entry of the ready queue.
    accepted: GilCell<VecDeque<Accepted>>,
}

const ACCEPT_FAILED: &str = "Exception in accept on a listening socket";
const CREATION_FAILED: &str = "Error on transport creation for incoming connection";

/// A connection and its peer's address.
type Accepted = (OwnedFd, SockAddr);

impl Drop for Listener {
    fn drop(&mut self) {
        // Before the fields, whose destructors may run Python code.
        finalizing::guard();
    }
}

/// What the loop calls for listeners.
static VTABLE: SourceVTable = SourceVTable {
    ready: |py, event_loop, slf| Listener::accept(slf.cast_bound::<Listener>(py)?, event_loop),
    move_to: |py, _event_loop, slf, reactor| {
        slf.cast_bound::<Listener>(py)?.get().move_to(py, reactor)
    },
    detach: |py, slf| {
        if let Ok(listener) = slf.cast_bound::<Listener>(py) {
            listener.get().detach(py);
        }
    },
};

impl Listener {
    /// Starts accepting on `socket`.
    pub fn start(
        py: Python<'_>,
        event_loop: &NativeLoop,
        socket: &Bound<'_, PyAny>,
        backlog: i64,
        protocol_factory: Bound<'_, PyAny>,
        server: Bound<'_, PyAny>,
    ) -> PyResult<Py<Self>> {
        let fd = socket.call_method0(intern!(py, "fileno"))?.extract::<RawFd>()?;
        // SAFETY: the GIL is held; a new reference or null with an exception set.
        let context = unsafe { object::owned(py, ffi::PyContext_CopyCurrent())? };
        // Accepted sockets inherit the option, which saves a system call a connection.
        sys::socket::send_at_once(fd);
        let listener = Py::new(
            py,
            Self {
                file: Descriptor::of(socket, fd)?,
                // The kernel queues at least one connection, even for a backlog of less.
                backlog: usize::try_from(backlog).unwrap_or(0).max(1),
                protocol_factory: PySlot::new(protocol_factory.unbind()),
                server: PySlot::new(server.unbind()),
                context: PySlot::new(context.unbind()),
                event_loop: LoopSlot::new(py, event_loop),
                key: GilFlag::new(None),
                registration: GilCell::new(None),
                accepted: GilCell::new(VecDeque::new()),
            },
        )?;
        Self::resume(listener.bind(py), event_loop)?;
        Ok(listener)
    }

    /// Registers with the reactor, at first or after `stop`.
    pub fn resume(listener: &Bound<'_, Self>, event_loop: &NativeLoop) -> PyResult<()> {
        let (py, this) = (listener.py(), listener.get());
        let fd = this.file.open(py).map_err(|error| os_error(py, &error))?;
        let source = Source::Object(listener.clone().into_any().unbind(), &VTABLE);
        let (key, registration) = event_loop.add_source(py, fd, source)?;
        this.key.set(py, Some(key));
        drop(this.registration.with(py, |slot| slot.replace(registration)));
        this.arm(py, event_loop);
        Ok(())
    }

    fn arm(&self, py: Python<'_>, event_loop: &NativeLoop) {
        let ready = self.registration.with(py, |registration| {
            registration.as_ref().is_some_and(|registration| registration.arm(Direction::Read))
        });
        if let (true, Some(key)) = (ready, self.key.get(py)) {
            event_loop.push(py, Entry::Io(key));
        }
    }

    /// Stops accepting; the socket stays open, and connections that were accepted live on.
    pub fn stop(&self, py: Python<'_>, event_loop: &NativeLoop) {
        let registration = self.registration.with(py, Option::take);
        deregister(py, event_loop, registration, &self.file);
        if let Some(key) = self.key.get(py) {
            self.key.set(py, None);
            drop(event_loop.sources().with(py, |sources| sources.remove(key)));
        }
    }

    /// The loop is closed: no connection is accepted any more, and the accepted ones get no transport.
    fn detach(&self, py: Python<'_>) {
        drop(self.registration.with(py, Option::take));
        drop(self.accepted.take(py));
    }

    fn move_to(&self, py: Python<'_>, reactor: &Arc<Reactor>) -> PyResult<()> {
        let Some(key) = self.key.get(py) else { return Ok(()) };
        let fd = self.file.open(py).map_err(|error| os_error(py, &error))?;
        let registration = reactor.register(fd, key).map_err(|error| os_error(py, &error))?;
        registration.arm(Direction::Read);
        drop(self.registration.with(py, |slot| slot.replace(registration)));
        Ok(())
    }

    /// The listening socket is ready: accepts up to a backlog of connections.
    fn accept(slf: &Bound<'_, Self>, event_loop: &NativeLoop) -> PyResult<()> {
        let (py, this) = (slf.py(), slf.get());
        for _ in 0..this.backlog {
            let accepted = this.file.open(py).and_then(|fd| {
                this.registration.with(py, |registration| match registration {
                    Some(registration) => {
                        let accept = || Ok((sys::socket::accept(fd)?, After::StillReady));
                        registration.attempt(Direction::Read, accept)
                    }
                    None => Ok(None),
                })
            });
            match accepted {
                Ok(Some(accepted)) => this.expect(slf, event_loop, accepted),
                Ok(None) => return Ok(()),
                Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => {}
                Err(error) => return this.failed(py, event_loop, &error),
            }
        }
        this.arm(py, event_loop);
        Ok(())
    }

    /// Has the transport of a connection made in the next iteration. If there is no memory to
    /// remember it, the connection is closed.
    fn expect(&self, slf: &Bound<'_, Self>, event_loop: &NativeLoop, accepted: Accepted) {
        let py = slf.py();
        let refused = self.accepted.with(py, |waiting| {
            if waiting.try_reserve(1).is_err() {
                return Some(accepted);
            }
            waiting.push_back(accepted);
            None
        });
        if refused.is_none() {
            event_loop.push(py, Entry::Native(slf.clone().into_any().unbind(), welcome));
        }
    }

    /// Makes protocol and transport of a new connection.
    fn connected(
        &self,
        py: Python<'_>,
        event_loop: &NativeLoop,
        accepted: OwnedFd,
        peer: SockAddr,
    ) -> PyResult<()> {
        let socket = match self.accepted_socket(py, accepted) {
            Ok(socket) => socket,
            Err(error) => {
                return event_loop.report(py, ACCEPT_FAILED, error, &[]);
            }
        };
        let mut protocol = None;
        let made = self.in_own_context(py, event_loop, || -> PyResult<()> {
            let Some(factory) = self.protocol_factory.get(py) else {
                return Ok(());
            };
            let protocol = protocol.insert(factory.call0()?).clone();
            let peername = Address::new(py, &peer)?;
            let transport = stream::new(
                py,
                event_loop,
                stream::StreamConfig {
                    socket: SocketConfig {
                        socket,
                        core: CoreConfig { protocol, waiter: None, extra: None },
                    },
                    server: self.server.get(py),
                    peername,
                },
            )?;
            if event_loop.is_debug(py) {
                let server = self.server.get(py);
                imports::debug_mode(py)?
                    .bind(py)
                    .call_method1("log_accepted", (server, transport))?;
            }
            Ok(())
        });
        match made {
            Err(error) if ends_loop(py, &error) => Err(error),
            // As in asyncio: reported in debug mode only, and the connection is closed.
            Err(error) if event_loop.is_debug(py) => {
                let protocol = protocol.map(tls::application_protocol).transpose()?;
                let about = protocol.as_ref().map(|protocol| ("protocol", protocol));
                event_loop.report(py, CREATION_FAILED, error, about.as_slice())
            }
            _ => Ok(()),
        }
    }

    /// What a transport gets: a socket object where an audit hook is to hear of it, as Python's `accept()`
    /// makes one.
    fn accepted_socket<'py>(&self, py: Python<'py>, accepted: OwnedFd) -> PyResult<Socket<'py>> {
        if !audit::has_hooks(py) {
            return Ok(Socket::Bare(accepted));
        }
        let Some(listening) = self.file.socket(py) else { return Ok(Socket::Bare(accepted)) };
        let options = memory::dict(py)?;
        for name in [intern!(py, "family"), intern!(py, "type"), intern!(py, "proto")] {
            options.set_item(name, listening.getattr(name)?)?;
        }
        let (object, initialised) = socket_fd::adopting_object(py, accepted.as_raw_fd(), options)?;
        if let Err(error) = initialised {
            // It may have the descriptor, which is closed here.
            imports::detach(py)?.call1(py, (object,))?;
            return Err(error);
        }
        Ok(Socket::Object(object, accepted.into_raw_fd()))
    }

    /// Runs `f` in a copy of the context that the server was started in.
    fn in_own_context(
        &self,
        py: Python<'_>,
        event_loop: &NativeLoop,
        f: impl FnOnce() -> PyResult<()>,
    ) -> PyResult<()> {
        let Some(context) = self.context.get(py) else {
            return f();
        };
        // No code enters it, so the connections that do not change it may share it.
        event_loop.contexts().expect(py, &context);
        // SAFETY: a context; a new reference or null with an exception set.
        let copy = unsafe { object::owned(py, ffi::PyContext_Copy(context.as_ptr()))? };
        within(&copy, f)
    }

    /// `accept` failed. Out of descriptors or memory: reports it, and tries again in a second.
    fn failed(&self, py: Python<'_>, event_loop: &NativeLoop, error: &io::Error) -> PyResult<()> {
        let exhausted = matches!(
            error.raw_os_error(),
            Some(libc::EMFILE | libc::ENFILE | libc::ENOBUFS | libc::ENOMEM)
        );
        let raised = os_error(py, error);
        if exhausted {
            let raised = raised.into_value(py);
            event_loop.bind(py).call_method1("_accept_exhausted", (self.file.number(), raised))?;
            return Ok(());
        }
        debug_assert!(raised.is_instance_of::<PyOSError>(py));
        // Also after an error that ends the loop, which may be run again.
        let reported = event_loop.report(py, ACCEPT_FAILED, raised, &[]);
        if self.file.open(py).is_ok() {
            self.arm(py, event_loop);
        }
        reported
    }
}

/// The step that makes the transport of the connection that was accepted first.
fn welcome(py: Python<'_>, listener: &Py<PyAny>) -> PyResult<()> {
    let this = listener.cast_bound::<Listener>(py)?.get();
    let accepted = this.accepted.with(py, VecDeque::pop_front);
    let (Some((fd, peer)), Some(event_loop)) = (accepted, this.event_loop.get(py)) else {
        return Ok(());
    };
    this.connected(py, &event_loop, fd, peer)
}

#[pymethods]
impl Listener {
    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        self.file.slot().traverse(&visit)?;
        self.protocol_factory.traverse(&visit)?;
        self.server.traverse(&visit)?;
        self.event_loop.slot().traverse(&visit)?;
        self.context.traverse(&visit)
    }

    fn __clear__(slf: &Bound<'_, Self>) {
        finalizing::guard();
        let (py, this) = (slf.py(), slf.get());
        this.protocol_factory.set(py, None);
        this.server.set(py, None);
        this.event_loop.slot().set(py, None);
        this.context.set(py, None);
    }
}
