//! The Python class of awaitables.
//!
//! It is made once a process, for one layout, without subclasses, and its objects are made by `new`
//! alone. So CPython's check of `self` is the proof of the layout that its functions rest on.

use std::ffi::c_void;
use std::ptr::{null, null_mut};

use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyBool, PyString, PyType};

use super::state::{Awaitable, AwaitableObject, FutureType, Phase};
use crate::future::BoxedFuture;
use crate::link::Link;
use crate::python::arguments::Arg;
use crate::python::class::{self, Definition, object_getter, slot};
use crate::python::coroutine::{self, Coroutine, SendResult};
use crate::python::definitions::getter;
use crate::python::object::Object;
use crate::python::trampoline::enter;

/// A new awaitable, which is bound to a loop when it is first stepped.
pub(crate) fn new<'py>(
    py: Python<'py>,
    future: BoxedFuture,
    future_type: FutureType,
) -> PyResult<Bound<'py, PyAny>> {
    let fields = || AwaitableObject {
        weakrefs: null_mut(),
        future_type,
        future: Some(future),
        event_loop: null_mut(),
        target: null(),
        yielded: null_mut(),
        link: Link::Foreign,
        phase: Phase::Fresh,
    };
    // Tracked by the collector once it refers to something.
    // SAFETY: the class of this layout.
    unsafe { class::allocate(py, class(py)?, fields).map(class::ObjectRef::into_any) }
}

impl Coroutine for AwaitableObject {
    #[inline]
    fn send<'py>(awaitable: &Awaitable<'py>, value: Arg<'_, 'py>) -> PyResult<SendResult<'py>> {
        awaitable.step(value)
    }

    fn throw<'py>(
        awaitable: &Awaitable<'py>,
        args: &[Arg<'_, 'py>],
    ) -> PyResult<Bound<'py, PyAny>> {
        Err(awaitable.thrown(args))
    }

    fn close(awaitable: &Awaitable<'_>) -> PyResult<()> {
        awaitable.closed()
    }

    fn is_awaited(awaitable: &Awaitable<'_>) -> bool {
        !matches!(awaitable.phase(), Phase::Fresh | Phase::Done)
    }
}

impl Awaitable<'_> {
    fn name(&self) -> &'static str {
        // SAFETY: our layout; the name never changes.
        unsafe { (*self.fields()).future_type }.name()
    }
}

object_getter!(get_name, AwaitableObject, |slf| {
    let name = slf.name();
    Ok(PyString::new(slf.py(), name.rsplit("::").next().unwrap_or(name)))
});

object_getter!(get_qualname, AwaitableObject, |slf| Ok(PyString::new(slf.py(), slf.name())));

object_getter!(get_running, AwaitableObject, |slf| {
    Ok(PyBool::new(slf.py(), slf.phase() == Phase::Running).to_owned())
});

object_getter!(get_suspended, AwaitableObject, |slf| {
    Ok(PyBool::new(slf.py(), slf.phase() == Phase::Suspended).to_owned())
});

unsafe extern "C" fn repr(slf: Object) -> Object {
    // SAFETY: CPython calls this, and holds the GIL.
    let held = unsafe { Python::assume_attached() };
    enter(held, null_mut(), |py| {
        // SAFETY: CPython checked the type of `slf`, which is alive for the call.
        let name = unsafe { Awaitable::borrowed(py, slf) }.name();
        let text = format!("<coroutine object {name} at {slf:p}>");
        Ok(PyString::new(py, &text).into_ptr())
    })
}

fn class(py: Python<'_>) -> PyResult<&Py<PyType>> {
    static CLASS: PyOnceLock<Py<PyType>> = PyOnceLock::new();
    CLASS.get_or_try_init(py, || {
        let definition = Definition {
            getters: &[
                getter(c"__name__", get_name),
                getter(c"__qualname__", get_qualname),
                getter(c"cr_running", get_running),
                getter(c"cr_suspended", get_suspended),
                coroutine::ORIGIN,
            ],
            slots: &[slot(ffi::Py_tp_repr, repr as *mut c_void)],
            ..Definition::default()
        };
        // SAFETY: functions of these kinds, for the layout of awaitables; `new` alone makes one.
        unsafe {
            coroutine::new_class::<AwaitableObject>(py, c"tokioloop_bridge.RustFuture", &definition)
        }
    })
}
