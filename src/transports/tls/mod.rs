//! `SSLTransport`: TLS between a protocol and a transport.
//!
//! One object is both: the transport of the application's protocol, and the protocol of the
//! transport below, which may be a stream of ours, another TLS transport, or anybody's.
//!
//! | file | what |
//! |---|---|
//! | `object` | the Python type |
//! | `methods` | what Python calls, from above and from below |
//! | `engine` | the `ssl.SSLObject` and its two `MemoryBIO`s |
//! | `window` | memory of ours as a buffer object |
//! | `handshake` | from `connection_made` to the application's |
//! | `reading` | from ciphertext to the protocol |
//! | `writing` | from `write` to ciphertext, batched a turn |
//! | `closing` | shutdown, errors, the end |
//!
//! # States
//!
//! [`State`] is asyncio's state machine: `Unwrapped`, `Handshake`, `Wrapped`, `Flushing`, `Shutdown`,
//! and `Unwrapped` again at the end; [`Told`] is what the application's protocol has heard, and only
//! moves forward. `closed` is set for good by `close()`, `abort()` or the loss of the connection.
//! `lost` empties the engine and lets go of both neighbours: whatever comes later, from above or from
//! below, finds nothing to work on.
//!
//! # Who is above and below
//!
//! Above, `protocol` is anybody's; below, `lower` is what called `connection_made`. A program may put
//! anything into either place, so a neighbour counts as a layer of ours only after a look at its class:
//! `layer` holds exactly a TLS transport, or nothing, and is what `Delivery::Layer` delivers to,
//! whatever `protocol` has become since. A stream below feeds this layer only while this is its
//! protocol (`stream::feed_natively`).
//!
//! # What may come back
//!
//! Protocols, transports below that are the program's, and an `SSLContext`'s callbacks are Python code,
//! called in the middle of each step. No borrow of the backlog lasts over one. Memory of ours is lent
//! to OpenSSL (`window`) only through CPython's own C types, which keep nothing: a class of the
//! program's gets `bytes`. The scratch buffer is out of the loop's reach while it is lent.

mod closing;
mod engine;
mod handshake;
mod methods;
mod object;
mod reading;
mod window;
mod writing;

use std::cell::{Cell, RefCell};

use pyo3::prelude::*;
use pyo3::types::{IntoPyDict, PyDict, PyFloat};

use super::flow::{Flow, Limits};
use super::listing::Listing;
use super::outgoing::Outgoing;
use super::protocol::{Delivery, Sink};
use super::stream;
use super::{base, feed};
use crate::event_loop::{LoopRef, LoopSlot, NativeLoop};
use crate::ffi::contexts::within;
use crate::ffi::gil::PySlot;
use crate::ffi::imports;
use engine::Engine;

/// Where in its life the TLS layer is; the names are asyncio's.
#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    /// Before `connection_made`, and after the end.
    Unwrapped,
    Handshake,
    Wrapped,
    /// `close()` was called, or the peer's side ended: what is left is read and written.
    Flushing,
    /// Our `close_notify` is out, the peer's is awaited.
    Shutdown,
}

/// What the application's protocol was told of.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Told {
    Nothing,
    Connected,
    Ended,
    Lost,
}

/// The state of a TLS transport. Only reached with the GIL held.
pub(crate) struct Tls {
    state: Cell<State>,
    told: Cell<Told>,
    delivery: Cell<Delivery>,
    /// A buffered protocol's methods, as they were when it became the protocol: as in asyncio.
    get_buffer: PySlot,
    buffer_updated: PySlot,
    /// The protocol, when it became that, if it is another layer: exactly a TLS transport of ours,
    /// and set whenever the delivery is `Layer`.
    layer: PySlot,
    /// `close()` or `abort()` was called, or the connection is lost.
    closed: Cell<bool>,
    /// The transport below has said that no more comes.
    ended: Cell<bool>,
    /// By the application.
    reading_paused: Cell<bool>,
    /// By us, the transport below.
    lower_paused: Cell<bool>,
    /// By the transport below, us.
    writing_paused: Cell<bool>,
    /// Bytes that the engine wanted to send unasked while the peer takes none.
    unasked: Cell<usize>,
    /// In the loop's list of transports to flush.
    listed: Listing,
    writes_after_loss: Cell<u32>,
    flow: Flow<{ writing::HIGH_WATER }>,
    read_limits: Limits<{ reading::HIGH_WATER }>,
    /// Plaintext that the engine did not take yet.
    backlog: RefCell<Outgoing>,
    engine: Engine,
    /// Seconds, as they were given.
    handshake_timeout: PySlot,
    shutdown_timeout: PySlot,
    /// When the handshake began, in debug mode.
    started: Cell<Option<f64>>,
    event_loop: LoopSlot,
    protocol: PySlot,
    lower: PySlot,
    extra: PySlot,
    waiter: PySlot,
    timer: PySlot,
    /// That of a transport of ours below: what it calls, it calls in there.
    context: PySlot,
}

