//! Writes leave at the end of a batch: the transports that have something to send.

use pyo3::prelude::*;
use pyo3::{PyTraverseError, PyVisit};

use super::queue::Callback;
use crate::ffi::gil::GilCell;

/// Transports with unsent writes of this batch.
pub(super) struct FlushList(GilCell<Vec<(Py<PyAny>, Callback)>>);

impl FlushList {
    pub(super) const fn new() -> Self {
        Self(GilCell::new(Vec::new()))
    }

    #[inline]
    pub(super) fn push(&self, py: Python<'_>, transport: Py<PyAny>, flush: Callback) {
        self.0.with(py, |unflushed| unflushed.push((transport, flush)));
    }

    #[inline]
    pub(super) fn is_empty(&self, py: Python<'_>) -> bool {
        self.0.with(py, |unflushed| unflushed.is_empty())
    }

    pub(super) fn take(&self, py: Python<'_>) -> Vec<(Py<PyAny>, Callback)> {
        self.0.take(py)
    }

    pub(super) fn traverse(&self, visit: &PyVisit<'_>) -> Result<(), PyTraverseError> {
        // A list that is borrowed right now is skipped: what is not visited is only kept alive.
        let Some(unflushed) = self.0.peek(visit) else { return Ok(()) };
        unflushed.iter().try_for_each(|(transport, _)| visit.call(transport))
    }
}
