//! Write flow control: the marks, and telling the protocol.

use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;

use super::Stream;

/// Bytes. Above `high` the protocol is paused, at or below `low` resumed.
#[derive(Clone, Copy)]
pub struct Marks {
    pub high: usize,
    pub low: usize,
}

impl Default for Marks {
    fn default() -> Self {
        Self { high: 64 * 1024, low: 16 * 1024 }
    }
}

impl Marks {
    /// asyncio's defaults for what is not given, and its check.
    pub fn new(high: Option<isize>, low: Option<isize>) -> PyResult<Self> {
        let high = high.unwrap_or_else(|| low.map_or(64 * 1024, |low| low.saturating_mul(4)));
        let low = low.unwrap_or(high.div_euclid(4));
        if !(high >= low && low >= 0) {
            return Err(PyValueError::new_err(format!(
                "high ({high}) must be >= low ({low}) must be >= 0"
            )));
        }
        Ok(Self { high: high as usize, low: low as usize })
    }
}

impl Stream {
    /// Pauses the protocol if more is buffered than it should.
    pub(super) fn maybe_pause(&self, py: Python<'_>, slf: &Bound<'_, PyAny>) -> PyResult<()> {
        if self.protocol_paused.get() || self.outgoing.borrow().size() <= self.marks.get().high {
            return Ok(());
        }
        self.protocol_paused.set(true);
        self.tell(py, slf, "pause_writing")
    }

    /// Resumes the protocol once enough has left.
    pub(super) fn maybe_resume(&self, py: Python<'_>, slf: &Bound<'_, PyAny>) -> PyResult<()> {
        if !self.protocol_paused.get() || self.outgoing.borrow().size() > self.marks.get().low {
            return Ok(());
        }
        self.protocol_paused.set(false);
        self.tell(py, slf, "resume_writing")
    }

    fn tell(&self, py: Python<'_>, slf: &Bound<'_, PyAny>, method: &str) -> PyResult<()> {
        let (Some(protocol), Some((_loop, native))) = (self.protocol.get(py), self.native(py))
        else {
            return Ok(());
        };
        if let Err(error) = protocol.call_method0(method) {
            let message = format!("protocol.{method}() failed");
            native.report(py, &message, error, &[("transport", slf), ("protocol", &protocol)])?;
        }
        Ok(())
    }
}
