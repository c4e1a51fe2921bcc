//! What of a transport's life is a stream's own.

use std::io;

use pyo3::exceptions::PyConnectionError;
use pyo3::prelude::*;

use super::reading::ready;
use super::{Names, Stream, clients};
use crate::driver::reactor::{Direction, Reactor, Registration};
use crate::event_loop::NativeLoop;
use crate::event_loop::SourceVTable;
use crate::ffi::gil::PySlot;
use crate::net::address::{self, Address};
use crate::transports::base;
use crate::transports::life::{self, Cause, Life, Parts, Sender, SocketTransport};
use crate::transports::protocol::Delivery;

/// What a new transport is made of.
pub(crate) struct New<'py> {
    pub parts: Parts<'py>,
    pub server: Option<Bound<'py, PyAny>>,
    pub peername: Address,
}

/// Makes a transport and schedules `connection_made`.
pub(crate) fn new<'py>(
    py: Python<'py>,
    event_loop: &NativeLoop,
    new: New<'py>,
) -> PyResult<Bound<'py, PyAny>> {
    event_loop.check_closed(py)?;
    let delivery = Delivery::to(&new.parts.protocol)?;
    let made = life::make(py, event_loop, new.parts, |common| Stream {
        common,
        delivery: delivery.into(),
        ended: false.into(),
        eof_written: false.into(),
        bulk: false.into(),
        listed: Default::default(),
        blocked: false.into(),
        outgoing: Default::default(),
        server: PySlot::empty(),
        names: Names { sock: Address::Unknown, peer: new.peername }.into(),
    })?;
    // SAFETY: made just now, of this kind.
    let begun = unsafe {
        life::begin::<Stream>(event_loop, &made, || match new.server {
            Some(server) => attach(&server, base::state(&made), &made),
            None => Ok(()),
        })
    };
    begun?;
    Ok(made)
}

/// Tells the server of a connection. What it was told of it is told the end of.
fn attach(server: &Bound<'_, PyAny>, this: &Stream, transport: &Bound<'_, PyAny>) -> PyResult<()> {
    let py = server.py();
    this.server.set(py, Some(server.clone().unbind()));
    let attached = clients::attach(server, transport);
    if attached.is_err() {
        this.server.set(py, None);
    }
    attached
}

/// Notes again that a transport uses its descriptor; whether it is one of ours.
pub(crate) fn claim(
    py: Python<'_>,
    event_loop: &NativeLoop,
    slf: &Bound<'_, PyAny>,
) -> PyResult<bool> {
    let Some(this) = base::state_of::<Stream>(slf)? else {
        return Ok(false);
    };
    if this.life.get() != Life::Closed {
        event_loop.sources().with(py, |sources| sources.claim_fd(this.file.number(), this.key));
    }
    Ok(true)
}

impl SocketTransport for Stream {
    const NOUN: &'static str = "socket transport";

    fn kind() -> &'static SourceVTable {
        static KIND: SourceVTable = life::kind::<Stream>(ready);
        &KIND
    }

    fn unsent(&self) -> usize {
        self.leave_to_parent();
        self.outgoing.borrow().size()
    }

    fn register_with(&self, reactor: &Reactor) -> io::Result<Registration> {
        reactor.register(self.file.number(), self.key)
    }

    /// Sees to it that the next data is heard of.
    fn read_on(&self, py: Python<'_>, native: &NativeLoop) {
        self.ask_for_data(py, native);
    }

    fn discard(&self, _py: Python<'_>) -> PyResult<()> {
        self.blocked.set(false);
        self.outgoing.borrow_mut().clear();
        Ok(())
    }

    fn is_idle(&self) -> bool {
        (self.paused.get() || self.ended.get()) && self.outgoing.borrow().is_empty()
    }

    fn send_rest(&self, py: Python<'_>, slf: &Bound<'_, PyAny>) -> PyResult<()> {
        self.send_pending(py, slf, Sender::Caller)?;
        // Who wrote in this batch what does not leave at once is as good as always who closes.
        if self.blocked.get() && !self.knows_writer(py) { self.remember_writer(py) } else { Ok(()) }
    }

    fn close_socket(&self, py: Python<'_>, slf: &Bound<'_, PyAny>) -> PyResult<()> {
        self.learn_sockname(py);
        let closed = match self.file.take(py) {
            Some(socket) => socket.call_method0(py, "close").map(drop),
            None => {
                // SAFETY: the transport owns a descriptor that it made no socket object of, and
                // closes it once: `release`, which calls this, runs when `life` becomes `Closed`.
                unsafe { libc::close(self.file.number()) };
                Ok(())
            }
        };
        // Whatever became of that: `wait_closed()` waits for it.
        let detached = match self.server.take(py) {
            Some(server) => clients::detach(server.bind(py), slf),
            None => Ok(()),
        };
        closed.and(detached)
    }

    fn adopt(&self, protocol: &Bound<'_, PyAny>) -> PyResult<()> {
        self.delivery.set(Delivery::to(protocol)?);
        Ok(())
    }

    /// asyncio would have sent this turn's writes before it came to the end.
    fn send_last(&self, slf: &Bound<'_, PyAny>, cause: Cause) -> PyResult<()> {
        match cause {
            Cause::Error => {
                self.send_last_words(slf.py());
                Ok(())
            }
            Cause::Abort if self.listed.is_listed() => {
                self.send_pending(slf.py(), slf, Sender::Caller)
            }
            Cause::Abort => Ok(()),
        }
    }

    fn moved(&self, registration: &Registration) {
        if self.blocked.get() {
            registration.arm(Direction::Write);
        }
    }

    fn after_loss(&self, py: Python<'_>) -> PyResult<()> {
        if let Some(waiter) = self.drained(py)
            && !waiter.call_method0("done")?.is_truthy()?
        {
            let error = PyConnectionError::new_err("Connection is closed by peer");
            waiter.call_method1("set_exception", (error.into_value(py),))?;
        }
        Ok(())
    }
}

impl Stream {
    /// While the socket is open the kernel knows; afterwards it is remembered.
    pub(super) fn learn_sockname(&self, py: Python<'_>) {
        if self.names.borrow().sock.is_unknown()
            && let Ok(fd) = self.file.open(py)
        {
            let name = address::local(py, fd);
            self.names.borrow_mut().sock = name;
        }
    }

    /// An error that ends the connection: reported unless it is the network's, then told.
    pub(super) fn fatal(
        &self,
        slf: &Bound<'_, PyAny>,
        error: PyErr,
        message: &str,
    ) -> PyResult<()> {
        life::fatal(self, slf, error, message)
    }
}
