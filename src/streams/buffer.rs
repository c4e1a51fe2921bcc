//! What a reader has received and nobody has taken yet.
//!
//! asyncio keeps it in a `bytearray`, and so does this, as soon as there is more than one piece or
//! somebody has looked. Until then a chunk is kept as the `bytes` that it came in, and a `read()` that asks
//! for all of it gets that object.
//!
//! # States
//!
//! - The content is `chunk` from `start` on: then `array` is an empty `bytearray` that nobody else refers to.
//! - There is no `chunk`: the content is `array`. It may be anything that a program has put there;
//!   [`Buffer::is_own`] says that it is a `bytearray`. Only then may the other methods be called.
//!
//! What others hold they may change at any time: nothing is remembered of a `bytearray` between two calls.

use memchr::{memchr, memmem};
use pyo3::exceptions::PyAttributeError;
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::{PyByteArray, PyBytes};

use crate::ffi::gil::{GilFlag, PySlot};
use crate::ffi::memory;
use crate::ffi::object::Object;

pub(super) struct Buffer {
    /// Exactly `bytes`, of which at least one is left.
    chunk: PySlot,
    start: GilFlag<usize>,
    array: PySlot,
    own: GilFlag<bool>,
}

impl Buffer {
    pub(super) const fn new() -> Self {
        Self {
            chunk: PySlot::empty(),
            start: GilFlag::new(0),
            array: PySlot::empty(),
            own: GilFlag::new(false),
        }
    }

    pub(super) fn slots(&self) -> [&PySlot; 2] {
        [&self.chunk, &self.array]
    }

