//! Layouts of the awaitable and of the future that it yields, and how they end.

use std::mem::offset_of;
use std::ptr::{null, null_mut};

use pyo3::ffi;
use pyo3::prelude::*;

use crate::bridge::api::OpaqueTarget;
use crate::bridge::future::{BoxedFuture, drop_quietly};
use crate::bridge::link::Link;
use crate::ffi::class::{NativeClass, ObjectRef, free, references};
use crate::ffi::coroutine;
use crate::ffi::object::Object;
use crate::ffi::{trampoline, trashcan};

#[derive(Clone, Copy, PartialEq)]
pub(super) enum Phase {
    Fresh,
    /// It is being polled.
    Running,
    /// Between two polls.
    Suspended,
    Done,
    /// The loop was closed under it.
    Orphaned,
}

#[repr(C)]
pub(super) struct AwaitableObject {
    pub head: ffi::PyObject,
    pub weakrefs: Object,
    /// The future's type, as a name.
    pub name: &'static str,
    /// `None` while it is polled, and once it is done.
    pub future: Option<BoxedFuture>,
    /// The loop that it was first awaited on.
    pub event_loop: Object,
    /// The target that wakers refer to; a reference of ours.
    pub target: *const OpaqueTarget,
    /// The future that it yields while it waits; null before the first wait.
    pub yielded: Object,
    pub link: Link,
    pub phase: Phase,
}

// SAFETY: the layout is C's and starts with the head; the offset is that of the weak references, and
// the other pointers are null or hold references.
unsafe impl NativeClass for AwaitableObject {
    const WEAKREFS: Option<usize> = Some(offset_of!(Self, weakrefs));

    references!(event_loop, yielded);

    unsafe fn clear(this: *mut Self) {
        // SAFETY: the caller's promise; the collector has a reference.
        unsafe {
            trampoline::destroy(|py| {
                let awaitable = Awaitable::borrowed(py, this.cast());
                if awaitable.phase() != Phase::Running {
                    awaitable.end(Phase::Done);
                }
            });
        }
    }

    unsafe fn drop_fields(this: *mut Self) {
        // SAFETY: the caller's promise.
        unsafe {
            if (*this).phase != Phase::Done {
                trampoline::destroy(|py| {
                    if (*this).phase == Phase::Fresh {
                        coroutine::warn_never_awaited(py, (*this).name);
                    }
                    take_apart(py, this, Phase::Done);
                });
            }
        }
    }

    /// Before anything else the yielded future, which may live on, is disowned: the rest may be put
    /// off, or run Python code that has the yielded future.
    unsafe fn dealloc(this: *mut Self) {
        // SAFETY: the caller's promise.
        unsafe {
            let yielded = (*this).yielded;
            if !yielded.is_null() {
                disown(yielded);
            }
            trashcan::dealloc(this.cast(), free::<Self>);
        }
    }
}

/// A reference to an awaitable, and its fields.
pub(super) type Awaitable<'py> = ObjectRef<'py, AwaitableObject>;

impl Awaitable<'_> {
    #[inline]
    pub(super) fn phase(&self) -> Phase {
        // SAFETY: our layout; a reference implies the GIL.
        unsafe { (*self.fields()).phase }
    }

    /// No wake calls the yielded future any more: the awaitable is stepped by other code than the loop.
    pub(super) fn unpark(&self) {
        let this = self.fields();
        // SAFETY: our layout; a target is kept until the end, and the yielded future is ours, too.
        unsafe {
            if !(*this).target.is_null() {
                ((*this).link.api().unpark)((*this).target);
            }
        }
    }

    /// Has the loop call the yielded future.
    pub(super) fn wake(&self) {
        let this = self.fields();
        // SAFETY: our layout; a target is kept until the end.
        unsafe {
            if !(*this).target.is_null() {
                ((*this).link.api().wake)((*this).target);
            }
        }
    }

    /// Drops the future and everything else.
    pub(super) fn end(&self, phase: Phase) {
        // SAFETY: an awaitable, which `self` keeps alive.
        unsafe { take_apart(self.py(), self.fields(), phase) };
    }
}

