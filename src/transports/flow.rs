//! Write flow control: the marks, and telling the protocol.

use std::cell::Cell;

use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;

use crate::event_loop::NativeLoop;

/// Bytes. Above `high` the protocol is paused, at or below `low` resumed.
#[derive(Clone, Copy)]
pub struct Marks {
    pub high: usize,
    pub low: usize,
}

impl Default for Marks {
    fn default() -> Self {
        Self::of(64 * 1024)
    }
}

impl Marks {
    /// A high mark, and asyncio's low one for it.
    pub const fn of(high: isize) -> Self {
        Self { high: high as usize, low: high as usize / 4 }
    }

    /// As `get_write_buffer_limits` gives them.
    pub const fn as_pair(self) -> (usize, usize) {
        (self.low, self.high)
    }

    /// asyncio's defaults for what is not given, and its check. `default` is the high mark.
    pub fn new(
        high: Option<&Bound<'_, PyAny>>,
        low: Option<&Bound<'_, PyAny>>,
        default: isize,
    ) -> PyResult<Self> {
        let number = |given: Option<&Bound<'_, PyAny>>| -> PyResult<Option<isize>> {
            given.filter(|given| !given.is_none()).map(|given| given.extract()).transpose()
        };
        let (high, low) = (number(high)?, number(low)?);
        let high = high.unwrap_or_else(|| low.map_or(default, |low| low.saturating_mul(4)));
        let low = low.unwrap_or(high.div_euclid(4));
        if !(high >= low && low >= 0) {
            return Err(PyValueError::new_err(format!(
                "high ({high}) must be >= low ({low}) must be >= 0"
            )));
        }
        Ok(Self { high: high as usize, low: low as usize })
    }
}

/// The marks of a transport, and whether its protocol was told to pause.
#[derive(Default)]
pub struct Flow {
    pub marks: Cell<Marks>,
    pub paused: Cell<bool>,
}

/// What a change of the buffer's size asks for.
#[derive(Clone, Copy)]
pub enum Signal {
    Pause,
    Resume,
}

impl Flow {
    /// Pauses the protocol if more is buffered than it should; whom to tell what, then.
    pub fn grown(&self, size: usize) -> Option<Signal> {
        (!self.paused.get() && size > self.marks.get().high).then(|| {
            self.paused.set(true);
            Signal::Pause
        })
    }

    /// Resumes the protocol once enough has left.
    pub fn shrunk(&self, size: usize) -> Option<Signal> {
        (self.paused.get() && size <= self.marks.get().low).then(|| {
            self.paused.set(false);
            Signal::Resume
        })
    }
}

impl Signal {
    /// Tells the protocol; what it raises goes to the exception handler.
    #[cold]
    pub fn tell(
        self,
        native: &NativeLoop,
        transport: &Bound<'_, PyAny>,
        protocol: &Bound<'_, PyAny>,
    ) -> PyResult<()> {
        let py = protocol.py();
        let method = match self {
            Self::Pause => pyo3::intern!(py, "pause_writing"),
            Self::Resume => pyo3::intern!(py, "resume_writing"),
        };
        let Err(error) = protocol.call_method0(method) else {
            return Ok(());
        };
        let context = [("transport", transport), ("protocol", protocol)];
        native.report(py, &format!("protocol.{method}() failed"), error, &context)
    }
}
