//! How Python steps a coroutine of the core's own: `send`, `throw`, `close`, `await`, written once.
//!
//! `sleep`, the `sock_*` calls and Rust futures are state machines; what differs between them is
//! behind [`Coroutine`].

use std::ffi::{CStr, CString, c_void};
use std::ptr::null_mut;

use pyo3::exceptions::{PyRuntimeError, PyRuntimeWarning, PyStopIteration, PyTypeError};
use pyo3::ffi;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::PyType;

use crate::object::{
    self, Args, METHODS_END, Object, Table, enter, fast_method, plain_method, slot, unary_method,
};

/// A kind of coroutines. Each `slf` is a live object of the kind's class.
pub(crate) trait Coroutine: 'static {
    /// One step; `result` is what it yields or returns, a new reference.
    fn send(
        py: Python<'_>,
        slf: Object,
        value: Object,
        result: *mut Object,
    ) -> PyResult<ffi::PySendResult>;

    /// What it yields once something was thrown into it, a new reference.
    fn throw(py: Python<'_>, slf: Object, args: &[Object]) -> PyResult<Object>;

    fn close(py: Python<'_>, slf: Object) -> PyResult<()>;

    /// Whether another `await` of it is refused.
    fn is_awaited(_py: Python<'_>, _slf: Object) -> bool {
        false
    }

    #[doc(hidden)]
    const METHODS: &'static Table<[ffi::PyMethodDef; 4]> = &Table([
        unary_method(c"send", method_send::<Self>, c"send($self, value, /)\n--\n\n"),
        fast_method(
            c"throw",
            method_throw::<Self>,
            c"throw($self, typ, val=None, tb=None, /)\n--\n\n",
        ),
        plain_method(c"close", method_close::<Self>, c"close($self, /)\n--\n\n"),
        METHODS_END,
    ]);
}

/// Makes the class of a kind; `own` are its slots besides those of every coroutine.
pub(crate) fn new_class<K: Coroutine + ?Sized>(
    py: Python<'_>,
    name: &'static CStr,
    size: usize,
    own: impl IntoIterator<Item = ffi::PyType_Slot>,
) -> PyResult<Py<PyType>> {
    let mut slots = vec![
        slot(ffi::Py_tp_iter, itself as *mut c_void),
        slot(ffi::Py_tp_iternext, next::<K> as *mut c_void),
        slot(ffi::Py_am_await, am_await::<K> as *mut c_void),
        slot(ffi::Py_am_send, am_send::<K> as *mut c_void),
        slot(ffi::Py_tp_methods, K::METHODS.0.as_ptr().cast_mut().cast()),
    ];
    slots.extend(own);
    let class = object::new_type(py, name, size, &[py.get_type::<PyAny>()], slots)?;
    // `create_task` and `iscoroutine` ask this base class.
    py.import("collections.abc")?.getattr("Coroutine")?.call_method1("register", (&class,))?;
    Ok(class.unbind())
}

/// What `throw()` raises when nothing is there to catch it. Arguments that `throw()` does not take
/// are the error, and then the coroutine goes on.
///
/// A coroutine of Python's own says which, in this CPython's words.
pub(crate) fn uncaught(py: Python<'_>, args: &[Object]) -> PyResult<PyErr> {
    let nothing = crate::cached::helpers(py)?.bind(py).call_method0(intern!(py, "nothing"))?;
    uncaught_by(&nothing, args)
}

/// The same for what is thrown into `coro`, a coroutine of Python's own.
pub(crate) fn uncaught_by(coro: &Bound<'_, PyAny>, args: &[Object]) -> PyResult<PyErr> {
    let py = coro.py();
    let args = crate::handles::arguments(py, args)?;
    let error = match coro.call_method1(intern!(py, "throw"), args) {
        Ok(_) => PyRuntimeError::new_err("throw() raised nothing"),
        Err(error) => error,
    };
    if coro.getattr(intern!(py, "cr_frame"))?.is_none() {
        return Ok(error);
    }
    coro.call_method0(intern!(py, "close"))?;
    Err(error)
}

