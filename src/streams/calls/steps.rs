//! The steps of a call.

use pyo3::exceptions::{PyRuntimeError, PyStopIteration, PyTypeError};
use pyo3::ffi;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::PyList;

use super::reading::{Progress, join, number};
use super::state::{Call, CallObject, Kind, Phase, leave_reader};
use crate::ffi::arguments::Arg;
use crate::ffi::class::ObjectRef;
use crate::ffi::coroutine::{self, Coroutine, SendResult};
use crate::ffi::memory;
use crate::ffi::tuples::arguments;
use crate::streams::originals::originals;
use crate::streams::reader::Reader;
use crate::streams::writer::Writer;

/// Defines getters of fields that are plain data.
macro_rules! fields {
    ($($name:ident: $kind:ty),+) => {
        $(
            #[inline]
            pub(super) fn $name(&self) -> $kind {
                // SAFETY: alive, as this reference is; the GIL is held, as it implies.
                unsafe { (*self.fields()).$name }
            }
        )+
    };
}

impl<'py> Call<'py> {
    fields!(kind: Kind, phase: Phase, size: usize, offset: usize);

    pub(super) fn set_offset(&self, offset: usize) {
        // SAFETY: our layout; `self` keeps it alive.
        unsafe { (*self.fields()).offset = offset };
    }

    /// Notes that it has begun; whether it had before.
    #[inline]
    pub(super) fn set_begun(&self) -> bool {
        // SAFETY: our layout; `self` keeps it alive.
        unsafe { std::mem::replace(&mut (*self.fields()).begun, true) }
    }

    /// Whether it has just waited.
    #[inline]
    pub(super) fn take_woken(&self) -> bool {
        // SAFETY: our layout; `self` keeps it alive.
        unsafe { std::mem::replace(&mut (*self.fields()).woken, false) }
    }

