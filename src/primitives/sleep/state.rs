//! The layout of a sleep, and how it ends.

use std::mem::offset_of;

use pyo3::ffi;
use pyo3::prelude::*;

use crate::ffi::class::{NativeClass, clear_references, object_ref, references};
use crate::ffi::coroutine;
use crate::ffi::free_list::FreeList;
use crate::ffi::object::Object;
use crate::ffi::trampoline;
use crate::ffi::trashcan::through_trashcan;

/// Freed sleeps, for the next ones.
pub(super) static FREE: FreeList<SleepObject> = FreeList::new();

#[derive(Clone, Copy, PartialEq)]
pub(super) enum Phase {
    Fresh,
    /// It yielded `None`, for a delay of nothing.
    Yielded,
    /// `steps` are those of `future`, which the timer sets.
    Waiting,
    /// `steps` are asyncio's own coroutine: it was first stepped on another loop.
    Elsewhere,
    Done,
}

#[repr(C)]
pub(super) struct SleepObject {
    pub head: ffi::PyObject,
    pub weakrefs: Object,
    /// Exactly a `float` or an `int`.
    pub delay: Object,
    pub result: Object,
    pub event_loop: Object,
    pub future: Object,
    pub steps: Object,
    pub phase: Phase,
    /// In the loop's heap.
    pub scheduled: bool,
    /// A step runs.
    pub running: bool,
}

// SAFETY: the layout is C's and starts with the head. The offset is that of the weak references, and
// the other pointers are null or hold references.
unsafe impl NativeClass for SleepObject {
    const WEAKREFS: Option<usize> = Some(offset_of!(Self, weakrefs));

    through_trashcan!();

    // All but `delay`, which is a number and stays for life.
    references!(steps, future, result, event_loop);

    /// A heap that still holds garbage is that of a loop that is garbage as well, and `fire` finds
    /// the sleep done.
    unsafe fn clear(this: *mut Self) {
        // SAFETY: the caller's promise.
        unsafe {
            (*this).phase = Phase::Done;
            clear_references(this);
        }
    }

    unsafe fn drop_fields(this: *mut Self) {
        // SAFETY: the caller's promise.
        unsafe {
            if (*this).phase == Phase::Fresh {
                trampoline::destroy(|py| coroutine::warn_never_awaited(py, "sleep"));
            }
            Self::clear(this);
            ffi::Py_CLEAR(&raw mut (*this).delay);
        }
    }

    unsafe fn release_memory(this: *mut Self) {
        // SAFETY: the caller's promise; a dead sleep holds nothing.
        unsafe { FREE.push(Python::assume_attached(), this) };
    }
}

object_ref!(
    /// A reference to a sleep, and its fields.
    pub(super) Sleep, SleepObject
);
