//! The memory of a handle, and the loop's reference to it: what the queues hold.
//!
//! The states of a handle, and which code may touch its fields, are told in `event_loop::handles`,
//! which makes, calls and cancels handles. Nothing in this file knows the loop.

use std::mem::ManuallyDrop;
use std::ptr::null_mut;

use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::{PyTraverseError, PyVisit};

use super::queued::Ticket;
use crate::ffi::free_list::FreeList;
use crate::ffi::gil::GilFlag;
use crate::ffi::object::Object;

pub(in crate::event_loop) const INLINE: usize = 3;

#[repr(C)]
pub(crate) struct HandleObject {
    pub(in crate::event_loop) head: ffi::PyObject,
    pub(in crate::event_loop) weakrefs: Object,
    pub(in crate::event_loop) event_loop: Object,
    /// Null once cancelled (asyncio: `_callback` is `None`).
    pub(in crate::event_loop) callback: Object,
    pub(in crate::event_loop) context: Object,
    pub(in crate::event_loop) source_traceback: Object,
    /// The text that a handle cancelled in debug mode goes on showing.
    pub(in crate::event_loop) repr: Object,
    /// All arguments, when they are more than `INLINE`.
    pub(in crate::event_loop) many: Object,
    /// A timer's deadline, as bits; else the number of a ticket's place in the ready queue.
    pub(in crate::event_loop) place: u64,
    pub(in crate::event_loop) state: State,
    pub(in crate::event_loop) count: u8,
    pub(in crate::event_loop) cancelled: bool,
    /// The context is a snapshot that others have too: a copy is entered in its place.
    pub(in crate::event_loop) shared: bool,
    /// In the timer heap.
    pub(in crate::event_loop) scheduled: bool,
    /// A timer whose deadline was given as something else than a `float`: that is in `inline[0]`,
    /// and the arguments, however few, are in `many`.
    pub(in crate::event_loop) keeps_time: bool,
    /// Callback and arguments must outlive a `cancel()` from inside of the call.
    pub(in crate::event_loop) run: Run,
    /// Other threads' `cancel()` and `cancelled()` wait while the callback is being called.
    pub(in crate::event_loop) thread_safe: bool,
    /// The thread that calls it.
    pub(in crate::event_loop) runner: libc::pthread_t,
    /// Owned by the callee during a call; see `PY_VECTORCALL_ARGUMENTS_OFFSET`.
    pub(in crate::event_loop) scratch: Object,
    pub(in crate::event_loop) inline: [Object; INLINE],
}

/// Where a handle is in its life; see the head of this file.
#[derive(Clone, Copy, PartialEq)]
#[repr(u8)]
pub(in crate::event_loop) enum State {
    Ticket,
    Whole,
    Shown,
}

/// Whether the callback is being called right now.
#[derive(Clone, Copy, PartialEq)]
#[repr(u8)]
pub(in crate::event_loop) enum Run {
    No,
    Running,
    /// And was cancelled: what the call still uses is not shown any more.
    Forgotten,
}

/// Freed handles, for the next ones. All that they hold is null.
pub(in crate::event_loop) static FREE: FreeList<HandleObject> = FreeList::new();

/// The handle in state `Shown`, borrowed, or null.
static SHOWN: GilFlag<Object> = GilFlag::new(null_mut());

/// The loop's own reference to a handle.
///
/// When the loop lets go of a handle that other code holds, that becomes an object of its own
/// to the collector.
pub struct Handle(ManuallyDrop<Py<PyAny>>);

impl Drop for Handle {
    #[inline]
    fn drop(&mut self) {
        let this = self.object();
        // SAFETY: alive: this is a reference to it. A thread that drops a `Handle` holds the GIL.
        unsafe {
            if (*this).state == State::Shown {
                (*this).state = State::Whole;
                SHOWN.set(Python::assume_attached(), null_mut());
            }
        }
        self.track_if_shared();
        // SAFETY: this reference goes, and is not used again. The GIL is held, as above: a `Py` would look
        // that up first.
        unsafe { ffi::Py_DECREF(this.cast()) };
    }
}

impl Handle {
    /// The loop's reference to a handle.
    ///
    /// # Safety
    /// `object` must be a handle.
    #[inline]
    pub(in crate::event_loop) unsafe fn of(object: Bound<'_, PyAny>) -> Self {
        Self(ManuallyDrop::new(object.unbind()))
    }

    /// Makes the handle an object of its own to the collector, unless only the loop has it.
    #[inline]
    pub fn track_if_shared(&self) {
        let this = self.object();
        // SAFETY: alive: this is a reference to it. A thread that holds a `Handle` holds the GIL. A weak
        // reference may become another strong one at any time.
        unsafe {
            if ffi::Py_REFCNT(this.cast()) > 1 || !(*this).weakrefs.is_null() {
                track(this);
            }
        }
    }

