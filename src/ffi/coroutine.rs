//! How Python steps a coroutine of the core's own: `send`, `throw`, `close`, `await`, written once.
//!
//! `sleep`, the `sock_*` calls and Rust futures are state machines; what differs between them is
//! behind [`Coroutine`]. [`This`] is how they get at their fields: a reference to an object that is
//! known to be of the kind's class, which only the functions in here that CPython calls, and the
//! kinds where they find one of their objects again, make out of a pointer.

use std::ffi::{CStr, CString, c_void};
use std::marker::PhantomData;
use std::ptr::null_mut;

use pyo3::exceptions::{PyRuntimeError, PyRuntimeWarning, PyStopIteration, PyTypeError};
use pyo3::ffi;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::PyType;

use crate::ffi::arguments::{Arg, Args};
use crate::ffi::class::{self, slot};
use crate::ffi::definitions::{Definitions, METHODS_END, fast_method, plain_method, unary_method};
use crate::ffi::object::{self, Object};
use crate::ffi::trampoline::enter;
use crate::ffi::tuples::arguments;

/// A kind of coroutines.
///
/// # Safety
/// `Object` must be `repr(C)` and start with an object's head.
pub(crate) unsafe trait Coroutine: Sized + 'static {
    /// The layout of the objects of its class.
    type Object;

    /// One step.
    fn send<'py>(slf: &This<'py, Self>, value: Arg<'_, 'py>) -> PyResult<Sent<'py>>;

    /// What it yields once something was thrown into it.
    fn throw<'py>(slf: &This<'py, Self>, args: &[Arg<'_, 'py>]) -> PyResult<Bound<'py, PyAny>>;

    fn close(slf: &This<'_, Self>) -> PyResult<()>;

    /// Whether another `await` of it is refused.
    fn is_awaited(_slf: &This<'_, Self>) -> bool {
        false
    }

    #[doc(hidden)]
    const METHODS: &'static Definitions<[ffi::PyMethodDef; 4]> = &Definitions([
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

/// What a step came to.
pub(crate) enum Sent<'py> {
    Yields(Bound<'py, PyAny>),
    Returns(Bound<'py, PyAny>),
}

/// Steps an iterator or a coroutine of whatever kind.
#[inline]
pub(crate) fn send_to<'py>(steps: &Bound<'py, PyAny>, value: Arg<'_, 'py>) -> PyResult<Sent<'py>> {
    let (py, mut result) = (steps.py(), null_mut());
    // SAFETY: two live objects and a local out parameter, which gets a new reference unless there
    // is an error; that it is an iterator or has `send` CPython asks itself.
    unsafe {
        Ok(match ffi::PyIter_Send(steps.as_ptr(), value.as_ptr(), &mut result) {
            ffi::PySendResult::PYGEN_NEXT => Sent::Yields(Bound::from_owned_ptr(py, result)),
            ffi::PySendResult::PYGEN_RETURN => Sent::Returns(Bound::from_owned_ptr(py, result)),
            ffi::PySendResult::PYGEN_ERROR => return Err(object::fetch(py)),
        })
    }
}

/// A reference to an object of a kind's class.
pub(crate) struct This<'py, K>(Bound<'py, PyAny>, PhantomData<K>);

impl<'py, K: Coroutine> This<'py, K> {
    /// # Safety
    /// `object` must be a live object of the class that `new_class::<K>` made.
    #[inline]
    pub(crate) unsafe fn borrowed(py: Python<'py>, object: Object) -> Self {
        // SAFETY: the caller's promise.
        Self(unsafe { Bound::from_borrowed_ptr(py, object) }, PhantomData)
    }

    /// # Safety
    /// `object` must be a new reference to an object of the class that `new_class::<K>` made.
    #[inline]
    pub(crate) unsafe fn owned(py: Python<'py>, object: Object) -> Self {
        // SAFETY: the caller's promise.
        Self(unsafe { Bound::from_owned_ptr(py, object) }, PhantomData)
    }

