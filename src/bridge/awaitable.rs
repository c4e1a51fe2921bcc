//! The awaitable: a Rust future as a coroutine, polled where it is awaited.
//!
//! A step polls the future, in the awaiting task's context and inside of the loop's runtime. Ready,
//! it returns without a trip through the loop. Pending, it yields its `Waiter`, which the waker has
//! the loop call. Woken by its own poll, it yields `None`, and asyncio steps the task again.
//!
//! While a waker can wake it the awaitable refers to itself: a task that only a waker knows of is not
//! garbage. (To the collector the reference is one from outside until the last waker is gone; then
//! it is a cycle like others.)
//!
//! # States
//!
//! See [`Phase`]. `Fresh` holds nothing but its future. The first step makes it `Running`, and binds
//! it to the running loop: `link`, `event_loop` and `target` are set together, once, and the latter
//! two go together.
//! A poll takes the future out and has the phase `Running`, so that code which comes back here is
//! refused; `Suspended` has it back in its place. `Done` and `Orphaned` hold nothing.
//!
//! # Who may touch what
//!
//! Wakers, on any thread and without the GIL, know the target and nothing else. All fields of the
//! object belong to whoever holds the GIL and a reference. They are reached through a raw pointer,
//! one at a time: no `&mut` to the object exists, because a poll, the destructor of a future and each
//! dropped reference may run code that comes back. `take_apart` empties each field before it drops
//! what was there.
//!
//! The waiter is made once, borrows the awaitable, and may outlive it: `take_apart` and `dealloc` have
//! it forget its owner before anything else can look. The loop borrows the waiter from `park` to
//! `release`.
//!
//! # What frees it
//!
//! The last reference, through the trashcan: a future may own another awaitable. `held` says that one
//! of the references is its own; `let_go` gives that up when it is woken or stepped, and `end` as the
//! last thing it does.

use std::ffi::{c_int, c_void};
use std::mem::ManuallyDrop;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::ptr::{null, null_mut};
use std::task::{Context, Poll, RawWaker, RawWakerVTable, Waker};

use pyo3::exceptions::{PyRuntimeError, PyTypeError, PyValueError};
use pyo3::ffi;
use pyo3::prelude::*;

use super::link::{self, Link};
use super::stepped::{Stepped, drop_quietly};
use super::table::Handle;
use super::{class, waiter};
use crate::ffi::arguments::Arg;
use crate::ffi::coroutine::{self, Sent, This};
use crate::ffi::object::{self, Object};
use crate::ffi::trampoline;
use crate::ffi::trashcan;

#[derive(Clone, Copy, PartialEq)]
pub(super) enum Phase {
    Fresh,
    /// Being polled.
    Running,
    /// Between two polls.
    Suspended,
    Done,
    /// The loop was closed under it.
    Orphaned,
}

#[repr(C)]
pub(super) struct AwaitableObject {
    head: ffi::PyObject,
    pub weakrefs: Object,
    /// What the future is called.
    pub name: &'static str,
    /// `None` while it is polled, and once it is done.
    future: Option<Stepped>,
    /// The loop that it was first awaited on.
    pub event_loop: Object,
    /// What wakers refer to; a reference of ours.
    target: *const Handle,
    pub waiter: Object,
    link: Link,
    pub phase: Phase,
    /// Refers to itself.
    held: bool,
}

/// A new awaitable, which is bound to a loop when it is first stepped.
pub(super) fn new<'py>(
    py: Python<'py>,
    future: Stepped,
    name: &'static str,
) -> PyResult<Bound<'py, PyAny>> {
    let class = class::awaitable(py)?.as_ptr().cast::<ffi::PyTypeObject>();
    // SAFETY: the allocator gives memory for one; all fields are written before anybody sees it.
    unsafe {
        let made = ffi::PyObject_GC_New::<AwaitableObject>(class);
        if made.is_null() {
            return Err(object::fetch(py));
        }
        (&raw mut (*made).weakrefs).write(null_mut());
        (&raw mut (*made).name).write(name);
        (&raw mut (*made).future).write(Some(future));
        (&raw mut (*made).event_loop).write(null_mut());
        (&raw mut (*made).target).write(null());
        (&raw mut (*made).waiter).write(null_mut());
        (&raw mut (*made).link).write(Link::Foreign);
        (&raw mut (*made).phase).write(Phase::Fresh);
        (&raw mut (*made).held).write(false);
        // Tracked by the collector once it refers to something.
        Ok(Bound::from_owned_ptr(py, made.cast()))
    }
}

