//! Made, closed, lost: a transport's life, in asyncio's order of callbacks.

use std::os::fd::RawFd;
use std::sync::Arc;

use pyo3::exceptions::{PyConnectionError, PyOSError};
use pyo3::ffi;
use pyo3::prelude::*;

use super::address::{self, Address};
use super::object::{allocate, is_native, stream};
use super::reading::ready;
use super::{Delivery, Life, Stream, feed};
use crate::cached;
use crate::errors::os_error;
use crate::event_loop::{Entry, NativeLoop, ends_loop};
use crate::gil::PySlot;
use crate::handles::{Call, Handle};
use crate::object;
use crate::reactor::{Direction, Reactor};
use crate::sources::{Kind, Source};

/// What the loop does with transports.
static KIND: Kind = Kind { ready, move_to, detach };

/// What a new transport is made of.
pub struct New<'py> {
    pub fd: RawFd,
    /// The user's socket object. Without one the transport owns the bare descriptor.
    pub socket: Option<Bound<'py, PyAny>>,
    pub protocol: Bound<'py, PyAny>,
    pub waiter: Option<Bound<'py, PyAny>>,
    pub extra: Option<Bound<'py, PyAny>>,
    pub server: Option<Bound<'py, PyAny>>,
    pub peername: Address,
}

/// Makes a transport and schedules `connection_made`.
pub fn new<'py>(
    py: Python<'py>,
    event_loop: &NativeLoop,
    new: New<'py>,
) -> PyResult<Bound<'py, PyAny>> {
    event_loop.check_closed(py)?;
    let delivery = delivery_for(&new.protocol)?;
    // SAFETY: the GIL is held; a new reference or null with an exception set.
    let context = unsafe { object::owned(py, ffi::PyContext_CopyCurrent())? };
    // A place in the table first: the transport knows its key from birth.
    let key = event_loop.sources.with(py, |sources| sources.insert(Source::Alarm));
    let slot = |object: Option<Bound<'py, PyAny>>| {
        object.map_or_else(PySlot::empty, |object| PySlot::new(object.unbind()))
    };
    let made = allocate(
        py,
        Stream {
            fd: new.fd,
            key,
            life: Life::New.into(),
            delivery: delivery.into(),
            paused: false.into(),
            ended: false.into(),
            eof_written: false.into(),
            bulk: false.into(),
            protocol_paused: false.into(),
            protocol_connected: true.into(),
            listed: false.into(),
            blocked: false.into(),
            writes_after_loss: 0.into(),
            marks: Default::default(),
            registration: None.into(),
            outgoing: Default::default(),
            event_loop: PySlot::new(event_loop.bind(py).unbind()),
            protocol: slot(Some(new.protocol)),
            server: slot(new.server),
            socket: slot(new.socket),
            extra: slot(new.extra),
            waiter: slot(new.waiter),
            context: slot(Some(context)),
            loss: PySlot::empty(),
            drained: PySlot::empty(),
            sockname: Address::Unknown.into(),
            peername: new.peername.into(),
        },
    );
    let made = match made {
        Ok(made) => made,
        Err(error) => {
            event_loop.sources.with(py, |sources| drop(sources.remove(key)));
            return Err(error);
        }
    };
    let placeholder = event_loop.sources.with(py, |sources| {
        sources.claim_fd(new.fd, key);
        sources.replace(key, Source::Object(made.clone().unbind(), &KIND))
    });
    drop(placeholder);
    if let Some(server) = stream(&made).server.get(py) {
        cached::helpers(py)?.bind(py).call_method1("attach", (server, &made))?;
    }
    event_loop.push(py, Entry::Native(made.clone().unbind(), connection_made));
    Ok(made)
}

fn delivery_for(protocol: &Bound<'_, PyAny>) -> PyResult<Delivery> {
    if feed::suits(protocol)? {
        return Ok(Delivery::Reader);
    }
    let buffered = &cached::asyncio(protocol.py())?.buffered_protocol;
    Ok(if protocol.is_instance(buffered.bind(protocol.py()))? {
        Delivery::Buffer
    } else {
        Delivery::Data
    })
}

