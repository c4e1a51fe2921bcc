//! Shutdown, errors, the loss of the connection.

use pyo3::prelude::*;
use pyo3::types::PyDict;

use super::engine::{Step, is_tls_error};
use super::{AppState, State, Tls};
use crate::event_loop::ends_loop;
use crate::ffi::imports;
use crate::transports::core::Lifecycle;
use crate::transports::core::report::{Level, log};

impl Tls {
    /// `close()`: what was written is sent, then TLS is shut down.
    pub(super) fn shut_down_by_caller(&self, slf: &Bound<'_, PyAny>) -> PyResult<()> {
        if self.is_closing() {
            self.forget_ssl_objects(slf.py())?;
        }
        self.advance(Lifecycle::Closing);
        self.start_shutdown(slf)
    }

    /// Closed already: as in asyncio the references to the `SSLContext` go, which a transport kept by
    /// its protocol would hold until the collector runs.
    fn forget_ssl_objects(&self, py: Python<'_>) -> PyResult<()> {
        if let Some(extra) = self.extra(py) {
            let extra = extra.cast::<PyDict>()?;
            for name in ["sslcontext", "ssl_object"] {
                if extra.contains(name)? {
                    extra.del_item(name)?;
                }
            }
        }
        Ok(())
    }

    pub(super) fn start_shutdown(&self, slf: &Bound<'_, PyAny>) -> PyResult<()> {
        self.leave_to_parent(slf.py())?;
        match self.state.get() {
            State::Flushing if self.ended.get() && self.reading_paused.get() => {
                // The peer's end waits behind what the application does not read any more.
                // (asyncio waits for a `resume_reading` that no code is going to call.)
                self.advance(Lifecycle::Closing);
                self.state.set(State::Shutdown);
                self.shut_down(slf)
            }
            State::Flushing | State::Shutdown | State::Unwrapped => Ok(()),
            State::Handshake => {
                self.advance(Lifecycle::Closing);
                self.abort(slf, None)
            }
            State::Wrapped => {
                self.advance(Lifecycle::Closing);
                self.state.set(State::Flushing);
                self.set_timer(slf, &self.shutdown_timeout, "_check_shutdown_timeout")?;
                self.read_out(slf)
            }
        }
    }

    pub(super) fn check_shutdown_timeout(&self, py: Python<'_>) -> PyResult<()> {
        if !matches!(self.state.get(), State::Flushing | State::Shutdown) {
            return Ok(());
        }
        let Some(lower) = self.lower.get(py) else {
            return Ok(());
        };
        let class = py.import("asyncio.exceptions")?.getattr("TimeoutError")?;
        let error = class.call1(("SSL shutdown timed out",))?;
        lower.call_method1("_force_close", (error,)).map(drop)
    }

    /// Reads the rest of what the peer sent, then shuts the sending side down.
    pub(super) fn read_out(&self, slf: &Bound<'_, PyAny>) -> PyResult<()> {
        self.read(slf)?;
        if self.state.get() != State::Flushing {
            return Ok(());
        }
        if self.ended.get() && (self.reading_paused.get() || self.engine.is_partial()) {
            // The rest is read when the application resumes, or when it gives another buffer.
            return Ok(());
        }
        self.state.set(State::Shutdown);
        self.shut_down(slf)
    }

    pub(super) fn shut_down(&self, slf: &Bound<'_, PyAny>) -> PyResult<()> {
        let py = slf.py();
        let step = if self.ended.get() {
            Ok(Step::Done)
        } else {
            self.engine.step(py, pyo3::intern!(py, "unwrap"))
        };
        match step {
            Ok(Step::Again) => self.flush(slf),
            Ok(Step::Done) => {
                self.flush(slf)?;
                self.notify_eof(slf)?;
                self.cancel_timer(py)?;
                // After the callbacks that are scheduled already.
                match self.lower.get(py) {
                    Some(lower) => self.call_soon(&lower.getattr("close")?),
                    None => Ok(()),
                }
            }
            Err(error) if is_tls_error(py, &error)? => {
                self.cancel_timer(py)?;
                self.fatal(slf, error, "Fatal error on transport")
            }
            Err(error) => Err(error),
        }
    }

