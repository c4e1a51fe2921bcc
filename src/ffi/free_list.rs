//! CPython's free lists for hand-made objects: freed memory, kept for the next object of its kind.

use std::ptr::NonNull;

use pyo3::ffi;
use pyo3::prelude::*;

use crate::ffi::gil::GilCell;

/// The most objects that a list keeps; none under AddressSanitizer, which would not notice that
/// memory is used after its end.
const MOST: usize = if cfg!(never_recycle) { 0 } else { 512 };

/// Memory of freed objects of one layout, with the collector's header. All are untracked, and no field
/// besides the head holds anything.
pub(crate) struct FreeList<T>(GilCell<Vec<NonNull<T>>>);

impl<T> FreeList<T> {
    pub(crate) const fn new() -> Self {
        Self(GilCell::new(Vec::new()))
    }

    /// Memory for an object of this class, its head initialised, if the list has any.
    ///
    /// # Safety
    /// `class` must be a heap type of this layout.
    #[inline]
    pub(crate) unsafe fn pop(
        &self,
        py: Python<'_>,
        class: *mut ffi::PyTypeObject,
    ) -> Option<NonNull<T>> {
        let memory = self.0.with(py, Vec::pop)?;
        // SAFETY: the caller's promise; memory in the list was an object of this layout.
        unsafe { ffi::PyObject_Init(memory.as_ptr().cast(), class) };
        Some(memory)
    }

    /// Keeps the memory of an object, or gives it back.
    ///
    /// # Safety
    /// `dead` must be a dead, untracked object of this layout that holds nothing besides its head.
    #[inline(always)]
    pub(crate) unsafe fn push(&self, py: Python<'_>, dead: *mut T) {
        let kept = self.0.with(py, |memory| {
            let room = memory.len() < memory.capacity() || make_room(memory);
            if room {
                // SAFETY: an object is not at address 0.
                memory.push(unsafe { NonNull::new_unchecked(dead) });
            }
            room
        });
        if !kept {
            // SAFETY: the caller's promise.
            unsafe { ffi::PyObject_GC_Del(dead.cast()) };
        }
    }
}

/// Makes room for freed objects, once; whether there is any.
#[cold]
fn make_room<T>(memory: &mut Vec<T>) -> bool {
    MOST > 0 && memory.capacity() == 0 && memory.try_reserve_exact(MOST).is_ok()
}
