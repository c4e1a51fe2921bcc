//! Buffers of Python objects.

use std::ffi::c_int;

use pyo3::ffi;
use pyo3::prelude::*;

/// A buffer of a Python object, released when it is dropped.
pub(crate) struct Buffer(ffi::Py_buffer);

impl Buffer {
    /// One to read from. (Other code may write to it meanwhile.)
    pub(crate) fn readable(object: &Bound<'_, PyAny>) -> PyResult<Self> {
        Self::new(object, ffi::PyBUF_SIMPLE)
    }

    /// One to write to.
    pub(crate) fn writable(object: &Bound<'_, PyAny>) -> PyResult<Self> {
        Self::new(object, ffi::PyBUF_WRITABLE)
    }

    fn new(object: &Bound<'_, PyAny>, flags: c_int) -> PyResult<Self> {
        let mut view = ffi::Py_buffer::new();
        // SAFETY: a live object and a local view, which may be moved afterwards: without a shape,
        // which the flags do not ask for, nothing in a view points into the view itself.
        if unsafe { ffi::PyObject_GetBuffer(object.as_ptr(), &mut view, flags) } != 0 {
            return Err(PyErr::fetch(object.py()));
        }
        Ok(Self(view))
    }

    pub(crate) fn len(&self) -> usize {
        self.0.len as usize
    }

    pub(crate) fn as_slice(&self) -> &[u8] {
        if self.0.buf.is_null() {
            return &[];
        }
        // SAFETY: neither flag allows anything but `len` bytes in a row, which stay where they are
        // until the view is released, when `self` is dropped. Another thread of the program may
        // write to them while they are read, as with every buffer in Python: then the reader gets
        // either value.
        unsafe { std::slice::from_raw_parts(self.as_ptr(), self.len()) }
    }

    pub(crate) fn as_ptr(&self) -> *mut u8 {
        self.0.buf.cast()
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        // SAFETY: made in `new`, released once. The GIL is held: a view has raw pointers, so a
        // `Buffer` cannot go to a thread, or into a closure, without it.
        unsafe { ffi::PyBuffer_Release(&mut self.0) };
    }
}
