//! `sleep`: a coroutine of the core's own, which is its timer as well.
//!
//! Its first step puts it into the loop's heap and waits for a C future. When the time has come the
//! timer sets that future without a handle, a context or a Python frame. Where the running loop is
//! not one of ours, or has methods that a program replaced, the call gives asyncio's own coroutine.
//!
//! It has no `cr_await` and no `cr_frame`: asyncio's call graph takes an object that has them for a
//! coroutine with a Python frame.
//!
//! # States
//!
//! [`Phase`](state::Phase) says what a sleep holds; it only moves down the list, and `Done` holds no more than
//! `delay`. While a step runs `running` is set, and every other call is refused, as by a coroutine in
//! Python: the loop's `time()` and the making of a future run Python code, which may know the sleep.
//! So phase and fields change only in a step, in `close()` and `throw()`, and in the collector's
//! `clear`, always with the GIL held. References are taken out before they are dropped.
//!
//! A sleep that waits is in the loop's heap, which holds a reference. `scheduled` says so, and only
//! the heap writes it. One that is over (`Done`) stays there as a cancelled timer: `fire` does
//! nothing then. `fire` is the loop's only way back to the sleep, and needs `future` and `result`,
//! which a waiting sleep always has.
//!
//! The last reference frees it, through the trashcan: its result may be another sleep. The memory is
//! kept for the next one.

// Each module uses only modules named before it: state, steps, class.
pub(super) mod class;
mod state;
mod steps;

use pyo3::exceptions::PyTypeError;
use pyo3::ffi;
use pyo3::prelude::*;

use super::ctypes::on_plain_loop;
use crate::ffi::arguments::{Arg, Args, Matching};
use crate::ffi::coroutine_function;
use crate::ffi::trampoline::vectorcall;

vectorcall!(called, |py, _slf, args| call(py, &args));

/// Makes the function.
pub(super) fn function(py: Python<'_>) -> PyResult<Bound<'_, PyAny>> {
    // SAFETY: it takes any arguments.
    unsafe { coroutine_function::make(py, c"sleep", c"", called) }
}

/// `tokioloop.sleep(delay, result=None)`.
fn call<'py>(py: Python<'py>, args: &Args<'_, 'py>) -> PyResult<Bound<'py, PyAny>> {
    if args.positional.len() > 2 {
        return Err(PyTypeError::new_err(format!(
            "sleep() takes from 1 to 2 positional arguments but {} were given",
            args.positional.len()
        )));
    }
    let [delay, result] = args.bind("sleep", ["delay", "result"], 2, 1)?;
    // SAFETY: `None` lives for ever.
    let none = unsafe { Arg::from_ptr(py, ffi::Py_None()) };
    let result = result.unwrap_or(none);
    // `bind` has raised if there is no delay.
    let Some(delay) = delay else { return Err(PyTypeError::new_err("no delay")) };
    if is_plain(&delay)
        && let Some(made) = on_plain_loop(py, |_, _| class::new(delay, result))?
    {
        return Ok(made.into_any());
    }
    steps::asyncios_own(&delay, &result)
}

/// Exactly a `float`, or an `int` that can be made one.
fn is_plain(delay: &Bound<'_, PyAny>) -> bool {
    // SAFETY: a live object, which is converted only if it is exactly an `int`; an error of the
    // conversion is cleared.
    unsafe {
        if ffi::PyFloat_CheckExact(delay.as_ptr()) != 0 {
            return true;
        }
        if ffi::PyLong_CheckExact(delay.as_ptr()) == 0 {
            return false;
        }
        let too_great =
            ffi::PyLong_AsDouble(delay.as_ptr()) == -1.0 && !ffi::PyErr_Occurred().is_null();
        if too_great {
            ffi::PyErr_Clear();
        }
        !too_great
    }
}
