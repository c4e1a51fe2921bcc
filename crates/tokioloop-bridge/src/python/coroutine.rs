//! How Python steps a native coroutine: `send`, `throw`, `close`, `await`, written once.
//!
//! Such coroutines are state machines; [`Coroutine`] has the differences.

use std::ffi::{CStr, CString, c_int, c_void};
use std::ptr::null_mut;

use pyo3::exceptions::{PyRuntimeError, PyRuntimeWarning, PyStopIteration, PyTypeError};
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::PyType;

use crate::python::arguments::Arg;
use crate::python::class::{self, Definition, NativeClass, ObjectRef, slot};
use crate::python::definitions::{fast_method, getter, plain_method, unary_method};
use crate::python::gil::GilFlag;
use crate::python::object::Object;
use crate::python::trampoline::{enter, fast_function};

/// A class of native coroutines.
pub trait Coroutine: NativeClass {
    /// One step.
    fn send<'py>(slf: &ObjectRef<'py, Self>, value: Arg<'_, 'py>) -> PyResult<SendResult<'py>>;

    /// Throws an exception into it; returns the object that it yields then. The number of arguments has
    /// not been looked at.
    fn throw<'py>(slf: &ObjectRef<'py, Self>, args: &[Arg<'_, 'py>])
    -> PyResult<Bound<'py, PyAny>>;

    fn close(slf: &ObjectRef<'_, Self>) -> PyResult<()>;

    /// Whether another `await` of it is refused.
    fn is_awaited(_slf: &ObjectRef<'_, Self>) -> bool {
        false
    }
}

