//! The life of transports over sockets: made, closed, lost, in asyncio's order of callbacks.
//!
//! Streams and datagrams differ in how they read and send. What they are to the loop, to their
//! protocol and to the garbage collector is the same, and is here.
//!
//! # States
//!
//! [`Life`] only moves down its list. `New` until the loop calls `connection_made`; `Open`;
//! `Closing` from `close()` on, while something is left to send; `Losing` once `connection_lost` is
//! in the ready queue, which happens once; `Closed` from `release` on, which closes the descriptor.
//! `release` is reached from `connection_lost`, or from the finalizer of a transport that nobody
//! closed, and never twice: each looks at `Closed` first.
//!
//! # Who owns what
//!
//! - The descriptor is the caller's until the transport exists; from then on the transport closes
//!   it, once, in `release`. If a socket object has it, that is what is closed.
//! - The registration is dropped before the descriptor is closed (`deregister` knows what
//!   to do where the program was faster).
//! - The loop's table holds the transport (`Source::Object`), save while it is open, does not read and
//!   has nothing to send: then it is only borrowed (`Source::Quiet`), so that it can be collected, and
//!   its finalizer takes it out of the table before the memory goes. The key is the transport's from
//!   birth to `release`.
//! - Loop, protocol and context are there until `connection_lost` has run. A method that needs one of
//!   them takes a reference first and works with that, whatever becomes of the slot.
//!
//! Each step of a life that calls the protocol looks at [`Life`] again afterwards.

use std::cell::{Cell, OnceCell, RefCell};
use std::io;
use std::ops::Deref;
use std::os::fd::{AsRawFd, IntoRawFd, OwnedFd, RawFd};
use std::sync::Arc;

use pyo3::prelude::*;
use pyo3::types::PyString;

use super::base::{self, Transport};
use super::flow::{Flow, Signal};
use super::protocol::{self, Sink, log_in_debug, report_fatal};
use crate::driver::reactor::{Key, Reactor, Registration};
use crate::event_loop::handles::{self, Handle};
use crate::event_loop::{Entry, LoopRef, LoopSlot, NativeLoop};
use crate::event_loop::{Source, SourceVTable, deregister};
use crate::ffi::contexts::Ground;
use crate::ffi::errors::os_error;
use crate::ffi::gil::PySlot;
use crate::ffi::socket_fd::Descriptor;

/// Where in its life a transport is.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Life {
    /// `connection_made` is yet to be called.
    New,
    Open,
    /// `close()` was called; what is buffered still leaves.
    Closing,
    /// `connection_lost` is scheduled.
    Losing,
    /// The socket is closed.
    Closed,
}

/// Why a connection is closed at once.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Cause {
    /// `abort()` was called.
    Abort,
    /// An error, which is told to the protocol.
    Error,
}

/// The state that all of them have. Only reached with the GIL held.
pub(crate) struct Common {
    /// The `socket.socket` in it is the user's, or was made when somebody asked for it.
    pub file: Descriptor,
    pub key: Key,
    pub life: Cell<Life>,
    /// Reading, by the application.
    pub paused: Cell<bool>,
    pub flow: Flow,
    pub registration: RefCell<Option<Registration>>,
    pub event_loop: LoopSlot,
    pub protocol: PySlot,
    /// The protocol's `connection_made`, until it is called.
    greeting: PySlot,
    pub context: Ground,
    rare: OnceCell<Box<Rare>>,
}

/// What most transports never have, or not for long.
#[derive(Default)]
struct Rare {
    /// What `get_extra_info` answers besides.
    extra: PySlot,
    /// Who waits for `connection_made`.
    waiter: PySlot,
    /// The exception for `connection_lost`.
    loss: PySlot,
    /// In debug mode the stack of who scheduled what is called next.
    source: PySlot,
    /// The context of who has to wait for the kernel to take what was written.
    writer: Ground,
    /// What the protocol is fed through if it is a layer of ours.
    sink: Cell<Option<&'static Sink>>,
    /// `sendfile` waits for the buffer to drain.
    drained: PySlot,
    writes_after_loss: Cell<u32>,
}

