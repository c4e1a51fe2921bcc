//! `sleep` itself: a C function that passes for a coroutine function.
//!
//! asyncio's is one, and `inspect.iscoroutinefunction` (and so `unittest.mock.patch`) has to see
//! that; the marks that it looks for need a place that a builtin function does not have.
//!
//! There is one object of the type, so there are no chains of them, and no need of `trashcan::dealloc`. Only
//! `dict` and the weak references ever change, by CPython's own generic functions.

use std::ffi::{c_int, c_void};
use std::mem::offset_of;
use std::ptr::null_mut;

use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::{PyString, PyType};

use crate::ffi::arguments::Args;
use crate::ffi::class::{self, slot};
use crate::ffi::definitions::{self, Definitions, GETTERS_END};
use crate::ffi::finalizing;
use crate::ffi::object::{self, Object};
use crate::ffi::trampoline::enter;
use crate::visit;

#[repr(C)]
struct FunctionObject {
    head: ffi::PyObject,
    weakrefs: Object,
    dict: Object,
    vectorcall: Option<ffi::vectorcallfunc>,
}

unsafe extern "C" fn called(
    _slf: Object,
    args: *const Object,
    count: usize,
    names: Object,
) -> Object {
    // SAFETY: CPython calls this, and holds the GIL.
    let held = unsafe { Python::assume_attached() };
    enter(held, null_mut(), |py| {
        // SAFETY: CPython's own arguments, which it keeps for the call.
        let args = unsafe { Args::new(py, args, ffi::PyVectorcall_NARGS(count), names) };
        super::sleep::call(py, &args).map(Bound::into_ptr)
    })
}

unsafe extern "C" fn repr(_slf: Object) -> Object {
    // SAFETY: CPython calls this, and holds the GIL.
    let held = unsafe { Python::assume_attached() };
    enter(held, null_mut(), |py| Ok(PyString::new(py, "<built-in function sleep>").into_ptr()))
}

/// Pickled and copied by its name, as functions are.
unsafe extern "C" fn reduce(_slf: Object, _: Object) -> Object {
    // SAFETY: CPython calls this, and holds the GIL.
    let held = unsafe { Python::assume_attached() };
    enter(held, null_mut(), |py| Ok(PyString::new(py, "sleep").into_ptr()))
}

unsafe extern "C" fn traverse(slf: Object, visit: ffi::visitproc, arg: *mut c_void) -> c_int {
    // SAFETY: our layout; the collector holds the GIL and runs no other code meanwhile.
    unsafe {
        visit!(visit, arg, ffi::Py_TYPE(slf).cast());
        visit!(visit, arg, (*slf.cast::<FunctionObject>()).dict);
    }
    0
}

unsafe extern "C" fn clear(slf: Object) -> c_int {
    finalizing::guard();
    // SAFETY: our layout; taken out, then dropped.
    unsafe { ffi::Py_CLEAR(&raw mut (*slf.cast::<FunctionObject>()).dict) };
    0
}

unsafe extern "C" fn dealloc(slf: Object) {
    finalizing::guard();
    let this = slf.cast::<FunctionObject>();
    // SAFETY: the last reference is gone; taken apart in the order CPython asks for.
    unsafe {
        let class = ffi::Py_TYPE(slf);
        ffi::PyObject_GC_UnTrack(slf.cast());
        if !(*this).weakrefs.is_null() {
            ffi::PyObject_ClearWeakRefs(slf);
        }
        clear(slf);
        ffi::PyObject_GC_Del(slf.cast());
        ffi::Py_DECREF(class.cast());
    }
}

static METHODS: Definitions<[ffi::PyMethodDef; 2]> = Definitions([
    definitions::plain_method(c"__reduce__", reduce, c"__reduce__($self, /)\n--\n\n"),
    definitions::METHODS_END,
]);

static FIELDS: Definitions<[ffi::PyGetSetDef; 2]> = Definitions([
    ffi::PyGetSetDef {
        name: c"__dict__".as_ptr(),
        get: Some(ffi::PyObject_GenericGetDict),
        set: Some(ffi::PyObject_GenericSetDict),
        doc: std::ptr::null(),
        closure: null_mut(),
    },
    GETTERS_END,
]);

static MEMBERS: Definitions<[ffi::PyMemberDef; 4]> = Definitions([
    definitions::offset_member(c"__weaklistoffset__", offset_of!(FunctionObject, weakrefs)),
    definitions::offset_member(c"__dictoffset__", offset_of!(FunctionObject, dict)),
    definitions::offset_member(c"__vectorcalloffset__", offset_of!(FunctionObject, vectorcall)),
    definitions::MEMBERS_END,
]);

/// Makes the function object, of a type of which it is the only one.
pub(super) fn make(py: Python<'_>) -> PyResult<Bound<'_, PyAny>> {
    let slots = vec![
        slot(ffi::Py_tp_traverse, traverse as *mut c_void),
        slot(ffi::Py_tp_clear, clear as *mut c_void),
        slot(ffi::Py_tp_dealloc, dealloc as *mut c_void),
        slot(ffi::Py_tp_repr, repr as *mut c_void),
        slot(ffi::Py_tp_call, ffi::PyVectorcall_Call as *mut c_void),
        slot(ffi::Py_tp_methods, METHODS.0.as_ptr().cast_mut().cast()),
        slot(ffi::Py_tp_getset, FIELDS.0.as_ptr().cast_mut().cast()),
        slot(ffi::Py_tp_members, MEMBERS.0.as_ptr().cast_mut().cast()),
    ];
    // SAFETY: functions and tables of these kinds, all static, for objects of this layout, of which
    // only the one below is made; it has its vectorcall before anything else sees it.
    let class: Bound<'_, PyType> = unsafe {
        class::new_type_with(
            py,
            c"tokioloop._core.CoroutineFunction",
            size_of::<FunctionObject>(),
            &[py.get_type::<PyAny>()],
            slots,
            ffi::Py_TPFLAGS_HAVE_VECTORCALL,
        )?
    };
    // SAFETY: the allocator gives zeroed memory for one, and tracks it.
    unsafe {
        let made = object::owned(py, ffi::PyType_GenericAlloc(class.as_type_ptr(), 0))?;
        (*made.as_ptr().cast::<FunctionObject>()).vectorcall = Some(called);
        Ok(made)
    }
}