static WAKER: RawWakerVTable = RawWakerVTable::new(
    |data| {
        let handle = data.cast::<Handle>();
        // SAFETY: a waker has a reference to its target, whose table comes first.
        unsafe { ((*handle).table.keep)(handle) };
        RawWaker::new(data, &WAKER)
    },
    |data| {
        let handle = data.cast::<Handle>();
        // SAFETY: the waker's own reference keeps the target and its table.
        unsafe {
            let table = (*handle).table;
            (table.wake)(handle);
            (table.drop)(handle);
        }
    },
    |data| {
        let handle = data.cast::<Handle>();
        // SAFETY: the waker's own reference keeps the target and its table.
        unsafe { ((*handle).table.wake)(handle) };
    },
    |data| {
        let handle = data.cast::<Handle>();
        // SAFETY: the waker's own reference keeps the target and its table.
        unsafe { ((*handle).table.drop)(handle) };
    },
);

/// A reference to an awaitable, and its fields.
pub(super) type Awaitable<'py> = This<'py, class::Awaiting>;

impl<'py> Awaitable<'py> {
    #[inline]
    pub(super) fn phase(&self) -> Phase {
        // SAFETY: our layout; whoever has a `Bound` holds the GIL.
        unsafe { (*self.fields()).phase }
    }

