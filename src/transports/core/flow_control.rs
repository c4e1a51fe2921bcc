//! Flow control: water marks that pause and resume the protocol's writing, and `pause_reading()`,
//! `resume_reading()`.

use std::cell::{Cell, OnceCell};

use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::PyInt;

use super::class::Transport;
use super::report::Level;
use super::state::Core;
use crate::event_loop::NativeLoop;
use crate::ffi::gil::PySlot;
use crate::ffi::memory;

/// Bytes. Above `high` the protocol is paused, at or below `low` resumed.
#[derive(Clone, Copy)]
pub(crate) struct WaterMarks {
    pub high: usize,
    pub low: usize,
}

impl WaterMarks {
    /// A high mark, and asyncio's low one for it.
    pub(crate) const fn of(high: usize) -> Self {
        Self { high, low: high / 4 }
    }
}

/// The high mark of transports other than TLS ones, in bytes.
pub(crate) const HIGH_WATER: usize = 64 * 1024;

/// Water marks as a program sets them and asks for them; `HIGH` is the high one until it does. Few do,
/// so a transport has room for no more than a pointer.
#[derive(Default)]
pub(crate) struct BufferLimits<const HIGH: usize = HIGH_WATER>(OnceCell<Box<Chosen>>);

/// The marks that a program has set.
struct Chosen {
    marks: Cell<WaterMarks>,
    /// The low and the high one as they were given, where they are no plain integers of bytes:
    /// asyncio only compares with them, and gives them back.
    given: PySlot,
}

impl<const HIGH: usize> BufferLimits<HIGH> {
    #[inline]
    pub(crate) fn get(&self) -> WaterMarks {
        self.0.get().map_or(WaterMarks::of(HIGH), |chosen| chosen.marks.get())
    }

    pub(crate) fn slot(&self) -> Option<&PySlot> {
        self.0.get().map(|chosen| &chosen.given)
    }

