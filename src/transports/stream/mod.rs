//! `SocketTransport`: one type for TCP and Unix stream connections.
//!
//! | file | what |
//! |---|---|
//! | `object` | the Python type |
//! | `methods` | what Python calls |
//! | `life` | made, closed, lost: what is a stream's own of it |
//! | `clients` | what a server knows of its connections |
//! | `reading` | from the socket to the protocol |
//! | `writing` | from `write` to the socket, batched a turn |
//!
//! What [`super::life`] says of states and owners holds; a stream's own:
//!
//! - `delivery` and `protocol` change together. `Layer` is only set by [`feed_natively`], for the very
//!   protocol that the transport has, and any other protocol comes with another delivery: so what
//!   `Layer` reads goes to an object of the kind that the sink is for.
//! - `listed`: the transport is in the loop's `unflushed` once, and `flush` clears the mark before it
//!   sends, because that may write again. In the child of a fork `outgoing` is forgotten while it is
//!   `listed`, and not `blocked`: the parent sends it.
//! - `blocked`: the kernel took less than it was given; nothing is sent until the reactor says that
//!   there is room. Cleared with the buffer.
//! - `outgoing` holds `bytes` only, which run no Python code when they are dropped: it may be
//!   borrowed while chunks go. A borrow ends before anything else is called.
//! - Bytes are received into the loop's scratch buffer, which is lent and out of the loop's reach
//!   meanwhile, into `bytes` that nobody else has, or into a buffer of the protocol's that is held
//!   for the call.

mod clients;
mod life;
mod methods;
mod object;
mod reading;
mod writing;

use std::cell::{Cell, RefCell};
use std::ops::Deref;

use pyo3::prelude::*;

pub(crate) use clients::Clients;
pub(crate) use life::{New, claim, new};
pub(crate) use writing::send;

use super::base;
use super::life::Common;
use super::listing::Listing;
use super::outgoing::Outgoing;
use super::protocol::{Delivery, Sink};
use crate::ffi::gil::PySlot;
use crate::net::address::Address;

/// The state of a transport. Only reached with the GIL held.
pub(crate) struct Stream {
    common: Common,
    delivery: Cell<Delivery>,
    /// The peer ended its side and the protocol keeps the connection open.
    ended: Cell<bool>,
    eof_written: Cell<bool>,
    /// The last read was a large one.
    bulk: Cell<bool>,
    /// In the loop's list of transports to flush.
    listed: Listing,
    /// The kernel took less than it was given; its word is awaited.
    blocked: Cell<bool>,
    outgoing: RefCell<Outgoing>,
    server: PySlot,
    names: RefCell<Names>,
}

/// The addresses of both ends.
pub(crate) struct Names {
    /// Asked for when somebody wants to know, or when the socket is about to close.
    sock: Address,
    peer: Address,
}

impl Deref for Stream {
    type Target = Common;

    fn deref(&self) -> &Common {
        &self.common
    }
}

/// Has a transport feed its protocol, which is a layer of ours, without a call of Python's. Gives
/// the context it is called in. (For anything but our transports this does nothing.)
pub(crate) fn feed_natively<'py>(
    slf: &Bound<'py, PyAny>,
    protocol: &Bound<'py, PyAny>,
    sink: &'static Sink,
) -> PyResult<Option<Bound<'py, PyAny>>> {
    let Some(stream) = base::state_of::<Stream>(slf)? else {
        return Ok(None);
    };
    if stream.protocol.holds(protocol) {
        stream.set_sink(sink);
        stream.delivery.set(Delivery::Layer);
    }
    stream.context.own(slf.py())
}
