//! The futures that wait for a transport.

use pyo3::prelude::*;
use pyo3::types::PyString;

use super::state::Core;

/// Wakes the coroutine that awaits a future, with `None` or an error, unless it was cancelled.
pub(crate) fn wake(waiter: &Bound<'_, PyAny>, error: Option<&Bound<'_, PyAny>>) -> PyResult<()> {
    complete(waiter, pyo3::intern!(waiter.py(), "cancelled"), error)
}

/// The same, unless the future is done.
pub(crate) fn wake_unless_done(
    waiter: &Bound<'_, PyAny>,
    error: Option<&Bound<'_, PyAny>>,
) -> PyResult<()> {
    complete(waiter, pyo3::intern!(waiter.py(), "done"), error)
}

/// Sets the result or the exception, unless a method of the future says that it is too late.
fn complete(
    waiter: &Bound<'_, PyAny>,
    is_late: &Bound<'_, PyString>,
    error: Option<&Bound<'_, PyAny>>,
) -> PyResult<()> {
    let py = waiter.py();
    if waiter.call_method0(is_late)?.is_truthy()? {
        return Ok(());
    }
    match error {
        Some(error) => waiter.call_method1(pyo3::intern!(py, "set_exception"), (error,)),
        None => waiter.call_method1(pyo3::intern!(py, "set_result"), (py.None(),)),
    }
    .map(drop)
}

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