    #[inline]
    pub(crate) fn py(&self) -> Python<'py> {
        self.0.py()
    }

    #[inline]
    pub(crate) fn as_any(&self) -> &Bound<'py, PyAny> {
        &self.0
    }

    #[inline]
    pub(crate) fn into_any(self) -> Bound<'py, PyAny> {
        self.0
    }

    /// Its fields, which are there as long as this reference.
    #[inline]
    pub(crate) fn fields(&self) -> *mut K::Object {
        self.0.as_ptr().cast()
    }
}

/// Makes the class of a kind; `own` are its slots besides those of every coroutine.
///
/// # Safety
/// That of `class::new_type`, for `own` and for objects laid out as `K::Object` is.
pub(crate) unsafe fn new_class<K: Coroutine>(
    py: Python<'_>,
    name: &'static CStr,
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
    let (size, base) = (size_of::<K::Object>(), py.get_type::<PyAny>());
    // SAFETY: the slots of ours are functions of those kinds, which take objects of this class; for
    // the others there is the caller's promise. A coroutine's layout starts with an object's.
    let class = unsafe { class::new_type(py, name, size, &[base], slots)? };
    // `create_task` and `iscoroutine` ask this base class.
    py.import("collections.abc")?.getattr("Coroutine")?.call_method1("register", (&class,))?;
    Ok(class.unbind())
}

/// What `throw()` raises when nothing is there to catch it. Arguments that `throw()` does not take
/// are the error, and then the coroutine goes on.
///
/// A coroutine of Python's own says which, in this CPython's words.
pub(crate) fn uncaught<'py>(py: Python<'py>, args: &[Arg<'_, 'py>]) -> PyResult<PyErr> {
    let nothing =
        crate::ffi::imports::helpers(py)?.bind(py).call_method0(intern!(py, "nothing"))?;
    uncaught_by(&nothing, args)
}

/// What `throw()` raises once the coroutine is over. Nothing is thrown into one that has not begun: a
/// CPython with assertions does not survive a `StopIteration` there.
pub(crate) fn thrown_at_the_end<'py>(py: Python<'py>, args: &[Arg<'_, 'py>]) -> PyResult<PyErr> {
    let over = crate::ffi::imports::helpers(py)?.bind(py).call_method0(intern!(py, "nothing"))?;
    // It returns, which `send()` raises.
    drop(over.call_method1(intern!(py, "send"), (py.None(),)));
    uncaught_by(&over, args)
}

/// The same for what is thrown into `coro`, a coroutine of Python's own.
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

/// As for a coroutine of Python's own. For destructors: with no exception set.
pub(crate) fn warn_never_awaited(py: Python<'_>, name: &str) {
    let Ok(text) = CString::new(format!("coroutine '{name}' was never awaited")) else { return };
    if let Err(error) = PyErr::warn(py, &py.get_type::<PyRuntimeWarning>(), &text, 1) {
        error.write_unraisable(py, None);
    }
}

unsafe extern "C" fn am_send<K: Coroutine>(
    slf: Object,
    value: Object,
    result: *mut Object,
) -> ffi::PySendResult {
    // SAFETY: the caller's out parameter, which must be null on error.
    unsafe { *result = null_mut() };
    // SAFETY: CPython calls this, and holds the GIL.
    let held = unsafe { Python::assume_attached() };
    enter(held, ffi::PySendResult::PYGEN_ERROR, |py| {
        // SAFETY: a slot of the kind's class; CPython passes one of its objects and a value, both
        // alive for the call.
        let (slf, value) = unsafe { (This::<K>::borrowed(py, slf), Arg::from_ptr(py, value)) };
        let (how, object) = match K::send(&slf, value)? {
            Sent::Yields(object) => (ffi::PySendResult::PYGEN_NEXT, object),
            Sent::Returns(object) => (ffi::PySendResult::PYGEN_RETURN, object),
        };
        // SAFETY: the caller's out parameter, which takes a new reference.
        unsafe { *result = object.into_ptr() };
        Ok(how)
    })
}

/// How a step in the old way tells that a coroutine returned `None`.
#[derive(Clone, Copy, PartialEq)]
enum Ending {
    /// By a `StopIteration`, as for any other value.
    Raised,
    /// By no value and no exception, which `tp_iternext` may do.
    Bare,
}

