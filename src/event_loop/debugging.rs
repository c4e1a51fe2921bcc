//! asyncio's debug mode: the handle that is being run is the loop's current one, and slow callbacks are
//! logged.
//!
//! Nothing that may fail comes before a callback: it has left the queue, and would be lost.

use pyo3::ffi;
use pyo3::prelude::*;

use super::NativeLoop;
use super::instrumentation;
use super::queue::Handle;
use crate::ffi::imports;
use crate::ffi::object;

impl NativeLoop {
    /// Runs a handle in debug mode, through the method of a tool if there is one.
    #[cold]
    pub(super) fn run_in_debug(&self, py: Python<'_>, handle: &Handle) -> PyResult<()> {
        let current = pyo3::intern!(py, "_current_handle");
        // Where there is no memory for the attribute, the loop has no current handle.
        let _ = self.bind(py).setattr(current, handle.bind(py));
        let started = self.now(py);
        let result = if instrumentation::is_on(py).unwrap_or(false) {
            instrumentation::run(py, handle)
        } else {
            self.run_handle(py, handle)
        };
        let _ = self.bind(py).setattr(current, py.None());
        result?;
        let took = self.now(py)? - started?;
        self.log_if_slow(py, took, Some(handle))
    }

    /// Logs a callback that took so many seconds, if that is long; a transport's has no handle.
    #[cold]
    pub(super) fn log_if_slow(
        &self,
        py: Python<'_>,
        took: f64,
        handle: Option<&Handle>,
    ) -> PyResult<()> {
        // SAFETY: the GIL is held; a new reference, or null with an exception set.
        let took = unsafe { object::owned(py, ffi::PyFloat_FromDouble(took))? };
        let handle = handle.map(|handle| handle.bind(py));
        imports::debug_mode(py)?
            .bind(py)
            .call_method1(pyo3::intern!(py, "log_if_slow"), (self.bind(py), took, handle))
            .map(drop)
    }
}