    /// As `get_write_buffer_limits` gives them: the low one first.
    pub(crate) fn pair<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        match self.slot().and_then(|given| given.get(py)) {
            Some(given) => Ok(given),
            None => Ok((self.get().low, self.get().high).into_pyobject(py)?.into_any()),
        }
    }

    /// Sets them with asyncio's defaults for a mark that is not given, and its check.
    pub(crate) fn set<'py>(
        &self,
        py: Python<'py>,
        high: Option<Bound<'py, PyAny>>,
        low: Option<Bound<'py, PyAny>>,
    ) -> PyResult<()> {
        let given = |mark: Option<Bound<'py, PyAny>>| mark.filter(|mark| !mark.is_none());
        let (high, low) = (given(high), given(low));
        // In Python's arithmetic: the marks may be numbers of any kind.
        let high = match (high, &low) {
            (Some(high), _) => high,
            (None, Some(low)) => 4_i32.into_pyobject(py)?.into_any().mul(low)?,
            (None, None) => HIGH.into_pyobject(py)?.into_any(),
        };
        let low = match low {
            Some(low) => low,
            None => high.floor_div(4)?,
        };
        if !(high.ge(&low)? && low.ge(0)?) {
            let text = "high ({!r}) must be >= low ({!r}) must be >= 0";
            return Err(memory::error::<PyValueError>(py, text, (high, low)));
        }
        let plain = [&high, &low].map(|mark| {
            mark.is_exact_instance_of::<PyInt>().then(|| mark.extract::<usize>().ok()).flatten()
        });
        let (marks, given) = match plain {
            [Some(high), Some(low)] => (WaterMarks { high, low }, None),
            _ => {
                let marks = WaterMarks { high: whole(&high)?, low: whole(&low)? };
                (marks, Some((low, high).into_pyobject(py)?.into_any().unbind()))
            }
        };
        let chosen = self
            .0
            .get_or_init(|| Box::new(Chosen { marks: Cell::new(marks), given: PySlot::empty() }));
        chosen.marks.set(marks);
        chosen.given.set(py, given);
        Ok(())
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

/// What a change of the buffer's size means for the protocol.
#[derive(Clone, Copy)]
pub(crate) enum FlowChange {
    Pause,
    Resume,
}

/// A kind that reads.
pub(crate) trait Reading: Transport {
    fn is_reading(&self) -> bool {
        self.core().is_reading()
    }
    fn pause_reading(&self, slf: &Bound<'_, PyAny>) -> PyResult<()>;
    fn resume_reading(&self, slf: &Bound<'_, PyAny>) -> PyResult<()>;
}

/// A kind that writes.
pub(crate) trait Writing<const HIGH: usize = HIGH_WATER>: Transport {
    fn limits(&self) -> &BufferLimits<HIGH>;
    /// Bytes that wait to be sent, as flow control counts them.
    fn unsent(&self, py: Python<'_>) -> usize;

    /// `get_write_buffer_size()`
    fn write_buffer_size(&self, slf: &Bound<'_, PyAny>) -> PyResult<usize> {
        Ok(self.unsent(slf.py()))
    }

    /// `set_write_buffer_limits(high, low)`
    fn set_write_buffer_limits<'py>(
        &self,
        slf: &Bound<'py, PyAny>,
        high: Option<Bound<'py, PyAny>>,
        low: Option<Bound<'py, PyAny>>,
    ) -> PyResult<()> {
        self.limits().set(slf.py(), high, low)?;
        // Bytes that only wait for the end of the batch are not what the marks are for.
        self.write_buffer_size(slf)?;
        pause_if_full(self, slf)
    }
}

/// Pauses the protocol if more is buffered than the high mark.
pub(crate) fn pause_if_full<T: Writing<HIGH>, const HIGH: usize>(
    this: &T,
    slf: &Bound<'_, PyAny>,
) -> PyResult<()> {
    let size = this.unsent(slf.py());
    this.core().notify_flow(slf, this.core().grown(this.limits(), size))
}

/// Resumes the protocol once no more is buffered than the low mark.
pub(crate) fn resume_if_drained<T: Writing<HIGH>, const HIGH: usize>(
    this: &T,
    slf: &Bound<'_, PyAny>,
) -> PyResult<()> {
    let size = this.unsent(slf.py());
    this.core().notify_flow(slf, this.core().shrunk(this.limits(), size))
}

impl Core {
    /// The buffer has grown: pauses the protocol above the high mark. The caller notifies it.
    fn grown<const HIGH: usize>(
        &self,
        limits: &BufferLimits<HIGH>,
        size: usize,
    ) -> Option<FlowChange> {
        (!self.protocol_paused.get() && size > limits.get().high).then(|| {
            self.protocol_paused.set(true);
            FlowChange::Pause
        })
    }

    /// The buffer has shrunk: resumes the protocol below the low mark. The caller notifies it.
    pub(crate) fn shrunk<const HIGH: usize>(
        &self,
        limits: &BufferLimits<HIGH>,
        size: usize,
    ) -> Option<FlowChange> {
        (self.protocol_paused.get() && size <= limits.get().low).then(|| {
            self.protocol_paused.set(false);
            FlowChange::Resume
        })
    }

    /// Notifies the protocol of a change, in the current context.
    pub(crate) fn notify_flow(
        &self,
        slf: &Bound<'_, PyAny>,
        change: Option<FlowChange>,
    ) -> PyResult<()> {
        let Some(change) = change else {
            return Ok(());
        };
        match (self.protocol.get(slf.py()), self.native(slf.py())) {
            (Some(protocol), Some(native)) => change.notify(&native, slf, &protocol),
            _ => Ok(()),
        }
    }

    pub(crate) fn is_reading(&self) -> bool {
        !self.is_closing() && !self.reading_paused.get()
    }

    /// `pause_reading()`: `pause` has the loop deliver nothing more.
    pub(crate) fn pause_reading(
        &self,
        slf: &Bound<'_, PyAny>,
        pause: impl FnOnce() -> PyResult<()>,
    ) -> PyResult<()> {
        if !self.is_reading() {
            return Ok(());
        }
        self.reading_paused.set(true);
        pause()?;
        self.log_in_debug(slf, Level::Debug, "%r pauses reading")
    }

    /// `resume_reading()`: `resume` has the loop deliver again.
    pub(crate) fn resume_reading(
        &self,
        slf: &Bound<'_, PyAny>,
        resume: impl FnOnce() -> PyResult<()>,
    ) -> PyResult<()> {
        if self.is_closing() || !self.reading_paused.get() {
            return Ok(());
        }
        self.reading_paused.set(false);
        resume()?;
        self.log_in_debug(slf, Level::Debug, "%r resumes reading")
    }
}

impl FlowChange {
    /// Calls the protocol; what it raises goes to the exception handler.
    #[cold]
    fn notify(
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
