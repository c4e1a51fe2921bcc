//! What calls of readers do between their waits: asyncio's algorithms.

use pyo3::exceptions::{PyRuntimeError, PyStopAsyncIteration, PyValueError};
use pyo3::ffi;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyList, PyTuple};

use super::state::{Call, Kind};
use crate::ffi::memory;
use crate::ffi::object::owned;
use crate::primitives::ctypes::{self, OnLoop};
use crate::streams::originals::originals;
use crate::streams::reader::Reader;

/// How far a step came.
pub(super) enum Progress<'py> {
    Done(Bound<'py, PyAny>),
    /// It waits, with new steps.
    Waits,
    /// It yields `None`.
    Yields,
    /// The rest is asyncio's to do.
    Elsewhere,
}

/// What `readuntil` came to.
enum Found<'py> {
    Chunk(Bound<'py, PyBytes>),
    /// The end came before: all that there was.
    Partial(Bound<'py, PyBytes>),
    /// `asyncio.LimitOverrunError(text, consumed)`
    Overrun(&'static str, usize),
    Waits,
}

impl<'py> Call<'py> {
    /// Reads until it is done or has to wait. The target is plain.
    pub(super) fn read_on(&self, reader: &Reader<'py>) -> PyResult<Progress<'py>> {
        let py = self.py();
        match self.kind() {
            Kind::Read => self.read(reader),
            Kind::ReadAll => self.read_all(reader),
            Kind::ReadExactly => self.read_exactly(reader),
            Kind::ReadLine => Ok(match self.line(reader)? {
                Some(line) => Progress::Done(line.into_any()),
                None => Progress::Waits,
            }),
            Kind::Next => match self.line(reader)? {
                Some(line) if line.as_bytes().is_empty() => Err(PyStopAsyncIteration::new_err(())),
                Some(line) => Ok(Progress::Done(line.into_any())),
                None => Ok(Progress::Waits),
            },
            Kind::ReadUntil => match self.until(reader)? {
                Found::Chunk(chunk) => Ok(Progress::Done(chunk.into_any())),
                Found::Waits => Ok(Progress::Waits),
                Found::Partial(partial) => {
                    let error = originals(py)?.incomplete.bind(py).call1((partial, py.None()))?;
                    Err(PyErr::from_value(error))
                }
                Found::Overrun(text, consumed) => Err(overrun(py, text, consumed)?),
            },
            Kind::Drain | Kind::WaitClosed => Ok(Progress::Done(py.None().into_bound(py))),
        }
    }

    fn read(&self, reader: &Reader<'py>) -> PyResult<Progress<'py>> {
        let size = self.size();
        if size == 0 {
            check_exception(reader)?;
            return Ok(Progress::Done(PyBytes::new(self.py(), b"").into_any()));
        }
        Ok(match self.block(reader, size)? {
            Some(block) => Progress::Done(block.into_any()),
            None => Progress::Waits,
        })
    }

    /// `read(size)`; nothing if it waits.
    #[inline]
    fn block(&self, reader: &Reader<'py>, size: usize) -> PyResult<Option<Bound<'py, PyBytes>>> {
        let (py, state) = (self.py(), reader.state());
        if !self.take_woken() {
            check_exception(reader)?;
            if state.buffer.len(py) == 0 && !state.has_ended(py) {
                self.wait_for_data(reader)?;
                return Ok(None);
            }
        }
        let block = state.buffer.take(py, size)?;
        maybe_resume(reader)?;
        Ok(Some(block))
    }

    fn read_all(&self, reader: &Reader<'py>) -> PyResult<Progress<'py>> {
        let py = self.py();
        loop {
            // asyncio's inner call of `read` is a new one each time.
            if !reader.is_plain()? {
                return Ok(Progress::Elsewhere);
            }
            let Some(block) = self.block(reader, reader.state().limit(py))? else {
                return Ok(Progress::Waits);
            };
            let blocks = self.blocks()?;
            if block.as_bytes().is_empty() {
                return join(&blocks).map(Progress::Done);
            }
            blocks.append(block)?;
        }
    }

    fn read_exactly(&self, reader: &Reader<'py>) -> PyResult<Progress<'py>> {
        let (py, state, size) = (self.py(), reader.state(), self.size());
        self.begin(reader)?;
        if size > 0 {
            if state.buffer.len(py) < size {
                if state.has_ended(py) {
                    let partial = state.buffer.take(py, usize::MAX)?;
                    let error =
                        originals(py)?.incomplete.bind(py).call1((partial, number(py, size)?))?;
                    return Err(PyErr::from_value(error));
                }
                self.wait_for_data(reader)?;
                return Ok(Progress::Waits);
            }
            let data = state.buffer.take(py, size)?;
            maybe_resume(reader)?;
            return Ok(Progress::Done(data.into_any()));
        }
        Ok(Progress::Done(PyBytes::new(py, b"").into_any()))
    }

    /// `readline()`; nothing if it waits.
    fn line(&self, reader: &Reader<'py>) -> PyResult<Option<Bound<'py, PyBytes>>> {
        let (py, state) = (self.py(), reader.state());
        match self.until(reader)? {
            Found::Chunk(line) | Found::Partial(line) => Ok(Some(line)),
            Found::Waits => Ok(None),
            Found::Overrun(text, consumed) => {
                let cause = overrun(py, text, consumed)?;
                let length = state.buffer.len(py);
                let found = state.buffer.has(py, b'\n', consumed);
                state.buffer.cut(py, if found { consumed + 1 } else { length })?;
                maybe_resume(reader)?;
                let error = PyValueError::new_err(memory::string(py, text)?.unbind());
                error.set_context(py, Some(cause));
                Err(error)
            }
        }
    }

    #[inline]
    fn until(&self, reader: &Reader<'py>) -> PyResult<Found<'py>> {
        let Some(separator) = self.separator() else {
            return self.until_one_of(reader, &[b"\n"]);
        };
        if let Ok(separator) = separator.cast::<PyBytes>() {
            return self.until_one_of(reader, &[separator.as_bytes()]);
        }
        // SAFETY: what is no `bytes` is a tuple of them: so the call was made. Both never change.
        let all = unsafe { separator.cast_unchecked::<PyTuple>() };
        let mut separators = Vec::new();
        separators.try_reserve_exact(all.len()).map_err(|_| memory::exhausted())?;
        let objects = all.as_slice();
        // SAFETY: the same.
        separators
            .extend(objects.iter().map(|it| unsafe { it.cast_unchecked::<PyBytes>() }.as_bytes()));
        self.until_one_of(reader, &separators)
    }

    fn until_one_of(&self, reader: &Reader<'py>, separators: &[&[u8]]) -> PyResult<Found<'py>> {
        const NOT_FOUND: &str = "Separator is not found, and chunk exceed the limit";
        const FOUND: &str = "Separator is found, but chunk is longer than limit";
        let (py, state) = (self.py(), reader.state());
        self.begin(reader)?;
        let lengths = || separators.iter().map(|separator| separator.len());
        let (shortest, longest) = (lengths().min().unwrap_or(1), lengths().max().unwrap_or(1));
        let (length, offset) = (state.buffer.len(py), self.offset());
        if length >= offset.saturating_add(shortest) {
            if let Some((start, end)) = state.buffer.find(py, separators, offset) {
                if start > state.limit(py) {
                    return Ok(Found::Overrun(FOUND, start));
                }
                let chunk = state.buffer.take(py, end)?;
                maybe_resume(reader)?;
                return Ok(Found::Chunk(chunk));
            }
            let offset = (length + 1).saturating_sub(longest);
            self.set_offset(offset);
            if offset > state.limit(py) {
                return Ok(Found::Overrun(NOT_FOUND, offset));
            }
        }
        // Only now: the last chunk may have brought the separator.
        if state.has_ended(py) {
            return state.buffer.take(py, usize::MAX).map(Found::Partial);
        }
        self.wait_for_data(reader)?;
        Ok(Found::Waits)
    }

    /// The exception is looked for once, before anything else.
    #[inline]
    fn begin(&self, reader: &Reader<'py>) -> PyResult<()> {
        if self.set_begun() { Ok(()) } else { check_exception(reader) }
    }

    /// `_wait_for_data`, up to its `await`.
    fn wait_for_data(&self, reader: &Reader<'py>) -> PyResult<()> {
        let (py, state) = (self.py(), reader.state());
        if state.waiter.get(py).is_some_and(|waiter| !waiter.is_none()) {
            let name = if self.kind() == Kind::ReadLine || self.kind() == Kind::Next {
                "readuntil"
            } else {
                self.kind().name()
            };
            return Err(PyRuntimeError::new_err(format!(
                "{name}() called while another coroutine is already waiting for incoming data"
            )));
        }
        // A transport that is paused would never bring any.
        if state.is_paused(py) {
            state.pause(py, false);
            resume(reader)?;
        }
        let Some(event_loop) = state.event_loop.get(py) else { return Ok(()) };
        let future = match ctypes::plain_loop(&event_loop)? {
            Some((types, _)) => {
                let on_loop = OnLoop::new(types, &event_loop)?;
                types.new_future(py, on_loop.options())?
            }
            None => event_loop.call_method0(intern!(py, "create_future"))?,
        };
        // SAFETY: a future is an iterable, and gives what `await` steps; one that is not asyncio's may raise.
        let steps = unsafe { owned(py, ffi::PyObject_GetIter(future.as_ptr()))? };
        self.wait(steps);
        state.waiter.set(py, Some(future.unbind()));
        Ok(())
    }
}

/// `b''.join(blocks)`
pub(super) fn join<'py>(blocks: &Bound<'py, PyList>) -> PyResult<Bound<'py, PyAny>> {
    let py = blocks.py();
    PyBytes::new(py, b"").call_method1(intern!(py, "join"), (blocks,))
}

fn overrun(py: Python<'_>, text: &str, consumed: usize) -> PyResult<PyErr> {
    let arguments = (memory::string(py, text)?, number(py, consumed)?);
    Ok(PyErr::from_value(originals(py)?.overrun.bind(py).call1(arguments)?))
}

/// An `int`. PyO3's conversion panics where there is no memory for it.
pub(super) fn number(py: Python<'_>, value: usize) -> PyResult<Bound<'_, PyAny>> {
    // SAFETY: the GIL is held; a new reference, or null with an exception set.
    unsafe { owned(py, ffi::PyLong_FromSize_t(value)) }
}

#[inline]
fn check_exception(reader: &Reader<'_>) -> PyResult<()> {
    match reader.state().exception.get(reader.py()) {
        Some(exception) if !exception.is_none() => Err(PyErr::from_value(exception)),
        _ => Ok(()),
    }
}

/// `_maybe_resume_transport()`
#[inline]
fn maybe_resume(reader: &Reader<'_>) -> PyResult<()> {
    let (py, state) = (reader.py(), reader.state());
    if state.is_paused(py) && state.buffer.len(py) <= state.limit(py) {
        state.pause(py, false);
        return resume(reader);
    }
    Ok(())
}

#[cold]
fn resume(reader: &Reader<'_>) -> PyResult<()> {
    let py = reader.py();
    match reader.state().transport.get(py) {
        Some(transport) => transport.call_method0(intern!(py, "resume_reading")).map(drop),
        None => Ok(()),
    }
}
