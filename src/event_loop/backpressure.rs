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

/// Enough for the kernel to run the thread that the GIL was let go for. As short as timers are.
const PAUSE: Duration = Duration::from_micros(1);

/// After so many pauses in vain, each four times as long as the one before, more than one entry is
/// added between two.
const LONGER_PAUSES: u32 = 6;

/// From one pause in vain to the next that number doubles, so often at most: 1,024 entries.
const RARER_PAUSES: u32 = 10;

pub(super) struct Backpressure {
    /// How many entries had run when a thread paused last.
    served: GilFlag<Ticket>,
    /// How many pauses were in vain since.
    vain: GilFlag<u32>,
    /// How many entries are added until the next pause.
    left: GilFlag<u32>,
}

impl Backpressure {
    pub(super) const fn new() -> Self {
        Self { served: GilFlag::new(0), vain: GilFlag::new(0), left: GilFlag::new(1) }
    }

    /// How long a thread should let go of the GIL that has just added an entry.
    ///
    /// If the loop has gone on since the last pause, however little, a short one will do: the thread has
    /// to wait for the GIL then. If it has not, the loop's thread may not have got the GIL: another such
    /// thread took it, or the processors are busy. So the pauses become longer, and leave both to the
    /// loop. Only when that does not help either they become rare: the loop is in a long callback, and
    /// may not even want the GIL.
    #[inline]
    pub(super) fn pause(&self, py: Python<'_>, ready: &Ready) -> Option<Duration> {
        if ready.len() < BACKLOG {
            return None;
        }
        if self.served.get(py) != ready.served() {
            self.served.set(py, ready.served());
            self.vain.set(py, 0);
            self.left.set(py, 1);
            return Some(PAUSE);
        }
        let left = self.left.get(py) - 1;
        self.left.set(py, left);
        if left > 0 {
            return None;
        }
        let vain = (self.vain.get(py) + 1).min(LONGER_PAUSES + RARER_PAUSES);
        self.vain.set(py, vain);
        self.left.set(py, 1 << vain.saturating_sub(LONGER_PAUSES));
        Some(PAUSE * 4_u32.pow(vain.min(LONGER_PAUSES)))
    }
}