/// Calls `connection_made`, then starts reading, then wakes who waits for the connection.
fn connection_made(py: Python<'_>, slf: &Py<PyAny>) -> PyResult<()> {
    let slf = slf.bind(py);
    let this = stream(slf);
    let (Some(protocol), Some((_loop, native))) = (this.protocol.get(py), this.native(py)) else {
        return Ok(());
    };
    if this.life.get() == Life::New {
        this.life.set(Life::Open);
    }
    let name = pyo3::intern!(py, "connection_made");
    if let Err(error) = this.call_protocol(py, &protocol, name, Some(slf)) {
        this.callback_failed(py, native, "connection_made", slf, error)?;
    }
    if this.life.get() == Life::Open
        && !this.paused.get()
        && let Err(error) = this.start_reading(py, slf)
    {
        this.fatal(py, slf, error, "Fatal read error on socket transport")?;
    }
    this.relax(py, slf);
    if let Some(waiter) = this.waiter.take(py) {
        let waiter = waiter.bind(py);
        if !waiter.call_method0(pyo3::intern!(py, "cancelled"))?.is_truthy()? {
            waiter.call_method1(pyo3::intern!(py, "set_result"), (py.None(),))?;
        }
    }
    Ok(())
}

/// Calls `connection_lost` and closes the socket.
fn connection_lost(py: Python<'_>, slf: &Py<PyAny>) -> PyResult<()> {
    let slf = slf.bind(py);
    let this = stream(slf);
    if this.life.get() == Life::Closed {
        return Ok(());
    }
    let Some((event_loop, native)) = this.native(py) else {
        return Ok(());
    };
    let protocol = this.protocol.get(py);
    let mut result = Ok(());
    if let Some(protocol) = protocol.filter(|_| this.protocol_connected.get()) {
        let loss = this.loss.get(py).unwrap_or_else(|| py.None().into_bound(py));
        let name = pyo3::intern!(py, "connection_lost");
        if let Err(error) = this.call_protocol(py, &protocol, name, Some(&loss)) {
            result = this.callback_failed(py, native, "connection_lost", &loss, error);
        }
    }
    result = result.and(this.release(py, slf, native));
    this.protocol.set(py, None);
    this.loss.set(py, None);
    this.context.set(py, None);
    this.event_loop.set(py, None);
    drop(event_loop);
    if let Some(waiter) = this.drained.get(py)
        && !waiter.call_method0("done")?.is_truthy()?
    {
        let error = PyConnectionError::new_err("Connection is closed by peer");
        waiter.call_method1("set_exception", (error.into_value(py),))?;
    }
    result
}

/// Notes again that a transport uses its descriptor; whether it is one of ours.
pub fn claim(py: Python<'_>, event_loop: &NativeLoop, slf: &Bound<'_, PyAny>) -> PyResult<bool> {
    if !is_native(slf)? {
        return Ok(false);
    }
    let this = stream(slf);
    if this.life.get() != Life::Closed {
        event_loop.sources.with(py, |sources| sources.claim_fd(this.fd, this.key));
    }
    Ok(true)
}

/// The runtime goes: takes the registration back, the socket stays open.
fn detach(py: Python<'_>, slf: &Py<PyAny>) {
    drop(stream(slf.bind(py)).registration.take());
}

/// After a fork: a registration with the child's own reactor.
fn move_to(
    py: Python<'_>,
    native: &NativeLoop,
    slf: &Py<PyAny>,
    reactor: &Arc<Reactor>,
) -> PyResult<()> {
    let this = stream(slf.bind(py));
    if this.registration.take().is_some() {
        let registration = reactor.register(this.fd, this.key).map_err(|error| os_error(&error))?;
        if this.blocked.get() {
            registration.arm(Direction::Write);
        }
        this.registration.replace(Some(registration));
        this.read_on(py, native);
    }
    Ok(())
}