    fn event_loop(&self) -> Option<Bound<'py, PyAny>> {
        // SAFETY: our layout; null or alive.
        unsafe { Bound::from_borrowed_ptr_or_opt(self.py(), (*self.fields()).event_loop) }
    }

    /// Why it cannot be stepped.
    #[cold]
    fn refusal(&self) -> PyErr {
        match self.phase() {
            Phase::Running => PyValueError::new_err("coroutine already executing"),
            Phase::Orphaned => PyRuntimeError::new_err("Event loop is closed"),
            _ => PyRuntimeError::new_err("cannot reuse already awaited coroutine"),
        }
    }

    /// The first step: finds the loop.
    fn bind(&self) -> PyResult<()> {
        let (py, this) = (self.py(), self.fields());
        let Some(event_loop) = link::running_loop(py)? else {
            return Err(PyRuntimeError::new_err("no running event loop"));
        };
        // This may run Python code of the loop's class; who comes back here finds `Running`.
        let link = Link::to(&event_loop)?;
        // SAFETY: a loop with this table; our layout, and a new awaitable has neither yet.
        unsafe {
            let target = (link.table().new_target)(event_loop.as_ptr());
            if target.is_null() {
                return Err(object::fetch(py));
            }
            (*this).target = target;
            (*this).event_loop = event_loop.into_ptr();
            (*this).link = link;
        }
        Ok(())
    }

    #[inline]
    pub(super) fn step(&self, value: Arg<'_, 'py>) -> PyResult<Sent<'py>> {
        match self.phase() {
            Phase::Fresh => {
                if !value.is_none() {
                    return Err(PyTypeError::new_err(
                        "can't send non-None value to a just-started coroutine",
                    ));
                }
                // SAFETY: an awaitable, which `self` keeps alive, with the GIL held.
                unsafe { (*self.fields()).phase = Phase::Running };
                if let Err(error) = self.bind() {
                    self.end(Phase::Done);
                    return Err(error);
                }
            }
            Phase::Suspended if self.is_waited_for() => {
                return Err(PyRuntimeError::new_err("coroutine is being awaited already"));
            }
            Phase::Suspended => self.let_go(),
            _ => return Err(self.refusal()),
        }
        self.poll()
    }

    #[inline]
    fn poll(&self) -> PyResult<Sent<'py>> {
        let (py, this) = (self.py(), self.fields());
        // SAFETY: our layout. The future is taken out for the poll, which may run Python code that
        // comes back here, and finds `Running`.
        let (future, target, link) = unsafe {
            (*this).phase = Phase::Running;
            ((*this).future.take(), (*this).target, (*this).link)
        };
        let (Some(mut future), Some(event_loop)) = (future, self.event_loop()) else {
            self.end(Phase::Done);
            return Err(self.refusal());
        };
        // SAFETY: the target outlives this waker, which is not dropped: its reference is ours.
        let waker = unsafe {
            (link.table().begin)(target);
            ManuallyDrop::new(Waker::new(target.cast(), &WAKER))
        };
        let polled = link.within(&event_loop, || {
            catch_unwind(AssertUnwindSafe(|| {
                future.as_mut().step(py, &mut Context::from_waker(&waker))
            }))
        });
        let outcome = match polled {
            Ok(Ok(Poll::Pending)) => {
                let yielded = self.suspend(future, &event_loop);
                return yielded.map(Sent::Yields).inspect_err(|_| self.end(Phase::Done));
            }
            Ok(Ok(Poll::Ready(outcome))) => outcome,
            Ok(Err(payload)) => Err(super::rust_panic(&*payload)),
            Err(error) => Err(error),
        };
        // Dropped before the awaiting code goes on, as a coroutine's frame is.
        drop_within(py, link, Some(&event_loop), future);
        self.end(Phase::Done);
        outcome.map(|value| Sent::Returns(value.into_bound(py)))
    }

    /// The poll had no result; what to yield.
    fn suspend(
        &self,
        future: Stepped,
        event_loop: &Bound<'py, PyAny>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let this = self.fields();
        // SAFETY: our layout; a target is kept until the end.
        unsafe {
            (*this).future = Some(future);
            if ((*this).link.table().finish)((*this).target) != 0 {
                (*this).phase = Phase::Suspended;
                return Ok(self.py().None().into_bound(self.py()));
            }
        }
        self.park(event_loop)
    }

    /// What is yielded to wait.
    fn park(&self, event_loop: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
        let (py, this) = (self.py(), self.fields());
        // SAFETY: our layout; a waiter is made once and borrows its owner, who outlives its use.
        unsafe {
            if (*this).waiter.is_null() {
                // Still `Running`: to allocate may run the collector, and that Python code, which
                // must not take the awaitable apart. From here on nothing runs any.
                (*this).waiter = waiter::new(event_loop, self)?.into_ptr();
                ffi::PyObject_GC_Track(self.as_any().as_ptr().cast());
            }
            (*this).phase = Phase::Suspended;
            waiter::arm((*this).waiter);
            ((*this).link.table().park)(event_loop.as_ptr(), (*this).target, (*this).waiter);
            if !(*this).held {
                (*this).held = true;
                ffi::Py_INCREF(self.as_any().as_ptr());
            }
            Ok(Bound::from_borrowed_ptr(py, (*this).waiter))
        }
    }

    /// Refers to itself no longer; the caller has another reference.
    pub(super) fn let_go(&self) {
        let this = self.fields();
        // SAFETY: our layout; the reference that `park` made.
        unsafe {
            if std::mem::replace(&mut (*this).held, false) {
                ffi::Py_DECREF(self.as_any().as_ptr());
            }
        }
    }

    /// A task waits for it that was not told to go on: whoever steps it is another one.
    #[inline]
    fn is_waited_for(&self) -> bool {
        // SAFETY: our layout; null or alive.
        unsafe {
            let waiter = (*self.fields()).waiter;
            !waiter.is_null() && waiter::is_waited_for(waiter)
        }
    }

    /// Has the loop call the waiter.
    pub(super) fn wake(&self) {
        let this = self.fields();
        // SAFETY: our layout; a target is kept until the end.
        unsafe {
            if !(*this).target.is_null() {
                ((*this).link.table().wake)((*this).target);
            }
        }
    }

    /// Lets go of the future and of everything else.
    pub(super) fn end(&self, phase: Phase) {
        // SAFETY: alive; the reference to itself is given up when nothing else is left to do.
        unsafe { take_apart(self.py(), self.fields(), phase) };
        self.let_go();
    }

    /// Ends it; the error is what was thrown.
    pub(super) fn thrown(&self, args: &[Arg<'_, 'py>]) -> PyErr {
        if !matches!(self.phase(), Phase::Fresh | Phase::Suspended) {
            return self.refusal();
        }
        // Runs the exception's constructor, which may step or close this, or have it stepped.
        let thrown = super::thrown(self.py(), args);
        if self.phase() == Phase::Running {
            return self.refusal();
        }
        self.end(Phase::Done);
        thrown
    }

    pub(super) fn closed(&self) -> PyResult<()> {
        if self.phase() == Phase::Running {
            return Err(self.refusal());
        }
        if self.phase() != Phase::Done {
            self.end(Phase::Done);
        }
        Ok(())
    }
}

