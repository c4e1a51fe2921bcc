//! Threads that schedule faster than the loop calls wait for it.
//!
//! asyncio lets go of the GIL in every `call_soon_threadsafe`, to write to its socket pair, and so
//! the loop goes on between two calls. This loop writes only while it sleeps, and a thread that
//! never lets go of the GIL keeps it for a whole switch interval: time to schedule more than the
//! loop calls in its own turn. Each iteration would take longer than the one before.

use std::time::Duration;

use pyo3::prelude::*;

use super::queue::{Ready, Ticket};
use crate::ffi::gil::GilFlag;

/// So many entries may wait before a thread has to.
const BACKLOG: usize = 1024;

/// So many entries are added between two pauses where the pauses do not help: the loop's thread is
/// in a long callback, and may not even want the GIL.
const BETWEEN_VAIN_PAUSES: usize = 256;

/// Enough for the kernel to run the thread that the GIL was let go for. As short as timers are.
const PAUSE: Duration = Duration::from_micros(1);

pub(super) struct Backpressure {
    /// How many entries had run when a thread paused last.
    served: GilFlag<Ticket>,
}

impl Backpressure {
    pub(super) const fn new() -> Self {
        Self { served: GilFlag::new(0) }
    }

    /// How long a thread should let go of the GIL that has just added an entry.
    #[inline]
    pub(super) fn pause(&self, py: Python<'_>, ready: &Ready) -> Option<Duration> {
        let backlog = ready.len();
        if backlog < BACKLOG {
            return None;
        }
        let in_vain = self.served.get(py) == ready.served();
        self.served.set(py, ready.served());
        (!in_vain || backlog.is_multiple_of(BETWEEN_VAIN_PAUSES)).then_some(PAUSE)
    }
}
