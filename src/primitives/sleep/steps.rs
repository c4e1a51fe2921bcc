//! The steps of a sleep.

use std::ptr::null_mut;

use pyo3::exceptions::{PyRuntimeError, PyTypeError, PyValueError};
use pyo3::ffi;
use pyo3::intern;
use pyo3::prelude::*;

use super::state::{Phase, Sleep, SleepObject};
use crate::event_loop::NativeLoop;
use crate::event_loop::timers::{NativeTimer, Timer};
use crate::ffi::arguments::Arg;
use crate::ffi::class::ObjectRef;
use crate::ffi::coroutine::{self, Coroutine, SendResult};
use crate::ffi::tuples::arguments;
use crate::primitives::ctypes::{self, CTypes, OnLoop, on_plain_loop};
use crate::primitives::originals::originals;

static TIMER: NativeTimer = NativeTimer {
    fire,
    // SAFETY: the heap calls this with a sleep, which its reference keeps alive, and with the GIL
    // held.
    is_cancelled: |slf| unsafe { (*slf.as_ptr().cast::<SleepObject>()).phase != Phase::Waiting },
    // SAFETY: the heap calls this with a sleep that it still has, and with the GIL held.
    unscheduled: |slf| unsafe { (*slf.as_ptr().cast::<SleepObject>()).scheduled = false },
    // SAFETY: the heap calls this with a sleep that it is about to take, and with the GIL held.
    scheduled: |slf| unsafe { (*slf.as_ptr().cast::<SleepObject>()).scheduled = true },
};

/// asyncio's own coroutine.
pub(super) fn asyncios_own<'py>(
    delay: &Bound<'py, PyAny>,
    result: &Bound<'py, PyAny>,
) -> PyResult<Bound<'py, PyAny>> {
    let py = delay.py();
    originals(py)?.sleep.bind(py).call1((delay, result))
}

/// The result of the first step's work.
enum Started {
    /// It waits for nothing but the loop's next batch.
    Yields,
    /// It goes on with `steps`.
    Waits,
}

impl<'py> Sleep<'py> {
    #[inline]
    fn phase(&self) -> Phase {
        // SAFETY: alive, as this reference is; the GIL is held, as it implies.
        unsafe { (*self.fields()).phase }
    }

    /// The first step.
    fn start(&self) -> PyResult<Started> {
        let (py, this) = (self.py(), self.fields());
        // SAFETY: our layout; the delay is exactly a `float` or an `int` that fits.
        let delay = unsafe {
            (*this).phase = Phase::Done;
            let delay = (*this).delay;
            if ffi::PyFloat_CheckExact(delay) != 0 {
                ffi::PyFloat_AS_DOUBLE(delay)
            } else {
                ffi::PyLong_AsDouble(delay)
            }
        };
        if delay <= 0.0 {
            // SAFETY: a sleep, alive for this step, which runs with the GIL held.
            unsafe { (*this).phase = Phase::Yielded };
            return Ok(Started::Yields);
        }
        if delay.is_nan() {
            return Err(PyValueError::new_err("Invalid delay: NaN (not a number)"));
        }
        let waits = on_plain_loop(py, |types, event_loop| self.wait(types, event_loop, delay))?;
        if waits.is_none() {
            // SAFETY: our layout; a fresh sleep has no steps yet.
            unsafe {
                let delay = Bound::from_borrowed_ptr(py, (*this).delay);
                let result = Bound::from_borrowed_ptr(py, (*this).result);
                let steps = asyncios_own(&delay, &result)?;
                (*this).steps = steps.into_ptr();
                (*this).phase = Phase::Elsewhere;
            }
        }
        self.track();
        Ok(Started::Waits)
    }

    fn wait(&self, types: &CTypes, event_loop: &NativeLoop, delay: f64) -> PyResult<()> {
        let (py, this) = (self.py(), self.fields());
        event_loop.check_closed(py)?;
        let now = event_loop.now(py)?;
        let on_loop = OnLoop::running(&event_loop.bind(py))?;
        let future = types.new_future(py, on_loop.options())?;
        let steps = future.call_method0(intern!(py, "__await__"))?;
        let when = now + delay;
        // SAFETY: our layout; a fresh sleep holds none of these yet.
        unsafe {
            (*this).future = future.into_ptr();
            (*this).steps = steps.into_ptr();
            (*this).event_loop = ffi::Py_NewRef(event_loop.object());
            (*this).phase = Phase::Waiting;
        }
        event_loop.add_timer(py, Timer::Native(self.as_any().clone().unbind(), &TIMER), when)
    }

    /// No longer waits. A timer that has not fired yet will find it done.
    fn stop(&self) {
        let (py, this) = (self.py(), self.fields());
        // SAFETY: our layout; each reference is taken out before it is dropped.
        unsafe {
            (*this).phase = Phase::Done;
            ffi::Py_CLEAR(&raw mut (*this).steps);
            ffi::Py_CLEAR(&raw mut (*this).future);
            ffi::Py_CLEAR(&raw mut (*this).result);
            let event_loop = std::mem::replace(&mut (*this).event_loop, null_mut());
            if event_loop.is_null() {
                return;
            }
            let event_loop = Bound::from_owned_ptr(py, event_loop);
            if (*this).scheduled {
                NativeLoop::of(event_loop.as_ptr()).timer_cancelled(py);
            }
        }
    }