/// Drops everything.
///
/// # Safety
/// `this` must be of our layout; it need not have a reference any more.
unsafe fn take_apart(py: Python<'_>, this: *mut AwaitableObject, phase: Phase) {
    // SAFETY: the caller's promise. Each field is taken out before it is dropped, which may run
    // Python code; code that comes back here finds it empty.
    unsafe {
        (*this).phase = phase;
        let target = std::mem::replace(&mut (*this).target, null());
        let event_loop = std::mem::replace(&mut (*this).event_loop, null_mut());
        let yielded = std::mem::replace(&mut (*this).yielded, null_mut());
        let (link, future) = ((*this).link, (*this).future.take());
        let event_loop = Bound::from_owned_ptr_or_opt(py, event_loop);
        if let Some(event_loop) = &event_loop
            && !target.is_null()
        {
            (link.api().release)(event_loop.as_ptr(), target);
            (link.api().drop)(target);
        }
        if !yielded.is_null() {
            disown(yielded);
            ffi::Py_DECREF(yielded);
        }
        if let Some(future) = future {
            drop_within(py, link, event_loop.as_ref(), future);
        }
    }
}

/// Drops a future inside of the loop's runtime, if the loop still has one: destructors may start tasks.
pub(super) fn drop_within(
    py: Python<'_>,
    link: Link,
    event_loop: Option<&Bound<'_, PyAny>>,
    future: BoxedFuture,
) {
    let mut future = Some(future);
    if let Some(event_loop) = event_loop {
        let _ = link.within(event_loop, || future.take().map(|it| drop_quietly(py, it)));
    }
    if let Some(future) = future {
        drop_quietly(py, future);
    }
}

#[repr(C)]
pub(super) struct YieldedObject {
    pub head: ffi::PyObject,
    pub vectorcall: Option<ffi::vectorcallfunc>,
    pub event_loop: Object,
    /// The awaitable, borrowed; null once it is done.
    pub owner: Object,
    pub callback: Object,
    pub context: Object,
    /// The argument of `cancel`, or null.
    pub message: Object,
    /// asyncio's mark of a future that was yielded by an `await`.
    pub blocking: bool,
    /// Called by the loop.
    pub woken: bool,
    pub cancelled: bool,
}

// SAFETY: the layout is C's and starts with the head; the offset is that of the function, and the
// fields below are null or hold references. (`owner` is borrowed.)
unsafe impl NativeClass for YieldedObject {
    const VECTORCALL: Option<usize> = Some(offset_of!(Self, vectorcall));

    references!(callback, context, message, event_loop);

    /// Parked in a target that nothing will wake any more.
    unsafe fn refers_to_itself(this: *mut Self) -> bool {
        // SAFETY: the caller's promise; an owner is alive, and what is parked in its target is this.
        unsafe {
            let owner = (*this).owner.cast::<AwaitableObject>();
            if owner.is_null() || (*owner).target.is_null() {
                return false;
            }
            ((*owner).link.api().is_forgotten)((*owner).target) != 0
        }
    }
}

/// Prepares it to be yielded.
///
/// # Safety
/// `slf` must be a live yielded future, and the GIL be held.
pub(super) unsafe fn arm(slf: Object) {
    // SAFETY: the caller's promise.
    let this = unsafe { &mut *slf.cast::<YieldedObject>() };
    this.blocking = true;
    this.woken = false;
    this.cancelled = false;
}

/// Forgets the awaitable, which is done.
///
/// # Safety
/// `slf` must be a live yielded future, and the GIL be held.
pub(super) unsafe fn disown(slf: Object) {
    // SAFETY: the caller's promise.
    unsafe { (*slf.cast::<YieldedObject>()).owner = null_mut() };
}

/// Whether a task waits for it and was not woken.
///
/// # Safety
/// `slf` must be a live yielded future, and the GIL be held.
pub(super) unsafe fn is_awaited(slf: Object) -> bool {
    // SAFETY: the caller's promise.
    unsafe { !(*slf.cast::<YieldedObject>()).callback.is_null() }
}
