//! From the connection below to the application's `connection_made`.

use pyo3::exceptions::{PyConnectionAbortedError, PyConnectionResetError, PyException};
use pyo3::prelude::*;
use pyo3::types::{IntoPyDict, PyDict};

use super::engine::{Step, is_certificate_error, is_tls_error};
use super::{AppState, State, Tls};
use crate::ffi::memory;
use crate::transports::core::report::{Level, log};

impl Tls {
    /// `connection_made` from below: starts the handshake.
    pub(super) fn connected(
        &self,
        slf: &Bound<'_, PyAny>,
        lower: &Bound<'_, PyAny>,
    ) -> PyResult<()> {
        let py = slf.py();
        self.lower.set(py, Some(lower.clone().unbind()));
        if self.is_closing() {
            // Closed before it began.
            return lower.call_method1("_force_close", (py.None(),)).map(drop);
        }
        self.attach(slf, lower)?;
        if let Some(native) = self.native(py)
            && native.is_debug(py)
        {
            self.log_in_debug(slf, Level::Debug, "%r starts SSL handshake")?;
            self.started.set(Some(native.now(py)?));
        }
        self.state.set(State::Handshake);
        self.set_timer(slf, &self.handshake_timeout, "_check_handshake_timeout")?;
        self.shake_hands(slf)
    }

    pub(super) fn shake_hands(&self, slf: &Bound<'_, PyAny>) -> PyResult<()> {
        let py = slf.py();
        match self.engine.step(py, pyo3::intern!(py, "do_handshake")) {
            Ok(Step::Done) => self.shook_hands(slf),
            Ok(Step::Again) => self.flush(slf),
            Err(error) if is_tls_error(py, &error)? => self.handshake_failed(slf, error),
            Err(error) => Err(error),
        }
    }

    fn shook_hands(&self, slf: &Bound<'_, PyAny>) -> PyResult<()> {
        let py = slf.py();
        self.cancel_timer(py)?;
        self.state.set(State::Wrapped);
        self.engine.settle(py)?;
        match self.keep_results(py) {
            Ok(()) => {}
            Err(error) if error.is_instance_of::<PyException>(py) => {
                return self.handshake_failed(slf, error);
            }
            Err(error) => return Err(error),
        }
        if let (Some(started), Some(native)) = (self.started.get(), self.native(py)) {
            let took = (native.now(py)? - started) * 1e3;
            log(py, Level::Debug, ("%r: SSL handshake took %.1f ms", slf, took))?;
        }
        if self.app_state.get() == AppState::Init {
            self.app_state.set(AppState::ConnectionMade);
            if let Some(protocol) = self.protocol.get(py) {
                protocol.call_method1(pyo3::intern!(py, "connection_made"), (slf,))?;
            }
        }
        self.wake_waiter(py, None)?;
        self.read(slf)
    }

    /// Puts the results of the handshake into `_extra`.
    fn keep_results(&self, py: Python<'_>) -> PyResult<()> {
        let (Some(object), Some(extra)) = (self.engine.object.get(py), self.extra(py)) else {
            return Ok(());
        };
        let results = [
            ("peercert", object.call_method0("getpeercert")?),
            ("cipher", object.call_method0("cipher")?),
            ("compression", object.call_method0("compression")?),
            ("ssl_object", object),
        ];
        extra.cast::<PyDict>()?.update(results.into_py_dict(py)?.as_mapping())
    }

    fn handshake_failed(&self, slf: &Bound<'_, PyAny>, error: PyErr) -> PyResult<()> {
        let py = slf.py();
        self.cancel_timer(py)?;
        self.state.set(State::Unwrapped);
        let message = if is_certificate_error(py, &error)? {
            "SSL handshake failed on verifying the certificate"
        } else {
            "SSL handshake failed"
        };
        let value = error.clone_ref(py).into_value(py).into_bound(py).into_any();
        self.fatal(slf, error, message)?;
        self.wake_waiter(py, Some(&value))
    }

    /// The connection ended before the handshake did.
    pub(super) fn handshake_cut(&self, slf: &Bound<'_, PyAny>) -> PyResult<()> {
        self.handshake_failed(slf, PyConnectionResetError::new_err(()))
    }

    pub(super) fn check_handshake_timeout(&self, slf: &Bound<'_, PyAny>) -> PyResult<()> {
        if self.state.get() != State::Handshake {
            return Ok(());
        }
        let Some(seconds) = self.handshake_timeout.get(slf.py()) else {
            return Ok(());
        };
        let text = "SSL handshake is taking longer than {} seconds: aborting the connection";
        let error = memory::error::<PyConnectionAbortedError>(slf.py(), text, (seconds,));
        self.fatal(slf, error, "Fatal error on transport")
    }
}
