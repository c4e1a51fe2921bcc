//! `DatagramTransport`: UDP over both families, and Unix datagrams.
//!
//! | file | what |
//! |---|---|
//! | `class` | the Python type |
//! | `methods` | what Python calls |
//! | `lifecycle` | made, closed, lost: a datagram transport's own part of it |
//! | `receiving` | from the socket to the protocol, many datagrams a system call |
//! | `sending` | from `sendto` to the socket, at once if the kernel lets it |
//! | `peers` | addresses between Python's form and the kernel's |
//!
//! What [`super::core`] and [`super::sockets`] say of stages and owners holds; a datagram transport's
//! own:
//!
//! - `inbox` has the datagrams that were received and not delivered. It is filled and emptied in `receiving` only,
//!   one datagram at a time, and cleared when reading ends for good and in a forked child. Neither
//!   its `bytes` nor the addresses in `peers` can refer to other objects or run Python code when they
//!   are dropped; an address that goes is dropped outside of the borrow all the same.
//! - The slots of `recvmmsg` point into themselves. They live in a box that never moves, and belong to
//!   one transport from the system call until the last datagram was taken out, while the protocol may
//!   have any other one receive.
//! - `waiting` counts the datagrams in `buffer`, a Python object, whose items are taken as Python
//!   objects each time. While one waits a handle in the users' descriptors keeps the transport alive.

mod class;
mod lifecycle;
mod methods;
mod peers;
mod receiving;
mod sending;

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::ops::Deref;

use pyo3::prelude::*;
use pyo3::types::PyBytes;

pub(crate) use lifecycle::{DatagramConfig, new};

use super::sockets::SocketCore;
use crate::driver::sys::address::SockAddr;
use crate::ffi::gil::PySlot;
use peers::Peers;

/// The state of a transport. Only reached with the GIL held.
pub(crate) struct Datagram {
    socket: SocketCore,
    family: i32,
    /// The socket has a peer: datagrams are sent without an address.
    connected: bool,
    /// Received and not delivered yet. Neither kind of object refers to others, so the garbage
    /// collector need not know of them; the same goes for the addresses in `peers`.
    inbox: RefCell<VecDeque<(Py<PyBytes>, SockAddr)>>,
    peers: RefCell<Peers>,
    /// Datagrams in `buffer`, and the bytes that asyncio counts for them.
    waiting: Cell<usize>,
    waiting_size: Cell<usize>,
    /// The only address that may be sent to.
    address: PySlot,
    /// The datagrams that the kernel did not take: a `collections.deque` of data and address.
    buffer: PySlot,
}

impl Deref for Datagram {
    type Target = SocketCore;

    fn deref(&self) -> &SocketCore {
        &self.socket
    }
}
