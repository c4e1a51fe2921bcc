//! What of a transport's life is a datagram endpoint's own.

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
use crate::ffi::gil::PySlot;
use crate::ffi::imports;
use crate::transports::life::{self, Parts, Socket, SocketTransport};

/// What a new transport is made of.
pub(crate) struct New<'py> {
    pub socket: Bound<'py, PyAny>,
    pub protocol: Bound<'py, PyAny>,
    /// The only address that may be sent to.
    pub address: Option<Bound<'py, PyAny>>,
    pub waiter: Option<Bound<'py, PyAny>>,
    pub extra: Option<Bound<'py, PyAny>>,
}

/// Makes a transport and schedules `connection_made`.
pub(crate) fn new<'py>(
    py: Python<'py>,
    event_loop: &NativeLoop,
    new: New<'py>,
) -> PyResult<Bound<'py, PyAny>> {
    event_loop.check_closed(py)?;
    let fd = new.socket.call_method0("fileno")?.extract::<RawFd>()?;
    let family = new.socket.getattr("family")?.extract::<i32>()?;
    let extra = extra_info(&new.socket, new.extra)?;
    let connected =
        extra.get_item("peername")?.is_some_and(|name| name.is_truthy().unwrap_or(true));
    let address = new.address.filter(|address| address.is_truthy().unwrap_or(true));
    sys::socket::announce_errors(fd);
    let parts = Parts {
        socket: Socket::Object(new.socket, fd),
        protocol: new.protocol,
        waiter: new.waiter,
        extra: Some(extra.into_any()),
    };
    let made = life::make(py, event_loop, parts, |common| Datagram {
        common,
        family,
        connected,
        inbox: Default::default(),
        peers: Default::default(),
        waiting: 0.into(),
        waiting_size: 0.into(),
        address: address.map_or_else(PySlot::empty, |address| PySlot::new(address.unbind())),
        buffer: PySlot::empty(),
    })?;
    // SAFETY: made just now, of this kind.
    unsafe { life::begin::<Datagram>(event_loop, &made, || Ok(()))? };
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

impl SocketTransport for Datagram {
    const NOUN: &'static str = "datagram transport";

    fn kind() -> &'static SourceVTable {
        static KIND: SourceVTable = life::kind::<Datagram>(ready);
        &KIND
    }

    fn unsent(&self) -> usize {
        self.waiting_size.get()
    }

    fn register_with(&self, reactor: &Reactor) -> io::Result<Registration> {
        reactor.register_reader(self.file.number(), self.key)
    }

    fn read_on(&self, py: Python<'_>, native: &NativeLoop) {
        self.ask_for_more(py, native);
    }

    fn discard(&self, py: Python<'_>) -> PyResult<()> {
        self.throw_away(py)
    }

    /// (While something is to be sent, the handle that waits for room keeps it alive.)
    fn is_idle(&self) -> bool {
        self.paused.get()
    }

    /// The handle that waits for room sees to it.
    fn send_rest(&self, _py: Python<'_>, _slf: &Bound<'_, PyAny>) -> PyResult<()> {
        Ok(())
    }

    fn stop_receiving(&self) {
        self.inbox.borrow_mut().clear();
    }

    fn close_socket(&self, py: Python<'_>, _slf: &Bound<'_, PyAny>) -> PyResult<()> {
        let stopped = self.stop_waiting_for_room(py);
        if let Some(socket) = self.file.take(py) {
            socket.call_method0(py, "close")?;
        }
        stopped
    }
}
