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

/// So many entries are added between two pauses at most, where the pauses do not help: the loop's
/// thread is in a long callback, and may not even want the GIL.
const BETWEEN_VAIN_PAUSES: u32 = 256;

/// Enough for the kernel to run the thread that the GIL was let go for. As short as timers are.
const PAUSE: Duration = Duration::from_micros(1);

pub(super) struct Backpressure {
    /// How many entries had run when a thread paused last.
    served: GilFlag<Ticket>,
    /// How many entries are added between two pauses, and how many of them are left.
    between: GilFlag<u32>,
    left: GilFlag<u32>,
}

impl Backpressure {
    pub(super) const fn new() -> Self {
        Self { served: GilFlag::new(0), between: GilFlag::new(1), left: GilFlag::new(1) }
    }

    /// How long a thread should let go of the GIL that has just added an entry.
    ///
    /// Always, if the loop has gone on since the last pause: however long its callbacks take, a thread
    /// adds one entry a turn of the loop's. If it has not, another such thread may have got the GIL, and
    /// the next pause comes soon; but ever later, for the loop may be busy without wanting the GIL.
    #[inline]
    pub(super) fn pause(&self, py: Python<'_>, ready: &Ready) -> Option<Duration> {
        if ready.len() < BACKLOG {
            return None;
        }
        if self.served.get(py) != ready.served() {
            self.served.set(py, ready.served());
            self.between.set(py, 1);
            self.left.set(py, 1);
            return Some(PAUSE);
        }
        let left = self.left.get(py) - 1;
        self.left.set(py, left);
        if left > 0 {
            return None;
        }
        let between = (2 * self.between.get(py)).min(BETWEEN_VAIN_PAUSES);
        self.between.set(py, between);
        self.left.set(py, between);
        Some(PAUSE)
    }
}