/// How a native transport below hands us what it read.
pub(crate) static SINK: Sink = Sink { feed: reading::feed, process: reading::process };

/// What a new TLS transport is made of.
#[derive(FromPyObject)]
pub(crate) struct New<'py> {
    pub protocol: Bound<'py, PyAny>,
    pub object: Bound<'py, PyAny>,
    pub incoming: Bound<'py, PyAny>,
    pub outgoing: Bound<'py, PyAny>,
    pub context: Bound<'py, PyAny>,
    pub waiter: Option<Bound<'py, PyAny>>,
    pub handshake_timeout: Bound<'py, PyAny>,
    pub shutdown_timeout: Bound<'py, PyAny>,
    /// The protocol has had its `connection_made` from the transport below.
    pub upgrade: bool,
}

/// Makes a TLS transport. It begins when the transport below calls its `connection_made`.
pub(crate) fn new<'py>(
    py: Python<'py>,
    event_loop: &NativeLoop,
    new: New<'py>,
) -> PyResult<Bound<'py, PyAny>> {
    let extra = PyDict::new(py);
    extra.set_item("sslcontext", new.context)?;
    let intake = Intake::of(&new.protocol)?;
    let slot = |object: Option<Bound<'py, PyAny>>| {
        object.map_or_else(PySlot::empty, |object| PySlot::new(object.unbind()))
    };
    base::allocate(
        py,
        Tls {
            state: State::Unwrapped.into(),
            told: if new.upgrade { Told::Connected } else { Told::Nothing }.into(),
            delivery: intake.delivery.into(),
            get_buffer: slot(intake.get_buffer),
            buffer_updated: slot(intake.buffer_updated),
            layer: slot(intake.layer),
            closed: false.into(),
            ended: false.into(),
            reading_paused: false.into(),
            lower_paused: false.into(),
            writing_paused: false.into(),
            unasked: 0.into(),
            listed: Listing::default(),
            writes_after_loss: 0.into(),
            flow: Flow::default(),
            read_limits: Limits::default(),
            backlog: RefCell::default(),
            engine: Engine::new(&new.object, new.incoming, new.outgoing)?,
            handshake_timeout: PySlot::new(new.handshake_timeout.unbind()),
            shutdown_timeout: PySlot::new(new.shutdown_timeout.unbind()),
            started: None.into(),
            event_loop: LoopSlot::new(py, event_loop),
            protocol: PySlot::new(new.protocol.unbind()),
            lower: PySlot::empty(),
            extra: PySlot::new(extra.into_any().unbind()),
            waiter: new.waiter.map_or_else(PySlot::empty, |waiter| PySlot::new(waiter.unbind())),
            timer: PySlot::empty(),
            context: PySlot::empty(),
        },
    )
}

/// How a protocol takes what was decrypted.
struct Intake<'py> {
    delivery: Delivery,
    get_buffer: Option<Bound<'py, PyAny>>,
    buffer_updated: Option<Bound<'py, PyAny>>,
    layer: Option<Bound<'py, PyAny>>,
}

impl<'py> Intake<'py> {
    fn of(protocol: &Bound<'py, PyAny>) -> PyResult<Self> {
        let py = protocol.py();
        let plain =
            |delivery| Self { delivery, get_buffer: None, buffer_updated: None, layer: None };
        // A TLS transport's protocol may be another TLS transport.
        if base::is::<Tls>(protocol)? {
            return Ok(Self { layer: Some(protocol.clone()), ..plain(Delivery::Layer) });
        }
        if feed::suits(protocol)? {
            return Ok(plain(Delivery::Reader));
        }
        // One that lacks the method is taken for an ordinary one, by asyncio's TLS too.
        let get_buffer = protocol.getattr_opt(pyo3::intern!(py, "get_buffer"))?;
        let buffered = &imports::asyncio(py)?.buffered_protocol;
        if get_buffer.is_none() || !protocol.is_instance(buffered.bind(py))? {
            return Ok(plain(Delivery::Data));
        }
        let buffer_updated = Some(protocol.getattr(pyo3::intern!(py, "buffer_updated"))?);
        Ok(Self { delivery: Delivery::Buffer, get_buffer, buffer_updated, layer: None })
    }
}

