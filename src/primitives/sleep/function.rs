//! `sleep` itself: a C function that passes for a coroutine function.
//!
//! asyncio's is one, and `inspect.iscoroutinefunction` (and so `unittest.mock.patch`) has to see
//! that; the marks that it looks for need a place that a builtin function does not have.
//!
//! There is one object of the class. Only `dict` and the weak references ever change, by CPython's own
//! generic functions.

use std::ffi::c_void;
use std::mem::offset_of;
use std::ptr::null_mut;

use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::PyString;

use crate::ffi::class::{self, Definition, NativeClass, object_getter, references, slot};
use crate::ffi::definitions::plain_method;
use crate::ffi::object::Object;
use crate::ffi::trampoline::{enter, vectorcall};

#[repr(C)]
struct FunctionObject {
    head: ffi::PyObject,
    weakrefs: Object,
    dict: Object,
    vectorcall: Option<ffi::vectorcallfunc>,
}

// SAFETY: the layout is C's and starts with the head; the offsets are those of the fields, and the
// `dict` is null or a reference.
unsafe impl NativeClass for FunctionObject {
    const WEAKREFS: Option<usize> = Some(offset_of!(Self, weakrefs));
    const DICT: Option<usize> = Some(offset_of!(Self, dict));
    const VECTORCALL: Option<usize> = Some(offset_of!(Self, vectorcall));

    references!(dict);
}

vectorcall!(called, |py, _slf, args| super::call(py, &args));

unsafe extern "C" fn repr(_slf: Object) -> Object {
    // SAFETY: CPython calls this, and holds the GIL.
    let held = unsafe { Python::assume_attached() };
    enter(held, null_mut(), |py| Ok(PyString::new(py, "<built-in function sleep>").into_ptr()))
}

object_getter!(
    /// Pickled and copied by its name, as functions are.
    reduce,
    FunctionObject,
    |slf| Ok(PyString::new(slf.py(), "sleep"))
);

const DICT: ffi::PyGetSetDef = ffi::PyGetSetDef {
    name: c"__dict__".as_ptr(),
    get: Some(ffi::PyObject_GenericGetDict),
    set: Some(ffi::PyObject_GenericSetDict),
    doc: std::ptr::null(),
    closure: null_mut(),
};

/// Makes the function object, of a class of which it is the only one.
pub(in crate::primitives) fn make(py: Python<'_>) -> PyResult<Bound<'_, PyAny>> {
    let definition = Definition {
        methods: &[plain_method(c"__reduce__", reduce, c"__reduce__($self, /)\n--\n\n")],
        getters: &[DICT],
        slots: &[slot(ffi::Py_tp_repr, repr as *mut c_void)],
        ..Definition::default()
    };
    let name = c"tokioloop._core.CoroutineFunction";
    let fields = || FunctionObject {
        head: ffi::PyObject_HEAD_INIT,
        weakrefs: null_mut(),
        dict: null_mut(),
        vectorcall: Some(called),
    };
    // SAFETY: functions of these kinds, for objects of this layout, of which only this one is made.
    let function = unsafe {
        let class = class::new_class::<FunctionObject>(py, name, &definition)?;
        class::allocate(py, &class, fields)?
    };
    function.track_new();
    Ok(function.into_any())
}
