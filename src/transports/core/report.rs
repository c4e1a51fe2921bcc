//! Errors and asyncio's logger.

use pyo3::PyTypeInfo;
use pyo3::exceptions::PyOSError;
use pyo3::prelude::*;
use pyo3::types::PyString;

use super::class::Transport;
use super::state::Core;
use crate::event_loop::handles::{self, Call, Handle};
use crate::event_loop::{NativeLoop, ends_loop};
use crate::ffi::errors::made;
use crate::ffi::imports;
use crate::ffi::memory;

/// asyncio's report of a callback that raised; `source` is the stack that scheduled it, if known.
#[cold]
pub(crate) fn callback_failed(
    native: &NativeLoop,
    callback: &Bound<'_, PyAny>,
    arguments: &[&Bound<'_, PyAny>],
    error: PyErr,
    source: Option<Py<PyAny>>,
) -> PyResult<()> {
    let py = callback.py();
    // The handle that asyncio would have called it through.
    let args: Vec<_> = arguments.iter().map(|argument| argument.as_borrowed()).collect();
    let call = Call { callback: callback.as_borrowed(), args: &args, context: None };
    let handle = Handle::new(py, native, &call)?;
    if let Some(source) = source {
        handle.set_source_traceback(py, source);
    }
    native.callback_failed(py, &handle, error)
}

/// The same for a method, which may be missing.
#[cold]
pub(crate) fn method_failed(
    native: &NativeLoop,
    object: &Bound<'_, PyAny>,
    name: &Bound<'_, PyString>,
    arguments: &[&Bound<'_, PyAny>],
    error: PyErr,
    source: Option<Py<PyAny>>,
) -> PyResult<()> {
    if ends_loop(object.py(), &error) {
        return Err(error);
    }
    match object.getattr(name) {
        Ok(method) => callback_failed(native, &method, arguments, error, source),
        Err(missing) if ends_loop(object.py(), &missing) => Err(missing),
        Err(_) => {
            let class = object.get_type().name()?;
            let message =
                memory::text(object.py(), "Exception in callback {}.{}()", (class, name))?;
            native.report_text(&message, error, &[("protocol", object)])
        }
    }
}

/// asyncio's `LOG_THRESHOLD_FOR_CONNLOST_WRITES`.
const LOG_THRESHOLD: u32 = 5;

/// Where an error that ends a connection is made known, besides in `connection_lost`.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Severity {
    /// To be expected of networks and terminals: in asyncio's log, in debug mode.
    Expected,
    /// The loop's exception handler is called.
    Unexpected,
}

impl Severity {
    /// asyncio's judgement for sockets.
    fn of(py: Python<'_>, error: &PyErr) -> Self {
        if error.is_instance(py, &PyOSError::type_object(py)) {
            Self::Expected
        } else {
            Self::Unexpected
        }
    }
}

/// An error ends the connection: reports it, then closes with the error for `connection_lost`.
#[cold]
pub(crate) fn fatal<T: ForceClose>(
    this: &T,
    slf: &Bound<'_, PyAny>,
    error: PyErr,
    message: &str,
) -> PyResult<()> {
    let value = this.core().report_fatal(slf, error, message)?;
    this.force_close(slf, Some(value))
}

/// A kind that closes at once on `abort()`, or with an error.
pub(crate) trait ForceClose: Transport {
    /// Closes at once, unless the transport is lost already. The error, if there is one, is passed to
    /// `connection_lost`.
    fn force_close(&self, slf: &Bound<'_, PyAny>, error: Option<Py<PyAny>>) -> PyResult<()>;
}

impl Core {
    /// Reports an error that ends the connection. Gives the exception for `connection_lost`, or the
    /// error back if it ends the loop.
    pub(crate) fn report_fatal(
        &self,
        slf: &Bound<'_, PyAny>,
        error: PyErr,
        message: &str,
    ) -> PyResult<Py<PyAny>> {
        let py = slf.py();
        let error = made(py, error);
        if ends_loop(py, &error) {
            return Err(error);
        }
        let severity = Severity::of(py, &error);
        self.report_fatal_as(severity, slf, error, message)
    }

    /// The same for an error that does not end the loop, of a severity that the kind knows.
    pub(crate) fn report_fatal_as(
        &self,
        severity: Severity,
        slf: &Bound<'_, PyAny>,
        error: PyErr,
        message: &str,
    ) -> PyResult<Py<PyAny>> {
        let py = slf.py();
        let value = error.clone_ref(py).into_value(py).into_any();
        // Both before the report, which may run code that ends the transport.
        let (protocol, native) = (self.protocol.get(py), self.native(py));
        let Some(native) = native else {
            return Ok(value);
        };
        match severity {
            Severity::Unexpected => {
                let protocol = protocol.unwrap_or_else(|| py.None().into_bound(py));
                let context = [("transport", slf), ("protocol", &protocol)];
                native.report(py, message, error, &context)?;
            }
            Severity::Expected if native.is_debug(py) => {
                imports::error_reports(py)?
                    .bind(py)
                    .call_method1("log_fatal", (slf, message, &value))?;
            }
            Severity::Expected => {}
        }
        Ok(value)
    }

    /// In debug mode keeps the stack that schedules the next callback.
    pub(crate) fn remember_source(&self, py: Python<'_>, native: &NativeLoop) -> PyResult<()> {
        if native.is_debug(py) {
            self.rare().source.set(py, Some(handles::source(py)?));
        }
        Ok(())
    }

    /// In debug mode the stack that scheduled the current callback.
    #[cold]
    pub(crate) fn source(&self, py: Python<'_>) -> Option<Py<PyAny>> {
        self.rare.get()?.source.get(py).map(Bound::unbind)
    }

    /// Runs `f` as asyncio's handle of a reader would: in debug mode reports show the stack that
    /// scheduled it.
    pub(crate) fn as_handle<R>(
        &self,
        py: Python<'_>,
        f: impl FnOnce() -> PyResult<R>,
    ) -> PyResult<R> {
        let (Some(source), Some(native)) = (self.source(py), self.native(py)) else {
            return f();
        };
        let handle = Handle::blank(py, &native)?;
        handle.set_source_traceback(py, source);
        let name = pyo3::intern!(py, "_current_handle");
        native.as_any().setattr(name, handle.bind(py))?;
        let result = f();
        native.as_any().setattr(name, py.None())?;
        result
    }

    /// Writes a line about the transport to asyncio's log, in debug mode.
    pub(crate) fn log_in_debug(
        &self,
        slf: &Bound<'_, PyAny>,
        level: Level,
        format: &str,
    ) -> PyResult<()> {
        match self.native(slf.py()) {
            Some(native) if native.is_debug(slf.py()) => log(slf.py(), level, (format, slf)),
            _ => Ok(()),
        }
    }

    /// asyncio's `_conn_lost`.
    pub(crate) fn conn_lost(&self) -> u32 {
        self.conn_lost.get()
    }

    /// Counts the loss of the connection, or a write after it.
    #[cold]
    pub(crate) fn count_loss(&self) {
        self.conn_lost.set(self.conn_lost().saturating_add(1));
    }

    /// Drops a write, with a warning once there were many.
    #[cold]
    pub(crate) fn drop_write(&self, py: Python<'_>, warning: &str) -> PyResult<()> {
        let before = self.conn_lost();
        self.count_loss();
        if before < LOG_THRESHOLD { Ok(()) } else { log(py, Level::Warning, (warning,)) }
    }
}

/// A level of asyncio's logger, as the name of the logger's method.
#[derive(Clone, Copy)]
pub(crate) enum Level {
    Debug,
    Info,
    Warning,
}

/// Writes a line to asyncio's log: a format and its arguments.
pub(crate) fn log<'py>(
    py: Python<'py>,
    level: Level,
    line: impl pyo3::call::PyCallArgs<'py>,
) -> PyResult<()> {
    let method = match level {
        Level::Debug => "debug",
        Level::Info => "info",
        Level::Warning => "warning",
    };
    py.import("asyncio.log")?.getattr("logger")?.call_method1(method, line).map(drop)
}