    /// `_buffer`, for others to look at.
    pub(super) fn shown<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        self.spill(py)?;
        self.array.get(py).ok_or_else(|| {
            PyAttributeError::new_err("'StreamReader' object has no attribute '_buffer'")
        })
    }

    /// Another `_buffer`.
    pub(super) fn replace(&self, value: &Bound<'_, PyAny>) {
        let py = value.py();
        let chunk = self.chunk.take(py);
        self.own.set(py, value.is_exact_instance_of::<PyByteArray>());
        let array = self.array.replace(py, Some(value.clone().unbind()));
        drop((chunk, array));
    }

    /// The slots were emptied.
    pub(super) fn forget(&self, py: Python<'_>) {
        self.own.set(py, false);
    }

    /// Whether this is a buffer as asyncio makes it.
    #[inline]
    pub(super) fn is_own(&self, py: Python<'_>) -> bool {
        self.own.get(py)
    }

    /// The `bytearray`, borrowed; null if there is none.
    #[inline]
    fn array(&self, py: Python<'_>) -> Object {
        if self.own.get(py) { self.array.as_ptr(py) } else { std::ptr::null_mut() }
    }

    /// The content.
    ///
    /// # Safety
    /// It is valid until anything is called that may run Python code, or that changes the buffer.
    #[inline]
    unsafe fn content<'a>(&'a self, py: Python<'_>) -> &'a [u8] {
        let chunk = self.chunk.as_ptr(py);
        // SAFETY: the slot has `bytes`, which do not change, or the other one a `bytearray`, which is
        // not changed as long as the caller keeps the promise.
        unsafe {
            if !chunk.is_null() {
                let start = ffi::PyBytes_AsString(chunk).cast::<u8>();
                let length = ffi::PyBytes_Size(chunk) as usize;
                return &std::slice::from_raw_parts(start, length)[self.start.get(py)..];
            }
            let array = self.array(py);
            if array.is_null() {
                return &[];
            }
            let start = ffi::PyByteArray_AsString(array).cast::<u8>();
            std::slice::from_raw_parts(start, ffi::PyByteArray_Size(array) as usize)
        }
    }

    #[inline]
    pub(super) fn len(&self, py: Python<'_>) -> usize {
        // SAFETY: only its length is looked at.
        unsafe { self.content(py) }.len()
    }

    /// Where one of the separators ends first, from `offset` on: `(start, end)`. Of those that end at
    /// the same place the shortest.
    pub(super) fn find(
        &self,
        py: Python<'_>,
        separators: &[&[u8]],
        offset: usize,
    ) -> Option<(usize, usize)> {
        // SAFETY: searching runs no Python code.
        let rest = unsafe { self.content(py) }.get(offset..)?;
        let ends = separators.iter().filter_map(|separator| {
            let at = match separator {
                [byte] => memchr(*byte, rest),
                _ => memmem::find(rest, separator),
            }?;
            Some((offset + at, offset + at + separator.len()))
        });
        ends.min_by_key(|(start, end)| (*end, end - start))
    }

    /// Whether the content has `byte` at a place.
    pub(super) fn has(&self, py: Python<'_>, byte: u8, at: usize) -> bool {
        // SAFETY: one byte is looked at.
        unsafe { self.content(py) }.get(at) == Some(&byte)
    }

    /// Takes the first `count` bytes, or all if there are fewer.
    pub(super) fn take<'py>(&self, py: Python<'py>, count: usize) -> PyResult<Bound<'py, PyBytes>> {
        let Some(chunk) = self.chunk.get(py) else {
            // SAFETY: `bytes` are made without running Python code.
            let taken = unsafe {
                let content = self.content(py);
                memory::bytes(py, &content[..count.min(content.len())])?
            };
            self.cut(py, taken.as_bytes().len())?;
            return Ok(taken);
        };
        // SAFETY: nothing but `bytes` comes into this slot.
        let chunk = unsafe { chunk.cast_into_unchecked::<PyBytes>() };
        let (start, all) = (self.start.get(py), chunk.as_bytes());
        let count = count.min(all.len() - start);
        let taken = if count == all.len() {
            chunk.clone()
        } else {
            memory::bytes(py, &all[start..start + count])?
        };
        self.cut(py, count)?;
        Ok(taken)
    }

    /// Drops the first `count` bytes, of which there are so many.
    pub(super) fn cut(&self, py: Python<'_>, count: usize) -> PyResult<()> {
        if count == 0 {
            return Ok(());
        }
        let length = self.len(py);
        if self.chunk.is_set(py) {
            if count < length {
                self.start.set(py, self.start.get(py) + count);
            } else {
                self.chunk.set(py, None);
            }
            return Ok(());
        }
        let Some(array) = self.array.get(py).filter(|_| self.own.get(py)) else { return Ok(()) };
        // SAFETY: exactly a bytearray. Both raise if others have its memory.
        let failed = unsafe {
            if count < length {
                ffi::PySequence_DelSlice(array.as_ptr(), 0, count as ffi::Py_ssize_t)
            } else {
                ffi::PyByteArray_Resize(array.as_ptr(), 0)
            }
        };
        if failed != 0 { Err(PyErr::fetch(py)) } else { Ok(()) }
    }

    /// Whether the next bytes may be kept as they come: there are none, and nobody looks.
    #[inline]
    pub(super) fn is_free(&self, py: Python<'_>) -> bool {
        let array = self.array(py);
        // SAFETY: a live bytearray.
        unsafe {
            !self.chunk.is_set(py)
                && !array.is_null()
                && ffi::Py_REFCNT(array) == 1
                && ffi::PyByteArray_Size(array) == 0
        }
    }

    /// Appends bytes.
    #[inline]
    pub(super) fn put(&self, py: Python<'_>, data: &[u8]) -> PyResult<()> {
        if !data.is_empty() && self.is_free(py) {
            return memory::bytes(py, data).map(|chunk| self.keep(chunk));
        }
        self.spill(py)?;
        self.append(py, data)
    }

    /// Appends bytes, if it can the object itself.
    pub(super) fn put_whole(&self, chunk: Bound<'_, PyBytes>) -> PyResult<()> {
        let py = chunk.py();
        if !chunk.as_bytes().is_empty() && self.is_free(py) {
            self.keep(chunk);
            return Ok(());
        }
        self.spill(py)?;
        self.append(py, chunk.as_bytes())
    }

    fn keep(&self, chunk: Bound<'_, PyBytes>) {
        let py = chunk.py();
        self.start.set(py, 0);
        self.chunk.set(py, Some(chunk.into_any().unbind()));
    }

    /// Moves the chunk to the `bytearray`.
    fn spill(&self, py: Python<'_>) -> PyResult<()> {
        let Some(chunk) = self.chunk.get(py) else { return Ok(()) };
        // SAFETY: nothing but `bytes` comes into this slot, and `chunk` keeps them.
        let chunk = unsafe { chunk.cast_into_unchecked::<PyBytes>() };
        self.append(py, &chunk.as_bytes()[self.start.get(py)..])?;
        self.chunk.set(py, None);
        Ok(())
    }

    /// `array.extend(data)`
    fn append(&self, py: Python<'_>, data: &[u8]) -> PyResult<()> {
        let array = self.array(py);
        if array.is_null() || data.is_empty() {
            return Ok(());
        }
        // SAFETY: exactly a bytearray, the GIL is held; after the resize it has room for `data`
        // behind what it held. Nothing here runs Python code.
        unsafe {
            let before = ffi::PyByteArray_Size(array) as usize;
            let after = before + data.len();
            if ffi::PyByteArray_Resize(array, after as ffi::Py_ssize_t) != 0 {
                return Err(PyErr::fetch(py));
            }
            let start = ffi::PyByteArray_AsString(array).cast::<u8>();
            std::ptr::copy_nonoverlapping(data.as_ptr(), start.add(before), data.len());
        }
        Ok(())
    }
}
