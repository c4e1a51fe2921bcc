//! `SSLTransport`: TLS between a protocol and a transport.
//!
//! One object is both: the transport of the application's protocol, and the protocol of the
//! transport below, which may be a stream of ours, another TLS transport, or any other transport.
//!
//! | file | what |
//! |---|---|
//! | `class` | the Python type |
//! | `methods` | what Python calls, from above and from below |
//! | `engine` | the `ssl.SSLObject` at work, directly or by its methods |
//! | `openssl` | OpenSSL without the `ssl` module in between |
//! | `window` | memory of ours as a buffer object |
//! | `handshake` | from `connection_made` to the application's |
//! | `reading` | from ciphertext to the protocol |
//! | `writing` | from `write` to ciphertext, sent in one piece a batch |
//! | `closing` | shutdown, errors, the end |
//!
//! # States
//!
//! [`State`] is asyncio's state machine: `Unwrapped`, `Handshake`, `Wrapped`, `Flushing`, `Shutdown`,
//! and `Unwrapped` again at the end; [`AppState`] is what the application's protocol was notified of,
//! and only moves forward. `close()`, `abort()` and the loss of the connection set the core's stage to
//! `Closing`, for good. `lost` empties the engine and drops the references to both neighbours: a call
//! that comes later, from above or from below, finds nothing to work on.
//!
//! # Who is above and below
//!
//! Above, `protocol` is any protocol; below, `lower` is the transport that called `connection_made`. A
//! program may put anything into either place, so a neighbour counts as a layer of ours only after a
//! check of its class: `layer` holds exactly a TLS transport, or nothing, and `Delivery::Layer` delivers
//! to it even if `protocol` was replaced since. A stream below feeds this layer only while this is its
//! protocol (`stream::feed_natively`).
//!
//! # Reentrance
//!
//! Protocols, transports below that are the program's, and an `SSLContext`'s callbacks are Python code,
//! called in the middle of each step. No borrow of the backlog lasts over one. Memory of ours is lent
//! to OpenSSL (`window`) only through CPython's own C types, which keep nothing: a class of the
//! program's gets `bytes`. The scratch buffer is out of the loop's reach while it is lent.

mod class;
mod closing;
mod engine;
mod handshake;
mod methods;
mod openssl;
mod reading;
mod window;
mod writing;

use std::cell::{Cell, RefCell};
use std::ops::Deref;

use pyo3::prelude::*;
use pyo3::types::{PyDict, PyFloat};

use super::core::Sink;
use super::core::class::{allocate, is, state_of};
use super::core::flow_control::BufferLimits;
use super::core::pending_flush::PendingFlush;
use super::core::protocol::{Delivery, is_buffered};
use super::core::write_buffer::WriteBuffer;
use super::core::{Core, CoreConfig, slot, stream_reader};
use super::stream;
use crate::event_loop::NativeLoop;
use crate::ffi::contexts::Ground;
use crate::ffi::gil::PySlot;
use engine::Engine;

/// The state of the TLS layer; the names are asyncio's.
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

/// What the application's protocol was notified of: asyncio's `AppProtocolState`.
#[derive(Clone, Copy, PartialEq, Eq)]
enum AppState {
    Init,
    ConnectionMade,
    Eof,
    ConnectionLost,
}

/// The state of a TLS transport. Only reached with the GIL held.
pub(crate) struct Tls {
    /// The context is that of a transport of ours below, which calls this one in there.
    core: Core,
    state: Cell<State>,
    app_state: Cell<AppState>,
    delivery: Cell<Delivery>,
    /// The methods that a buffered protocol had when it became the protocol: as in asyncio.
    get_buffer: PySlot,
    buffer_updated: PySlot,
    /// The protocol, when it became that, if it is another layer: exactly a TLS transport of ours,
    /// and set whenever the delivery is `Layer`.
    layer: PySlot,
    /// The transport below has received the end of the stream.
    ended: Cell<bool>,
    /// This layer has paused reading of the transport below.
    lower_paused: Cell<bool>,
    /// The transport below has paused writing of this layer.
    writing_paused: Cell<bool>,
    /// Bytes that the engine wanted to send unasked while the peer takes none.
    unasked: Cell<usize>,
    pending_flush: PendingFlush,
    write_limits: BufferLimits<{ writing::HIGH_WATER }>,
    read_limits: BufferLimits<{ reading::HIGH_WATER }>,
    /// Plaintext that the engine did not take yet.
    backlog: RefCell<WriteBuffer>,
    engine: Engine,
    /// Seconds, as they were given.
    handshake_timeout: PySlot,
    shutdown_timeout: PySlot,
    /// When the handshake began, in debug mode.
    started: Cell<Option<f64>>,
    lower: PySlot,
    timer: PySlot,
}

impl Deref for Tls {
    type Target = Core;

    fn deref(&self) -> &Core {
        &self.core
    }
}

/// How a transport of ours below passes received bytes to this layer.
pub(crate) static SINK: Sink = Sink { feed: reading::feed, process: reading::process };