/// As for a coroutine of Python's own. For destructors: with no exception set.
pub(crate) fn warn_never_awaited(py: Python<'_>, name: &str) {
    let Ok(text) = CString::new(format!("coroutine '{name}' was never awaited")) else { return };
    if let Err(error) = PyErr::warn(py, &py.get_type::<PyRuntimeWarning>(), &text, 1) {
        error.write_unraisable(py, None);
    }
}

unsafe extern "C" fn am_send<K: Coroutine + ?Sized>(
    slf: Object,
    value: Object,
    result: *mut Object,
) -> ffi::PySendResult {
    // SAFETY: the caller's out parameter, which must be null on error.
    unsafe { *result = null_mut() };
    // SAFETY: CPython calls this, and holds the GIL.
    let held = unsafe { Python::assume_attached() };
    enter(held, ffi::PySendResult::PYGEN_ERROR, |py| K::send(py, slf, value, result))
}

/// One step in the old way, where a result is a raised `StopIteration`. `bare`: one without a value
/// need not be raised.
#[inline]
fn step<K: Coroutine + ?Sized>(slf: Object, value: Object, bare: bool) -> Object {
    // SAFETY: CPython calls this, and holds the GIL.
    let held = unsafe { Python::assume_attached() };
    enter(held, null_mut(), |py| {
        let mut result = null_mut();
        if K::send(py, slf, value, &mut result)? == ffi::PySendResult::PYGEN_NEXT {
            return Ok(result);
        }
        // SAFETY: a new reference, set on return.
        let value = unsafe { object::owned(py, result)? };
        if value.is_none() {
            if !bare {
                // SAFETY: an exception class, which needs no value.
                unsafe { ffi::PyErr_SetNone(ffi::PyExc_StopIteration) };
            }
            return Ok(null_mut());
        }
        Err(PyStopIteration::new_err((value.unbind(),)))
    })
}

unsafe extern "C" fn method_send<K: Coroutine + ?Sized>(slf: Object, value: Object) -> Object {
    step::<K>(slf, value, false)
}

/// What an `await` calls before 3.12.
unsafe extern "C" fn next<K: Coroutine + ?Sized>(slf: Object) -> Object {
    // SAFETY: lives for ever.
    step::<K>(slf, unsafe { ffi::Py_None() }, true)
}

unsafe extern "C" fn method_throw<K: Coroutine + ?Sized>(
    slf: Object,
    args: *const Object,
    count: ffi::Py_ssize_t,
    names: Object,
) -> Object {
    // SAFETY: CPython's own arguments.
    let args = unsafe { Args::new(args, count, names) };
    // SAFETY: CPython calls this, and holds the GIL.
    let held = unsafe { Python::assume_attached() };
    enter(held, null_mut(), |py| {
        if args.has_keywords() {
            return Err(PyTypeError::new_err("coroutine.throw() takes no keyword arguments"));
        }
        if !(1..=3).contains(&args.positional.len()) {
            return Err(uncaught(py, args.positional)?);
        }
        K::throw(py, slf, args.positional)
    })
}

unsafe extern "C" fn method_close<K: Coroutine + ?Sized>(slf: Object, _: Object) -> Object {
    // SAFETY: CPython calls this, and holds the GIL.
    let held = unsafe { Python::assume_attached() };
    enter(held, null_mut(), |py| {
        K::close(py, slf)?;
        Ok(py.None().into_ptr())
    })
}

unsafe extern "C" fn am_await<K: Coroutine + ?Sized>(slf: Object) -> Object {
    // SAFETY: CPython calls this, and holds the GIL.
    let held = unsafe { Python::assume_attached() };
    enter(held, null_mut(), |py| {
        if K::is_awaited(py, slf) {
            return Err(PyRuntimeError::new_err("coroutine is being awaited already"));
        }
        // SAFETY: a live object.
        Ok(unsafe { ffi::Py_NewRef(slf) })
    })
}

unsafe extern "C" fn itself(slf: Object) -> Object {
    // SAFETY: a live object.
    unsafe { ffi::Py_NewRef(slf) }
}
