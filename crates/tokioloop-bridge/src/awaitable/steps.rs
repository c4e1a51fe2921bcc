//! The steps of an awaitable: the first binds it to the running loop, each polls its future.

use std::mem::ManuallyDrop;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::task::{Context, Poll, RawWaker, RawWakerVTable, Waker};

use pyo3::exceptions::{PyRuntimeError, PyTypeError, PyValueError};
use pyo3::prelude::*;

use super::state::{Awaitable, Phase, arm, drop_within, is_awaited};
use super::yielded;
use crate::errors;
use crate::future::BoxedFuture;
use crate::link::Link;
use crate::python::arguments::Arg;
use crate::python::coroutine::SendResult;
use crate::running::running_loop;
use crate::table::OpaqueTarget;

static WAKER: RawWakerVTable = RawWakerVTable::new(
    |data| {
        let target = data.cast::<OpaqueTarget>();
        // SAFETY: a waker has a reference to its target, whose table comes first.
        unsafe { ((*target).api.keep)(target) };
        RawWaker::new(data, &WAKER)
    },
    |data| {
        let target = data.cast::<OpaqueTarget>();
        // SAFETY: the waker's own reference keeps the target and its table.
        unsafe {
            let api = (*target).api;
            (api.wake)(target);
            (api.drop)(target);
        }
    },
    |data| {
        let target = data.cast::<OpaqueTarget>();
        // SAFETY: the waker's own reference keeps the target and its table.
        unsafe { ((*target).api.wake)(target) };
    },
    |data| {
        let target = data.cast::<OpaqueTarget>();
        // SAFETY: the waker's own reference keeps the target and its table.
        unsafe { ((*target).api.drop)(target) };
    },
);

impl<'py> Awaitable<'py> {
    /// Why it cannot be stepped.
    #[cold]
    fn refusal(&self) -> PyErr {
        match self.phase() {
            Phase::Running => PyValueError::new_err("coroutine already executing"),
            Phase::Orphaned => PyRuntimeError::new_err("Event loop is closed"),
            _ => PyRuntimeError::new_err("cannot reuse already awaited coroutine"),
        }
    }

    /// The first step: finds the loop.
    fn bind(&self) -> PyResult<()> {
        let (py, this) = (self.py(), self.fields());
        let Some(event_loop) = running_loop(py)? else {
            return Err(PyRuntimeError::new_err("no running event loop"));
        };
        // This may run Python code of the loop's class; code that comes back here finds `Running`.
        let link = Link::to(&event_loop)?;
        // SAFETY: a loop with this table; our layout, and a new awaitable has neither yet.
        unsafe {
            let target = (link.api().new_target)(event_loop.as_ptr());
            if target.is_null() {
                return Err(PyErr::fetch(py));
            }
            (*this).target = target;
            (*this).event_loop = event_loop.into_ptr();
            (*this).link = link;
        }
        Ok(())
    }

