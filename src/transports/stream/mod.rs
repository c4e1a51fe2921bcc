//! `SocketTransport`: one type for TCP and Unix stream connections.
//!
//! | file | what |
//! |---|---|
//! | `class` | the Python type |
//! | `methods` | what Python calls |
//! | `lifecycle` | made, closed, lost: a stream's own part of it |
//! | `clients` | what a server knows of its connections |
//! | `reading` | from the socket to the protocol |
//! | `writing` | from `write` to the socket, in one piece a batch |
//!
//! What [`super::core`] and [`super::sockets`] say of stages and owners holds; a stream's own:
//!
//! - `delivery` and `protocol` change together. `Layer` is only set by [`feed_natively`], for the very
//!   protocol that the transport has, and any other protocol comes with another delivery: so what
//!   `Layer` reads goes to an object of the kind that the sink is for.
//! - `pending_flush`: the transport is in the loop's `unflushed` once, and `flush` clears the mark
//!   before it sends, because that may write again. In the child of a fork `buffer` is forgotten while
//!   the mark is set, unless `blocked`: the parent sends it.
//! - `blocked`: the kernel took less than it was given; nothing is sent until the reactor notifies the
//!   transport that the socket is writable. Cleared with the buffer.
//! - `buffer` holds `bytes` only, which run no Python code when they are dropped: it may be
//!   borrowed while chunks go. A borrow ends before anything else is called.
//! - Bytes are received into the loop's scratch buffer, which is lent and out of the loop's reach
//!   meanwhile, into `bytes` that no other code has yet, or into a buffer of the protocol's that is
//!   held for the call.

mod class;
mod clients;
mod lifecycle;
mod methods;
mod reading;
mod writing;

use std::cell::{Cell, RefCell};
use std::ops::Deref;

use pyo3::prelude::*;

pub(crate) use clients::Clients;
pub(crate) use lifecycle::{StreamConfig, claim, new};
pub(crate) use writing::send;

use super::core::Sink;
use super::core::class::state_of;
use super::core::pending_flush::PendingFlush;
use super::core::protocol::Delivery;
use super::core::write_buffer::WriteBuffer;
use super::sockets::SocketCore;
use crate::ffi::gil::PySlot;
use crate::net::address::Address;

/// The state of a transport. Only reached with the GIL held.
pub(crate) struct Stream {
    socket: SocketCore,
    delivery: Cell<Delivery>,
    /// The peer ended its side and the protocol keeps the connection open.
    ended: Cell<bool>,
    eof_written: Cell<bool>,
    /// The last read was a large one.
    bulk: Cell<bool>,
    pending_flush: PendingFlush,
    /// The kernel took less than it was given; the transport waits until the socket is writable.
    blocked: Cell<bool>,
    buffer: RefCell<WriteBuffer>,
    server: PySlot,
    addresses: RefCell<Addresses>,
}

/// The addresses of both ends.
pub(crate) struct Addresses {
    /// The kernel is asked for it when the program wants it, or when the socket is about to close.
    sockname: Address,
    peername: Address,
}

impl Deref for Stream {
    type Target = SocketCore;

    fn deref(&self) -> &SocketCore {
        &self.socket
    }
}

/// Has a transport feed its protocol, which is a layer of ours, without a call of Python's. Gives
/// the context that the layer is called in. (For anything but our transports this does nothing.)
pub(crate) fn feed_natively<'py>(
    slf: &Bound<'py, PyAny>,
    protocol: &Bound<'py, PyAny>,
    sink: &'static Sink,
) -> PyResult<Option<Bound<'py, PyAny>>> {
    let Some(stream) = state_of::<Stream>(slf)? else {
        return Ok(None);
    };
    if stream.protocol.holds(protocol) {
        stream.set_sink(sink);
        stream.delivery.set(Delivery::Layer);
    }
    stream.context.own(slf.py())
}
