//! The end of a future that a coroutine of the program's awaits.

use pyo3::prelude::*;
use pyo3::types::PyString;

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
