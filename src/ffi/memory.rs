//! Allocations whose size a program chooses: exhausted memory is a `MemoryError` here.
//!
//! Rust's own collections would end the process. So collections that hold a program's bytes or names,
//! or grow with the items of its iterables, are made of Python objects or reserved here.

use std::alloc::{Layout, alloc_zeroed};
use std::collections::VecDeque;
use std::ffi::c_int;

use pyo3::PyTypeInfo;
use pyo3::call::PyCallArgs;
use pyo3::exceptions::PyMemoryError;
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict, PyList, PyString};

use crate::ffi::object::{self, Object};

unsafe extern "C" {
    /// Documented by CPython, and not declared by PyO3.
    fn _PyBytes_Resize(bytes: *mut Object, size: ffi::Py_ssize_t) -> c_int;
}

/// As asyncio's, which has no text.
#[cold]
pub(crate) fn exhausted() -> PyErr {
    PyMemoryError::new_err(())
}

/// A copy as `bytes`.
#[inline]
pub(crate) fn bytes<'py>(py: Python<'py>, data: &[u8]) -> PyResult<Bound<'py, PyBytes>> {
    let length = ffi::Py_ssize_t::try_from(data.len()).map_err(|_| exhausted())?;
    // SAFETY: `data` is that long. A new reference to `bytes`, or null with an exception set.
    unsafe {
        let made = ffi::PyBytes_FromStringAndSize(data.as_ptr().cast(), length);
        Ok(object::owned(py, made)?.cast_into_unchecked())
    }
}

/// `bytes` to be filled before anything else sees them.
pub(crate) fn uninitialised(py: Python<'_>, size: usize) -> PyResult<Bound<'_, PyBytes>> {
    let size = ffi::Py_ssize_t::try_from(size).map_err(|_| exhausted())?;
    // SAFETY: a new reference to `bytes`, or null with an exception set.
    unsafe {
        let made = ffi::PyBytes_FromStringAndSize(std::ptr::null(), size);
        Ok(object::owned(py, made)?.cast_into_unchecked())
    }
}

/// Gives back what was not filled of `bytes` that nothing else has seen.
pub(crate) fn shortened(bytes: Bound<'_, PyBytes>, size: usize) -> PyResult<Bound<'_, PyBytes>> {
    let py = bytes.py();
    let size = size.min(bytes.as_bytes().len()) as ffi::Py_ssize_t;
    let mut raw = bytes.into_ptr();
    // SAFETY: the reference is this function's own. If there is another one, or no memory, it is given up,
    // and null left with an exception set.
    unsafe {
        _PyBytes_Resize(&mut raw, size);
        Ok(object::owned(py, raw)?.cast_into_unchecked())
    }
}

/// Zeros, in pages that the kernel provides when they are first touched.
pub(crate) fn zeros(size: usize) -> PyResult<Vec<u8>> {
    let layout = Layout::array::<u8>(size).map_err(|_| exhausted())?;
    if size == 0 {
        return Ok(Vec::new());
    }
    // SAFETY: not of size 0. A `Vec` of this capacity gives memory of this layout back to the global
    // allocator, and all of it is initialised.
    unsafe {
        let start = alloc_zeroed(layout);
        if start.is_null() {
            return Err(exhausted());
        }
        Ok(Vec::from_raw_parts(start, size, size))
    }
}

/// Appends to a list that grows with a program's items.
pub(crate) fn push<T>(list: &mut Vec<T>, item: T) -> PyResult<()> {
    list.try_reserve(1).map_err(|_| exhausted())?;
    list.push(item);
    Ok(())
}

/// Room for `more` items.
#[inline]
pub(crate) fn reserve<T>(queue: &mut VecDeque<T>, more: usize) -> PyResult<()> {
    queue.try_reserve(more).map_err(|_| exhausted())
}

/// A list of any number of items.
pub(crate) fn list<'py>(
    py: Python<'py>,
    items: impl ExactSizeIterator<Item = Bound<'py, PyAny>>,
) -> PyResult<Bound<'py, PyList>> {
    let length = ffi::Py_ssize_t::try_from(items.len()).map_err(|_| exhausted())?;
    // SAFETY: a new reference to a list of that length, or null with an exception set. Its places
    // are empty, and each gets one reference; if the iterator gives fewer the rest stays empty, and
    // `zip` takes no more.
    unsafe {
        let list = object::owned(py, ffi::PyList_New(length))?;
        for (at, item) in (0..length).zip(items) {
            ffi::PyList_SET_ITEM(list.as_ptr(), at, item.into_ptr());
        }
        Ok(list.cast_into_unchecked())
    }
}

/// An empty dictionary. PyO3's own panics where there is no memory for it.
pub(crate) fn dict(py: Python<'_>) -> PyResult<Bound<'_, PyDict>> {
    // SAFETY: the GIL is held; a new reference to a dictionary, or null with an exception set.
    unsafe { Ok(object::owned(py, ffi::PyDict_New())?.cast_into_unchecked()) }
}

/// An `int`, in the same way.
pub(crate) fn integer(py: Python<'_>, number: i32) -> PyResult<Bound<'_, PyAny>> {
    // SAFETY: the GIL is held; a new reference or null with an exception set.
    unsafe { object::owned(py, ffi::PyLong_FromLong(number.into())) }
}

/// A `str`, in the same way.
pub(crate) fn string<'py>(py: Python<'py>, text: &str) -> PyResult<Bound<'py, PyString>> {
    let length = ffi::Py_ssize_t::try_from(text.len()).map_err(|_| exhausted())?;
    // SAFETY: UTF-8 of that length. A new reference to a `str`, or null with an exception set.
    unsafe {
        let made = ffi::PyUnicode_FromStringAndSize(text.as_ptr().cast(), length);
        Ok(object::owned(py, made)?.cast_into_unchecked())
    }
}

/// `template.format(...)`, for names, representations and addresses of any length.
pub(crate) fn text<'py>(
    py: Python<'py>,
    template: &str,
    arguments: impl PyCallArgs<'py>,
) -> PyResult<Bound<'py, PyString>> {
    let text = string(py, template)?.call_method1(pyo3::intern!(py, "format"), arguments)?;
    Ok(text.cast_into::<PyString>()?)
}

/// An exception with such a text; the error of making the text if that fails.
#[cold]
pub(crate) fn error<'py, E: PyTypeInfo>(
    py: Python<'py>,
    template: &str,
    arguments: impl PyCallArgs<'py>,
) -> PyErr {
    match text(py, template, arguments) {
        Ok(text) => PyErr::new::<E, _>(text.unbind()),
        Err(error) => error,
    }
}
