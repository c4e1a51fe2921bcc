//! The Python class of calls.

use std::ffi::c_void;
use std::ptr::null_mut;

use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyBool, PyString, PyType};

use super::state::{Call, CallObject, FREE, Kind, Phase};
use crate::ffi::class::{self, Definition, ObjectRef, object_getter, slot};
use crate::ffi::coroutine::{self, Coroutine};
use crate::ffi::definitions::getter;
use crate::ffi::object::Object;
use crate::ffi::trampoline::enter;

/// A new call.
///
/// # Safety
/// The target must be a native reader or writer, as the kind says.
#[inline]
pub(super) unsafe fn new<'py>(
    target: &Bound<'py, PyAny>,
    kind: Kind,
    size: usize,
    separator: Option<&Bound<'py, PyAny>>,
) -> PyResult<Bound<'py, PyAny>> {
    let py = target.py();
    let class = class(py)?;
    let fields = || CallObject {
        head: ffi::PyObject_HEAD_INIT,
        weakrefs: null_mut(),
        target: target.clone().into_ptr(),
        separator: separator.map_or(null_mut(), |it| it.clone().into_ptr()),
        blocks: null_mut(),
        steps: null_mut(),
        size,
        offset: 0,
        kind,
        phase: Phase::Fresh,
        begun: false,
        woken: false,
        running: false,
    };
    // SAFETY: the class of this layout; memory in the list has an initialised head, and holds nothing
    // besides. The references move into the object.
    let call: ObjectRef<'py, CallObject> = unsafe {
        match FREE.pop(py, class.as_ptr().cast()) {
            Some(memory) => class::initialise(py, memory.as_ptr(), fields()),
            None => class::allocate(py, class, fields)?,
        }
    };
    call.track_new();
    Ok(call.into_any())
}

object_getter!(get_name, CallObject, |slf| {
    Ok(PyString::new(slf.py(), Call::of(slf).kind().name()))
});

object_getter!(get_qualname, CallObject, |slf| {
    Ok(PyString::new(slf.py(), &Call::of(slf).kind().qualified_name()))
});

object_getter!(get_running, CallObject, |slf| {
    // SAFETY: our layout, with the GIL held.
    Ok(PyBool::new(slf.py(), unsafe { (*slf.fields()).running }).to_owned())
});

object_getter!(get_suspended, CallObject, |slf| {
    Ok(PyBool::new(slf.py(), CallObject::is_awaited(slf)).to_owned())
});

unsafe extern "C" fn repr(slf: Object) -> Object {
    // SAFETY: CPython calls this, and holds the GIL.
    let held = unsafe { Python::assume_attached() };
    enter(held, null_mut(), |py| {
        // SAFETY: CPython passes a live object of the class that the slot belongs to.
        let name = unsafe { Call::borrowed(py, slf) }.kind().qualified_name();
        Ok(PyString::new(py, &format!("<coroutine object {name} at {slf:p}>")).into_ptr())
    })
}

/// The class of calls.
pub(super) fn class(py: Python<'_>) -> PyResult<&'static Py<PyType>> {
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
            slots: &[
                class::doc(
                    c"\
                    A call of a stream's, such as ``reader.read()``: a coroutine, to be awaited once.\n\
                    \n\
                    Warns with ``RuntimeWarning`` if it is never awaited.",
                ),
                slot(ffi::Py_tp_repr, repr as *mut c_void),
            ],
            ..Definition::default()
        };
        // SAFETY: functions of these kinds, for the layout of calls; `new` alone makes one.
        unsafe {
            coroutine::new_class::<CallObject>(py, c"tokioloop._core.StreamCall", &definition)
        }
    })
}