impl Tls {
    /// Has a native transport below feed us without a call of Python's.
    fn attach(&self, slf: &Bound<'_, PyAny>, lower: &Bound<'_, PyAny>) -> PyResult<()> {
        let py = slf.py();
        let context = if let Some(lower) = base::state_of::<Self>(lower)? {
            // It feeds us if we are its protocol: it has seen what that is.
            lower.context.get(py)
        } else {
            stream::feed_natively(lower, slf, &SINK)?
        };
        self.context.set(py, context.map(Bound::unbind));
        Ok(())
    }

    /// The loop.
    fn native<'py>(&self, py: Python<'py>) -> Option<LoopRef<'py>> {
        self.event_loop.get(py)
    }

    /// `set_protocol(protocol)`. As in asyncio the protocol is another one even if this fails, and
    /// what is decrypted goes to the old one then, if that was a layer or had buffers.
    fn set_protocol(&self, protocol: &Bound<'_, PyAny>) -> PyResult<()> {
        let py = protocol.py();
        self.protocol.set(py, Some(protocol.clone().unbind()));
        let intake = Intake::of(protocol)?;
        // Together: what is dropped after each of them may be the program's, and read on.
        self.delivery.set(intake.delivery);
        let layer = self.layer.replace(py, intake.layer.map(Bound::unbind));
        self.get_buffer.set(py, intake.get_buffer.map(Bound::unbind));
        self.buffer_updated.set(py, intake.buffer_updated.map(Bound::unbind));
        drop(layer);
        Ok(())
    }

    /// `loop.call_later(seconds, self.method)`, the timer kept.
    fn set_timer(&self, slf: &Bound<'_, PyAny>, seconds: &PySlot, method: &str) -> PyResult<()> {
        let py = slf.py();
        if let (Some(event_loop), Some(seconds)) = (self.native(py), seconds.get(py)) {
            // NaN, which is no time to our `call_later`, is over as soon as asyncio's heap comes to
            // it: with the timer that is the first now, or at once.
            let seconds = match seconds.cast::<PyFloat>() {
                Ok(seconds) if seconds.value().is_nan() => {
                    let first = event_loop.first_timer(py).map_or(Ok(0.0), |first| {
                        event_loop.now(py).map(|now| (first - now).max(0.0))
                    });
                    PyFloat::new(py, first?).into_any()
                }
                _ => seconds,
            };
            let timer =
                event_loop.as_any().call_method1("call_later", (seconds, slf.getattr(method)?))?;
            self.timer.set(py, Some(timer.unbind()));
        }
        Ok(())
    }

    /// The connection's context, for what others make it do: before CPython 3.15 asyncio does that
    /// in the context of whoever resumes or closes.
    fn kept_context<'py>(&self, py: Python<'py>) -> Option<Bound<'py, PyAny>> {
        if cfg!(Py_3_15) { self.context.get(py) } else { None }
    }

    /// `loop.call_soon(method, context=context)`
    fn call_soon(
        &self,
        method: &Bound<'_, PyAny>,
        context: Option<Bound<'_, PyAny>>,
    ) -> PyResult<()> {
        let py = method.py();
        let Some(event_loop) = self.native(py) else {
            return Ok(());
        };
        let context = [(pyo3::intern!(py, "context"), context)].into_py_dict(py)?;
        event_loop
            .as_any()
            .call_method(pyo3::intern!(py, "call_soon"), (method,), Some(&context))
            .map(drop)
    }

    /// Runs `f` in the connection's context, where there is one.
    fn in_context<R>(&self, py: Python<'_>, f: impl FnOnce() -> PyResult<R>) -> PyResult<R> {
        match self.context.get(py) {
            Some(context) => within(&context, f),
            None => f(),
        }
    }

    fn cancel_timer(&self, py: Python<'_>) -> PyResult<()> {
        match self.timer.take(py) {
            Some(timer) => timer.call_method0(py, "cancel").map(drop),
            None => Ok(()),
        }
    }

    /// Wakes who waits for the connection.
    fn wake_waiter(&self, py: Python<'_>, error: Option<&Bound<'_, PyAny>>) -> PyResult<()> {
        let Some(waiter) = self.waiter.take(py) else {
            return Ok(());
        };
        let waiter = waiter.bind(py);
        if waiter.call_method0("cancelled")?.is_truthy()? {
            return Ok(());
        }
        match error {
            Some(error) => waiter.call_method1("set_exception", (error,)).map(drop),
            None => waiter.call_method1("set_result", (py.None(),)).map(drop),
        }
    }
}
