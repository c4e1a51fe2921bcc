//! A stream's own part of its lifecycle.

use std::io;

use pyo3::exceptions::PyConnectionError;
use pyo3::prelude::*;

use super::reading::ready;
use super::{Addresses, Stream, clients};
use crate::driver::reactor::{Direction, Reactor, Registration};
use crate::event_loop::NativeLoop;
use crate::event_loop::SourceVTable;
use crate::ffi::contexts::Scope;
use crate::ffi::futures;
use crate::ffi::gil::PySlot;
use crate::net::address::{self, Address};
use crate::transports::core::Lifecycle;
use crate::transports::core::class::{state, state_of};
use crate::transports::core::context::FlushTrigger;
use crate::transports::core::flow_control::{BufferLimits, Writing};
use crate::transports::core::protocol::Delivery;
use crate::transports::sockets::lifecycle::{self, ForcedBy, SocketConfig, SocketTransport};

/// What the maker of a stream transport passes.
pub(crate) struct StreamConfig<'py> {
    pub socket: SocketConfig<'py>,
    pub server: Option<Bound<'py, PyAny>>,
    pub peername: Address,
}

/// Makes a transport and schedules `connection_made`.
pub(crate) fn new<'py>(
    py: Python<'py>,
    event_loop: &NativeLoop,
    config: StreamConfig<'py>,
) -> PyResult<Bound<'py, PyAny>> {
    event_loop.check_closed(py)?;
    let delivery = Delivery::to(&config.socket.core.protocol)?;
    let made = lifecycle::make(py, event_loop, config.socket, |socket| Stream {
        socket,
        delivery: delivery.into(),
        ended: false.into(),
        eof_written: false.into(),
        bulk: false.into(),
        pending_flush: Default::default(),
        blocked: false.into(),
        buffer: Default::default(),
        server: PySlot::empty(),
        addresses: Addresses { sockname: Address::Unknown, peername: config.peername }.into(),
    })?;
    // SAFETY: made just now, of this kind.
    let begun = unsafe {
        lifecycle::begin::<Stream>(event_loop, &made, || match config.server {
            Some(server) => attach(&server, state(&made), &made),
            None => Ok(()),
        })
    };
    begun?;
    Ok(made)
}

/// Adds the connection to its server, which removes it in `close_socket`.
fn attach(server: &Bound<'_, PyAny>, this: &Stream, transport: &Bound<'_, PyAny>) -> PyResult<()> {
    let py = server.py();
    this.server.set(py, Some(server.clone().unbind()));
    let attached = clients::attach(server, transport);
    if attached.is_err() {
        this.server.set(py, None);
    }
    attached
}

/// Notes again that a transport uses its descriptor. Whether it is a stream of ours.
pub(crate) fn claim(
    py: Python<'_>,
    event_loop: &NativeLoop,
    slf: &Bound<'_, PyAny>,
) -> PyResult<bool> {
    let Some(this) = state_of::<Stream>(slf)? else {
        return Ok(false);
    };
    if this.lifecycle() != Lifecycle::Closed {
        event_loop.sources().with(py, |sources| sources.claim_fd(this.file.number(), this.key));
    }
    Ok(true)
}

impl Writing for Stream {
    fn limits(&self) -> &BufferLimits {
        &self.limits
    }

    fn unsent(&self, _py: Python<'_>) -> usize {
        self.leave_to_parent();
        self.buffer.borrow().size()
    }

    fn write_buffer_size(&self, slf: &Bound<'_, PyAny>) -> PyResult<usize> {
        self.buffered(slf.py(), slf)
    }
}

impl SocketTransport for Stream {
    const NOUN: &'static str = "socket transport";
    const CONTEXT_SCOPE: Scope = if cfg!(Py_3_15) { Scope::Whole } else { Scope::Cause };

    fn source_vtable() -> &'static SourceVTable {
        static VTABLE: SourceVTable = lifecycle::source_vtable::<Stream>(ready);
        &VTABLE
    }

    fn register_with(&self, reactor: &Reactor) -> io::Result<Registration> {
        if self.blocked.get() {
            reactor.register(self.file.number(), self.key)
        } else {
            reactor.register_stream_reader(self.file.number(), self.key)
        }
    }

    fn read_on(&self, py: Python<'_>, native: &NativeLoop) {
        self.ask_for_data(py, native);
    }

    fn discard(&self, _py: Python<'_>) -> PyResult<()> {
        self.blocked.set(false);
        self.buffer.borrow_mut().clear();
        Ok(())
    }

    fn is_idle(&self) -> bool {
        (self.reading_paused.get() || self.ended.get()) && self.buffer.borrow().is_empty()
    }

    fn send_rest(&self, slf: &Bound<'_, PyAny>) -> PyResult<()> {
        let py = slf.py();
        self.send_pending(py, slf, FlushTrigger::Caller)?;
        // The caller that closes is nearly always the one that wrote, in this batch, what does not
        // leave at once.
        if self.blocked.get() && !self.knows_writer(py) { self.remember_writer(py) } else { Ok(()) }
    }

    fn close_socket(&self, slf: &Bound<'_, PyAny>) -> PyResult<()> {
        let py = slf.py();
        self.learn_sockname(py);
        let closed = match self.file.take(py) {
            Some(socket) => socket.call_method0(py, "close").map(drop),
            None => {
                // SAFETY: the transport owns a descriptor that it made no socket object of, and
                // closes it once: `release`, which calls this, runs when the stage becomes `Closed`.
                unsafe { libc::close(self.file.number()) };
                Ok(())
            }
        };
        // Also where closing failed: `wait_closed()` waits for it.
        let detached = match self.server.take(py) {
            Some(server) => clients::detach(server.bind(py), slf),
            None => Ok(()),
        };
        closed.and(detached)
    }

    fn prepare_for(&self, protocol: &Bound<'_, PyAny>) -> PyResult<()> {
        self.delivery.set(Delivery::to(protocol)?);
        Ok(())
    }

    /// asyncio would have sent this batch's writes before it came to the end.
    fn send_last(&self, slf: &Bound<'_, PyAny>, forced_by: ForcedBy) -> PyResult<()> {
        match forced_by {
            ForcedBy::Error => {
                self.send_last_batch(slf.py());
                Ok(())
            }
            ForcedBy::Abort if self.pending_flush.is_set() => {
                self.send_pending(slf.py(), slf, FlushTrigger::Caller)
            }
            ForcedBy::Abort => Ok(()),
        }
    }

    fn moved(&self, registration: &Registration) {
        if self.blocked.get() {
            registration.arm(Direction::Write);
        }
    }

    fn after_release(&self, py: Python<'_>) -> PyResult<()> {
        let Some(waiter) = self.empty_waiter(py) else {
            return Ok(());
        };
        let error = PyConnectionError::new_err("Connection is closed by peer");
        futures::wake_unless_done(&waiter, Some(error.into_value(py).bind(py)))
    }
}

impl Stream {
    /// Asks the kernel for the socket's own address, which can be asked for while it is open.
    pub(super) fn learn_sockname(&self, py: Python<'_>) {
        if self.addresses.borrow().sockname.is_unknown()
            && let Ok(fd) = self.file.open(py)
        {
            let name = address::local(py, fd);
            self.addresses.borrow_mut().sockname = name;
        }
    }
}