    /// The loop may become garbage, and the handle with it: from now on the collector sees it. The
    /// one that was shown before is a part of the loop again if it was dropped since.
    pub(in crate::event_loop) fn show(&self, py: Python<'_>) {
        let this = self.object();
        let before = SHOWN.get(py).cast::<HandleObject>();
        SHOWN.set(py, this.cast());
        // SAFETY: the one before is alive, in the loop's hands: a `Handle` that is dropped takes
        // its object out of `SHOWN`.
        unsafe {
            if let Some(before) = before.as_mut() {
                before.state = State::Whole;
                if ffi::Py_REFCNT(&raw mut before.head) == 1 && before.weakrefs.is_null() {
                    ffi::PyObject_GC_UnTrack((&raw mut *before).cast());
                }
            }
            (*this).state = State::Shown;
            ffi::PyObject_GC_Track(this.cast());
        }
    }

    /// Visits the handle, or what it refers to while it is a part of the loop.
    pub fn traverse(&self, visit: &PyVisit<'_>) -> Result<(), PyTraverseError> {
        let object = self.object();
        // SAFETY: our layout; the collector holds the GIL and runs no other code meanwhile. A
        // nullable pointer to an object is what `Option<Py>` is.
        unsafe {
            if ffi::PyObject_GC_IsTracked(object.cast()) != 0 {
                return visit.call(&*self.0);
            }
            if ffi::Py_REFCNT(object.cast()) > 1 {
                return Ok(());
            }
            let handle = &*object;
            let one = [
                &handle.event_loop,
                &handle.callback,
                &handle.context,
                &handle.source_traceback,
                &handle.many,
            ];
            for field in one.into_iter().chain(&handle.inline) {
                visit.call(&*std::ptr::from_ref(field).cast::<Option<Py<PyAny>>>())?;
            }
        }
        Ok(())
    }

    /// Makes a ticket that was just made an object of its own to the collector.
    #[inline]
    pub fn track_new(&self) {
        // SAFETY: alive, and never tracked until now: recycled memory is untracked. A thread that holds
        // a `Handle` holds the GIL.
        unsafe { ffi::PyObject_GC_Track(self.0.as_ptr().cast()) };
    }

    /// Whether this is a ticket, and the only reference to it.
    #[inline]
    pub(in crate::event_loop) fn is_unused(&self, _py: Python<'_>) -> bool {
        let this = self.object();
        // SAFETY: alive: this is a reference to it; the GIL is held, as `_py` says. A weak reference
        // may become another strong one at any time.
        unsafe {
            (*this).state == State::Ticket
                && ffi::Py_REFCNT(this.cast()) == 1
                && (*this).weakrefs.is_null()
        }
    }

    /// Unties a ticket from its place, which comes back for the other end of the tie; 0 if it had
    /// none.
    #[inline]
    pub(in crate::event_loop) fn untied(&self, _py: Python<'_>) -> Ticket {
        // SAFETY: alive: this is a reference to it; the GIL is held, as `_py` says.
        unsafe { std::mem::replace(&mut (*self.object()).place, 0) }
    }

    #[inline]
    pub(in crate::event_loop) fn object(&self) -> *mut HandleObject {
        self.0.as_ptr().cast()
    }

    pub fn clone_ref(&self, py: Python<'_>) -> Self {
        Self(ManuallyDrop::new(self.0.clone_ref(py)))
    }

    pub fn bind<'py>(&self, py: Python<'py>) -> &Bound<'py, PyAny> {
        self.0.bind(py)
    }

    /// This reference, for Python.
    pub fn into_ptr(self) -> Object {
        ManuallyDrop::new(self).0.as_ptr()
    }

    pub fn is_cancelled(&self, _py: Python<'_>) -> bool {
        // SAFETY: a handle, which this reference keeps alive; the GIL is held, as `_py` says.
        unsafe { (*self.object()).cancelled }
    }

    /// The heap has this timer.
    pub fn scheduled(&self, _py: Python<'_>) {
        // SAFETY: a handle, which this reference keeps alive; the GIL is held, as `_py` says.
        unsafe { (*self.object()).scheduled = true };
    }

    /// The heap let go of this timer.
    pub fn unscheduled(&self, _py: Python<'_>) {
        // SAFETY: a handle, which this reference keeps alive; the GIL is held, as `_py` says.
        unsafe { (*self.object()).scheduled = false };
    }

    pub fn set_source_traceback(&self, _py: Python<'_>, traceback: Py<PyAny>) {
        // SAFETY: our layout, GIL held; a fresh handle has no traceback yet.
        unsafe { (*self.object()).source_traceback = traceback.into_ptr() };
    }
}

/// Makes a handle an object of its own to the collector.
///
/// # Safety
/// `handle` must be alive and complete, the GIL held.
#[inline]
pub(in crate::event_loop) unsafe fn track(handle: *mut HandleObject) {
    // SAFETY: the caller's promise.
    unsafe {
        if ffi::PyObject_GC_IsTracked(handle.cast()) == 0 {
            ffi::PyObject_GC_Track(handle.cast());
        }
    }
}
