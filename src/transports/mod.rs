//! `SocketTransport`: one type for TCP and Unix stream connections.
//!
//! | file | what |
//! |---|---|
//! | `object` | the Python type: layout, attributes, garbage collection |
//! | `methods` | what Python calls |
//! | `life` | made, closed, lost |
//! | `reading` | from the socket to the protocol |
//! | `feed` | from the socket straight into an `asyncio.StreamReader` |
//! | `writing` | from `write` to the socket, batched a turn |
//! | `flow` | high- and low-water marks |
//! | `address` | socket names as Python spells them |

pub mod address;
mod feed;
mod flow;
mod life;
mod methods;
mod object;
mod reading;
mod writing;

use std::cell::{Cell, RefCell};
use std::os::fd::RawFd;

use pyo3::prelude::*;

pub use life::{New, claim, new};
pub use object::register;

use crate::event_loop::NativeLoop;
use crate::gil::PySlot;
use crate::reactor::{Key, Registration};
use address::Address;
use flow::Marks;
use writing::Outgoing;

/// How a protocol takes what was read.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Delivery {
    /// `data_received(bytes)`
    Data,
    /// `get_buffer()`, `buffer_updated()`
    Buffer,
    /// Exactly asyncio's stream protocol: fed without its Python frames.
    Reader,
}

/// Where in its life a transport is.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Life {
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

/// The state of a transport. Only reached with the GIL held.
pub struct Stream {
    fd: RawFd,
    key: Key,
    life: Cell<Life>,
    delivery: Cell<Delivery>,
    paused: Cell<bool>,
    /// The peer ended its side and the protocol keeps the connection open.
    ended: Cell<bool>,
    eof_written: Cell<bool>,
    /// The last read was a large one.
    bulk: Cell<bool>,
    protocol_paused: Cell<bool>,
    protocol_connected: Cell<bool>,
    /// In the loop's list of transports to flush.
    listed: Cell<bool>,
    /// The kernel took less than it was given; its word is awaited.
    blocked: Cell<bool>,
    writes_after_loss: Cell<u32>,
    marks: Cell<Marks>,
    registration: RefCell<Option<Registration>>,
    outgoing: RefCell<Outgoing>,
    event_loop: PySlot,
    protocol: PySlot,
    server: PySlot,
    /// The `socket.socket`: the user's, or made when somebody asks for it.
    socket: PySlot,
    extra: PySlot,
    waiter: PySlot,
    context: PySlot,
    /// The exception for `connection_lost`.
    loss: PySlot,
    /// `sendfile` waits for the buffer to drain.
    drained: PySlot,
    sockname: RefCell<Address>,
    peername: RefCell<Address>,
}

impl Stream {
    /// The loop, while the transport has one.
    fn native<'py>(&self, py: Python<'py>) -> Option<(Bound<'py, PyAny>, &'py NativeLoop)> {
        let event_loop = self.event_loop.get(py)?;
        // SAFETY: always a loop; the `Bound` beside it keeps it alive as long as callers use it.
        let native = unsafe { NativeLoop::of(event_loop.as_ptr()) };
        Some((event_loop, native))
    }

    fn is_closing(&self) -> bool {
        self.life.get() >= Life::Closing
    }

    fn is_reading(&self) -> bool {
        !self.is_closing() && !self.paused.get()
    }
}
