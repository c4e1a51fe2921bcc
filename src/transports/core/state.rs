//! The state that every transport has, and what it is made from.

use std::cell::{Cell, OnceCell};

use pyo3::prelude::*;

use crate::event_loop::{LoopRef, LoopSlot, NativeLoop};
use crate::ffi::contexts::Ground;
use crate::ffi::gil::PySlot;

/// Where in its lifecycle a transport is.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Lifecycle {
    /// `connection_made` is yet to be called.
    New,
    Open,
    /// `close()` was called; what is buffered is still sent.
    Closing,
    /// `connection_lost` is scheduled.
    Losing,
    /// The descriptor is closed.
    Closed,
}

/// How a layer takes received bytes. It needs no context of its own: it is called in the transport's.
///
/// Both functions may be called with a layer of that kind only.
pub(crate) struct Sink {
    /// Takes the first so many bytes of the loop's scratch buffer, or the buffer itself until they are
    /// processed.
    pub feed: unsafe fn(Python<'_>, &Bound<'_, PyAny>, &mut Vec<u8>, usize) -> PyResult<()>,
    /// Processes them, and returns the buffer.
    pub process: unsafe fn(&Bound<'_, PyAny>) -> PyResult<()>,
}

/// The state that every transport has. Only reached with the GIL held.
pub(crate) struct Core {
    pub(super) lifecycle: Cell<Lifecycle>,
    /// The application has paused reading.
    pub reading_paused: Cell<bool>,
    /// The protocol's writing is paused.
    pub protocol_paused: Cell<bool>,
    /// asyncio's `_conn_lost`: 0 while connected, then the loss and the writes after it.
    pub(super) conn_lost: Cell<u32>,
    pub event_loop: LoopSlot,
    pub protocol: PySlot,
    /// The protocol's `connection_made`, until it is called.
    pub(super) connection_made: PySlot,
    /// The context that the protocol is called in.
    pub context: Ground,
    pub(super) rare: OnceCell<Box<Rare>>,
}

/// State that most transports never have, or not for long.
#[derive(Default)]
pub(super) struct Rare {
    /// What `get_extra_info` answers besides what the transport knows itself.
    pub(super) extra: PySlot,
    /// A future that waits for `connection_made`.
    pub(super) waiter: PySlot,
    /// asyncio's `_empty_waiter`: a future that `sendfile` awaits until the buffer is empty.
    pub(super) empty_waiter: PySlot,
    /// The exception for `connection_lost`.
    pub(super) loss: PySlot,
    /// In debug mode the stack of the code that scheduled the next callback.
    pub(super) source: PySlot,
    /// The context of the caller whose write has to wait for the kernel.
    pub(super) writer: Ground,
    /// How received bytes are passed to the protocol if that is another transport of this module.
    pub(super) sink: Cell<Option<&'static Sink>>,
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

    pub(super) fn rare(&self) -> &Rare {
        self.rare.get_or_init(Box::default)
    }
}

/// A slot that holds the object, or nothing.
pub(crate) fn slot(object: Option<Bound<'_, PyAny>>) -> PySlot {
    object.map_or_else(PySlot::empty, |object| PySlot::new(object.unbind()))
}
