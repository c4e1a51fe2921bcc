//! Tuples of arguments, out of slices of objects.

use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::PyTuple;

use crate::ffi::arguments::Arg;
use crate::ffi::gil::PySlot;
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

/// A tuple of one item that passes an argument to a function, and then the next one's.
pub(crate) struct OneArgument(PySlot);

impl OneArgument {
    pub(crate) const fn new() -> Self {
        Self(PySlot::empty())
    }

    /// Calls `f` with a tuple of the argument. `f` may keep it: then the next call gets another.
    #[inline(always)]
    pub(crate) fn with<'py, R>(
        &self,
        arg: Arg<'_, 'py>,
        f: impl FnOnce(&Bound<'py, PyTuple>) -> PyResult<R>,
    ) -> PyResult<R> {
        let py = arg.py();
        // Out of the slot for the time of the call: what it runs may come back here.
        let tuple = match self.0.take(py) {
            // SAFETY: the slot has tuples only.
            Some(tuple) => unsafe { tuple.into_bound(py).cast_into_unchecked() },
            None => Self::empty(py)?,
        };
        // SAFETY: no other code has the tuple.
        unsafe { exchange(&tuple, arg.to_owned()) };
        let result = f(&tuple);
        // SAFETY: alive; and if this is the only reference, no other code has the tuple.
        unsafe {
            if ffi::Py_REFCNT(tuple.as_ptr()) == 1 {
                exchange(&tuple, py.None().into_bound(py));
                self.0.set(py, Some(tuple.into_any().unbind()));
            }
        }
        result
    }

    /// A tuple of `None`, which the collector does not show to anybody.
    #[cold]
    fn empty(py: Python<'_>) -> PyResult<Bound<'_, PyTuple>> {
        // SAFETY: a live object; a new reference or null with an exception set, and a tuple, which is
        // tracked from its making on.
        unsafe {
            let tuple = object::owned(py, tuple_of(&[ffi::Py_None()]))?;
            ffi::PyObject_GC_UnTrack(tuple.as_ptr().cast());
            Ok(tuple.cast_into_unchecked())
        }
    }
}

/// Puts another item in the place of a tuple's only one, which is dropped.
///
/// # Safety
/// No other code may have the tuple, which has one item.
#[inline(always)]
unsafe fn exchange<'py>(tuple: &Bound<'py, PyTuple>, item: Bound<'py, PyAny>) {
    // SAFETY: the caller's promise. The tuple's reference to the old item becomes ours.
    unsafe {
        let old = ffi::PyTuple_GET_ITEM(tuple.as_ptr(), 0);
        ffi::PyTuple_SET_ITEM(tuple.as_ptr(), 0, item.into_ptr());
        drop(Bound::from_owned_ptr(tuple.py(), old));
    }
}