/// The result of a step.
pub enum SendResult<'py> {
    Yielded(Bound<'py, PyAny>),
    Returned(Bound<'py, PyAny>),
}

/// `Py_am_send`, which PyO3 does not have in each of its versions.
const AM_SEND: c_int = 81;

/// The classes that `new_class` made.
static CLASSES: GilFlag<[*mut ffi::PyTypeObject; 4]> = GilFlag::new([null_mut(); 4]);

/// Makes a class of coroutines.
///
/// # Safety
/// That of `class::new_class`.
pub unsafe fn new_class<T: Coroutine>(
    py: Python<'_>,
    name: &'static CStr,
    definition: &Definition<'_>,
) -> PyResult<Py<PyType>> {
    let methods = [
        unary_method(
            c"send",
            method_send::<T>,
            c"send($self, value, /)\n--\n\n\
            Run the coroutine to its next suspension; as ``send`` of a coroutine.\n\
            \n\
            Raises ``StopIteration`` with the result, ``RuntimeError`` if the coroutine is over.",
        ),
        fast_method(
            c"throw",
            method_throw::<T>,
            c"throw($self, typ, val=None, tb=None, /)\n--\n\n\
            Raise an exception where the coroutine is suspended; as ``throw`` of a coroutine.",
        ),
        plain_method(
            c"close",
            method_close::<T>,
            c"close($self, /)\n--\n\n\
            End the coroutine, and what it waits for; as ``close`` of a coroutine.",
        ),
    ];
    let slots = [
        slot(ffi::Py_tp_iter, itself as *mut c_void),
        slot(ffi::Py_tp_iternext, next::<T> as *mut c_void),
        slot(ffi::Py_am_await, am_await::<T> as *mut c_void),
        slot(AM_SEND, am_send::<T> as *mut c_void),
    ];
    let definition = Definition {
        methods: &[&methods, definition.methods].concat(),
        getters: definition.getters,
        slots: &[&slots, definition.slots].concat(),
        ..Definition::default()
    };
    // SAFETY: functions of those kinds, which take objects of this class; the others are the caller's
    // promise.
    let class = unsafe { class::new_class::<T>(py, name, &definition)? };
    // `create_task` and `iscoroutine` ask this base class.
    py.import("collections.abc")?.getattr("Coroutine")?.call_method1("register", (&class,))?;
    let mut classes = CLASSES.get(py);
    if let Some(free) = classes.iter_mut().find(|it| it.is_null()) {
        // It is compared as long as the process lives.
        *free = class.clone_ref(py).into_ptr().cast();
        CLASSES.set(py, classes);
    }
    Ok(class)
}

/// The attribute of coroutines that says where they were made: native ones do not record it.
pub const ORIGIN: ffi::PyGetSetDef = getter(c"cr_origin", get_origin);

/// Whether an object is a native coroutine.
#[inline]
pub fn is_native(object: &Bound<'_, PyAny>) -> bool {
    CLASSES.get(object.py()).contains(&object.get_type_ptr())
}

/// The warning that CPython gives for its own coroutines. For destructors: with no exception set.
pub fn warn_never_awaited(py: Python<'_>, name: &str) {
    let Ok(text) = CString::new(format!("coroutine '{name}' was never awaited")) else { return };
    if let Err(error) = PyErr::warn(py, &py.get_type::<PyRuntimeWarning>(), &text, 1) {
        error.write_unraisable(py, None);
    }
}

unsafe extern "C" fn am_send<T: Coroutine>(
    slf: Object,
    value: Object,
    result: *mut Object,
) -> ffi::PySendResult {
    // SAFETY: the caller's out parameter, which must be null on error.
    unsafe { *result = null_mut() };
    // SAFETY: CPython calls this, and holds the GIL.
    let held = unsafe { Python::assume_attached() };
    enter(held, ffi::PySendResult::PYGEN_ERROR, |py| {
        // SAFETY: a slot of the class; CPython passes one of its objects and a value, both
        // alive for the call.
        let (slf, value) = unsafe { (ObjectRef::<T>::borrowed(py, slf), Arg::from_ptr(py, value)) };
        let (how, object) = match T::send(&slf, value)? {
            SendResult::Yielded(object) => (ffi::PySendResult::PYGEN_NEXT, object),
            SendResult::Returned(object) => (ffi::PySendResult::PYGEN_RETURN, object),
        };
        // SAFETY: the caller's out parameter, which takes a new reference.
        unsafe { *result = object.into_ptr() };
        Ok(how)
    })
}

/// How a step without `PyIter_Send` reports that a coroutine returned `None`.
#[derive(Clone, Copy, PartialEq)]
enum Ending {
    /// By a `StopIteration`, as for any other value.
    Raised,
    /// By no value and no exception, which `tp_iternext` may do.
    Bare,
}

/// One step without `PyIter_Send`, where a result is a raised `StopIteration`.
///
/// # Safety
/// `slf` must be a live object of the class, `value` a live object, and the GIL be held.
#[inline]
unsafe fn step<T: Coroutine>(slf: Object, value: Object, ending: Ending) -> Object {
    // SAFETY: the caller's promise.
    let held = unsafe { Python::assume_attached() };
    enter(held, null_mut(), |py| {
        // SAFETY: the caller's promise.
        let (slf, value) = unsafe { (ObjectRef::<T>::borrowed(py, slf), Arg::from_ptr(py, value)) };
        let value = match T::send(&slf, value)? {
            SendResult::Yielded(object) => return Ok(object.into_ptr()),
            SendResult::Returned(value) => value,
        };
        if value.is_none() {
            if ending == Ending::Raised {
                // SAFETY: an exception class, which needs no value; the GIL is held.
                unsafe { ffi::PyErr_SetNone(ffi::PyExc_StopIteration) };
            }
            return Ok(null_mut());
        }
        // SAFETY: live objects, with the GIL held.
        unsafe {
            // CPython would take a tuple for the arguments, and an exception for what is raised.
            let raised = value.as_ptr();
            if ffi::PyTuple_Check(raised) != 0 || ffi::PyExceptionInstance_Check(raised) != 0 {
                return Err(PyStopIteration::new_err((value.unbind(),)));
            }
            ffi::PyErr_SetObject(ffi::PyExc_StopIteration, raised);
        }
        Ok(null_mut())
    })
}

unsafe extern "C" fn method_send<T: Coroutine>(slf: Object, value: Object) -> Object {
    // SAFETY: a method of the class; CPython checked the type of `slf`, holds the GIL, and
    // keeps both alive for the call.
    unsafe { step::<T>(slf, value, Ending::Raised) }
}

/// `await` calls this from CPython 3.12 on.
unsafe extern "C" fn next<T: Coroutine>(slf: Object) -> Object {
    // SAFETY: a slot of the class; CPython holds the GIL and keeps `slf` alive for the call.
    // `None` lives for ever.
    unsafe { step::<T>(slf, ffi::Py_None(), Ending::Bare) }
}

fast_function!(method_throw<T: Coroutine>, |py, slf, args| {
    // SAFETY: a method of the class; CPython checked the type of `slf`, and keeps it alive for the
    // call.
    let slf = unsafe { ObjectRef::<T>::borrowed(py, slf) };
    if args.has_keywords() {
        return Err(PyTypeError::new_err("coroutine.throw() takes no keyword arguments"));
    }
    T::throw(&slf, args.positional)
});

unsafe extern "C" fn method_close<T: Coroutine>(slf: Object, _: Object) -> Object {
    // SAFETY: CPython calls this, and holds the GIL.
    let held = unsafe { Python::assume_attached() };
    enter(held, null_mut(), |py| {
        // SAFETY: a method of the class; CPython checked the type of `slf` and keeps it
        // alive for the call.
        T::close(&unsafe { ObjectRef::borrowed(py, slf) })?;
        Ok(py.None().into_ptr())
    })
}

unsafe extern "C" fn am_await<T: Coroutine>(slf: Object) -> Object {
    // SAFETY: CPython calls this, and holds the GIL.
    let held = unsafe { Python::assume_attached() };
    enter(held, null_mut(), |py| {
        // SAFETY: a slot of the class; CPython keeps `slf` alive for the call.
        let slf = unsafe { ObjectRef::<T>::borrowed(py, slf) };
        if T::is_awaited(&slf) {
            return Err(PyRuntimeError::new_err("coroutine is being awaited already"));
        }
        Ok(slf.into_any().into_ptr())
    })
}

unsafe extern "C" fn itself(slf: Object) -> Object {
    // SAFETY: CPython keeps `slf` alive for the call, and holds the GIL.
    unsafe { ffi::Py_NewRef(slf) }
}

unsafe extern "C" fn get_origin(_slf: Object, _closure: *mut c_void) -> Object {
    // SAFETY: `None` lives for ever.
    unsafe { ffi::Py_NewRef(ffi::Py_None()) }
}
