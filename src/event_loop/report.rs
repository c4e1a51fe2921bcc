//! Callbacks are run, and their exceptions are reported to the exception handler.

use pyo3::prelude::*;
use pyo3::types::PyString;

use super::queue::{Handle, Queued};
use super::{NativeLoop, ends_loop};
use crate::ffi::errors::made;
use crate::ffi::imports;
use crate::ffi::memory;
use crate::ffi::object;

impl NativeLoop {
    /// Calls a handle; its exceptions go to the exception handler, except those that end the loop.
    #[inline]
    pub fn run_handle(&self, py: Python<'_>, handle: &Handle) -> PyResult<()> {
        match handle.call(py) {
            Ok(()) => Ok(()),
            Err(error) => self.callback_failed(py, handle, error),
        }
    }

    /// Runs a call of the ready queue that has no handle.
    #[inline]
    pub(super) fn run_call(&self, py: Python<'_>, mut call: Queued) -> PyResult<()> {
        if call.call(py, &self.contexts) { Ok(()) } else { self.call_failed(py, call) }
    }

    /// Reports the exception of a call that has run, which is set.
    #[cold]
    pub(super) fn call_failed(&self, py: Python<'_>, call: Queued) -> PyResult<()> {
        let error = object::fetch(py);
        if ends_loop(py, &error) {
            return Err(error);
        }
        let handle = call.into_handle(py, self).map_err(|_call| memory::exhausted())?;
        self.callback_failed(py, &handle, error)
    }

    /// Reports the exception of a callback, as asyncio's handles do.
    #[cold]
    pub fn callback_failed(&self, py: Python<'_>, handle: &Handle, error: PyErr) -> PyResult<()> {
        if ends_loop(py, &error) {
            return Err(error);
        }
        imports::error_reports(py)?.bind(py).call_method1(
            pyo3::intern!(py, "report_callback_error"),
            (self.bind(py), handle.bind(py), error.into_value(py)),
        )?;
        Ok(())
    }

    /// `call_exception_handler` with asyncio's context keys.
    pub fn report(
        &self,
        py: Python<'_>,
        message: &str,
        error: PyErr,
        context: &[(&str, &Bound<'_, PyAny>)],
    ) -> PyResult<()> {
        self.report_text(&memory::string(py, message)?, error, context)
    }

    /// The same, with a message that is a Python string.
    pub fn report_text(
        &self,
        message: &Bound<'_, PyString>,
        error: PyErr,
        context: &[(&str, &Bound<'_, PyAny>)],
    ) -> PyResult<()> {
        let py = message.py();
        let error = made(py, error);
        if ends_loop(py, &error) {
            return Err(error);
        }
        let about = memory::dict(py)?;
        about.set_item(pyo3::intern!(py, "message"), message)?;
        about.set_item(pyo3::intern!(py, "exception"), error.into_value(py))?;
        for (key, value) in context {
            about.set_item(memory::string(py, key)?, value)?;
        }
        self.bind(py).call_method1(pyo3::intern!(py, "call_exception_handler"), (about,))?;
        Ok(())
    }
}
