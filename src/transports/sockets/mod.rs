//! What transports over sockets share: streams and datagrams differ in how they read and send, not in
//! what they are to the loop, to the reactor and to the garbage collector.
//!
//! # Who owns what
//!
//! - The descriptor is the caller's until the transport exists; from then on the transport closes it,
//!   once, in `release`. If a socket object has it, that object is closed.
//! - `release` is reached from `connection_lost`, or from the finalizer of a transport that was not
//!   closed, and never twice: each looks at `Closed` first.
//! - The registration is dropped before the descriptor is closed (`deregister` handles one
//!   whose descriptor the program has closed before).
//! - The loop's table holds the transport (`Source::Object`), save while it is open, does not read and
//!   has nothing to send: then it is only borrowed (`Source::Quiet`), so that it can be collected, and
//!   its finalizer takes it out of the table before the memory goes. The key is the transport's from
//!   birth to `release`.

pub(crate) mod lifecycle;
pub(crate) mod methods;

use std::cell::{Cell, RefCell};
use std::ops::Deref;

use pyo3::prelude::*;

use super::core::Core;
use super::core::Lifecycle;
use super::core::flow_control::BufferLimits;
use crate::driver::reactor::{Direction, Key, Registration};
use crate::event_loop::Source;
use crate::ffi::gil::PySlot;
use crate::ffi::socket_fd::Descriptor;

/// The state that transports over sockets have. Only reached with the GIL held.
pub(crate) struct SocketCore {
    core: Core,
    /// The `socket.socket` in it is the program's, or was made when the program asked for it.
    pub file: Descriptor,
    pub key: Key,
    pub limits: BufferLimits,
    pub registration: RefCell<Option<Registration>>,
    /// The protocol is being given what was received.
    delivering: Cell<bool>,
}

impl Deref for SocketCore {
    type Target = Core;

    fn deref(&self) -> &Core {
        &self.core
    }
}

impl SocketCore {
    /// Every reference, for the garbage collector.
    pub(crate) fn slots(&self) -> impl Iterator<Item = &PySlot> {
        self.core.slots().chain([self.file.slot()]).chain(self.limits.slot())
    }

    /// Has the reactor notify the transport when the socket is ready. Whether it is ready now.
    pub(crate) fn arm(&self, direction: Direction) -> bool {
        match &*self.registration.borrow() {
            Some(registration) => registration.arm(direction),
            None => false,
        }
    }

    /// Calls `read`, which ends with asking the reactor for more. Does nothing while the protocol
    /// has not returned from the last delivery, but runs the loop in there: what has come
    /// meanwhile waits for it.
    pub(crate) fn read_unless_delivering(
        &self,
        read: impl FnOnce() -> PyResult<()>,
    ) -> PyResult<()> {
        if self.delivering.replace(true) {
            return Ok(());
        }
        let result = read();
        self.delivering.set(false);
        result
    }

    /// Drops a write after the loss of the connection.
    #[cold]
    pub(crate) fn write_after_loss(&self, py: Python<'_>) -> PyResult<()> {
        if self.conn_lost() == 0 {
            self.count_loss();
        }
        self.drop_write(py, "socket.send() raised exception.")
    }

    /// Puts another entry in the transport's place in the loop's table.
    fn hold(&self, py: Python<'_>, source: Source) {
        // A closed one has given its key back, which may be another transport's by now.
        if self.lifecycle() < Lifecycle::Closed
            && let Some(native) = self.native(py)
        {
            let before = native.sources().with(py, |sources| sources.replace(self.key, source));
            drop(before);
        }
    }
}
