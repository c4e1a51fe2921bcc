//! Static definitions of methods, getters and members, as CPython reads them.

use std::ffi::{CStr, c_int, c_void};

use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::PyType;

use crate::python::object::{Object, owned};

pub type FastCall = unsafe extern "C" fn(Object, *const Object, ffi::Py_ssize_t, Object) -> Object;
pub type NoArgs = unsafe extern "C" fn(Object, Object) -> Object;

/// A `METH_FASTCALL | METH_KEYWORDS` method.
pub const fn fast_method(
    name: &'static CStr,
    function: FastCall,
    doc: &'static CStr,
) -> ffi::PyMethodDef {
    let function = ffi::PyMethodDefPointer { PyCFunctionFastWithKeywords: function };
    method(name, function, ffi::METH_FASTCALL | ffi::METH_KEYWORDS, doc)
}

/// A `METH_NOARGS` method.
pub const fn plain_method(
    name: &'static CStr,
    function: NoArgs,
    doc: &'static CStr,
) -> ffi::PyMethodDef {
    method(name, ffi::PyMethodDefPointer { PyCFunction: function }, ffi::METH_NOARGS, doc)
}

/// A `METH_O` method.
pub const fn unary_method(
    name: &'static CStr,
    function: NoArgs,
    doc: &'static CStr,
) -> ffi::PyMethodDef {
    method(name, ffi::PyMethodDefPointer { PyCFunction: function }, ffi::METH_O, doc)
}

const fn method(
    name: &'static CStr,
    function: ffi::PyMethodDefPointer,
    flags: c_int,
    doc: &'static CStr,
) -> ffi::PyMethodDef {
    ffi::PyMethodDef {
        ml_name: name.as_ptr(),
        ml_meth: function,
        ml_flags: flags,
        ml_doc: doc.as_ptr(),
    }
}

pub const METHODS_END: ffi::PyMethodDef = ffi::PyMethodDef::zeroed();

pub const fn getter(
    name: &'static CStr,
    get: unsafe extern "C" fn(Object, *mut c_void) -> Object,
) -> ffi::PyGetSetDef {
    ffi::PyGetSetDef {
        name: name.as_ptr(),
        get: Some(get),
        set: None,
        doc: std::ptr::null(),
        closure: std::ptr::null_mut(),
    }
}

pub const GETTERS_END: ffi::PyGetSetDef = ffi::PyGetSetDef {
    name: std::ptr::null(),
    get: None,
    set: None,
    doc: std::ptr::null(),
    closure: std::ptr::null_mut(),
};

/// Tells CPython at which offset an instance keeps its `__dict__`, its weak references or its
/// vectorcall function.
pub const fn offset_member(name: &'static CStr, offset: usize) -> ffi::PyMemberDef {
    ffi::PyMemberDef {
        name: name.as_ptr(),
        type_code: 19, // T_PYSSIZET
        offset: offset as ffi::Py_ssize_t,
        flags: 1, // READONLY
        doc: std::ptr::null(),
    }
}

pub const MEMBERS_END: ffi::PyMemberDef = ffi::PyMemberDef {
    name: std::ptr::null(),
    type_code: 0,
    offset: 0,
    flags: 0,
    doc: std::ptr::null(),
};

/// A static array of definitions, to which CPython keeps a pointer. All that its raw pointers point to
/// is static.
#[repr(transparent)]
pub struct Definitions<T: 'static>(pub T);

// SAFETY: plain data, which is never written to, and points to static text and functions.
unsafe impl<const N: usize> Sync for Definitions<[ffi::PyMethodDef; N]> {}
// SAFETY: plain data, which is never written to, and points to static text and functions;
// the closures are null.
unsafe impl<const N: usize> Sync for Definitions<[ffi::PyGetSetDef; N]> {}
// SAFETY: plain data, which is never written to: static text and numbers.
unsafe impl<const N: usize> Sync for Definitions<[ffi::PyMemberDef; N]> {}

/// Adds C-level methods to a class that PyO3 made.
///
/// # Safety
/// The functions must have the signatures that their flags say, and right for instances of the class.
pub unsafe fn add_methods(
    class: &Bound<'_, PyType>,
    methods: &'static [ffi::PyMethodDef],
) -> PyResult<()> {
    for method in methods {
        if method.ml_name.is_null() {
            break;
        }
        // SAFETY: the definition is static, the class is a type object, and the caller promises
        // that they fit.
        let descriptor = unsafe {
            owned(
                class.py(),
                ffi::PyDescr_NewMethod(class.as_type_ptr(), std::ptr::from_ref(method).cast_mut()),
            )?
        };
        // SAFETY: `ml_name` is a static C string.
        let name = unsafe { CStr::from_ptr(method.ml_name) };
        class.setattr(name.to_string_lossy().as_ref(), descriptor)?;
    }
    Ok(())
}
