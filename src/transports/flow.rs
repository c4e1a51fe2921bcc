//! Write flow control: the marks, and telling the protocol.

use std::cell::{Cell, OnceCell};

use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::PyInt;

use crate::event_loop::NativeLoop;
use crate::ffi::gil::PySlot;
use crate::ffi::memory;

/// Bytes. Above `high` the protocol is paused, at or below `low` resumed.
#[derive(Clone, Copy)]
pub(crate) struct Marks {
    pub high: usize,
    pub low: usize,
}

impl Marks {
    /// A high mark, and asyncio's low one for it.
    pub(crate) const fn of(high: usize) -> Self {
        Self { high, low: high / 4 }
    }
}

/// The high mark of transports other than TLS ones, in bytes.
pub(crate) const HIGH_WATER: usize = 64 * 1024;

/// Marks as a program sets them and asks for them; `HIGH` is the high one until it does. Few do, so
/// that a transport has room for no more than a pointer.
#[derive(Default)]
pub(crate) struct Limits<const HIGH: usize>(OnceCell<Box<Chosen>>);

/// What a program has set.
struct Chosen {
    marks: Cell<Marks>,
    /// The low and the high one as they were given, where they are no plain integers of bytes:
    /// asyncio only compares with them, and gives them back.
    given: PySlot,
}

impl<const HIGH: usize> Limits<HIGH> {
    #[inline]
    pub(crate) fn get(&self) -> Marks {
        self.0.get().map_or(Marks::of(HIGH), |chosen| chosen.marks.get())
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

    /// Sets them with asyncio's defaults for what is not given, and its check.
    pub(crate) fn set<'py>(
        &self,
        py: Python<'py>,
        high: Option<Bound<'py, PyAny>>,
        low: Option<Bound<'py, PyAny>>,
    ) -> PyResult<()> {
        let given = |mark: Option<Bound<'py, PyAny>>| mark.filter(|mark| !mark.is_none());
        let (high, low) = (given(high), given(low));
        // In Python's numbers, whatever they are.
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
            [Some(high), Some(low)] => (Marks { high, low }, None),
            _ => {
                let marks = Marks { high: whole(&high)?, low: whole(&low)? };
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

/// The marks of a transport, and whether its protocol was told to pause.
#[derive(Default)]
pub(crate) struct Flow<const HIGH: usize = HIGH_WATER> {
    pub limits: Limits<HIGH>,
    pub paused: Cell<bool>,
}

/// What a change of the buffer's size asks for.
#[derive(Clone, Copy)]
pub(crate) enum Signal {
    Pause,
    Resume,
}

impl<const HIGH: usize> Flow<HIGH> {
    /// Pauses the protocol if more is buffered than it should; whom to tell what, then.
    pub(crate) fn grown(&self, size: usize) -> Option<Signal> {
        (!self.paused.get() && size > self.limits.get().high).then(|| {
            self.paused.set(true);
            Signal::Pause
        })
    }

    /// Resumes the protocol once enough has left.
    pub(crate) fn shrunk(&self, size: usize) -> Option<Signal> {
        (self.paused.get() && size <= self.limits.get().low).then(|| {
            self.paused.set(false);
            Signal::Resume
        })
    }
}

impl Signal {
    /// Tells the protocol; what it raises goes to the exception handler.
    #[cold]
    pub(crate) fn tell(
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
