//! Tuples of arguments, out of slices of objects.

use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::PyTuple;

use crate::ffi::arguments::Arg;
use crate::ffi::object::{self, Object};

/// A new reference to a tuple, or null with an exception set.
///
/// # Safety
/// `values` must be live objects, the GIL held.
pub(crate) unsafe fn tuple_of(values: &[Object]) -> Object {
    // SAFETY: the caller's promise; the tuple is as long as `values`, and each item is filled once.
    unsafe {
        let tuple = ffi::PyTuple_New(values.len() as isize);
        if !tuple.is_null() {
            for (at, value) in values.iter().enumerate() {
                ffi::PyTuple_SET_ITEM(tuple, at as isize, ffi::Py_NewRef(*value));
            }
        }
        tuple
    }
}

/// The arguments of a call as a tuple.
pub(crate) fn arguments<'py>(
    py: Python<'py>,
    args: &[Arg<'_, 'py>],
) -> PyResult<Bound<'py, PyTuple>> {
    // SAFETY: a borrowed object is a pointer to a live one, and nothing else; a new reference or
    // null with an exception set, and a tuple.
    unsafe {
        let values = std::slice::from_raw_parts(args.as_ptr().cast::<Object>(), args.len());
        Ok(object::owned(py, tuple_of(values))?.cast_into_unchecked())
    }
}
