//! A datagram transport's own part of its lifecycle.

use std::io;
use std::os::fd::RawFd;

use pyo3::exceptions::PyOSError;
use pyo3::prelude::*;
use pyo3::types::PyDict;

use super::Datagram;
use super::receiving::ready;
use crate::driver::reactor::{Reactor, Registration};
use crate::driver::sys;
use crate::event_loop::NativeLoop;
use crate::event_loop::SourceVTable;
use crate::ffi::contexts::Scope;
use crate::ffi::gil::PySlot;
use crate::ffi::imports;
use crate::transports::core::flow_control::{BufferLimits, Writing};
use crate::transports::core::{CoreConfig, slot};
use crate::transports::sockets::lifecycle::{self, Socket, SocketConfig, SocketTransport};

/// What the maker of a datagram transport passes.
pub(crate) struct DatagramConfig<'py> {
    pub socket: Bound<'py, PyAny>,
    pub core: CoreConfig<'py>,
    /// The only address that may be sent to.
    pub address: Option<Bound<'py, PyAny>>,
}

/// Makes a transport and schedules `connection_made`.
pub(crate) fn new<'py>(
    py: Python<'py>,
    event_loop: &NativeLoop,
    config: DatagramConfig<'py>,
) -> PyResult<Bound<'py, PyAny>> {
    event_loop.check_closed(py)?;
    let fd = config.socket.call_method0("fileno")?.extract::<RawFd>()?;
    let family = config.socket.getattr("family")?.extract::<i32>()?;
    let extra = extra_info(&config.socket, config.core.extra)?;
    let connected =
        extra.get_item("peername")?.is_some_and(|name| name.is_truthy().unwrap_or(true));
    let address = config.address.filter(|address| address.is_truthy().unwrap_or(true));
    sys::socket::announce_errors(fd);
    let socket = SocketConfig {
        socket: Socket::Object(config.socket, fd),
        core: CoreConfig { extra: Some(extra.into_any()), ..config.core },
    };
    let made = lifecycle::make(py, event_loop, socket, |socket| Datagram {
        socket,
        family,
        connected,
        inbox: Default::default(),
        peers: Default::default(),
        waiting: 0.into(),
        waiting_size: 0.into(),
        address: slot(address),
        buffer: PySlot::empty(),
    })?;
    // SAFETY: made just now, of this kind.
    unsafe { lifecycle::begin::<Datagram>(event_loop, &made, || Ok(()))? };
    Ok(made)
}

/// asyncio's `_extra` of a transport over `socket`.
fn extra_info<'py>(
    socket: &Bound<'py, PyAny>,
    given: Option<Bound<'py, PyAny>>,
) -> PyResult<Bound<'py, PyDict>> {
    let py = socket.py();
    let name = |method: &str| match socket.call_method0(method) {
        Err(error) if error.is_instance_of::<PyOSError>(py) => Ok(py.None().into_bound(py)),
        result => result,
    };
    let extra = PyDict::new(py);
    if let Some(given) = given {
        extra.update(given.cast()?)?;
    }
    extra.set_item("socket", imports::transport_socket_class(py)?.call1((socket,))?)?;
    extra.set_item("sockname", name("getsockname")?)?;
    if !extra.contains("peername")? {
        extra.set_item("peername", name("getpeername")?)?;
    }
    Ok(extra)
}

impl Writing for Datagram {
    fn limits(&self) -> &BufferLimits {
        &self.limits
    }

    fn unsent(&self, _py: Python<'_>) -> usize {
        self.waiting_size.get()
    }
}

impl SocketTransport for Datagram {
    const NOUN: &'static str = "datagram transport";
    const CONTEXT_SCOPE: Scope = Scope::Cause;

    fn source_vtable() -> &'static SourceVTable {
        static VTABLE: SourceVTable = lifecycle::source_vtable::<Datagram>(ready);
        &VTABLE
    }

    fn register_with(&self, reactor: &Reactor) -> io::Result<Registration> {
        reactor.register_reader(self.file.number(), self.key)
    }

    fn read_on(&self, py: Python<'_>, native: &NativeLoop) {
        self.ask_for_more(py, native);
    }

    fn discard(&self, py: Python<'_>) -> PyResult<()> {
        self.discard_waiting(py)
    }

    /// (While something is to be sent, the handle that waits for room keeps it alive.)
    fn is_idle(&self) -> bool {
        self.reading_paused.get()
    }

    /// The handle that waits for room sends it.
    fn send_rest(&self, _slf: &Bound<'_, PyAny>) -> PyResult<()> {
        Ok(())
    }

    fn stop_receiving(&self) {
        self.inbox.borrow_mut().clear();
    }

    fn close_socket(&self, slf: &Bound<'_, PyAny>) -> PyResult<()> {
        let py = slf.py();
        let stopped = self.stop_waiting_for_room(py);
        if let Some(socket) = self.file.take(py) {
            socket.call_method0(py, "close")?;
        }
        stopped
    }
}