    /// `eof_received` for the application, once.
    pub(super) fn notify_eof(&self, slf: &Bound<'_, PyAny>) -> PyResult<()> {
        let py = slf.py();
        if self.app_state.get() != AppState::ConnectionMade {
            return Ok(());
        }
        self.app_state.set(AppState::Eof);
        let Some(protocol) = self.protocol.get(py) else {
            return Ok(());
        };
        let answer = protocol
            .call_method0(pyo3::intern!(py, "eof_received"))
            .and_then(|keep_open| keep_open.is_truthy());
        match answer {
            Ok(false) => Ok(()),
            Ok(true) => {
                let text = "returning true from eof_received() has no effect when using ssl";
                log(py, Level::Warning, (text,))
            }
            Err(error) if ends_loop(py, &error) => Err(error),
            Err(error) => self.fatal(slf, error, "Error calling eof_received()"),
        }
    }

    /// `eof_received` from below; whether the transport there should stay open.
    pub(super) fn lower_ended(&self, slf: &Bound<'_, PyAny>) -> PyResult<bool> {
        let py = slf.py();
        self.ended.set(true);
        self.log_in_debug(slf, Level::Debug, "%r received EOF")?;
        let result = match self.state.get() {
            State::Handshake => self.handshake_cut(slf),
            State::Wrapped => {
                self.state.set(State::Flushing);
                self.read_out(slf)
            }
            State::Flushing => {
                // Still paused: the application does not want the rest of the data.
                self.write_backlog(slf).and_then(|()| {
                    self.state.set(State::Shutdown);
                    self.shut_down(slf)
                })
            }
            State::Shutdown => self.shut_down(slf),
            State::Unwrapped => Ok(()),
        };
        if result.is_err()
            && let Some(lower) = self.lower.get(py)
        {
            lower.call_method0("close")?;
        }
        result.map(|()| self.state.get() == State::Flushing)
    }

    /// Nothing more is read or written.
    pub(super) fn abort(&self, slf: &Bound<'_, PyAny>, error: Option<Py<PyAny>>) -> PyResult<()> {
        let py = slf.py();
        if self.pending_flush.is_set() {
            // asyncio would have sent this batch's writes before it came to the abort.
            self.flush(slf)?;
        }
        self.state.set(State::Unwrapped);
        match self.lower.get(py) {
            Some(lower) => lower.call_method1("_force_close", (error,)).map(drop),
            None => Ok(()),
        }
    }

    /// An error that ends the connection.
    pub(super) fn fatal(
        &self,
        slf: &Bound<'_, PyAny>,
        error: PyErr,
        message: &str,
    ) -> PyResult<()> {
        let py = slf.py();
        if ends_loop(py, &error) {
            return Err(error);
        }
        // Whether this batch's writes still leave makes no difference: the first error is reported.
        if self.pending_flush.is_set()
            && let Err(error) = self.flush(slf)
            && ends_loop(py, &error)
        {
            return Err(error);
        }
        let value = error.clone_ref(py).into_value(py);
        if let Some(lower) = self.lower.get(py) {
            lower.call_method1("_force_close", (&value,))?;
        }
        let cancelled = &imports::asyncio(py)?.cancelled_error;
        if value.bind(py).is_instance(cancelled.bind(py))? {
            return Ok(());
        }
        self.report_fatal(slf, error, message).map(drop)
    }

    /// `connection_lost` from below.
    pub(super) fn lost(&self, slf: &Bound<'_, PyAny>, error: &Bound<'_, PyAny>) -> PyResult<()> {
        let py = slf.py();
        self.backlog.borrow_mut().clear();
        self.engine.release(py);
        self.count_loss();
        self.advance(Lifecycle::Closing);
        let mut notified = Ok(());
        if self.state.get() != State::Handshake
            && matches!(self.app_state.get(), AppState::ConnectionMade | AppState::Eof)
            && let (Some(protocol), Some(event_loop)) = (self.protocol.get(py), self.native(py))
        {
            self.app_state.set(AppState::ConnectionLost);
            // Also where that fails the waiter is woken, and the references go.
            notified = protocol.getattr(pyo3::intern!(py, "connection_lost")).and_then(|method| {
                event_loop
                    .as_any()
                    .call_method1(pyo3::intern!(py, "call_soon"), (method, error))
                    .map(drop)
            });
        }
        self.state.set(State::Unwrapped);
        self.lower.set(py, None);
        self.protocol.set(py, None);
        self.get_buffer.set(py, None);
        self.buffer_updated.set(py, None);
        self.layer.set(py, None);
        self.context.forget(py);
        let woken = self.wake_waiter(py, Some(error).filter(|error| !error.is_none()));
        notified.and(woken).and(self.cancel_timer(py))
    }
}