/// Who has a transport send, and so in whose context it speaks of what comes of that.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Sender {
    /// A method, called in a context of the program's.
    Caller,
    /// The loop, for what a batch wrote: in no context.
    Batch,
    /// The loop, because the kernel takes more: in the context of who had to wait.
    Room,
}

/// What a new transport reads from and writes to. The transport closes it, once there is one.
pub(crate) enum Socket<'py> {
    /// A descriptor that nothing else refers to: dropped, it is closed.
    Bare(OwnedFd),
    /// The user's socket object, and its descriptor.
    Object(Bound<'py, PyAny>, RawFd),
}

/// What a new transport is made of, whatever its kind.
pub(crate) struct Parts<'py> {
    pub socket: Socket<'py>,
    pub protocol: Bound<'py, PyAny>,
    pub waiter: Option<Bound<'py, PyAny>>,
    pub extra: Option<Bound<'py, PyAny>>,
}

/// A transport over a socket: what its kind does in its own way.
pub(crate) trait SocketTransport: Transport + Deref<Target = Common> {
    /// What asyncio calls it in its messages.
    const NOUN: &'static str;

    /// What the loop does with it: [`kind`].
    fn kind() -> &'static SourceVTable;
    /// Bytes that wait to be sent, as flow control counts them.
    fn unsent(&self) -> usize;
    fn register_with(&self, reactor: &Reactor) -> io::Result<Registration>;
    /// Sees to it that the next data is heard of.
    fn read_on(&self, py: Python<'_>, native: &NativeLoop);
    /// Throws away what waits to be sent.
    fn discard(&self, py: Python<'_>) -> PyResult<()>;
    /// Open, but it neither reads nor sends.
    fn is_idle(&self) -> bool;
    /// After `close()` with something to send.
    fn send_rest(&self, py: Python<'_>, slf: &Bound<'_, PyAny>) -> PyResult<()>;
    fn close_socket(&self, py: Python<'_>, slf: &Bound<'_, PyAny>) -> PyResult<()>;

    /// Another protocol comes.
    fn adopt(&self, _protocol: &Bound<'_, PyAny>) -> PyResult<()> {
        Ok(())
    }
    /// Nothing more is read.
    fn stop_receiving(&self) {}
    /// The last chance to send, before an abort or a fatal error.
    fn send_last(&self, _slf: &Bound<'_, PyAny>, _cause: Cause) -> PyResult<()> {
        Ok(())
    }
    /// Registered anew, after a fork.
    fn moved(&self, _registration: &Registration) {}
    /// After `connection_lost`.
    fn after_loss(&self, _py: Python<'_>) -> PyResult<()> {
        Ok(())
    }
}

/// What the loop does with transports of a kind, whose events `ready` takes.
pub(crate) const fn kind<T: SocketTransport>(
    ready: unsafe fn(Python<'_>, &NativeLoop, &Py<PyAny>) -> PyResult<()>,
) -> SourceVTable {
    SourceVTable { ready, move_to: move_to::<T>, detach: detach::<T> }
}

/// Makes a transport, which owns the socket from then on. It begins with [`begin`].
pub(crate) fn make<'py, T: SocketTransport>(
    py: Python<'py>,
    event_loop: &NativeLoop,
    parts: Parts<'py>,
    build: impl FnOnce(Common) -> T,
) -> PyResult<Bound<'py, PyAny>> {
    let context = Ground::current(py, event_loop.contexts())?;
    // A bare one is held until the transport exists: where that fails it is closed here, and only
    // here.
    let (file, bare) = match parts.socket {
        Socket::Bare(fd) => (Descriptor::bare(fd.as_raw_fd()), Some(fd)),
        Socket::Object(object, fd) => (Descriptor::of(&object, fd)?, None),
    };
    let fd = file.number();
    // A place in the table first: the transport knows its key from birth.
    let key = event_loop.sources().with(py, |sources| sources.insert(Source::Alarm));
    let slot = |object: Option<Bound<'py, PyAny>>| {
        object.map_or_else(PySlot::empty, |object| PySlot::new(object.unbind()))
    };
    let rare = OnceCell::new();
    if parts.extra.is_some() || parts.waiter.is_some() {
        let (extra, waiter) = (slot(parts.extra), slot(parts.waiter));
        rare.get_or_init(|| Box::new(Rare { extra, waiter, ..Rare::default() }));
    }
    let made = base::allocate(
        py,
        build(Common {
            file,
            key,
            life: Life::New.into(),
            paused: false.into(),
            flow: Flow::default(),
            registration: None.into(),
            event_loop: LoopSlot::new(py, event_loop),
            protocol: slot(Some(parts.protocol)),
            greeting: PySlot::empty(),
            context,
            rare,
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
            sources.replace(key, Source::Object(made.clone().unbind(), T::kind()))
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
    let py = transport.py();
    // SAFETY: the caller's promise.
    let this = unsafe { base::state::<T>(transport) };
    let begun = prepare().and_then(|()| {
        let protocol = this.protocol.get(py);
        let greeting = protocol.map(|protocol| protocol::greeting(event_loop, &protocol));
        this.greeting.set(py, greeting.transpose()?.map(Bound::unbind));
        this.remember_source(py, event_loop)
    });
    match begun {
        Ok(()) => {
            let made = Entry::Native(transport.clone().unbind(), connection_made::<T>);
            event_loop.push(py, made);
        }
        // Out of the loop's hands: it would keep the transport for ever.
        Err(_) => this.hold(py, Source::Quiet(transport.as_ptr(), T::kind())),
    }
    begun
}

/// Calls `connection_made`, then starts reading, then wakes who waits for the connection.
///
/// # Safety
///
/// `slf` is a transport of the kind `T`.
unsafe fn connection_made<T: SocketTransport>(py: Python<'_>, slf: &Py<PyAny>) -> PyResult<()> {
    let slf = slf.bind(py);
    // SAFETY: only `begin` queues this step, and only with a transport of this kind.
    let this = unsafe { base::state::<T>(slf) };
    let (Some(greeting), Some(native)) = (this.greeting.take(py), this.native(py)) else {
        return Ok(());
    };
    if this.life.get() == Life::New {
        this.life.set(Life::Open);
    }
    let greeting = greeting.bind(py);
    // What ends the loop does not keep the rest from happening: in asyncio these are callbacks of
    // their own, which run when the loop does again.
    let greeted = this.context.run_apart(py, native.contexts(), || greeting.call1((slf,)));
    let mut result = match greeted {
        Ok(_) => Ok(()),
        Err(error) => protocol::callback_failed(&native, greeting, &[slf], error, this.source(py)),
    };
    if this.life.get() == Life::Open
        && !this.paused.get()
        && let Err(error) = start_reading(this, py)
    {
        let message = format!("Fatal read error on {}", T::NOUN);
        result = result.and(fatal(this, slf, error, &message));
    }
    relax(this, slf);
    match this.rare.get().and_then(|rare| rare.waiter.take(py)) {
        Some(waiter) => result.and(protocol::wake_waiter(waiter.bind(py))),
        None => result,
    }
}

/// Calls `connection_lost` and closes the socket.
///
/// # Safety
///
/// `slf` is a transport of the kind `T`.
unsafe fn connection_lost<T: SocketTransport>(py: Python<'_>, slf: &Py<PyAny>) -> PyResult<()> {
    let slf = slf.bind(py);
    // SAFETY: only `lose` queues this step, with the transport that the state beside it is of.
    let this = unsafe { base::state::<T>(slf) };
    if this.life.get() == Life::Closed {
        return Ok(());
    }
    let Some(native) = this.native(py) else {
        return Ok(());
    };
    let mut result = Ok(());
    if let Some(protocol) = this.protocol.get(py) {
        let loss = this.rare.get().and_then(|rare| rare.loss.get(py));
        let loss = loss.unwrap_or_else(|| py.None().into_bound(py));
        let name = pyo3::intern!(py, "connection_lost");
        if let Err(error) = this.call_protocol(&native, &protocol, name, &[&loss]) {
            let source = this.source(py);
            result = protocol::method_failed(&native, &protocol, name, &[&loss], error, source);
        }
    }
    result = result.and(release(this, slf));
    this.protocol.set(py, None);
    if let Some(rare) = this.rare.get() {
        rare.loss.set(py, None);
    }
    this.context.forget(py);
    drop(this.event_loop.take(py));
    result.and(this.after_loss(py))
}

/// The runtime goes: takes the registration back, the socket stays open.
///
/// # Safety
/// `slf` must be a transport of this kind.
unsafe fn detach<T: SocketTransport>(py: Python<'_>, slf: &Py<PyAny>) {
    // SAFETY: the caller's promise.
    drop(unsafe { base::state::<T>(slf.bind(py)) }.registration.take());
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
    let this = unsafe { base::state::<T>(slf.bind(py)) };
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

pub(crate) fn pause<T: SocketTransport>(this: &T, slf: &Bound<'_, PyAny>) -> PyResult<()> {
    if !this.is_reading() {
        return Ok(());
    }
    this.paused.set(true);
    relax(this, slf);
    this.log_in_debug("%r pauses reading", slf)
}

pub(crate) fn resume<T: SocketTransport>(this: &T, slf: &Bound<'_, PyAny>) -> PyResult<()> {
    if this.is_closing() || !this.paused.get() {
        return Ok(());
    }
    this.paused.set(false);
    keep_alive(this, slf);
    this.follow_caller(slf.py())?;
    if let Some(native) = this.native(slf.py()) {
        this.remember_source(slf.py(), &native)?;
    }
    if this.life.get() == Life::Open {
        start_reading(this, slf.py())?;
    }
    this.log_in_debug("%r resumes reading", slf)
}

pub(crate) fn set_protocol<T: SocketTransport>(
    this: &T,
    protocol: &Bound<'_, PyAny>,
) -> PyResult<()> {
    this.adopt(protocol)?;
    this.protocol.set(protocol.py(), Some(protocol.clone().unbind()));
    Ok(())
}

/// After the peer's end: closes in the transport's context.
pub(crate) fn close<T: SocketTransport>(this: &T, slf: &Bound<'_, PyAny>) -> PyResult<()> {
    this.in_context(slf.py(), || close_by_caller(this, slf))
}

/// `close()`: reads no more, sends what is buffered, then ends.
pub(crate) fn close_by_caller<T: SocketTransport>(
    this: &T,
    slf: &Bound<'_, PyAny>,
) -> PyResult<()> {
    let py = slf.py();
    if this.is_closing() {
        return Ok(());
    }
    this.check_loop(py)?;
    this.life.set(Life::Closing);
    this.stop_receiving();
    if this.unsent() == 0 {
        lose(this, slf, None);
        return Ok(());
    }
    keep_alive(this, slf);
    this.send_rest(py, slf)
}

/// `abort()`, or an error: what the kernel does not take at once is lost.
pub(crate) fn force_close<T: SocketTransport>(
    this: &T,
    slf: &Bound<'_, PyAny>,
    error: Option<Py<PyAny>>,
) -> PyResult<()> {
    if this.life.get() >= Life::Losing {
        return Ok(());
    }
    this.check_loop(slf.py())?;
    let cause = if error.is_some() { Cause::Error } else { Cause::Abort };
    this.send_last(slf, cause)?;
    if this.life.get() >= Life::Losing {
        return Ok(());
    }
    this.stop_receiving();
    let discarded = this.discard(slf.py());
    lose(this, slf, error);
    discarded
}

/// Schedules `connection_lost`, to be called in the current context.
pub(crate) fn lose<T: SocketTransport>(this: &T, slf: &Bound<'_, PyAny>, error: Option<Py<PyAny>>) {
    let py = slf.py();
    this.life.set(Life::Losing);
    if error.is_some() {
        this.rare().loss.set(py, error);
    }
    if let Some(native) = this.native(py) {
        // Where there is no memory for the context the transport's own has to do.
        let _ = this.context.follow_caller(py, native.contexts());
        let _ = this.remember_source(py, &native);
        native.push(py, Entry::Native(slf.clone().unbind(), connection_lost::<T>));
    }
}

/// Calls `connection_lost` at once, in the current context: what was left to send has left.
pub(crate) fn lose_now<T: SocketTransport>(this: &T, slf: &Bound<'_, PyAny>) -> PyResult<()> {
    this.life.set(Life::Losing);
    this.follow_caller(slf.py())?;
    // SAFETY: `slf` is the transport whose state `this` is.
    unsafe { connection_lost::<T>(slf.py(), &slf.clone().unbind()) }
}

/// [`fatal_to_caller`] outside of any call of the program's: in the transport's context.
#[cold]
pub(crate) fn fatal<T: SocketTransport>(
    this: &T,
    slf: &Bound<'_, PyAny>,
    error: PyErr,
    message: &str,
) -> PyResult<()> {
    this.in_context(slf.py(), || {
        this.as_handle(slf.py(), || fatal_to_caller(this, slf, error, message))
    })
}

/// An error that ends the connection: reported unless it is the network's, then told, in the
/// current context.
#[cold]
pub(crate) fn fatal_to_caller<T: SocketTransport>(
    this: &T,
    slf: &Bound<'_, PyAny>,
    error: PyErr,
    message: &str,
) -> PyResult<()> {
    let py = slf.py();
    let (protocol, event_loop) = (this.protocol.get(py), this.native(py));
    let native = event_loop.as_deref();
    let value = report_fatal(py, native, slf, protocol.as_ref(), error, message)?;
    force_close(this, slf, Some(value))
}

/// The loop keeps the transport alive while it reads or has something to send.
pub(crate) fn keep_alive<T: SocketTransport>(this: &T, slf: &Bound<'_, PyAny>) {
    this.hold(slf.py(), Source::Object(slf.clone().unbind(), T::kind()));
}

/// One that does neither may be collected, and then says that nobody closed it.
pub(crate) fn relax<T: SocketTransport>(this: &T, slf: &Bound<'_, PyAny>) {
    if this.life.get() == Life::Open && this.is_idle() {
        this.hold(slf.py(), Source::Quiet(slf.as_ptr(), T::kind()));
    }
}

/// Gives everything back: the place in the loop, and the socket.
pub(crate) fn release<T: SocketTransport>(this: &T, slf: &Bound<'_, PyAny>) -> PyResult<()> {
    let py = slf.py();
    this.life.set(Life::Closed);
    // Before the descriptor closes, or its registration could never be taken back.
    let registration = this.registration.take();
    match this.native(py) {
        Some(native) => deregister(py, &native, registration, &this.file),
        None => drop(registration),
    }
    this.stop_receiving();
    let discarded = this.discard(py);
    if let Some(native) = this.native(py) {
        let source = native.sources().with(py, |sources| {
            sources.release_fd(this.file.number(), this.key);
            sources.remove(this.key)
        });
        drop(source);
    }
    this.close_socket(py, slf).and(discarded)
}

/// Pauses the protocol if more is buffered than it should.
pub(crate) fn maybe_pause<T: SocketTransport>(this: &T, slf: &Bound<'_, PyAny>) -> PyResult<()> {
    this.tell(slf, this.flow.grown(this.unsent()))
}

/// Resumes the protocol once enough has left.
pub(crate) fn maybe_resume<T: SocketTransport>(this: &T, slf: &Bound<'_, PyAny>) -> PyResult<()> {
    this.tell(slf, this.flow.shrunk(this.unsent()))
}

impl Common {
    /// The loop, while the transport has one.
    #[inline]
    pub(crate) fn native<'py>(&self, py: Python<'py>) -> Option<LoopRef<'py>> {
        self.event_loop.get(py)
    }

    pub(crate) fn slots(&self) -> impl Iterator<Item = &PySlot> {
        let rare = self.rare.get().map(|rare| {
            let context = rare.writer.slot();
            [&rare.extra, &rare.waiter, &rare.loss, &rare.source, context, &rare.drained]
        });
        [
            self.event_loop.slot(),
            &self.protocol,
            &self.greeting,
            self.file.slot(),
            self.context.slot(),
        ]
        .into_iter()
        .chain(self.flow.limits.slot())
        .chain(rare.into_iter().flatten())
    }

    fn rare(&self) -> &Rare {
        self.rare.get_or_init(Box::default)
    }

    pub(crate) fn sink(&self) -> Option<&'static Sink> {
        self.rare.get()?.sink.get()
    }

    pub(crate) fn set_sink(&self, sink: &'static Sink) {
        self.rare().sink.set(Some(sink));
    }

    /// What `get_extra_info` answers besides what the transport knows itself.
    pub(crate) fn extra<'py>(&self, py: Python<'py>) -> Option<Bound<'py, PyAny>> {
        self.rare.get()?.extra.get(py)
    }

    pub(crate) fn set_extra(&self, extra: Bound<'_, PyAny>) {
        self.rare().extra.set(extra.py(), Some(extra.unbind()));
    }

    /// The future that `sendfile` waits for until the buffer is empty.
    pub(crate) fn drained<'py>(&self, py: Python<'py>) -> Option<Bound<'py, PyAny>> {
        self.rare.get()?.drained.get(py)
    }

    pub(crate) fn set_drained(&self, py: Python<'_>, waiter: Option<Py<PyAny>>) {
        if waiter.is_some() || self.rare.get().is_some() {
            self.rare().drained.set(py, waiter);
        }
    }

    #[inline]
    pub(crate) fn awaits_drain(&self, py: Python<'_>) -> bool {
        self.rare.get().is_some_and(|rare| rare.drained.is_set(py))
    }

    pub(crate) fn is_closing(&self) -> bool {
        self.life.get() >= Life::Closing
    }

    pub(crate) fn is_reading(&self) -> bool {
        !self.is_closing() && !self.paused.get()
    }

    fn check_loop(&self, py: Python<'_>) -> PyResult<()> {
        self.native(py).map_or(Ok(()), |native| native.check_closed(py))
    }

    fn remember_source(&self, py: Python<'_>, native: &NativeLoop) -> PyResult<()> {
        if native.is_debug(py) {
            self.rare().source.set(py, Some(handles::source(py)?));
        }
        Ok(())
    }

    /// In debug mode the stack of who scheduled what is called now.
    #[cold]
    pub(crate) fn source(&self, py: Python<'_>) -> Option<Py<PyAny>> {
        self.rare.get()?.source.get(py).map(Bound::unbind)
    }

    /// Runs `f` as asyncio's handle of a reader would: in debug mode reports tell where it was made.
    fn as_handle<R>(&self, py: Python<'_>, f: impl FnOnce() -> PyResult<R>) -> PyResult<R> {
        let (Some(source), Some(native)) = (self.source(py), self.native(py)) else {
            return f();
        };
        let handle = Handle::blank(py, &native)?;
        handle.set_source_traceback(py, source);
        let name = pyo3::intern!(py, "_current_handle");
        native.as_any().setattr(name, handle.bind(py))?;
        let result = f();
        native.as_any().setattr(name, py.None())?;
        result
    }

    /// The kernel takes no more of what the caller writes, or writes and closes: what comes of that
    /// happens in its context.
    #[cold]
    pub(crate) fn remember_writer(&self, py: Python<'_>) -> PyResult<()> {
        match self.native(py) {
            Some(native) => self.rare().writer.follow_caller(py, native.contexts()),
            None => Ok(()),
        }
    }

    /// Whether somebody's context was remembered for what is left to send.
    pub(crate) fn knows_writer(&self, py: Python<'_>) -> bool {
        self.rare.get().is_some_and(|rare| rare.writer.slot().is_set(py))
    }

    /// Runs `f` in the context of who had to wait for the kernel; it is forgotten by that.
    pub(crate) fn in_writers_context<R>(
        &self,
        py: Python<'_>,
        f: impl FnOnce() -> PyResult<R>,
    ) -> PyResult<R> {
        let writer = self.rare.get().and_then(|rare| rare.writer.take(py));
        match (writer, self.native(py)) {
            (Some(writer), Some(native)) => writer.run(py, native.contexts(), f),
            _ => self.in_context(py, f),
        }
    }

    /// From here on the protocol is called in the current context, as it is now.
    fn follow_caller(&self, py: Python<'_>) -> PyResult<()> {
        match self.native(py) {
            Some(native) => self.context.follow_caller(py, native.contexts()),
            None => Ok(()),
        }
    }

    /// Runs `f` in the transport's context.
    pub(crate) fn in_context<R>(
        &self,
        py: Python<'_>,
        f: impl FnOnce() -> PyResult<R>,
    ) -> PyResult<R> {
        match self.native(py) {
            Some(native) => self.context.run(py, native.contexts(), f),
            None => f(),
        }
    }

    /// Calls a method of the protocol in the transport's context.
    pub(crate) fn call_protocol<'py>(
        &self,
        native: &NativeLoop,
        protocol: &Bound<'py, PyAny>,
        name: &Bound<'py, PyString>,
        arguments: &[&Bound<'py, PyAny>],
    ) -> PyResult<Bound<'py, PyAny>> {
        let py = protocol.py();
        self.context.run(py, native.contexts(), || protocol::call(py, protocol, name, arguments))
    }

    /// After a loss data is dropped, with asyncio's warning from the fifth time on.
    #[cold]
    pub(crate) fn write_after_loss(&self, py: Python<'_>) -> PyResult<()> {
        let count = &self.rare().writes_after_loss;
        count.set(count.get().saturating_add(1));
        if count.get() >= 5 {
            py.import("asyncio.log")?
                .getattr("logger")?
                .call_method1("warning", ("socket.send() raised exception.",))?;
        }
        Ok(())
    }

    fn hold(&self, py: Python<'_>, source: Source) {
        // A closed one has given its key back, which may be another transport's by now.
        if self.life.get() < Life::Closed
            && let Some(native) = self.native(py)
        {
            let before = native.sources().with(py, |sources| sources.replace(self.key, source));
            drop(before);
        }
    }

    fn tell(&self, slf: &Bound<'_, PyAny>, signal: Option<Signal>) -> PyResult<()> {
        let Some(signal) = signal else {
            return Ok(());
        };
        match (self.protocol.get(slf.py()), self.native(slf.py())) {
            (Some(protocol), Some(native)) => signal.tell(&native, slf, &protocol),
            _ => Ok(()),
        }
    }

    fn log_in_debug(&self, format: &str, slf: &Bound<'_, PyAny>) -> PyResult<()> {
        match self.native(slf.py()) {
            Some(native) => log_in_debug(&native, format, slf),
            None => Ok(()),
        }
    }
}
