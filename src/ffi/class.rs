//! Heap types of hand-written classes.
//!
//! PyO3 writes most of our classes. The few made here need what it does not offer: arguments that
//! arrive as a plain slice, recycled memory, or a base class that is written in Python.

use std::ffi::{CStr, c_int, c_void};

use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::{PyTuple, PyType};

use crate::ffi::object::owned;

/// Makes a heap type from slots, derived from `bases`.
///
/// # Safety
/// Each of `slots` must be what CPython wants under its number, and live as long as the type: for
/// ever. The functions must be right for instances of `size` bytes, whose layout starts with that of
/// the first base, and which nothing makes but code that writes all of their fields.
pub(crate) unsafe fn new_type<'py>(
    py: Python<'py>,
    name: &'static CStr,
    size: usize,
    bases: &[Bound<'py, PyType>],
    slots: Vec<ffi::PyType_Slot>,
) -> PyResult<Bound<'py, PyType>> {
    // SAFETY: the caller's promise.
    unsafe { new_type_with(py, name, size, bases, slots, 0) }
}

/// The same, with further `Py_TPFLAGS_...`.
///
/// # Safety
/// That of `new_type`, and the slots must fulfil what the flags tell CPython.
pub(crate) unsafe fn new_type_with<'py>(
    py: Python<'py>,
    name: &'static CStr,
    size: usize,
    bases: &[Bound<'py, PyType>],
    mut slots: Vec<ffi::PyType_Slot>,
    flags: std::ffi::c_ulong,
) -> PyResult<Bound<'py, PyType>> {
    slots.push(ffi::PyType_Slot { slot: 0, pfunc: std::ptr::null_mut() });
    let mut spec = ffi::PyType_Spec {
        name: name.as_ptr(),
        basicsize: size as c_int,
        itemsize: 0,
        flags: (ffi::Py_TPFLAGS_DEFAULT
            | ffi::Py_TPFLAGS_HAVE_GC
            | ffi::Py_TPFLAGS_DISALLOW_INSTANTIATION
            | flags) as u32,
        slots: slots.as_mut_ptr(),
    };
    let bases = PyTuple::new(py, bases)?;
    // SAFETY: the spec, its name and the bases outlive the call; the slots are what the caller
    // promised, and end with a zero.
    let made = unsafe { ffi::PyType_FromSpecWithBases(&mut spec, bases.as_ptr()) };
    // SAFETY: a new reference or null with an exception set.
    let made = unsafe { owned(py, made)? };
    Ok(made.cast_into::<PyType>()?)
}

pub(crate) const fn slot(id: c_int, function: *mut c_void) -> ffi::PyType_Slot {
    ffi::PyType_Slot { slot: id, pfunc: function }
}

/// Visits one pointer for the collector, in a `tp_traverse`.
#[macro_export]
macro_rules! visit {
    ($visit:expr, $arg:expr, $object:expr) => {{
        let object: *mut pyo3::ffi::PyObject = $object;
        if !object.is_null() {
            let result = $visit(object, $arg);
            if result != 0 {
                return result;
            }
        }
    }};
}
