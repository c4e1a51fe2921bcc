//! Write flow control: the marks, and telling the protocol.

use std::cell::Cell;

use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::PyInt;

use crate::event_loop::NativeLoop;
use crate::memory;

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
    pub fn new<'py>(
        py: Python<'py>,
        high: Option<Bound<'py, PyAny>>,
        low: Option<Bound<'py, PyAny>>,
        default: isize,
    ) -> PyResult<Self> {
        // In Python's numbers: asyncio only compares, so any that can be compared will do.
        let given = |mark: Option<Bound<'py, PyAny>>| mark.filter(|mark| !mark.is_none());
        let (high, low) = (given(high), given(low));
        let high = match (high, &low) {
            (Some(high), _) => high,
            (None, Some(low)) => 4_i32.into_pyobject(py)?.into_any().mul(low)?,
            (None, None) => default.into_pyobject(py)?.into_any(),
        };
        let low = match low {
            Some(low) => low,
            None => high.floor_div(4)?,
        };
        if !(high.ge(&low)? && low.ge(0)?) {
            let text = "high ({!r}) must be >= low ({!r}) must be >= 0";
            return Err(memory::error::<PyValueError>(py, text, (high, low)));
        }
        Ok(Self { high: whole(&high)?, low: whole(&low)? })
    }
}

/// The greatest number of bytes that is not greater than this.
fn whole(mark: &Bound<'_, PyAny>) -> PyResult<usize> {
    if let Ok(mark) = mark.extract::<usize>() {
        return Ok(mark);
    }
    if mark.is_instance_of::<PyInt>() {
        return Ok(usize::MAX);
    }
    // Rust's conversion takes the fraction off, and stops at the limits.
    Ok(mark.extract::<f64>()? as usize)
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
