//! The lifecycle of transports over sockets: registered, read from, closed, lost, collected.

use std::ffi::CStr;
use std::io;
use std::ops::Deref;
use std::os::fd::{AsRawFd, IntoRawFd, OwnedFd, RawFd};
use std::sync::Arc;

use pyo3::prelude::*;

use super::SocketCore;
use crate::driver::reactor::{Reactor, Registration};
use crate::event_loop::NativeLoop;
use crate::event_loop::{Source, SourceVTable, deregister};
use crate::ffi::contexts::{Ground, Scope};
use crate::ffi::errors::os_error;
use crate::ffi::socket_fd::Descriptor;
use crate::net::{ConnectionAttempt, Registered};
use crate::transports::core::Lifecycle;
use crate::transports::core::class::{self, Transport};
use crate::transports::core::flow_control::{BufferLimits, Reading, Writing};
use crate::transports::core::lifecycle::{self, Endpoint, lose};
use crate::transports::core::methods::TransportMethods;
use crate::transports::core::report::{self, ForceClose};
use crate::transports::core::{Core, CoreConfig};

/// What `force_close` is called for.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum ForcedBy {
    /// `abort()` was called.
    Abort,
    /// An error, which `connection_lost` is called with.
    Error,
}

/// What a new transport reads from and writes to. The transport closes it, once there is one.
pub(crate) enum Socket<'py> {
    /// A descriptor that nothing else refers to: dropped, it is closed.
    Bare(OwnedFd),
    /// The descriptor of an attempt that has connected it, with the attempt's place in the loop's table.
    Connected(Bound<'py, ConnectionAttempt>),
    /// The program's socket object, and its descriptor.
    Object(Bound<'py, PyAny>, RawFd),
}

/// What the maker of a transport over a socket passes, whatever its kind.
pub(crate) struct SocketConfig<'py> {
    pub socket: Socket<'py>,
    pub core: CoreConfig<'py>,
}

/// A transport over a socket: what its kind does in its own way.
pub(crate) trait SocketTransport: Writing + Transport + Deref<Target = SocketCore> {
    /// What asyncio calls it in its messages.
    const NOUN: &'static str;
    /// Which of its callbacks share a context.
    const CONTEXT_SCOPE: Scope;

