//! The layout of a call, and how it ends.

use std::mem::offset_of;

use pyo3::ffi;
use pyo3::prelude::*;

use crate::ffi::class::{NativeClass, clear_references, object_ref, references};
use crate::ffi::coroutine;
use crate::ffi::free_list::FreeList;
use crate::ffi::object::Object;
use crate::ffi::trampoline;
use crate::ffi::trashcan::through_trashcan;
use crate::streams::reader::Reader;

/// Freed calls, for the next ones.
pub(super) static FREE: FreeList<CallObject> = FreeList::new();

/// What was called.
#[derive(Clone, Copy, PartialEq)]
pub(super) enum Kind {
    /// `read(n)`, for at least 0 bytes.
    Read,
    /// `read()`
    ReadAll,
    ReadExactly,
    ReadUntil,
    ReadLine,
    Next,
    Drain,
    WaitClosed,
}

impl Kind {
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Read | Self::ReadAll => "read",
            Self::ReadExactly => "readexactly",
            Self::ReadUntil => "readuntil",
            Self::ReadLine => "readline",
            Self::Next => "__anext__",
            Self::Drain => "drain",
            Self::WaitClosed => "wait_closed",
        }
    }

    /// Whether the target is a reader, or else a writer.
    pub(super) const fn reads(self) -> bool {
        !matches!(self, Self::Drain | Self::WaitClosed)
    }

    pub(super) fn qualified_name(self) -> String {
        let class = if self.reads() { "StreamReader" } else { "StreamWriter" };
        format!("{class}.{}", self.name())
    }
}

#[derive(Clone, Copy, PartialEq)]
pub(super) enum Phase {
    Fresh,
    /// It has yielded `None`, to let the loop run once.
    Yielded,
    /// `steps` are those of what it waits for.
    Waiting,
    /// `steps` are asyncio's own coroutine, which does the work.
    Elsewhere,
    Done,
}

#[repr(C)]
pub(super) struct CallObject {
    pub head: ffi::PyObject,
    pub weakrefs: Object,
    /// A native reader or writer, by `kind`, until the call is done.
    pub target: Object,
    /// What `readuntil` looks for: `bytes` or a tuple of `bytes`, none of them empty.
    pub separator: Object,
    /// The list of what `read()` has got so far.
    pub blocks: Object,
    pub steps: Object,
    /// The bytes that are asked for.
    pub size: usize,
    /// The place in the buffer before which there is no separator.
    pub offset: usize,
    pub kind: Kind,
    pub phase: Phase,
    /// Its first step has looked for an exception of the reader's.
    pub begun: bool,
    /// It has waited for data, and will take what there is.
    pub woken: bool,
    /// A step runs.
    pub running: bool,
}

// SAFETY: the layout is C's and starts with the head. The offset is that of the weak references, and
// the other pointers are null or hold references.
unsafe impl NativeClass for CallObject {
    const WEAKREFS: Option<usize> = Some(offset_of!(Self, weakrefs));

    through_trashcan!();

    references!(steps, target, separator, blocks);

    unsafe fn clear(this: *mut Self) {
        // SAFETY: the caller's promise.
        unsafe {
            if (*this).phase == Phase::Waiting {
                trampoline::destroy(|py| leave_reader(py, this));
            }
            (*this).phase = Phase::Done;
            clear_references(this);
        }
    }

    unsafe fn drop_fields(this: *mut Self) {
        // SAFETY: the caller's promise.
        unsafe {
            if (*this).phase == Phase::Fresh {
                let name = (*this).kind.qualified_name();
                trampoline::destroy(|py| coroutine::warn_never_awaited(py, &name));
            }
            Self::clear(this);
        }
    }

    unsafe fn release_memory(this: *mut Self) {
        // SAFETY: the caller's promise; a dead call holds nothing.
        unsafe { FREE.push(Python::assume_attached(), this) };
    }
}

/// `self._waiter = None`, if the call waits for data.
///
/// # Safety
/// `this` must be a call that is not freed yet, the GIL held. Runs Python code.
pub(super) unsafe fn leave_reader(py: Python<'_>, this: *mut CallObject) {
    // SAFETY: the caller's promise; the target of a call that reads is a native reader.
    unsafe {
        if (*this).phase == Phase::Waiting && (*this).kind.reads() && !(*this).target.is_null() {
            let reader = Reader::new(Bound::from_borrowed_ptr(py, (*this).target));
            reader.state().waiter.set(py, Some(py.None()));
        }
    }
}

object_ref!(
    /// A reference to a call, and its fields.
    pub(super) Call, CallObject
);