impl Stream {
    /// Registers with the reactor, once.
    pub(super) fn register(&self, py: Python<'_>, _slf: &Bound<'_, PyAny>) -> PyResult<()> {
        if self.registration.borrow().is_some() {
            return Ok(());
        }
        let Some((_loop, native)) = self.native(py) else {
            return Ok(());
        };
        let registration =
            native.reactor(py)?.register(self.fd, self.key).map_err(|error| os_error(&error))?;
        self.registration.replace(Some(registration));
        Ok(())
    }

    pub(super) fn start_reading(&self, py: Python<'_>, slf: &Bound<'_, PyAny>) -> PyResult<()> {
        self.register(py, slf)?;
        if let Some((_loop, native)) = self.native(py) {
            self.read_on(py, native);
        }
        Ok(())
    }

    pub(super) fn pause(&self, py: Python<'_>, slf: &Bound<'_, PyAny>) -> PyResult<()> {
        if !self.is_reading() {
            return Ok(());
        }
        self.paused.set(true);
        self.relax(py, slf);
        self.log_in_debug(py, "%r pauses reading", slf)
    }

    pub(super) fn resume(&self, py: Python<'_>, slf: &Bound<'_, PyAny>) -> PyResult<()> {
        if self.is_closing() || !self.paused.get() {
            return Ok(());
        }
        self.paused.set(false);
        self.keep_alive(py, slf);
        if self.life.get() == Life::Open {
            self.start_reading(py, slf)?;
        }
        self.log_in_debug(py, "%r resumes reading", slf)
    }

    pub(super) fn set_protocol(&self, py: Python<'_>, protocol: &Bound<'_, PyAny>) -> PyResult<()> {
        self.delivery.set(delivery_for(protocol)?);
        self.protocol.set(py, Some(protocol.clone().unbind()));
        self.protocol_connected.set(true);
        Ok(())
    }

    /// `close()`: reads no more, sends what is buffered, then ends.
    pub(super) fn close(&self, py: Python<'_>, slf: &Bound<'_, PyAny>) -> PyResult<()> {
        if self.is_closing() {
            return Ok(());
        }
        if let Some((_loop, native)) = self.native(py) {
            native.check_closed(py)?;
        }
        self.life.set(Life::Closing);
        if self.outgoing.borrow().is_empty() {
            self.lose(py, slf, None);
            return Ok(());
        }
        self.keep_alive(py, slf);
        self.send_pending(py, slf)
    }

    /// `abort()`, or an error: what the kernel does not take at once is lost.
    pub(super) fn force_close(
        &self,
        py: Python<'_>,
        slf: &Bound<'_, PyAny>,
        error: Option<Py<PyAny>>,
    ) -> PyResult<()> {
        if self.life.get() >= Life::Losing {
            return Ok(());
        }
        if let Some((_loop, native)) = self.native(py) {
            native.check_closed(py)?;
        }
        if error.is_none() && self.listed.get() {
            // asyncio would have sent this turn's writes before it came to the abort.
            self.send_pending(py, slf)?;
            if self.life.get() >= Life::Losing {
                return Ok(());
            }
        }
        drop(self.discard());
        self.lose(py, slf, error);
        Ok(())
    }

    /// Schedules `connection_lost`.
    pub(super) fn lose(&self, py: Python<'_>, slf: &Bound<'_, PyAny>, error: Option<Py<PyAny>>) {
        self.life.set(Life::Losing);
        self.loss.set(py, error);
        if let Some((_loop, native)) = self.native(py) {
            native.push(py, Entry::Native(slf.clone().unbind(), connection_lost));
        }
    }

    /// An error that ends the connection: reported unless it is the network's, then told.
    pub(super) fn fatal(
        &self,
        py: Python<'_>,
        slf: &Bound<'_, PyAny>,
        error: PyErr,
        message: &str,
    ) -> PyResult<()> {
        if ends_loop(py, &error) {
            return Err(error);
        }
        let value = error.clone_ref(py).into_value(py).into_any();
        if error.is_instance_of::<PyOSError>(py) {
            self.log_error_in_debug(py, slf, message, &value)?;
        } else if let Some((_loop, native)) = self.native(py) {
            let protocol = self.protocol.get(py).unwrap_or_else(|| py.None().into_bound(py));
            let context = [("transport", slf), ("protocol", &protocol)];
            native.report(py, message, error, &context)?;
        }
        self.force_close(py, slf, Some(value))
    }