    pub(super) fn separator(&self) -> Option<Bound<'py, PyAny>> {
        self.get(|this| this.separator)
    }

    /// The list of what was read so far.
    pub(super) fn blocks(&self) -> PyResult<Bound<'py, PyList>> {
        let py = self.py();
        let blocks = match self.get(|this| this.blocks) {
            Some(blocks) => blocks,
            None => {
                let blocks = memory::list(py, std::iter::empty())?.into_any();
                // SAFETY: our layout; it holds none yet. No Python code has run that could make one:
                // every other call is refused while a step runs.
                unsafe { (*self.fields()).blocks = blocks.clone().into_ptr() };
                blocks
            }
        };
        // SAFETY: nothing but a list comes into this field.
        Ok(unsafe { blocks.cast_into_unchecked() })
    }

    /// From now on its steps are these.
    pub(super) fn wait(&self, steps: Bound<'py, PyAny>) {
        self.go_on_with(steps, Phase::Waiting);
    }

    fn go_on_with(&self, steps: Bound<'py, PyAny>, phase: Phase) {
        let this = self.fields();
        // SAFETY: our layout; the old reference is taken out before it is dropped.
        unsafe {
            let old = std::mem::replace(&mut (*this).steps, steps.into_ptr());
            (*this).phase = phase;
            ffi::Py_XDECREF(old);
        }
    }

    /// The wait is over.
    fn leave(&self) {
        let this = self.fields();
        // SAFETY: a call, which `self` keeps alive, with the GIL held.
        unsafe { leave_reader(self.py(), this) };
        // SAFETY: our layout; the reference is taken out before it is dropped.
        unsafe { ffi::Py_CLEAR(&raw mut (*this).steps) };
    }

    /// It is over.
    fn stop(&self) {
        self.leave();
        let this = self.fields();
        // SAFETY: our layout; each reference is taken out before it is dropped.
        unsafe {
            (*this).phase = Phase::Done;
            ffi::Py_CLEAR(&raw mut (*this).target);
            ffi::Py_CLEAR(&raw mut (*this).separator);
            ffi::Py_CLEAR(&raw mut (*this).blocks);
        }
    }

    /// Runs a step. Every other call is refused meanwhile.
    #[inline]
    fn stepping<R>(&self, step: impl FnOnce() -> PyResult<R>) -> PyResult<R> {
        // SAFETY: our layout, and the one place that writes this field; `self` keeps the object.
        let _running = unsafe { coroutine::Running::begin(&raw mut (*self.fields()).running)? };
        step()
    }

    /// One step: what it waits for first, if it does, then its own work.
    #[inline]
    fn step(&self, value: Arg<'_, 'py>) -> PyResult<SendResult<'py>> {
        let py = self.py();
        let mut sent = match self.phase() {
            Phase::Fresh if !value.is_none() => {
                return Err(PyTypeError::new_err(
                    "can't send non-None value to a just-started coroutine",
                ));
            }
            Phase::Fresh | Phase::Yielded => None,
            Phase::Done => return Err(reused()),
            Phase::Waiting | Phase::Elsewhere => Some(value),
        };
        // SAFETY: `None` lives for ever.
        let none = unsafe { Arg::from_ptr(py, ffi::Py_None()) };
        loop {
            if sent.is_none()
                && let Some(result) = self.go_on()?
            {
                return Ok(result);
            }
            let Some(steps) = self.get(|this| this.steps) else { return Err(reused()) };
            match coroutine::send_to(&steps, sent.take().unwrap_or(none)) {
                Ok(SendResult::Returned(value)) => {
                    drop(steps);
                    if let Some(result) = self.returned(value)? {
                        return Ok(SendResult::Returned(result));
                    }
                }
                other => return other.inspect_err(|_| self.stop()),
            }
        }
    }

    /// Does its own work; nothing if that has to wait, and then it has steps.
    #[inline]
    fn go_on(&self) -> PyResult<Option<SendResult<'py>>> {
        match self.work().inspect_err(|_| self.stop())? {
            Progress::Done(result) => {
                self.stop();
                Ok(Some(SendResult::Returned(result)))
            }
            Progress::Yields => {
                // SAFETY: our layout; `self` keeps it alive.
                unsafe { (*self.fields()).phase = Phase::Yielded };
                Ok(Some(SendResult::Yielded(self.py().None().into_bound(self.py()))))
            }
            Progress::Waits => Ok(None),
            Progress::Elsewhere => {
                let own = self.asyncios_own().inspect_err(|_| self.stop())?;
                self.go_on_with(own, Phase::Elsewhere);
                Ok(None)
            }
        }
    }

    /// What it waited for is there; the result, if that was all.
    fn returned(&self, value: Bound<'py, PyAny>) -> PyResult<Option<Bound<'py, PyAny>>> {
        let py = self.py();
        match (self.phase(), self.kind()) {
            (Phase::Elsewhere, Kind::ReadAll) if self.get(|this| this.blocks).is_some() => {
                let joined = self.blocks().and_then(|blocks| {
                    blocks.append(value)?;
                    join(&blocks)
                });
                self.stop();
                joined.map(Some)
            }
            (Phase::Elsewhere, _) => {
                self.stop();
                Ok(Some(value))
            }
            (_, Kind::Drain | Kind::WaitClosed) => {
                self.stop();
                Ok(Some(py.None().into_bound(py)))
            }
            _ => {
                self.leave();
                // SAFETY: our layout; `self` keeps it alive.
                unsafe {
                    (*self.fields()).woken = true;
                    (*self.fields()).phase = Phase::Yielded;
                }
                Ok(None)
            }
        }
    }

    /// Does the call's own work as far as it comes.
    #[inline]
    fn work(&self) -> PyResult<Progress<'py>> {
        let Some(target) = self.get(|this| this.target) else { return Err(reused()) };
        if self.kind().reads() {
            // SAFETY: the target of a call that reads is a native reader.
            let reader = unsafe { Reader::new(target) };
            if reader.is_plain()? { self.read_on(&reader) } else { Ok(Progress::Elsewhere) }
        } else {
            // SAFETY: the target of any other call is a native writer.
            let writer = unsafe { Writer::new(target) };
            if writer.is_plain()? { self.write_on(&writer) } else { Ok(Progress::Elsewhere) }
        }
    }

    /// asyncio's coroutine of the same call.
    #[cold]
    fn asyncios_own(&self) -> PyResult<Bound<'py, PyAny>> {
        let (py, kind) = (self.py(), self.kind());
        let Some(target) = self.get(|this| this.target) else { return Err(reused()) };
        let originals = originals(py)?;
        let class = if kind.reads() { &originals.reader } else { &originals.writer };
        let method = class.bind(py).getattr(memory::string(py, kind.name())?)?;
        match (kind, self.separator()) {
            (Kind::Read | Kind::ReadExactly, _) => method.call1((target, number(py, self.size())?)),
            (_, Some(separator)) => method.call1((target, separator)),
            _ => method.call1((target,)),
        }
    }

    fn thrown(&self, args: &[Arg<'_, 'py>]) -> PyResult<Bound<'py, PyAny>> {
        let py = self.py();
        let Some(steps) = self.get(|this| this.steps) else {
            if self.phase() == Phase::Done {
                return Err(coroutine::thrown_at_the_end(py, args)?);
            }
            // Arguments that `throw()` does not take leave everything as it is.
            let error = coroutine::uncaught(py, args)?;
            self.stop();
            return Err(error);
        };
        let Some(throw) = steps.getattr_opt(intern!(py, "throw"))? else {
            let error = coroutine::uncaught(py, args)?;
            self.stop();
            return Err(error);
        };
        let error = match throw.call1(arguments(py, args)?) {
            Ok(yielded) => return Ok(yielded),
            Err(error) => error,
        };
        if self.phase() != Phase::Waiting || !error.is_instance_of::<PyStopIteration>(py) {
            self.stop();
            return Err(error);
        }
        // What it waits for has caught the exception, and returned.
        drop((steps, throw));
        let value = error.value(py).getattr(intern!(py, "value"))?;
        let sent = match self.returned(value)? {
            Some(result) => SendResult::Returned(result),
            // SAFETY: `None` lives for ever.
            None => self.step(unsafe { Arg::from_ptr(py, ffi::Py_None()) })?,
        };
        match sent {
            SendResult::Yielded(object) => Ok(object),
            SendResult::Returned(value) => Err(PyStopIteration::new_err((value.unbind(),))),
        }
    }
}

