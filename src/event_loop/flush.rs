//! Writes leave at the end of a batch: the transports that have something to send.

use pyo3::prelude::*;
use pyo3::{PyTraverseError, PyVisit};

use super::NativeLoop;
use super::queue::Callback;
use crate::ffi::gil::GilCell;

/// Transports with unsent writes of this batch.
pub(super) struct FlushList(GilCell<Vec<(Py<PyAny>, Callback)>>);

impl FlushList {
    pub(super) const fn new() -> Self {
        Self(GilCell::new(Vec::new()))
    }

    /// Empties the list, for a loop that closes.
    pub(super) fn clear(&self, py: Python<'_>) {
        drop(self.0.take(py));
    }

    pub(super) fn traverse(&self, visit: &PyVisit<'_>) -> Result<(), PyTraverseError> {
        // A list that is borrowed right now is skipped: what is not visited is only kept alive.
        let Some(unflushed) = self.0.peek(visit) else { return Ok(()) };
        unflushed.iter().try_for_each(|(transport, _)| visit.call(transport))
    }
}

impl NativeLoop {
    /// Has the loop call `flush` with the transport at the end of the batch, and wakes the loop for
    /// it.
    ///
    /// # Safety
    /// `flush` must be made for objects of the transport's kind.
    #[inline]
    pub unsafe fn flush_later(&self, py: Python<'_>, transport: Py<PyAny>, flush: Callback) {
        self.unflushed.0.with(py, |unflushed| unflushed.push((transport, flush)));
        self.wake(py);
    }

    /// Sends what transports wrote since the last flush.
    pub(super) fn flush(&self, py: Python<'_>) -> PyResult<()> {
        let unflushed = self.unflushed.0.take(py);
        if !unflushed.is_empty() {
            self.set_answered(py, true);
        }
        let mut result = Ok(());
        for (transport, flush) in unflushed {
            // A transport whose error ends the loop does not keep the others' bytes back.
            // SAFETY: the two were listed together.
            result = result.and(unsafe { flush(py, &transport) });
        }
        result
    }
}
