//! Rust panics and the arguments of `throw` as Python exceptions.

use pyo3::exceptions::{PyBaseException, PyTypeError};
use pyo3::ffi;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyTuple, PyType};
use pyo3_async_runtimes::err::RustPanic;

use crate::ffi::arguments::Arg;
use crate::ffi::trampoline::panic_text;

/// A future's panic, as the exception that pyo3-async-runtimes raises.
pub(super) fn rust_panic(payload: &(dyn std::any::Any + Send)) -> PyErr {
    let text = panic_text(payload).unwrap_or("unknown error");
    RustPanic::new_err(format!("rust future panicked: {text}"))
}

/// Hands an exception that no caller gets to the loop's exception handler.
pub(super) fn tell<'py>(
    event_loop: &Bound<'py, PyAny>,
    message: impl IntoPyObject<'py>,
    error: &PyErr,
) -> PyResult<()> {
    let py = event_loop.py();
    let about = PyDict::new(py);
    about.set_item("message", message)?;
    about.set_item("exception", error.value(py))?;
    event_loop.call_method1(intern!(py, "call_exception_handler"), (about,)).map(drop)
}

/// The exception that the arguments of a coroutine's `throw` mean.
pub(super) fn thrown<'py>(py: Python<'py>, args: &[Arg<'_, 'py>]) -> PyErr {
    let arg = |at: usize| args.get(at).map(|it| (*it).to_owned());
    let Some(kind) = arg(0) else {
        return PyTypeError::new_err("throw expected at least 1 argument, got 0");
    };
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
