//! Rust panics as Python exceptions.

use std::any::Any;

use pyo3::Borrowed;
use pyo3::exceptions::{
    PyBaseException, PyException, PyKeyboardInterrupt, PySystemExit, PyTypeError,
};
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyTuple, PyType};
use pyo3::{create_exception, ffi, intern};

use crate::python::arguments::Arg;
use crate::python::trampoline::panic_text;

create_exception!(tokioloop_bridge, RustPanic, PyException, "A Rust future panicked.");

/// A future's panic as an exception.
///
/// If CPython could not make an object, PyO3 panics and leaves CPython's exception set: that is then what
/// the future raises, mostly a `MemoryError`. Left set, it would break the next call into CPython.
pub(crate) fn rust_panic(py: Python<'_>, payload: &(dyn Any + Send)) -> PyErr {
    PyErr::take(py).unwrap_or_else(|| panicked(payload))
}

/// The same where Python is not at hand.
pub(crate) fn panicked(payload: &(dyn Any + Send)) -> PyErr {
    let text = panic_text(payload).unwrap_or("unknown error");
    RustPanic::new_err(format!("rust future panicked: {text}"))
}

/// `SystemExit` and `KeyboardInterrupt` end a loop's run; everything else is reported.
pub fn ends_loop(py: Python<'_>, error: &PyErr) -> bool {
    error.is_instance_of::<PySystemExit>(py) || error.is_instance_of::<PyKeyboardInterrupt>(py)
}

/// Hands an exception that no caller gets to the loop's exception handler.
pub(crate) fn tell<'py>(
    event_loop: &Bound<'py, PyAny>,
    message: impl IntoPyObject<'py>,
    error: &PyErr,
) -> PyResult<()> {
    tell_of(event_loop, message, error, &[])
}

/// The same, with what else the handler is told.
pub(crate) fn tell_of<'py>(
    event_loop: &Bound<'py, PyAny>,
    message: impl IntoPyObject<'py>,
    error: &PyErr,
    more: &[(&str, &Bound<'py, PyAny>)],
) -> PyResult<()> {
    let py = event_loop.py();
    let about = PyDict::new(py);
    about.set_item("message", message)?;
    about.set_item("exception", error.value(py))?;
    for (name, object) in more {
        about.set_item(name, object)?;
    }
    event_loop.call_method1(intern!(py, "call_exception_handler"), (about,)).map(drop)
}

/// The refusal of a number of arguments that a coroutine's `throw` does not take.
pub(crate) fn wrong_count(args: &[Arg<'_, '_>]) -> Option<PyErr> {
    let text = match args.len() {
        0 => "throw expected at least 1 argument, got 0".to_owned(),
        1..=3 => return None,
        count => format!("throw expected at most 3 arguments, got {count}"),
    };
    Some(PyTypeError::new_err(text))
}

/// The exception that the arguments of a coroutine's `throw` mean.
pub(crate) fn thrown<'py>(py: Python<'py>, args: &[Arg<'_, 'py>]) -> PyErr {
    let arg = |at: usize| args.get(at).copied().map(Borrowed::to_owned);
    let Some(kind) = arg(0) else { return PyTypeError::new_err("throw expected an exception") };
    let value = arg(1).filter(|it| !it.is_none());
    let raise = || -> PyResult<PyErr> {
        let error = if kind.is_instance_of::<PyBaseException>() {
            if value.is_some() {
                return Err(PyTypeError::new_err(
                    "instance exception may not have a separate value",
                ));
            }
            kind.clone()
        } else {
            // SAFETY: any live object may be checked.
            if unsafe { ffi::PyExceptionClass_Check(kind.as_ptr()) } == 0 {
                return Err(PyTypeError::new_err(format!(
                    "exceptions must be classes or instances deriving from BaseException, not {}",
                    kind.get_type().name()?
                )));
            }
            match value {
                None => kind.call0()?,
                Some(value) if value.is_instance(kind.cast::<PyType>()?)? => value,
                Some(value) => match value.cast_into::<PyTuple>() {
                    Ok(args) => kind.call1(args)?,
                    Err(other) => kind.call1((other.into_inner(),))?,
                },
            }
        };
        if let Some(traceback) = arg(2).filter(|it| !it.is_none()) {
            error.call_method1(intern!(py, "with_traceback"), (traceback,))?;
        }
        Ok(PyErr::from_value(error))
    };
    raise().unwrap_or_else(|error| error)
}
