//! The Python class of sleeps.

use std::ffi::c_void;
use std::ptr::null_mut;

use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyBool, PyString, PyType};

use super::state::{FREE, Phase, SleepObject};
use crate::ffi::arguments::Arg;
use crate::ffi::class::{self, Definition, ObjectRef, object_getter, slot};
use crate::ffi::coroutine::{self, Coroutine};
use crate::ffi::definitions::getter;
use crate::ffi::object::Object;
use crate::ffi::trampoline::enter;

/// A new sleep; `delay` must be plain.
pub(super) fn new<'py>(
    delay: Arg<'_, 'py>,
    result: Arg<'_, 'py>,
) -> PyResult<ObjectRef<'py, SleepObject>> {
    let py = delay.py();
    let class = class(py)?;
    let fields = || SleepObject {
        head: ffi::PyObject_HEAD_INIT,
        weakrefs: null_mut(),
        delay: delay.to_owned().into_ptr(),
        result: result.to_owned().into_ptr(),
        event_loop: null_mut(),
        future: null_mut(),
        steps: null_mut(),
        phase: Phase::Fresh,
        scheduled: false,
        running: false,
    };
    // SAFETY: the class of this layout; memory in the list has an initialised head, and holds nothing
    // besides. The references move into the object.
    let sleep = unsafe {
        match FREE.pop(py, class.as_ptr().cast()) {
            Some(memory) => class::initialise(py, memory.as_ptr(), fields()),
            None => class::allocate(py, class, fields)?,
        }
    };
    // With nothing but numbers in it, it cannot be a part of a cycle yet.
    // SAFETY: a live object; only its type is looked at.
    if unsafe { ffi::PyObject_IS_GC(result.as_ptr()) } != 0 {
        sleep.track_new();
    }
    Ok(sleep)
}

object_getter!(get_name, SleepObject, |slf| Ok(PyString::new(slf.py(), "sleep")));

object_getter!(get_running, SleepObject, |slf| {
    // SAFETY: our layout, with the GIL held.
    Ok(PyBool::new(slf.py(), unsafe { (*slf.fields()).running }).to_owned())
});

object_getter!(get_suspended, SleepObject, |slf| {
    Ok(PyBool::new(slf.py(), SleepObject::is_awaited(slf)).to_owned())
});

unsafe extern "C" fn repr(slf: Object) -> Object {
    // SAFETY: CPython calls this, and holds the GIL.
    let held = unsafe { Python::assume_attached() };
    enter(held, null_mut(), |py| {
        Ok(PyString::new(py, &format!("<coroutine object sleep at {slf:p}>")).into_ptr())
    })
}

/// The class of sleeps.
pub(in crate::primitives) fn class(py: Python<'_>) -> PyResult<&'static Py<PyType>> {
    static CLASS: PyOnceLock<Py<PyType>> = PyOnceLock::new();
    CLASS.get_or_try_init(py, || {
        let definition = Definition {
            getters: &[
                getter(c"__name__", get_name),
                getter(c"__qualname__", get_name),
                getter(c"cr_running", get_running),
                getter(c"cr_suspended", get_suspended),
                coroutine::ORIGIN,
            ],
            slots: &[class::doc(c"\
                A call of :func:`tokioloop.sleep` on a :class:`tokioloop.Loop`: a coroutine and its timer.\n\
                \n\
                Only ``sleep`` creates it. Warns with ``RuntimeWarning`` if it is never awaited."), slot(ffi::Py_tp_repr, repr as *mut c_void)],
            ..Definition::default()
        };
        // SAFETY: functions of these kinds, for the layout of sleeps; `new` alone makes one.
        unsafe { coroutine::new_class::<SleepObject>(py, c"tokioloop._core.Sleep", &definition) }
    })
}