/// One step in the old way, where a result is a raised `StopIteration`.
///
/// # Safety
/// `slf` must be a live object of the kind's class, `value` a live object, and the GIL be held.
#[inline]
unsafe fn step<K: Coroutine>(slf: Object, value: Object, ending: Ending) -> Object {
    // SAFETY: the caller's promise.
    let held = unsafe { Python::assume_attached() };
    enter(held, null_mut(), |py| {
        // SAFETY: the caller's promise.
        let (slf, value) = unsafe { (This::<K>::borrowed(py, slf), Arg::from_ptr(py, value)) };
        let value = match K::send(&slf, value)? {
            Sent::Yields(object) => return Ok(object.into_ptr()),
            Sent::Returns(value) => value,
        };
        if value.is_none() {
            if ending == Ending::Raised {
                // SAFETY: an exception class, which needs no value; the GIL is held.
                unsafe { ffi::PyErr_SetNone(ffi::PyExc_StopIteration) };
            }
            return Ok(null_mut());
        }
        Err(PyStopIteration::new_err((value.unbind(),)))
    })
}

unsafe extern "C" fn method_send<K: Coroutine>(slf: Object, value: Object) -> Object {
    // SAFETY: a method of the kind's class; CPython checked the type of `slf`, holds the GIL, and
    // keeps both alive for the call.
    unsafe { step::<K>(slf, value, Ending::Raised) }
}

/// What an `await` calls before 3.12.
unsafe extern "C" fn next<K: Coroutine>(slf: Object) -> Object {
    // SAFETY: a slot of the kind's class; CPython holds the GIL and keeps `slf` alive for the call.
    // `None` lives for ever.
    unsafe { step::<K>(slf, ffi::Py_None(), Ending::Bare) }
}

unsafe extern "C" fn method_throw<K: Coroutine>(
    slf: Object,
    args: *const Object,
    count: ffi::Py_ssize_t,
    names: Object,
) -> Object {
    // SAFETY: CPython calls this, and holds the GIL.
    let held = unsafe { Python::assume_attached() };
    enter(held, null_mut(), |py| {
        // SAFETY: a method of the kind's class; CPython checked the type of `slf`, keeps it alive
        // for the call, and passes arguments of its own.
        let (slf, args) =
            unsafe { (This::<K>::borrowed(py, slf), Args::new(py, args, count, names)) };
        if args.has_keywords() {
            return Err(PyTypeError::new_err("coroutine.throw() takes no keyword arguments"));
        }
        if !(1..=3).contains(&args.positional.len()) {
            return Err(uncaught(py, args.positional)?);
        }
        K::throw(&slf, args.positional).map(Bound::into_ptr)
    })
}

unsafe extern "C" fn method_close<K: Coroutine>(slf: Object, _: Object) -> Object {
    // SAFETY: CPython calls this, and holds the GIL.
    let held = unsafe { Python::assume_attached() };
    enter(held, null_mut(), |py| {
        // SAFETY: a method of the kind's class; CPython checked the type of `slf` and keeps it
        // alive for the call.
        K::close(&unsafe { This::borrowed(py, slf) })?;
        Ok(py.None().into_ptr())
    })
}

unsafe extern "C" fn am_await<K: Coroutine>(slf: Object) -> Object {
    // SAFETY: CPython calls this, and holds the GIL.
    let held = unsafe { Python::assume_attached() };
    enter(held, null_mut(), |py| {
        // SAFETY: a slot of the kind's class; CPython keeps `slf` alive for the call.
        let slf = unsafe { This::<K>::borrowed(py, slf) };
        if K::is_awaited(&slf) {
            return Err(PyRuntimeError::new_err("coroutine is being awaited already"));
        }
        Ok(slf.into_any().into_ptr())
    })
}

unsafe extern "C" fn itself(slf: Object) -> Object {
    // SAFETY: CPython keeps `slf` alive for the call, and holds the GIL.
    unsafe { ffi::Py_NewRef(slf) }
}
