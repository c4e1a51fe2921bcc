//! Native coroutines of the core: what they are stepped with, and what is thrown into them.

use std::ptr::null_mut;

use pyo3::exceptions::{PyRuntimeError, PyValueError};
use pyo3::ffi;
use pyo3::intern;
use pyo3::prelude::*;
pub(crate) use tokioloop_bridge::python::coroutine::{
    Coroutine, ORIGIN, SendResult, is_native, new_class, warn_never_awaited,
};

use crate::ffi::arguments::Arg;
use crate::ffi::imports;
use crate::ffi::object;
use crate::ffi::tuples::arguments;

/// A coroutine's mark that it runs, for as long as this lives: also if the step panics.
pub(crate) struct Running(*mut bool);

impl Running {
    /// Refuses a coroutine that runs already.
    ///
    /// # Safety
    /// `mark` must be a field of an object that outlives the result, in which nobody else writes to it.
    #[inline]
    pub(crate) unsafe fn begin(mark: *mut bool) -> PyResult<Self> {
        // SAFETY: the caller's promise.
        if unsafe { std::mem::replace(&mut *mark, true) } {
            return Err(PyValueError::new_err("coroutine already executing"));
        }
        Ok(Self(mark))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // SAFETY: the promise that `begin` was given.
        unsafe { *self.0 = false };
    }
}

/// Steps an iterator or any coroutine.
#[inline]
pub(crate) fn send_to<'py>(
    steps: &Bound<'py, PyAny>,
    value: Arg<'_, 'py>,
) -> PyResult<SendResult<'py>> {
    let (py, mut result) = (steps.py(), null_mut());
    // SAFETY: two live objects and a local out parameter, which gets a new reference unless there
    // is an error; CPython itself checks that the object is an iterator or has `send`.
    unsafe {
        Ok(match ffi::PyIter_Send(steps.as_ptr(), value.as_ptr(), &mut result) {
            ffi::PySendResult::PYGEN_NEXT => SendResult::Yielded(Bound::from_owned_ptr(py, result)),
            ffi::PySendResult::PYGEN_RETURN => {
                SendResult::Returned(Bound::from_owned_ptr(py, result))
            }
            ffi::PySendResult::PYGEN_ERROR => return Err(object::fetch(py)),
        })
    }
}

/// Refuses a number of arguments that `throw()` does not take; the coroutine goes on.
pub(crate) fn check_throw<'py>(py: Python<'py>, args: &[Arg<'_, 'py>]) -> PyResult<()> {
    if (1..=3).contains(&args.len()) { Ok(()) } else { Err(uncaught(py, args)?) }
}

/// The exception that `throw()` raises where nothing catches it. If the arguments are not those that
/// `throw()` takes, it is the error about them, and the coroutine goes on.
///
/// An empty coroutine in Python gives the exception, so the texts are those of this CPython.
pub(crate) fn uncaught<'py>(py: Python<'py>, args: &[Arg<'_, 'py>]) -> PyResult<PyErr> {
    let nothing = imports::coroutines(py)?.bind(py).call_method0(intern!(py, "nothing"))?;
    uncaught_by(&nothing, args)
}

/// The exception that `throw()` raises once the coroutine is over. The empty coroutine that gives it
/// is stepped first: a CPython with assertions does not survive a `StopIteration` that is thrown into
/// one that has not begun.
pub(crate) fn thrown_at_the_end<'py>(py: Python<'py>, args: &[Arg<'_, 'py>]) -> PyResult<PyErr> {
    let over = imports::coroutines(py)?.bind(py).call_method0(intern!(py, "nothing"))?;
    // It returns, which `send()` reports as an exception.
    drop(over.call_method1(intern!(py, "send"), (py.None(),)));
    uncaught_by(&over, args)
}

/// The exception that `throw()` raises from `coro`, a coroutine in Python; as for [`uncaught`].
pub(crate) fn uncaught_by<'py>(coro: &Bound<'py, PyAny>, args: &[Arg<'_, 'py>]) -> PyResult<PyErr> {
    let py = coro.py();
    let error = match coro.call_method1(intern!(py, "throw"), arguments(py, args)?) {
        Ok(_) => PyRuntimeError::new_err("throw() raised nothing"),
        Err(error) => error,
    };
    if coro.getattr(intern!(py, "cr_frame"))?.is_none() {
        return Ok(error);
    }
    coro.call_method0(intern!(py, "close"))?;
    Err(error)
}