/// What the maker of a TLS transport passes: an object with these attributes.
#[derive(FromPyObject)]
pub(crate) struct TlsConfig<'py> {
    pub protocol: Bound<'py, PyAny>,
    pub object: Bound<'py, PyAny>,
    pub incoming: Bound<'py, PyAny>,
    pub outgoing: Bound<'py, PyAny>,
    pub context: Bound<'py, PyAny>,
    pub waiter: Option<Bound<'py, PyAny>>,
    pub handshake_timeout: Bound<'py, PyAny>,
    pub shutdown_timeout: Bound<'py, PyAny>,
    /// OpenSSL may be called without the `ssl` module in between.
    pub directly: bool,
    /// The protocol has had its `connection_made` from the transport below.
    pub upgrade: bool,
}

/// Makes a TLS transport. It begins when the transport below calls its `connection_made`.
pub(crate) fn new<'py>(
    py: Python<'py>,
    event_loop: &NativeLoop,
    config: TlsConfig<'py>,
) -> PyResult<Bound<'py, PyAny>> {
    let extra = PyDict::new(py);
    extra.set_item("sslcontext", config.context)?;
    let intake = Intake::of(&config.protocol)?;
    let TlsConfig { protocol, waiter, .. } = config;
    let core = CoreConfig { protocol, waiter, extra: Some(extra.into_any()) };
    allocate(
        py,
        Tls {
            core: Core::new(py, event_loop, Ground::default(), core),
            state: State::Unwrapped.into(),
            app_state: if config.upgrade { AppState::ConnectionMade } else { AppState::Init }
                .into(),
            delivery: intake.delivery.into(),
            get_buffer: slot(intake.get_buffer),
            buffer_updated: slot(intake.buffer_updated),
            layer: slot(intake.layer),
            ended: false.into(),
            lower_paused: false.into(),
            writing_paused: false.into(),
            unasked: 0.into(),
            pending_flush: PendingFlush::default(),
            write_limits: BufferLimits::default(),
            read_limits: BufferLimits::default(),
            backlog: RefCell::default(),
            engine: Engine::new(&config.object, config.incoming, config.outgoing, config.directly)?,
            handshake_timeout: PySlot::new(config.handshake_timeout.unbind()),
            shutdown_timeout: PySlot::new(config.shutdown_timeout.unbind()),
            started: None.into(),
            lower: PySlot::empty(),
            timer: PySlot::empty(),
        },
    )
}

/// The protocol that a TLS transport serves; any other protocol is that itself.
pub(crate) fn application_protocol(protocol: Bound<'_, PyAny>) -> PyResult<Bound<'_, PyAny>> {
    let served = state_of::<Tls>(&protocol)?.and_then(|tls| tls.protocol.get(protocol.py()));
    Ok(served.unwrap_or(protocol))
}

/// How a protocol takes decrypted bytes.
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
        if is::<Tls>(protocol)? {
            return Ok(Self { layer: Some(protocol.clone()), ..plain(Delivery::Layer) });
        }
        if stream_reader::can_feed(protocol)? {
            return Ok(plain(Delivery::Reader));
        }
        // A protocol that lacks the method is taken for an ordinary one, by asyncio's TLS too.
        let get_buffer = protocol.getattr_opt(pyo3::intern!(py, "get_buffer"))?;
        if get_buffer.is_none() || !is_buffered(protocol)? {
            return Ok(plain(Delivery::Data));
        }
        let buffer_updated = Some(protocol.getattr(pyo3::intern!(py, "buffer_updated"))?);
        Ok(Self { delivery: Delivery::Buffer, get_buffer, buffer_updated, layer: None })
    }
}

impl Tls {
    /// Has a transport of ours below feed this layer without a call of Python's.
    fn attach(&self, slf: &Bound<'_, PyAny>, lower: &Bound<'_, PyAny>) -> PyResult<()> {
        let py = slf.py();
        let context = if let Some(lower) = state_of::<Self>(lower)? {
            // It feeds this layer if that is its protocol: it has checked the class.
            lower.context.own(py)?
        } else {
            stream::feed_natively(lower, slf, &SINK)?
        };
        // Not shared with other transports: the stream has made it its own.
        self.context.slot().set(py, context.map(Bound::unbind));
        Ok(())
    }

    /// `set_protocol(protocol)`. As in asyncio the protocol is another one even if this fails, and
    /// decrypted bytes go to the old one then, if that was a layer or had buffers.
    fn replace_protocol(&self, protocol: &Bound<'_, PyAny>) -> PyResult<()> {
        let py = protocol.py();
        self.protocol.set(py, Some(protocol.clone().unbind()));
        let intake = Intake::of(protocol)?;
        // Together: a destructor of a dropped object may be the program's, and read on.
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
            // NaN, which our `call_later` refuses, is due in asyncio's heap together with the timer that
            // is the first now, or at once.
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

    /// `loop.call_soon(method)`
    fn call_soon(&self, method: &Bound<'_, PyAny>) -> PyResult<()> {
        let py = method.py();
        let Some(event_loop) = self.native(py) else {
            return Ok(());
        };
        event_loop.as_any().call_method1(pyo3::intern!(py, "call_soon"), (method,)).map(drop)
    }

    fn cancel_timer(&self, py: Python<'_>) -> PyResult<()> {
        match self.timer.take(py) {
            Some(timer) => timer.call_method0(py, "cancel").map(drop),
            None => Ok(()),
        }
    }
}