    /// What the loop calls for it: [`source_vtable`].
    fn source_vtable() -> &'static SourceVTable;
    fn register_with(&self, reactor: &Reactor) -> io::Result<Registration>;
    /// Has the reactor notify the transport of the next data.
    fn read_on(&self, py: Python<'_>, native: &NativeLoop);
    /// Drops what waits to be sent.
    fn discard(&self, py: Python<'_>) -> PyResult<()>;
    /// Open, but it neither reads nor sends.
    fn is_idle(&self) -> bool;
    /// After `close()` with something to send.
    fn send_rest(&self, slf: &Bound<'_, PyAny>) -> PyResult<()>;
    fn close_socket(&self, slf: &Bound<'_, PyAny>) -> PyResult<()>;

    /// The protocol is replaced: called before it is.
    fn prepare_for(&self, _protocol: &Bound<'_, PyAny>) -> PyResult<()> {
        Ok(())
    }
    /// Nothing more is delivered.
    fn stop_receiving(&self) {}
    /// The last chance to send, before an abort or a fatal error.
    fn send_last(&self, _slf: &Bound<'_, PyAny>, _forced_by: ForcedBy) -> PyResult<()> {
        Ok(())
    }
    /// Registered anew, after a fork.
    fn moved(&self, _registration: &Registration) {}
    /// After `connection_lost`, when the socket is closed.
    fn after_release(&self, _py: Python<'_>) -> PyResult<()> {
        Ok(())
    }
}

impl<T: SocketTransport> Endpoint for T {
    fn start(&self, slf: &Bound<'_, PyAny>, _native: &NativeLoop) -> PyResult<()> {
        let mut result = Ok(());
        if !self.reading_paused.get()
            && let Err(error) = start_reading(self, slf.py())
        {
            let message = format!("Fatal read error on {}", T::NOUN);
            result = fatal(self, slf, error, &message);
        }
        relax(self, slf);
        result
    }

    fn release(&self, slf: &Bound<'_, PyAny>) -> PyResult<()> {
        let py = slf.py();
        self.advance(Lifecycle::Closed);
        // Before the descriptor closes, or its registration could never be taken back.
        let registration = self.registration.take();
        match self.native(py) {
            Some(native) => deregister(py, &native, registration, &self.file),
            None => drop(registration),
        }
        self.stop_receiving();
        let discarded = self.discard(py);
        if let Some(native) = self.native(py) {
            let source = native.sources().with(py, |sources| {
                sources.release_fd(self.file.number(), self.key);
                sources.remove(self.key)
            });
            drop(source);
        }
        self.close_socket(slf).and(discarded)
    }

    fn after_loss(&self, py: Python<'_>) -> PyResult<()> {
        self.after_release(py)
    }
}

impl<T: SocketTransport> TransportMethods for T {
    const CLOSE_DOC: &'static CStr = c"close($self, /)\n--\n\n\
    Stop receiving, send what is buffered, then close.\n\
    \n\
    As ``asyncio.BaseTransport.close``. Raises ``RuntimeError`` if the loop is closed\n\
    and the transport is not.";

    /// Reads no more, sends what is buffered, then ends.
    fn close(&self, slf: &Bound<'_, PyAny>) -> PyResult<()> {
        let py = slf.py();
        if self.is_closing() {
            return Ok(());
        }
        check_loop(self, py)?;
        self.advance(Lifecycle::Closing);
        self.stop_receiving();
        if self.unsent(py) == 0 {
            lose(self, slf, None);
            return Ok(());
        }
        keep_alive(self, slf);
        self.send_rest(slf)
    }

    fn set_protocol(&self, protocol: &Bound<'_, PyAny>) -> PyResult<()> {
        self.prepare_for(protocol)?;
        self.protocol.set(protocol.py(), Some(protocol.clone().unbind()));
        Ok(())
    }
}

impl<T: SocketTransport> ForceClose for T {
    /// What the kernel does not take at once is lost.
    fn force_close(&self, slf: &Bound<'_, PyAny>, error: Option<Py<PyAny>>) -> PyResult<()> {
        if self.lifecycle() >= Lifecycle::Losing {
            return Ok(());
        }
        check_loop(self, slf.py())?;
        let forced_by = if error.is_some() { ForcedBy::Error } else { ForcedBy::Abort };
        self.send_last(slf, forced_by)?;
        if self.lifecycle() >= Lifecycle::Losing {
            return Ok(());
        }
        self.stop_receiving();
        let discarded = self.discard(slf.py());
        lose(self, slf, error);
        discarded
    }
}

impl<T: SocketTransport> Reading for T {
    fn pause_reading(&self, slf: &Bound<'_, PyAny>) -> PyResult<()> {
        self.core().pause_reading(slf, || {
            relax(self, slf);
            Ok(())
        })
    }

    fn resume_reading(&self, slf: &Bound<'_, PyAny>) -> PyResult<()> {
        let py = slf.py();
        self.core().resume_reading(slf, || {
            // Also from inside of a delivery, as on asyncio: the reader that it adds is another one.
            self.delivering.set(false);
            keep_alive(self, slf);
            self.follow_caller(py)?;
            if let Some(native) = self.native(py) {
                self.remember_source(py, &native)?;
            }
            if self.lifecycle() == Lifecycle::Open { start_reading(self, py) } else { Ok(()) }
        })
    }
}

/// What the loop calls for transports of a kind, whose events `ready` takes.
pub(crate) const fn source_vtable<T: SocketTransport>(
    ready: unsafe fn(Python<'_>, &NativeLoop, &Py<PyAny>) -> PyResult<()>,
) -> SourceVTable {
    SourceVTable { ready, move_to: move_to::<T>, detach: detach::<T> }
}

/// Makes a transport, which owns the socket from then on. It begins with [`begin`].
pub(crate) fn make<'py, T: SocketTransport>(
    py: Python<'py>,
    event_loop: &NativeLoop,
    config: SocketConfig<'py>,
    build: impl FnOnce(SocketCore) -> T,
) -> PyResult<Bound<'py, PyAny>> {
    let context = Ground::current(py, event_loop.contexts(), T::CONTEXT_SCOPE)?;
    // A bare one is held until the transport exists: where that fails it is closed here, and only
    // here.
    let mut registered = None;
    let (file, bare) = match config.socket {
        Socket::Bare(fd) => (Descriptor::bare(fd.as_raw_fd()), Some(fd)),
        Socket::Connected(attempt) => {
            let Registered { registration, descriptor, key } =
                ConnectionAttempt::take(&attempt, event_loop)?;
            registered = Some((key, registration));
            (Descriptor::bare(descriptor.as_raw_fd()), Some(descriptor))
        }
        Socket::Object(object, fd) => (Descriptor::of(&object, fd)?, None),
    };
    let fd = file.number();
    // A place in the table first: the transport knows its key from birth.
    let (key, registration) = match registered {
        Some((key, registration)) => (key, Some(registration)),
        None => (event_loop.sources().with(py, |sources| sources.insert(Source::Alarm)), None),
    };
    let made = class::allocate(
        py,
        build(SocketCore {
            core: Core::new(py, event_loop, context, config.core),
            file,
            key,
            limits: BufferLimits::default(),
            registration: registration.into(),
            delivering: false.into(),
        }),
    );
    if made.is_ok()
        && let Some(bare) = bare
    {
        // The transport's from here on: its finalizer closes the descriptor if nothing else does.
        let _ = bare.into_raw_fd();
    }
    let replaced = event_loop.sources().with(py, |sources| match &made {
        Ok(made) => {
            sources.claim_fd(fd, key);
            sources.replace(key, Source::Object(made.clone().unbind(), T::source_vtable()))
        }
        Err(_) => sources.remove(key),
    });
    drop(replaced);
    made
}

/// Schedules `connection_made`, after `prepare`. If that fails the transport is the caller's to
/// drop, which closes the socket with a `ResourceWarning`: asyncio's constructor leaves one like
/// it behind.
///
/// # Safety
/// `transport` must be what `make::<T>` gave.
pub(crate) unsafe fn begin<T: SocketTransport>(
    event_loop: &NativeLoop,
    transport: &Bound<'_, PyAny>,
    prepare: impl FnOnce() -> PyResult<()>,
) -> PyResult<()> {
    // SAFETY: the caller's promise.
    let begun = prepare().and_then(|()| unsafe { lifecycle::begin::<T>(event_loop, transport) });
    if begun.is_err() {
        // Out of the loop's hands: it would keep the transport for ever.
        // SAFETY: the caller's promise.
        let this = unsafe { class::state::<T>(transport) };
        this.hold(transport.py(), Source::Quiet(transport.as_ptr(), T::source_vtable()));
    }
    begun
}

/// The runtime goes: takes the registration back, the socket stays open.
///
/// # Safety
/// `slf` must be a transport of this kind.
unsafe fn detach<T: SocketTransport>(py: Python<'_>, slf: &Py<PyAny>) {
    // SAFETY: the caller's promise.
    drop(unsafe { class::state::<T>(slf.bind(py)) }.registration.take());
}

/// After a fork: a registration with the child's own reactor.
///
/// # Safety
/// `slf` must be a transport of this kind.
unsafe fn move_to<T: SocketTransport>(
    py: Python<'_>,
    native: &NativeLoop,
    slf: &Py<PyAny>,
    reactor: &Arc<Reactor>,
) -> PyResult<()> {
    // SAFETY: the caller's promise.
    let this = unsafe { class::state::<T>(slf.bind(py)) };
    // What the parent has received is the parent's.
    this.stop_receiving();
    if this.registration.take().is_some() && this.file.open(py).is_ok() {
        let registration = this.register_with(reactor).map_err(|error| os_error(py, &error))?;
        this.moved(&registration);
        this.registration.replace(Some(registration));
        this.read_on(py, native);
    }
    Ok(())
}

/// Registers with the reactor, once.
pub(crate) fn register<T: SocketTransport>(this: &T, py: Python<'_>) -> PyResult<()> {
    if this.registration.borrow().is_some() {
        return Ok(());
    }
    let Some(native) = this.native(py) else {
        return Ok(());
    };
    let registration = match this.file.open(py) {
        Ok(_) => this.register_with(&*native.reactor(py)?),
        Err(error) => Err(error),
    };
    this.registration.replace(Some(registration.map_err(|error| os_error(py, &error))?));
    Ok(())
}

fn start_reading<T: SocketTransport>(this: &T, py: Python<'_>) -> PyResult<()> {
    register(this, py)?;
    if let Some(native) = this.native(py) {
        this.read_on(py, &native);
    }
    Ok(())
}

/// After the peer's end: closes in the transport's context.
pub(crate) fn close_in_context<T: SocketTransport>(
    this: &T,
    slf: &Bound<'_, PyAny>,
) -> PyResult<()> {
    this.in_context(slf.py(), || this.close(slf))
}

/// Reports an error outside of any call of the program's, and closes: in the transport's context.
#[cold]
pub(crate) fn fatal<T: SocketTransport>(
    this: &T,
    slf: &Bound<'_, PyAny>,
    error: PyErr,
    message: &str,
) -> PyResult<()> {
    this.in_context(slf.py(), || {
        this.as_handle(slf.py(), || report::fatal(this, slf, error, message))
    })
}

/// The loop keeps the transport alive while it reads or has something to send.
pub(crate) fn keep_alive<T: SocketTransport>(this: &T, slf: &Bound<'_, PyAny>) {
    this.hold(slf.py(), Source::Object(slf.clone().unbind(), T::source_vtable()));
}

/// A transport that does neither may be collected, and then warns that it was not closed.
pub(crate) fn relax<T: SocketTransport>(this: &T, slf: &Bound<'_, PyAny>) {
    if this.lifecycle() == Lifecycle::Open && this.is_idle() {
        this.hold(slf.py(), Source::Quiet(slf.as_ptr(), T::source_vtable()));
    }
}

fn check_loop(core: &Core, py: Python<'_>) -> PyResult<()> {
    core.native(py).map_or(Ok(()), |native| native.check_closed(py))
}
