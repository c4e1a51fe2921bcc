//! Coroutine functions in Rust: callables that tools take for asyncio's `async def` functions.
//!
//! `inspect.iscoroutinefunction` (and so `unittest.mock`) looks for marks that need a place which a
//! builtin function does not have. These objects have a `__dict__`; in a class they are methods, called
//! without an object for the bound method.
//!
//! Only `dict` and the weak references of an object ever change, by CPython's own generic functions.

use std::ffi::{CStr, c_ulong};
use std::mem::offset_of;
use std::ptr::null_mut;

use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyDict, PyType};

use crate::ffi::class::{self, Definition, NativeClass, object_getter, references, slot};
use crate::ffi::definitions::plain_method;
use crate::ffi::finalizing;
use crate::ffi::memory;
use crate::ffi::object::Object;
use crate::ffi::trampoline::enter;
use crate::ffi::trashcan::through_trashcan;

unsafe extern "C" {
    /// A bound method: PyO3 does not declare it.
    fn PyMethod_New(function: Object, instance: Object) -> Object;
}

#[repr(C)]
struct FunctionObject {
    head: ffi::PyObject,
    weakrefs: Object,
    dict: Object,
    vectorcall: Option<ffi::vectorcallfunc>,
}

// SAFETY: the layout is C's and starts with the head; the offsets are those of the fields, and the
// `dict` is null or a reference. The vectorcall takes a method's object as its first argument.
unsafe impl NativeClass for FunctionObject {
    const WEAKREFS: Option<usize> = Some(offset_of!(Self, weakrefs));
    const DICT: Option<usize> = Some(offset_of!(Self, dict));
    const VECTORCALL: Option<usize> = Some(offset_of!(Self, vectorcall));
    /// A function in a class is a method: its vectorcall takes the instance as its first argument.
    const FLAGS: c_ulong = ffi::Py_TPFLAGS_HAVE_VECTORCALL | ffi::Py_TPFLAGS_METHOD_DESCRIPTOR;

    through_trashcan!();

    references!(dict);
}

object_getter!(
    /// Pickled and copied by its name, as functions are.
    reduce,
    FunctionObject,
    |slf| slf.as_any().getattr("__qualname__")
);

unsafe extern "C" fn repr(slf: Object) -> Object {
    // SAFETY: CPython calls this, and holds the GIL.
    let held = unsafe { Python::assume_attached() };
    enter(held, null_mut(), |py| {
        // SAFETY: alive for the call.
        let slf = unsafe { Bound::from_borrowed_ptr(py, slf) };
        let name = slf.getattr("__qualname__")?;
        memory::text(py, "<built-in function {}>", (name,)).map(Bound::into_ptr)
    })
}

/// `function.__get__(instance, owner)`: the method of an instance.
unsafe extern "C" fn get(slf: Object, instance: Object, _owner: Object) -> Object {
    finalizing::guard();
    // SAFETY: CPython calls this with the GIL held; both are alive, or there is no instance. A new
    // reference or null with an exception set.
    unsafe { if instance.is_null() { ffi::Py_NewRef(slf) } else { PyMethod_New(slf, instance) } }
}

const DICT: ffi::PyGetSetDef = ffi::PyGetSetDef {
    name: c"__dict__".as_ptr(),
    get: Some(ffi::PyObject_GenericGetDict),
    set: Some(ffi::PyObject_GenericSetDict),
    doc: std::ptr::null(),
    closure: null_mut(),
};

/// Makes a coroutine function. Its other attributes are for Python code to set.
///
/// # Safety
/// `call` must do for any arguments; a method's is given an instance of the class first, or whatever the
/// program calls it with.
pub(crate) unsafe fn make<'py>(
    py: Python<'py>,
    name: &CStr,
    doc: &CStr,
    call: ffi::vectorcallfunc,
) -> PyResult<Bound<'py, PyAny>> {
    let dict = PyDict::new(py);
    dict.set_item("__name__", name)?;
    dict.set_item("__qualname__", name)?;
    dict.set_item("__doc__", doc)?;
    let fields = || FunctionObject {
        head: ffi::PyObject_HEAD_INIT,
        weakrefs: null_mut(),
        dict: dict.into_ptr(),
        vectorcall: Some(call),
    };
    // SAFETY: the class is of this layout.
    let function = unsafe { class::allocate(py, class(py)?, fields)? };
    function.track_new();
    Ok(function.into_any())
}

fn class(py: Python<'_>) -> PyResult<&Py<PyType>> {
    static CLASS: PyOnceLock<Py<PyType>> = PyOnceLock::new();
    CLASS.get_or_try_init(py, || {
        let definition = Definition {
            methods: &[plain_method(c"__reduce__", reduce, c"__reduce__($self, /)\n--\n\n")],
            getters: &[DICT],
            slots: &[
                slot(ffi::Py_tp_call, ffi::PyVectorcall_Call as *mut _),
                slot(ffi::Py_tp_repr, repr as *mut _),
                slot(ffi::Py_tp_descr_get, get as *mut _),
            ],
            ..Definition::default()
        };
        let name = c"tokioloop._core.CoroutineFunction";
        // SAFETY: functions of these kinds, for objects of this layout, which `make` alone makes.
        unsafe { class::new_class::<FunctionObject>(py, name, &definition) }
    })
}