    /// asyncio's report of a callback that raised.
    fn callback_failed(
        &self,
        py: Python<'_>,
        native: &NativeLoop,
        callback: &str,
        argument: &Bound<'_, PyAny>,
        error: PyErr,
    ) -> PyResult<()> {
        let Some(protocol) = self.protocol.get(py) else {
            return Err(error);
        };
        // The handle that asyncio would have called it through.
        let method = protocol.getattr(callback)?;
        let call = Call {
            callback: method.as_ptr(),
            args: &[argument.as_ptr()],
            context: std::ptr::null_mut(),
        };
        let handle = Handle::new(py, native, &call)?;
        native.callback_failed(py, &handle, error)
    }

    /// The loop keeps the transport alive while it reads or has something to send.
    pub(super) fn keep_alive(&self, py: Python<'_>, slf: &Bound<'_, PyAny>) {
        self.hold(py, Source::Object(slf.clone().unbind(), &KIND));
    }

    /// One that does neither may be collected, and then says that nobody closed it.
    pub(super) fn relax(&self, py: Python<'_>, slf: &Bound<'_, PyAny>) {
        let idle = self.life.get() == Life::Open
            && (self.paused.get() || self.ended.get())
            && self.outgoing.borrow().is_empty();
        if idle {
            self.hold(py, Source::Quiet(slf.as_ptr(), &KIND));
        }
    }

    fn hold(&self, py: Python<'_>, source: Source) {
        if let Some((_loop, native)) = self.native(py) {
            let before = native.sources.with(py, |sources| sources.replace(self.key, source));
            drop(before);
        }
    }

    /// Gives everything back: the place in the loop, the socket, the server's count.
    pub(super) fn release(
        &self,
        py: Python<'_>,
        slf: &Bound<'_, PyAny>,
        native: &NativeLoop,
    ) -> PyResult<()> {
        self.life.set(Life::Closed);
        // Before the descriptor closes, or its registration could never be taken back.
        drop(self.registration.take());
        drop(self.discard());
        let source = native.sources.with(py, |sources| {
            sources.release_fd(self.fd, self.key);
            sources.remove(self.key)
        });
        drop(source);
        self.close_socket(py)?;
        if let Some(server) = self.server.take(py) {
            cached::helpers(py)?.bind(py).call_method1("detach", (server, slf))?;
        }
        Ok(())
    }

    pub(super) fn close_socket(&self, py: Python<'_>) -> PyResult<()> {
        if self.sockname.borrow().is_unknown() {
            self.sockname.replace(address::local(py, self.fd));
        }
        match self.socket.take(py) {
            Some(socket) => drop(socket.call_method0(py, "close")?),
            // SAFETY: our own descriptor, closed once: `life` is `Closed` from here on.
            None => drop(unsafe { libc::close(self.fd) }),
        }
        Ok(())
    }

    pub(super) fn log(&self, py: Python<'_>, format: &str, slf: &Bound<'_, PyAny>) -> PyResult<()> {
        py.import("asyncio.log")?.getattr("logger")?.call_method1("debug", (format, slf))?;
        Ok(())
    }

    fn in_debug(&self, py: Python<'_>) -> bool {
        self.native(py).is_some_and(|(_loop, native)| native.debug.get(py))
    }

    fn log_in_debug(&self, py: Python<'_>, format: &str, slf: &Bound<'_, PyAny>) -> PyResult<()> {
        if self.in_debug(py) { self.log(py, format, slf) } else { Ok(()) }
    }

    fn log_error_in_debug(
        &self,
        py: Python<'_>,
        slf: &Bound<'_, PyAny>,
        message: &str,
        error: &Py<PyAny>,
    ) -> PyResult<()> {
        if self.in_debug(py) {
            cached::helpers(py)?.bind(py).call_method1("log_fatal", (slf, message, error))?;
        }
        Ok(())
    }
}