/// Lets go of everything but the reference to itself.
///
/// # Safety
/// `this` must be of our layout; it need not have a reference any more.
unsafe fn take_apart(py: Python<'_>, this: *mut AwaitableObject, phase: Phase) {
    // SAFETY: the caller's promise. Each field is taken out before it is dropped, which may run
    // Python code; whoever comes back here finds nothing.
    unsafe {
        (*this).phase = phase;
        let target = std::mem::replace(&mut (*this).target, null());
        let event_loop = std::mem::replace(&mut (*this).event_loop, null_mut());
        let waiter = std::mem::replace(&mut (*this).waiter, null_mut());
        let (link, future) = ((*this).link, (*this).future.take());
        let event_loop = Bound::from_owned_ptr_or_opt(py, event_loop);
        if let Some(event_loop) = &event_loop
            && !target.is_null()
        {
            (link.table().release)(event_loop.as_ptr(), target);
            (link.table().drop)(target);
        }
        if !waiter.is_null() {
            waiter::disown(waiter);
            ffi::Py_DECREF(waiter);
        }
        if let Some(future) = future {
            drop_within(py, link, event_loop.as_ref(), future);
        }
    }
}

/// Destructors may start tasks, too: they find the runtime if it is there still.
fn drop_within(py: Python<'_>, link: Link, event_loop: Option<&Bound<'_, PyAny>>, future: Stepped) {
    let mut future = Some(future);
    if let Some(event_loop) = event_loop {
        let _ = link.within(event_loop, || future.take().map(|it| drop_quietly(py, it)));
    }
    if let Some(future) = future {
        drop_quietly(py, future);
    }
}

pub(super) unsafe extern "C" fn traverse(
    slf: Object,
    visit: ffi::visitproc,
    arg: *mut c_void,
) -> c_int {
    let this = slf.cast::<AwaitableObject>();
    // SAFETY: our layout; the collector holds the GIL and runs no other code meanwhile.
    unsafe {
        crate::visit!(visit, arg, ffi::Py_TYPE(slf).cast());
        crate::visit!(visit, arg, (*this).event_loop);
        crate::visit!(visit, arg, (*this).waiter);
        // With only our own reference to the target left nobody can make a new one. Without a
        // target it is being taken apart, and gives up the reference to itself last.
        let target = (*this).target;
        if (*this).held && !target.is_null() && ((*this).link.table().wakers)(target) == 0 {
            crate::visit!(visit, arg, slf);
        }
    }
    0
}

pub(super) unsafe extern "C" fn clear(slf: Object) -> c_int {
    // SAFETY: called by the collector, which holds the GIL and a reference.
    unsafe {
        trampoline::destroy(|py| {
            let awaitable = Awaitable::borrowed(py, slf);
            if awaitable.phase() != Phase::Running {
                awaitable.end(Phase::Done);
            }
        });
    }
    0
}

pub(super) unsafe extern "C" fn dealloc(slf: Object) {
    // SAFETY: the last reference is gone. Before anything else the waiter, which may live on,
    // forgets its owner: the rest may have to wait, or run Python code that has the waiter.
    unsafe {
        let waiter = (*slf.cast::<AwaitableObject>()).waiter;
        if !waiter.is_null() {
            waiter::disown(waiter);
        }
        trashcan::dealloc(slf, free);
    }
}

/// Weak references, fields, memory, type.
///
/// # Safety
/// `slf` must be a dead, untracked awaitable, the GIL held.
unsafe fn free(slf: Object) {
    let this = slf.cast::<AwaitableObject>();
    // SAFETY: called by `trashcan::dealloc` with a dead, untracked object that nobody can get hold of.
    unsafe {
        let class = ffi::Py_TYPE(slf);
        if !(*this).weakrefs.is_null() {
            ffi::PyObject_ClearWeakRefs(slf);
        }
        if (*this).phase != Phase::Done {
            trampoline::destroy(|py| {
                if (*this).phase == Phase::Fresh {
                    coroutine::warn_never_awaited(py, (*this).name);
                }
                take_apart(py, this, Phase::Done);
            });
        }
        ffi::PyObject_GC_Del(slf.cast());
        ffi::Py_DECREF(class.cast());
    }
}
