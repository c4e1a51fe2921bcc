//! Rust futures wake Python objects on the loop's thread, from any thread.

use std::sync::Arc;

use pyo3::prelude::*;
use tokioloop_bridge::wake_target::{TableAddress, WakeTarget};

use super::NativeLoop;
use super::queue::Entry;
use super::wake_targets;

impl NativeLoop {
    /// Makes ready entries of the targets that were woken.
    #[inline]
    pub(super) fn collect_woken(&self, py: Python<'_>) {
        if self.wake_targets.are_used(py) {
            self.collect_woken_targets(py);
        }
    }

    fn collect_woken_targets(&self, py: Python<'_>) {
        self.wake_targets.collect(py, |object| {
            // The thread that woke it may be asked again, and wake again at once.
            self.set_answered(py, true);
            self.push(py, Entry::Native(object, wake_targets::call));
        });
    }

    /// A target whose wakes this loop carries.
    pub fn new_target(&self, py: Python<'_>, table: TableAddress) -> PyResult<Arc<WakeTarget>> {
        self.check_closed(py)?;
        if !self.wake_targets.are_used(py) {
            // A loop that has not parked its mailbox hears of no wake, and it may be about to sleep.
            self.wake(py);
        }
        Ok(self.wake_targets.add(py, table))
    }

    /// The next wake calls `object`, once.
    pub fn park_target(&self, target: &Arc<WakeTarget>, object: Bound<'_, PyAny>) {
        self.wake_targets.park(target, object);
    }

    /// The object goes; wakes from now on call nothing.
    pub fn release_target(&self, py: Python<'_>, target: &Arc<WakeTarget>) {
        self.wake_targets.release(py, target);
    }
}