    fn steps(&self) -> Option<Bound<'py, PyAny>> {
        self.get(|this| this.steps)
    }

    /// Runs a step. Every other call is refused meanwhile.
    #[inline]
    fn stepping<R>(&self, step: impl FnOnce() -> PyResult<R>) -> PyResult<R> {
        // SAFETY: our layout, and the one place that writes this field; `self` keeps the object.
        let _running = unsafe { coroutine::Running::begin(&raw mut (*self.fields()).running)? };
        step()
    }

    #[inline]
    fn step(&self, value: Arg<'_, 'py>) -> PyResult<SendResult<'py>> {
        let (py, this) = (self.py(), self.fields());
        match self.phase() {
            Phase::Fresh => {
                if !value.is_none() {
                    return Err(PyTypeError::new_err(
                        "can't send non-None value to a just-started coroutine",
                    ));
                }
                match self.start().inspect_err(|_| self.stop())? {
                    Started::Yields => return Ok(SendResult::Yielded(py.None().into_bound(py))),
                    Started::Waits => {}
                }
            }
            Phase::Yielded => {
                // SAFETY: our reference, which is passed on; only the last step gives it away.
                let result = unsafe {
                    Bound::from_owned_ptr(py, std::mem::replace(&mut (*this).result, null_mut()))
                };
                self.stop();
                return Ok(SendResult::Returned(result));
            }
            _ => {}
        }
        let Some(steps) = self.steps() else {
            return Err(reused());
        };
        let sent = coroutine::send_to(&steps, value);
        if !matches!(sent, Ok(SendResult::Yielded(_))) {
            self.stop();
        }
        sent
    }

    fn thrown(&self, args: &[Arg<'_, 'py>]) -> PyResult<Bound<'py, PyAny>> {
        let py = self.py();
        let Some(steps) = self.steps() else {
            if self.phase() == Phase::Done {
                return Err(coroutine::thrown_at_the_end(py, args)?);
            }
            // Arguments that `throw()` does not take leave everything as it is.
            let error = if self.phase() == Phase::Yielded {
                // asyncio's coroutine has a generator inside here.
                // SAFETY: our layout; the delay is there for life.
                let delay = unsafe { Bound::from_borrowed_ptr(py, (*self.fields()).delay) };
                let own = asyncios_own(&delay, py.None().bind(py))?;
                own.call_method1(intern!(py, "send"), (py.None(),))?;
                coroutine::uncaught_by(&own, args)?
            } else {
                coroutine::uncaught(py, args)?
            };
            self.stop();
            return Err(error);
        };
        let args = arguments(py, args)?;
        steps.call_method1(intern!(py, "throw"), args).inspect_err(|_| self.stop())
    }
}

fn reused() -> PyErr {
    PyRuntimeError::new_err("cannot reuse already awaited coroutine")
}

/// The time has come.
///
/// # Safety
///
/// `slf` is a sleep.
unsafe fn fire(py: Python<'_>, slf: &Py<PyAny>) -> PyResult<()> {
    // SAFETY: only `TIMER` has this function, and only sleeps are timers of that kind.
    let sleep = unsafe { Sleep::borrowed(py, slf.as_ptr()) };
    if sleep.phase() != Phase::Waiting {
        return Ok(());
    }
    let Some(types) = ctypes::types(py)? else { return Ok(()) };
    let this = sleep.fields();
    // SAFETY: our layout; a sleep that waits has both.
    let (future, result) = unsafe {
        (Bound::from_borrowed_ptr(py, (*this).future), Bound::from_borrowed_ptr(py, (*this).result))
    };
    if !types.cancelled.ask(&future)? {
        types.set_result.call(&future, &[&result], None)?;
    }
    Ok(())
}

impl Coroutine for SleepObject {
    #[inline]
    fn send<'py>(slf: &ObjectRef<'py, Self>, value: Arg<'_, 'py>) -> PyResult<SendResult<'py>> {
        let sleep = Sleep::of(slf);
        sleep.stepping(|| sleep.step(value))
    }

    fn throw<'py>(
        slf: &ObjectRef<'py, Self>,
        args: &[Arg<'_, 'py>],
    ) -> PyResult<Bound<'py, PyAny>> {
        let sleep = Sleep::of(slf);
        coroutine::check_throw(sleep.py(), args)?;
        sleep.stepping(|| sleep.thrown(args))
    }

    fn close(slf: &ObjectRef<'_, Self>) -> PyResult<()> {
        let sleep = Sleep::of(slf);
        sleep.stepping(|| {
            let steps = sleep.steps();
            sleep.stop();
            if let Some(steps) = steps {
                steps.call_method0(intern!(sleep.py(), "close"))?;
            }
            Ok(())
        })
    }

    fn is_awaited(slf: &ObjectRef<'_, Self>) -> bool {
        !matches!(Sleep::of(slf).phase(), Phase::Fresh | Phase::Done)
    }
}
