//! What every kind of transport shares. The core knows none of the kinds: a kind embeds a [`Core`]
//! and implements the traits of what it can do.
//!
//! | module | subject | trait |
//! |---|---|---|
//! | [`class`] | the Python type: layout, garbage collection, the finalizer | [`class::Transport`] |
//! | [`trampolines`] | macros that write the functions CPython calls | |
//! | [`methods`] | tables of methods and attributes that kinds share | [`methods::TransportMethods`] |
//! | [`lifecycle`] | made, begun, closing, lost | [`lifecycle::Endpoint`] |
//! | [`context`] | the contexts that the protocol is called in | |
//! | [`protocol`] | calling the protocol; how it takes received bytes | |
//! | [`stream_reader`] | received bytes straight into an `asyncio.StreamReader` | |
//! | [`received`] | received bytes as `bytes` | |
//! | [`flow_control`] | water marks; pausing and resuming | [`flow_control::Writing`], `Reading` |
//! | [`write_buffer`] | bytes that wait to be sent | |
//! | [`pending_flush`] | a transport's place in the loop's list of those to flush | |
//! | [`extra_info`] | what `get_extra_info` answers | [`extra_info::ExtraInfo`] |
//! | [`waiter`] | the futures that wait for a transport | |
//! | [`report`] | errors, asyncio's logger | [`report::ForceClose`] |
//!
//! # Who owns what
//!
//! A [`Core`] owns no descriptor, only references. Those to the loop, the protocol and the context are
//! set until `connection_lost` has run. A method that needs one of them takes a reference first and
//! works with that, even if the slot changes meanwhile.

pub(crate) mod class;
pub(crate) mod context;
pub(crate) mod extra_info;
pub(crate) mod flow_control;
pub(crate) mod lifecycle;
pub(crate) mod methods;
pub(crate) mod pending_flush;
pub(crate) mod protocol;
pub(crate) mod received;
pub(crate) mod report;
pub(crate) mod stream_reader;
pub(crate) mod trampolines;
pub(crate) mod waiter;
pub(crate) mod write_buffer;

use std::cell::{Cell, OnceCell};

use pyo3::prelude::*;

use crate::event_loop::{LoopRef, LoopSlot, NativeLoop};
use crate::ffi::contexts::Ground;
use crate::ffi::gil::PySlot;
use lifecycle::Lifecycle;
use protocol::Sink;

/// The state that every transport has. Only reached with the GIL held.
pub(crate) struct Core {
    lifecycle: Cell<Lifecycle>,
    /// The application has paused reading.
    pub reading_paused: Cell<bool>,
    /// The protocol's writing is paused.
    pub protocol_paused: Cell<bool>,
    /// asyncio's `_conn_lost`: 0 while connected, then the loss and the writes after it.
    conn_lost: Cell<u32>,
    pub event_loop: LoopSlot,
    pub protocol: PySlot,
    /// The protocol's `connection_made`, until it is called.
    connection_made: PySlot,
    /// The context that the protocol is called in.
    pub context: Ground,
    rare: OnceCell<Box<Rare>>,
}

/// State that most transports never have, or not for long.
#[derive(Default)]
struct Rare {
    /// What `get_extra_info` answers besides what the transport knows itself.
    extra: PySlot,
    /// A future that waits for `connection_made`.
    waiter: PySlot,
    /// asyncio's `_empty_waiter`: a future that `sendfile` awaits until the buffer is empty.
    empty_waiter: PySlot,
    /// The exception for `connection_lost`.
    loss: PySlot,
    /// In debug mode the stack of the code that scheduled the next callback.
    source: PySlot,
    /// The context of the caller whose write has to wait for the kernel.
    writer: Ground,
    /// How received bytes are passed to the protocol if that is another transport of this module.
    sink: Cell<Option<&'static Sink>>,
}

/// What the maker of a transport passes for its core.
pub(crate) struct CoreConfig<'py> {
    pub protocol: Bound<'py, PyAny>,
    /// A future that waits for `connection_made`.
    pub waiter: Option<Bound<'py, PyAny>>,
    /// A dict for `get_extra_info`.
    pub extra: Option<Bound<'py, PyAny>>,
}

impl Core {
    pub(crate) fn new(
        py: Python<'_>,
        event_loop: &NativeLoop,
        context: Ground,
        config: CoreConfig<'_>,
    ) -> Self {
        let CoreConfig { protocol, waiter, extra } = config;
        let rare = OnceCell::new();
        if extra.is_some() || waiter.is_some() {
            let (extra, waiter) = (slot(extra), slot(waiter));
            rare.get_or_init(|| Box::new(Rare { extra, waiter, ..Rare::default() }));
        }
        Self {
            lifecycle: Lifecycle::New.into(),
            reading_paused: false.into(),
            protocol_paused: false.into(),
            conn_lost: 0.into(),
            event_loop: LoopSlot::new(py, event_loop),
            protocol: PySlot::new(protocol.unbind()),
            connection_made: PySlot::empty(),
            context,
            rare,
        }
    }

    /// The loop, while the transport has one.
    #[inline]
    pub(crate) fn native<'py>(&self, py: Python<'py>) -> Option<LoopRef<'py>> {
        self.event_loop.get(py)
    }

    /// The loop, while the transport has one and it is open.
    pub(crate) fn open_loop<'py>(&self, py: Python<'py>) -> Option<LoopRef<'py>> {
        self.native(py).filter(|native| !native.is_closed(py))
    }

    /// Every reference, for the garbage collector.
    pub(crate) fn slots(&self) -> impl Iterator<Item = &PySlot> {
        let rare = self.rare.get().map(|rare| {
            let writer = rare.writer.slot();
            [&rare.extra, &rare.waiter, &rare.loss, &rare.source, writer, &rare.empty_waiter]
        });
        [self.event_loop.slot(), &self.protocol, &self.connection_made, self.context.slot()]
            .into_iter()
            .chain(rare.into_iter().flatten())
    }

    fn rare(&self) -> &Rare {
        self.rare.get_or_init(Box::default)
    }
}

/// A slot that holds the object, or nothing.
pub(crate) fn slot(object: Option<Bound<'_, PyAny>>) -> PySlot {
    object.map_or_else(PySlot::empty, |object| PySlot::new(object.unbind()))
}