    #[inline]
    pub(super) fn step(&self, value: Arg<'_, 'py>) -> PyResult<SendResult<'py>> {
        match self.phase() {
            Phase::Fresh => {
                if !value.is_none() {
                    return Err(PyTypeError::new_err(
                        "can't send non-None value to a just-started coroutine",
                    ));
                }
                // SAFETY: an awaitable, which `self` keeps alive, with the GIL held.
                unsafe { (*self.fields()).phase = Phase::Running };
                if let Err(error) = self.bind() {
                    self.end(Phase::Done);
                    return Err(error);
                }
            }
            Phase::Suspended if self.is_awaited() => {
                return Err(PyRuntimeError::new_err("coroutine is being awaited already"));
            }
            Phase::Suspended => self.unpark(),
            _ => return Err(self.refusal()),
        }
        self.poll()
    }

    #[inline]
    fn poll(&self) -> PyResult<SendResult<'py>> {
        let (py, this) = (self.py(), self.fields());
        // SAFETY: our layout. The future is taken out for the poll, which may run Python code that
        // comes back here, and finds `Running`.
        let (future, target, link) = unsafe {
            (*this).phase = Phase::Running;
            ((*this).future.take(), (*this).target, (*this).link)
        };
        let (Some(mut future), Some(event_loop)) = (future, self.get(|this| this.event_loop))
        else {
            self.end(Phase::Done);
            return Err(self.refusal());
        };
        // SAFETY: the target outlives this waker, which is not dropped: its reference is ours.
        let waker = unsafe {
            (link.api().begin)(target);
            ManuallyDrop::new(Waker::new(target.cast(), &WAKER))
        };
        let polled = link.within(&event_loop, || {
            catch_unwind(AssertUnwindSafe(|| {
                future.as_mut().poll_attached(py, &mut Context::from_waker(&waker))
            }))
        });
        let outcome = match polled {
            Ok(Ok(Poll::Pending)) => {
                let yielded = self.suspend(future, &event_loop);
                return yielded.map(SendResult::Yielded).inspect_err(|_| self.end(Phase::Done));
            }
            Ok(Ok(Poll::Ready(outcome))) => outcome,
            Ok(Err(payload)) => Err(errors::rust_panic(py, &*payload)),
            Err(error) => Err(error),
        };
        // Dropped before the awaiting code goes on, as a coroutine's frame is.
        drop_within(py, link, Some(&event_loop), future);
        self.end(Phase::Done);
        outcome.map(|value| SendResult::Returned(value.into_bound(py)))
    }

    /// Ends a poll without a result; returns what to yield.
    fn suspend(
        &self,
        future: BoxedFuture,
        event_loop: &Bound<'py, PyAny>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let this = self.fields();
        // SAFETY: our layout; a target is kept until the end.
        unsafe {
            (*this).future = Some(future);
            if ((*this).link.api().finish)((*this).target) != 0 {
                (*this).phase = Phase::Suspended;
                return Ok(self.py().None().into_bound(self.py()));
            }
        }
        self.park(event_loop)
    }

    /// Begins a wait; returns the yielded future.
    fn park(&self, event_loop: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
        let (py, this) = (self.py(), self.fields());
        // SAFETY: our layout; a yielded future is made once and borrows its owner, which
        // outlives its use.
        unsafe {
            if (*this).yielded.is_null() {
                // Still `Running`: allocating may run the collector, and that Python code, which must
                // not take the awaitable apart. From here on nothing runs Python code.
                (*this).yielded = yielded::new(event_loop, self)?.into_ptr();
                self.track_new();
            }
            (*this).phase = Phase::Suspended;
            arm((*this).yielded);
            ((*this).link.api().park)(event_loop.as_ptr(), (*this).target, (*this).yielded);
            Ok(Bound::from_borrowed_ptr(py, (*this).yielded))
        }
    }

    /// Whether a task waits for it that was not woken: then the one that steps it is another.
    #[inline]
    fn is_awaited(&self) -> bool {
        // SAFETY: our layout; null or alive.
        unsafe {
            let yielded = (*self.fields()).yielded;
            !yielded.is_null() && is_awaited(yielded)
        }
    }

    /// Ends it; returns the exception that was thrown.
    pub(super) fn thrown(&self, args: &[Arg<'_, 'py>]) -> PyErr {
        if !matches!(self.phase(), Phase::Fresh | Phase::Suspended) {
            return self.refusal();
        }
        if let Some(refusal) = errors::wrong_count(args) {
            return refusal;
        }
        // Runs the exception's constructor, which may step or close this, or have it stepped.
        let thrown = errors::thrown(self.py(), args);
        if self.phase() == Phase::Running {
            return self.refusal();
        }
        self.end(Phase::Done);
        thrown
    }

    pub(super) fn closed(&self) -> PyResult<()> {
        if self.phase() == Phase::Running {
            return Err(self.refusal());
        }
        if self.phase() != Phase::Done {
            self.end(Phase::Done);
        }
        Ok(())
    }
}
