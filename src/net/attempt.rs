//! An attempt to connect to a literal address, without a socket object: the transport gets the descriptor,
//! and makes an object of it if the program asks for one.
//!
//! # Who owns what
//!
//! - The attempt owns the descriptor, its registration and its key until `take` gives all three to a
//!   transport, or `close` gives them up. Either happens once: what is taken is gone from its cell.
//! - The loop's table holds the attempt until then. A loop that closes (`detach`) closes the descriptor.
//! - The future is the program's as well, which may cancel or finish it: then an event changes nothing.

use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::Arc;

use pyo3::exceptions::{PyConnectionAbortedError, PyValueError};
use pyo3::prelude::*;
use pyo3::{PyTraverseError, PyVisit, intern};

use super::address::{self, Address};
use super::literals;
use crate::driver::reactor::{Direction, Key, Reactor, Registration};
use crate::driver::sys::address::SockAddr;
use crate::driver::sys::{Connecting, socket};
use crate::event_loop::{Entry, LoopSlot, NativeLoop, Source, SourceVTable, ends_loop};
use crate::ffi::audit;
use crate::ffi::errors::os_error;
use crate::ffi::finalizing;
use crate::ffi::futures::wake_unless_done;
use crate::ffi::gil::{GilCell, PySlot};
use crate::ffi::imports;

/// A socket that is registered with the reactor. The registration is dropped first.
pub(crate) struct Registered {
    pub registration: Registration,
    pub descriptor: OwnedFd,
    /// Of the loop's table.
    pub key: Key,
}

/// An attempt to connect to a TCP server.
#[pyclass(frozen, module = "tokioloop._core")]
pub(crate) struct ConnectionAttempt {
    registered: GilCell<Option<Registered>>,
    event_loop: LoopSlot,
    /// Done when the attempt has succeeded or failed. Empty if it had succeeded at once.
    future: PySlot,
    /// As the program spelled them, for the error.
    host: PySlot,
    port: PySlot,
    family: i32,
}

impl Drop for ConnectionAttempt {
    fn drop(&mut self) {
        // Before the fields, whose destructors may run Python code.
        finalizing::guard();
    }
}

/// What the loop calls for attempts.
static VTABLE: SourceVTable = SourceVTable {
    ready: |py, event_loop, slf| {
        slf.cast_bound::<ConnectionAttempt>(py)?.get().ready(py, event_loop)
    },
    move_to: |py, event_loop, slf, reactor| {
        slf.cast_bound::<ConnectionAttempt>(py)?.get().move_to(py, event_loop, reactor)
    },
    detach: |py, slf| {
        if let Ok(attempt) = slf.cast_bound::<ConnectionAttempt>(py) {
            drop(attempt.get().registered.take(py));
        }
    },
};

/// A socket on its way to an address. It is registered last: the kernel reports one that is neither
/// connected nor connecting as hung up.
fn connect(to: &SocketAddr) -> io::Result<(OwnedFd, Connecting)> {
    let (family, address) = match to {
        SocketAddr::V4(to) => (libc::AF_INET, SockAddr::from(to)),
        SocketAddr::V6(to) => (libc::AF_INET6, SockAddr::from(to)),
    };
    let descriptor = socket::open_stream(family)?;
    socket::send_at_once(descriptor.as_raw_fd());
    let connecting = socket::connect(descriptor.as_raw_fd(), &address)?;
    Ok((descriptor, connecting))
}