fn reused() -> PyErr {
    PyRuntimeError::new_err("cannot reuse already awaited coroutine")
}

impl Coroutine for CallObject {
    #[inline]
    fn send<'py>(slf: &ObjectRef<'py, Self>, value: Arg<'_, 'py>) -> PyResult<SendResult<'py>> {
        let call = Call::of(slf);
        call.stepping(|| call.step(value))
    }

    fn throw<'py>(
        slf: &ObjectRef<'py, Self>,
        args: &[Arg<'_, 'py>],
    ) -> PyResult<Bound<'py, PyAny>> {
        let call = Call::of(slf);
        coroutine::check_throw(call.py(), args)?;
        call.stepping(|| call.thrown(args))
    }

    fn close(slf: &ObjectRef<'_, Self>) -> PyResult<()> {
        let call = Call::of(slf);
        call.stepping(|| {
            let py = call.py();
            let steps = call.get(|this| this.steps);
            let close = match &steps {
                Some(steps) => steps.getattr_opt(intern!(py, "close"))?,
                None => None,
            };
            // As `finally` does: what it waits for is closed first.
            let closed = close.map_or(Ok(()), |close| close.call0().map(drop));
            call.stop();
            closed
        })
    }

    fn is_awaited(slf: &ObjectRef<'_, Self>) -> bool {
        !matches!(Call::of(slf).phase(), Phase::Fresh | Phase::Done)
    }
}
