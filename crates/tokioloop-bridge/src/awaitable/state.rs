//! Layouts of the awaitable and of the future that it yields, and how they end.

use std::mem::offset_of;
use std::ptr::{null, null_mut};

use pyo3::ffi;
use pyo3::prelude::*;

use crate::future::{BoxedFuture, drop_quietly};
use crate::link::Link;
use crate::python::class::{NativeClass, ObjectRef, fields_of, free, object_of, references};
use crate::python::coroutine;
use crate::python::finalizing;
use crate::python::nested_drops::{NestedDrops, drop_nested};
use crate::python::object::Object;
use crate::python::trampoline;
use crate::table::OpaqueTarget;

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

/// A future's type, as `std::any::type_name` has it.
#[derive(Clone, Copy)]
pub(crate) struct FutureType(pub &'static str);

impl FutureType {
    /// `extension::function` for the future of its `async` block.
    pub(super) fn name(self) -> &'static str {
        let name = self.0.split('<').next().unwrap_or(self.0);
        name.trim_end_matches("::{{closure}}")
    }
}

#[repr(C)]
pub(super) struct AwaitableObject {
    pub weakrefs: Object,
    pub future_type: FutureType,
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

// SAFETY: the layout is C's, of what comes behind the head, and the class has no base; the offset is that of
// the weak references, and the other pointers are null or hold references.
unsafe impl NativeClass for AwaitableObject {
    const BEHIND_HEAD: bool = true;
    const WEAKREFS: Option<usize> = Some(offset_of!(Self, weakrefs));

    references!(event_loop, yielded);

    unsafe fn clear(this: *mut Self) {
        // SAFETY: the caller's promise; the collector has a reference.
        unsafe {
            trampoline::destroy(|py| {
                let awaitable = Awaitable::borrowed(py, object_of(this));
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
                        coroutine::warn_never_awaited(py, (*this).future_type.name());
                    }
                    take_apart(py, this, Phase::Done);
                });
            }
        }
    }

    /// Before anything else the yielded future, which may live on, is disowned: the rest may be put
    /// off, or run Python code that has the yielded future.
    unsafe fn dealloc(this: *mut Self) {
        finalizing::guard();
        // SAFETY: the caller's promise. Untracking has no effect on an object that is not tracked.
        unsafe {
            let yielded = (*this).yielded;
            if !yielded.is_null() {
                disown(yielded);
            }
            let object = object_of(this);
            ffi::PyObject_GC_UnTrack(object.cast());
            free::<Self>(object);
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

    /// How the loop is reached that it was bound to.
    pub(super) fn link(&self) -> Link {
        // SAFETY: our layout; a reference implies the GIL.
        unsafe { (*self.fields()).link }
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
            drop_nested(&DROPPING, Nested::Object(Bound::from_owned_ptr(py, yielded).unbind()));
        }
        if let Some(future) = future {
            drop_within(py, link, event_loop.as_ref(), future);
        }
    }
}

/// What may lead to another awaitable.
enum Nested {
    Object(#[expect(dead_code, reason = "only dropped")] Py<PyAny>),
    Future(Link, Option<Py<PyAny>>, Option<BoxedFuture>),
}

impl Drop for Nested {
    fn drop(&mut self) {
        let Self::Future(link, event_loop, future) = self else { return };
        // SAFETY: such values are dropped by destructors of objects, which hold the GIL.
        let py = unsafe { Python::assume_attached() };
        let event_loop = event_loop.take().map(|it| it.into_bound(py));
        if let Some(event_loop) = &event_loop {
            let _ = link.within(event_loop, || future.take().map(|it| drop_quietly(py, it)));
        }
        if let Some(future) = future.take() {
            drop_quietly(py, future);
        }
    }
}

thread_local! {
    static DROPPING: NestedDrops<Nested> = const { NestedDrops::new() };
}

/// Drops a future inside of the loop's runtime, if the loop still has one: destructors may start tasks.
pub(super) fn drop_within(
    _py: Python<'_>,
    link: Link,
    event_loop: Option<&Bound<'_, PyAny>>,
    future: BoxedFuture,
) {
    let event_loop = event_loop.map(|it| it.clone().unbind());
    drop_nested(&DROPPING, Nested::Future(link, event_loop, Some(future)));
}

#[repr(C)]
pub(super) struct YieldedObject {
    pub event_loop: Object,
    /// The awaitable, borrowed; null once it is done.
    pub owner: Object,
    /// How the loop is reached.
    pub link: Link,
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

// SAFETY: the layout is C's, of what comes behind the head, and the class has no base; the fields below are
// null or hold references. (`owner` is borrowed.)
unsafe impl NativeClass for YieldedObject {
    const BEHIND_HEAD: bool = true;

    references!(callback, context, message, event_loop);

    /// Parked in a target that nothing will wake any more.
    unsafe fn refers_to_itself(this: *mut Self) -> bool {
        // SAFETY: the caller's promise; an owner is alive, and what is parked in its target is this.
        unsafe {
            if (*this).owner.is_null() {
                return false;
            }
            let owner = fields_of::<AwaitableObject>((*this).owner);
            if (*owner).target.is_null() {
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
    let this = unsafe { &mut *fields_of::<YieldedObject>(slf) };
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
    unsafe { (*fields_of::<YieldedObject>(slf)).owner = null_mut() };
}

/// Whether a task waits for it and was not woken.
///
/// # Safety
/// `slf` must be a live yielded future, and the GIL be held.
pub(super) unsafe fn is_awaited(slf: Object) -> bool {
    // SAFETY: the caller's promise.
    unsafe { !(*fields_of::<YieldedObject>(slf)).callback.is_null() }
}
