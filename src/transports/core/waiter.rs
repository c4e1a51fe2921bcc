//! The futures that wait for a transport.

use pyo3::prelude::*;

use super::state::Core;
use crate::ffi::futures::wake;

impl Core {
    /// Wakes the coroutine that waits for the connection, if there is one.
    pub(crate) fn wake_waiter(
        &self,
        py: Python<'_>,
        error: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<()> {
        match self.rare.get().and_then(|rare| rare.waiter.take(py)) {
            Some(waiter) => wake(waiter.bind(py), error),
            None => Ok(()),
        }
    }

    /// The future that `sendfile` awaits until the buffer is empty.
    pub(crate) fn empty_waiter<'py>(&self, py: Python<'py>) -> Option<Bound<'py, PyAny>> {
        self.rare.get()?.empty_waiter.get(py)
    }

    pub(crate) fn set_empty_waiter(&self, py: Python<'_>, waiter: Option<Py<PyAny>>) {
        if waiter.is_some() || self.rare.get().is_some() {
            self.rare().empty_waiter.set(py, waiter);
        }
    }

    #[inline]
    pub(crate) fn has_empty_waiter(&self, py: Python<'_>) -> bool {
        self.rare.get().is_some_and(|rare| rare.empty_waiter.is_set(py))
    }
}