impl ConnectionAttempt {
    fn begin<'py>(
        py: Python<'py>,
        event_loop: &NativeLoop,
        host: &Bound<'py, PyAny>,
        port: &Bound<'py, PyAny>,
        to: SocketAddr,
    ) -> PyResult<Bound<'py, Self>> {
        // First, as it may be a method of the program's: it may fork, or close the loop.
        let future = event_loop.bind(py).call_method0(intern!(py, "create_future"))?;
        if future.is_none() {
            // asyncio's error.
            future.getattr(intern!(py, "add_done_callback"))?;
        }
        event_loop.check_closed(py)?;
        let reactor = event_loop.reactor(py)?;
        let (descriptor, connecting) = connect(&to).map_err(|error| os_error(py, &error))?;
        let future = (connecting == Connecting::InProgress).then(|| future.unbind());
        let attempt = Bound::new(
            py,
            Self {
                registered: GilCell::new(None),
                event_loop: LoopSlot::new(py, event_loop),
                future: future.map_or_else(PySlot::empty, PySlot::new),
                host: PySlot::new(host.clone().unbind()),
                port: PySlot::new(port.clone().unbind()),
                family: if to.is_ipv4() { libc::AF_INET } else { libc::AF_INET6 },
            },
        )?;
        let this = attempt.get();
        let source = Source::Object(attempt.clone().into_any().unbind(), &VTABLE);
        let key = event_loop.sources().with(py, |sources| sources.insert(source));
        match reactor.register(descriptor.as_raw_fd(), key) {
            Ok(registration) => {
                let registered = Registered { registration, descriptor, key };
                this.registered.with(py, |slot| *slot = Some(registered));
                this.arm(py, event_loop);
                Ok(attempt)
            }
            Err(error) => {
                drop(event_loop.sources().with(py, |sources| sources.remove(key)));
                Err(os_error(py, &error))
            }
        }
    }

    /// Has the reactor notify the attempt once it has ended, if it goes on.
    fn arm(&self, py: Python<'_>, event_loop: &NativeLoop) {
        if !self.future.is_set(py) {
            return;
        }
        let ended = self.registered.with(py, |registered| {
            registered
                .as_ref()
                .and_then(|it| it.registration.arm(Direction::Write).then_some(it.key))
        });
        if let Some(key) = ended {
            event_loop.push(py, Entry::Io(key));
        }
    }

    /// The attempt has ended: wakes who awaits it.
    fn ready(&self, py: Python<'_>, event_loop: &NativeLoop) -> PyResult<()> {
        let Some(future) = self.future.get(py) else { return Ok(()) };
        let error = self.registered.with(py, |registered| {
            registered.as_ref().map(|it| socket::take_error(it.descriptor.as_raw_fd()))
        });
        let Some(error) = error else { return Ok(()) };
        let finished = match error {
            Ok(0) => finish(&future, None),
            Ok(number) => finish(&future, Some(self.refused(py, number))),
            Err(error) => finish(&future, Some(os_error(py, &error))),
        };
        // As asyncio: the caller hears of what went wrong here, too.
        let finished = finished.or_else(|error| match ends_loop(py, &error) {
            true => Err(error),
            false => finish(&future, Some(error)),
        });
        // The future is not one of asyncio's, and raised.
        finished.or_else(|error| {
            event_loop.report(py, "Exception in a connection attempt's callback", error, &[])
        })
    }

    /// What asyncio raises, made where a lack of memory is an exception: the event comes once.
    fn refused(&self, py: Python<'_>, number: i32) -> PyErr {
        let (host, port) = (self.host.get(py), self.port.get(py));
        let made = imports::error_reports(py).and_then(|reports| {
            let name = intern!(py, "connect_call_failed");
            reports.bind(py).call_method1(name, (number, self.family, host, port))
        });
        made.map_or_else(|error| error, PyErr::from_value)
    }

    /// After a fork: a registration with the child's own reactor.
    fn move_to(
        &self,
        py: Python<'_>,
        event_loop: &NativeLoop,
        reactor: &Arc<Reactor>,
    ) -> PyResult<()> {
        let Some(Registered { registration, descriptor, key }) = self.registered.take(py) else {
            return Ok(());
        };
        // The parent's.
        drop(registration);
        let registration =
            reactor.register(descriptor.as_raw_fd(), key).map_err(|error| os_error(py, &error))?;
        let registered = Registered { registration, descriptor, key };
        self.registered.with(py, |slot| *slot = Some(registered));
        self.arm(py, event_loop);
        Ok(())
    }

    /// The address of the peer; `Unknown` if there is none, or not any more.
    pub(crate) fn remote(&self, py: Python<'_>) -> Address {
        let descriptor = self.registered.with(py, |registered| {
            registered.as_ref().map(|registered| registered.descriptor.as_raw_fd())
        });
        descriptor.map_or(Address::Unknown, |descriptor| address::remote(py, descriptor))
    }

    /// Gives the socket up to a transport of the same loop, which takes the attempt's place in its table.
    /// Raises `ConnectionAbortedError` if it was given up before, `ValueError` for another loop's.
    pub(crate) fn take(slf: &Bound<'_, Self>, event_loop: &NativeLoop) -> PyResult<Registered> {
        let (py, this) = (slf.py(), slf.get());
        if !this.event_loop.slot().holds(&event_loop.bind(py)) {
            return Err(PyValueError::new_err("the connection attempt is another loop's"));
        }
        let registered = this.registered.take(py);
        registered
            .ok_or_else(|| PyConnectionAbortedError::new_err("the connection attempt was closed"))
    }
}

/// Wakes who awaits the attempt, unless the program has ended the future.
fn finish(future: &Bound<'_, PyAny>, error: Option<PyErr>) -> PyResult<()> {
    let py = future.py();
    let error = error.map(|error| error.into_value(py).into_bound(py).into_any());
    wake_unless_done(future, error.as_ref())
}

#[pymethods]
impl ConnectionAttempt {
    /// The future that ends with the attempt; ``None`` if there is nothing to wait for.
    #[getter]
    fn future<'py>(&self, py: Python<'py>) -> Option<Bound<'py, PyAny>> {
        finalizing::guard();
        self.future.get(py)
    }

    /// Give the attempt up. A transport that has the socket keeps it.
    fn close(&self, py: Python<'_>) {
        finalizing::guard();
        // Its exception has frames that hold the attempt.
        self.future.set(py, None);
        let Some(registered) = self.registered.take(py) else { return };
        if let Some(event_loop) = self.event_loop.get(py) {
            let source = event_loop.sources().with(py, |sources| sources.remove(registered.key));
            drop(source);
        }
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        self.event_loop.slot().traverse(&visit)?;
        self.future.traverse(&visit)?;
        self.host.traverse(&visit)?;
        self.port.traverse(&visit)
    }

    fn __clear__(slf: &Bound<'_, Self>) {
        finalizing::guard();
        let (py, this) = (slf.py(), slf.get());
        this.event_loop.slot().set(py, None);
        this.future.set(py, None);
        this.host.set(py, None);
        this.port.set(py, None);
    }
}

#[pymethods]
impl NativeLoop {
    /// Begin to connect to a TCP server. ``None``: leave it to asyncio, with a socket object, because
    /// the address is no plain literal, or the program has replaced methods of sockets or watches
    /// them by an audit hook.
    fn _connect<'py>(
        slf: &Bound<'py, Self>,
        host: &Bound<'py, PyAny>,
        port: &Bound<'py, PyAny>,
    ) -> PyResult<Option<Bound<'py, ConnectionAttempt>>> {
        let py = slf.py();
        let this = Self::entered(slf);
        let Some(to) = literals::stream_address(host, port) else { return Ok(None) };
        if audit::has_hooks(py) || !imports::sockets_are_unpatched(py)? {
            return Ok(None);
        }
        ConnectionAttempt::begin(py, this, host, port, to).map(Some)
    }
}
