//! From a transport into a reader: `feed_data`, `feed_eof`, and what the transports call instead.

use pyo3::exceptions::PyNotImplementedError;
use pyo3::ffi;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyBool, PyBytes};

use super::originals::{inherited, originals};
use super::reader::{NativeStreamReader, Reader};
use crate::ffi::arguments::Args;
use crate::ffi::definitions::{self, Definitions, METHODS_END, fast_method};
use crate::ffi::trampoline::fast_function;
use crate::primitives::ctypes;

impl Reader<'_> {
    /// Whether `feed_data` may be called: asyncio's asserts that there was no end before.
    #[inline]
    pub(crate) fn takes_data(&self) -> bool {
        !self.state().has_ended(self.py())
    }

    /// Whether the next bytes can be kept as the object that they are.
    #[inline]
    pub(crate) fn is_free(&self) -> bool {
        self.state().buffer.is_free(self.py())
    }

    /// `_buffer.extend(data)`. Runs no Python code.
    pub(crate) fn append(&self, data: &[u8]) -> PyResult<()> {
        self.state().buffer.put(self.py(), data)
    }

    /// The same, of an object.
    pub(crate) fn append_whole(&self, data: Bound<'_, PyBytes>) -> PyResult<()> {
        self.state().buffer.put_whole(data)
    }

    /// The second half of `feed_data`, behind `extend`: wakes the coroutine that reads, and pauses
    /// the transport if too much was buffered.
    pub(crate) fn finish_feed(&self) -> PyResult<()> {
        self.wake()?;
        let (py, state) = (self.py(), self.state());
        if state.buffer.len(py) <= state.limit(py).saturating_mul(2) || state.is_paused(py) {
            return Ok(());
        }
        let Some(transport) = state.transport.get(py).filter(|transport| !transport.is_none())
        else {
            return Ok(());
        };
        match transport.call_method0(intern!(py, "pause_reading")) {
            Ok(_) => state.pause(py, true),
            // As asyncio: a transport that cannot pause is not asked again.
            Err(error) if error.is_instance_of::<PyNotImplementedError>(py) => {
                state.transport.set(py, Some(py.None()));
            }
            Err(error) => return Err(error),
        }
        Ok(())
    }

    /// `_wakeup_waiter()`
    #[inline]
    pub(super) fn wake(&self) -> PyResult<()> {
        let (py, slot) = (self.py(), &self.state().waiter);
        let Some(waiter) = slot.get(py).filter(|waiter| !waiter.is_none()) else { return Ok(()) };
        slot.set(py, Some(py.None()));
        let none = py.None().into_bound(py);
        match ctypes::types(py)? {
            Some(types) => {
                if !types.cancelled.ask(&waiter)? {
                    types.set_result.call(&waiter, &[&none], None)?;
                }
            }
            None => {
                if !waiter.call_method0(intern!(py, "cancelled"))?.is_truthy()? {
                    waiter.call_method1(intern!(py, "set_result"), (none,))?;
                }
            }
        }
        Ok(())
    }
}

/// The object that a method was called on, if it may be dealt with here.
///
/// # Safety
/// `slf` must be alive for the call.
#[inline]
unsafe fn receiver<'py>(py: Python<'py>, slf: *mut ffi::PyObject) -> PyResult<Option<Reader<'py>>> {
    // SAFETY: the caller's promise.
    Reader::plain(&unsafe { Bound::from_borrowed_ptr(py, slf) })
}

/// Defines a method that asyncio's own does the work of where the reader is not plain.
macro_rules! reader_method {
    ($name:ident, |$reader:ident, $args:ident| $body:expr) => {
        fast_function!($name, |py, slf, args| {
            // SAFETY: a method's object.
            if let Some($reader) = unsafe { receiver(py, slf)? } {
                let $args = &args;
                let done: Option<Bound<'_, PyAny>> = $body;
                if let Some(done) = done {
                    return Ok(done);
                }
            }
            // SAFETY: the same.
            let slf = unsafe { Bound::<PyAny>::from_borrowed_ptr(py, slf) };
            inherited(&originals(py)?.reader, &slf, intern!(py, stringify!($name)), &args)
        });
    };
}

reader_method!(feed_data, |reader, args| match args.positional {
    [data] if !args.has_keywords() && reader.takes_data() => match data.cast_exact::<PyBytes>() {
        Ok(data) => {
            if !data.as_bytes().is_empty() {
                reader.append_whole(data.to_owned())?;
                reader.finish_feed()?;
            }
            Some(reader.py().None().into_bound(reader.py()))
        }
        Err(_) => None,
    },
    _ => None,
});

reader_method!(feed_eof, |reader, args| if is_empty(args) {
    reader.state().end(reader.py());
    reader.wake()?;
    Some(reader.py().None().into_bound(reader.py()))
} else {
    None
});

reader_method!(at_eof, |reader, args| if is_empty(args) {
    let (py, state) = (reader.py(), reader.state());
    let at_end = state.has_ended(py) && state.buffer.len(py) == 0;
    Some(PyBool::new(py, at_end).to_owned().into_any())
} else {
    None
});

reader_method!(exception, |reader, args| if is_empty(args) {
    reader.state().exception.get(reader.py())
} else {
    None
});

fn is_empty(args: &Args<'_, '_>) -> bool {
    args.positional.is_empty() && !args.has_keywords()
}

static METHODS: Definitions<[ffi::PyMethodDef; 5]> = Definitions([
    fast_method(
        c"feed_data",
        feed_data,
        c"feed_data($self, data)\n--\n\n\
        Append received bytes, and wake the coroutine that reads. As\n\
        ``asyncio.StreamReader.feed_data``.",
    ),
    fast_method(
        c"feed_eof",
        feed_eof,
        c"feed_eof($self)\n--\n\n\
        Note the end of what is received. As ``asyncio.StreamReader.feed_eof``.",
    ),
    fast_method(
        c"at_eof",
        at_eof,
        c"at_eof($self)\n--\n\n\
        Return True if everything was read, up to the end. As ``asyncio.StreamReader.at_eof``.",
    ),
    fast_method(
        c"exception",
        exception,
        c"exception($self)\n--\n\n\
        Return the exception that ended the connection, or None. As\n\
        ``asyncio.StreamReader.exception``.",
    ),
    METHODS_END,
]);

pub(super) fn add_methods(py: Python<'_>) -> PyResult<()> {
    // SAFETY: functions of the kind that the table says, which take any object.
    unsafe { definitions::add_methods(&py.get_type::<NativeStreamReader>(), &METHODS.0) }
}
