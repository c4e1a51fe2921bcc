//! Calls in the ready queue, and handles that are only tickets for one.
//!
//! `call_soon` puts what it is to call into the queue's own memory. The handle that it gives out
//! knows the number of that place, and the place borrows the handle. Code that looks at the handle
//! makes it take the call over (`claim`), and so does the loop when it comes to the call and the
//! handle still exists: from then on it is a handle like any other. One that is dropped before,
//! as most are, leaves the call to the queue (`give_up`).
//!
//! `tie` and `untie` are the only two functions that write both ends of the tie, and only
//! `event_loop::ready` calls them, on entries in the queue; it says why a borrowed handle is alive.

use std::ptr::null_mut;

use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::PyTuple;
use pyo3::{Borrowed, PyTraverseError, PyVisit};

use super::handle::{Handle, HandleObject, INLINE, State, track};
use crate::ffi::contexts::{Contexts, is_context, is_entered, leave_with};
use crate::ffi::object::{self, Object};
use crate::ffi::tuples::tuple_of;

/// The number of a place in the ready queue; places are numbered from 1, first in first out.
pub(crate) type Ticket = u64;

/// A call that the ready queue owns.
#[repr(C)]
pub struct Queued {
    /// Null only while a call is made, and after `fill`.
    pub(in crate::event_loop) callback: Object,
    pub(in crate::event_loop) context: Object,
    pub(in crate::event_loop) shape: Shape,
    /// Borrowed: a handle that dies takes itself out. Null without one, and out of the queue. In front of
    /// the arguments: there a callee may put a bound method's `self`, in a call that has no handle.
    pub(in crate::event_loop) handle: *mut HandleObject,
    pub(in crate::event_loop) args: [Object; INLINE],
}

/// How many arguments a call has, and whether others have its context, too.
///
/// It fills a word, as all fields of a call do. A call is moved in pieces of a word and more, and a
/// processor that reads what narrower writes have just made has to wait until those are in its cache.
#[derive(Clone, Copy)]
#[repr(u64)]
pub(in crate::event_loop) enum Shape {
    Own0,
    Own1,
    Own2,
    Own3,
    Shared0,
    Shared1,
    Shared2,
    Shared3,
}

impl Shape {
    const OWN: [Self; INLINE + 1] = [Self::Own0, Self::Own1, Self::Own2, Self::Own3];
    const SHARED: [Self; INLINE + 1] = [Self::Shared0, Self::Shared1, Self::Shared2, Self::Shared3];

    /// `count` is at most `INLINE`.
    #[inline]
    pub(in crate::event_loop) const fn of(count: usize, shared: bool) -> Self {
        if shared { Self::SHARED[count] } else { Self::OWN[count] }
    }

    #[inline]
    const fn count(self) -> usize {
        self as usize % Self::OWN.len()
    }

    #[inline]
    const fn is_shared(self) -> bool {
        self as usize >= Self::OWN.len()
    }
}

impl Queued {
    /// A call of nothing, to be filled.
    pub(in crate::event_loop) const EMPTY: Self = Self {
        callback: null_mut(),
        context: null_mut(),
        args: [null_mut(); INLINE],
        handle: null_mut(),
        shape: Shape::Own0,
    };

    /// As many arguments as a place has room for.
    pub const MOST_ARGUMENTS: usize = INLINE;

    /// Ties the call to a handle that holds nothing; the queue has it at this place.
    #[inline]
    pub fn tie(&mut self, _py: Python<'_>, handle: &Handle, ticket: Ticket) {
        debug_assert!(self.handle.is_null());
        self.handle = handle.object();
        // SAFETY: alive, `handle` is a reference to it; the GIL is held.
        unsafe {
            (*self.handle).place = ticket;
            (*self.handle).state = State::Ticket;
        }
    }

    /// Moves the call into the handle that it is tied to, if there is one. The call is left empty.
    #[inline]
    pub fn untie(&mut self, py: Python<'_>) -> Option<Handle> {
        if self.handle.is_null() {
            return None;
        }
        let handle = std::mem::replace(&mut self.handle, null_mut());
        // SAFETY: alive: a ticket that dies takes itself out of the queue, where this call is. In
        // a destructor, for the sake of weak references, the handle comes back to life by this.
        let handle = unsafe { Handle::of(Bound::from_borrowed_ptr(py, handle.cast())) };
        self.fill(&handle);
        Some(handle)
    }

    /// Moves the call into a handle that holds none.
    pub(in crate::event_loop) fn fill(&mut self, handle: &Handle) {
        // SAFETY: alive, this is a reference to it, and who has one holds the GIL. A ticket or a
        // blank handle holds nothing, so nothing is overwritten; each reference moves once, as the
        // call is left empty.
        unsafe {
            let whole = &mut *handle.object();
            whole.state = State::Whole;
            whole.place = 0;
            whole.callback = std::mem::replace(&mut self.callback, null_mut());
            whole.context = std::mem::replace(&mut self.context, null_mut());
            whole.inline = std::mem::replace(&mut self.args, [null_mut(); INLINE]);
            whole.count = self.shape.count() as u8;
            whole.shared = self.shape.is_shared();
        }
    }

    /// Whether the context is that of a call which is on the stack: it cannot be entered now. A
    /// snapshot that calls share is never entered itself.
    pub(in crate::event_loop) fn is_context_entered(&self, py: Python<'_>) -> bool {
        // SAFETY: the call holds its context.
        let context = unsafe { Bound::from_borrowed_ptr(py, self.context) };
        !self.shape.is_shared() && is_entered(&context)
    }

    /// Calls the callback in its context; whether it returned. If not, what it raised is set.
    ///
    /// Only for a call whose handle is gone: no code can cancel it or look at it.
    #[inline(always)]
    pub fn call(&mut self, py: Python<'_>, contexts: &Contexts) -> bool {
        debug_assert!(self.handle.is_null());
        if self.shape.is_shared() {
            return self.call_in_copy(py, contexts);
        }
        // SAFETY: the call holds its context, which is asked for its type before anything else.
        unsafe {
            if ffi::PyContext_Enter(self.context) != 0 {
                return self.call_without_entering(py);
            }
            self.call_in(py, self.context)
        }
    }

    fn call_in_copy(&mut self, py: Python<'_>, contexts: &Contexts) -> bool {
        // SAFETY: the call holds its context.
        let context = unsafe { Borrowed::from_ptr(py, self.context) };
        let copy = match contexts.lend(py, &context) {
            Ok(copy) => copy,
            Err(error) => return raise(py, error),
        };
        // SAFETY: a context, which `copy` holds for the call.
        unsafe {
            if ffi::PyContext_Enter(copy.as_ptr()) != 0 {
                return false;
            }
            let returned = self.call_in(py, copy.as_ptr());
            // Destructors leave an exception that is set as it is.
            drop(contexts.take_back(&context, copy));
            returned
        }
    }

    /// Calls the callback in a context that was entered, and leaves that.
    ///
    /// # Safety
    /// The context must be alive through the call, and entered.
    #[inline(always)]
    unsafe fn call_in(&mut self, py: Python<'_>, context: Object) -> bool {
        let this = std::ptr::from_mut(self);
        // SAFETY: what the call holds lives until it is dropped, which is after this. The word in front of
        // the arguments is this call's, and free, as it has no handle.
        unsafe {
            let result = ffi::PyObject_Vectorcall(
                (*this).callback,
                this.cast::<Object>().byte_add(std::mem::offset_of!(Self, args)),
                (*this).shape.count() | ffi::PY_VECTORCALL_ARGUMENTS_OFFSET,
                null_mut(),
            );
            if result.is_null() {
                return leave_raising(py, context);
            }
            ffi::Py_DECREF(result);
            ffi::PyContext_Exit(context) == 0
        }
    }

    /// For a context that could not be entered: it may be an object of the program's, which has a `run`.
    #[cold]
    fn call_without_entering(&mut self, py: Python<'_>) -> bool {
        // SAFETY: the call holds its context.
        let context = unsafe { Bound::from_borrowed_ptr(py, self.context) };
        if is_context(&context) {
            return false;
        }
        // What `enter` had to say of it.
        drop(object::fetch(py));
        match self.call_by_run(&context) {
            Ok(()) => true,
            Err(error) => raise(py, error),
        }
    }

    /// Has an object of the program's call the callback, as asyncio has every context do it.
    #[cold]
    fn call_by_run(&self, context: &Bound<'_, PyAny>) -> PyResult<()> {
        // SAFETY: what the call holds lives until it is dropped, which is after this.
        unsafe {
            let args = object::owned(context.py(), tuple_of(&self.args[..self.shape.count()]))?;
            call_by_run(context, self.callback, &args.cast_into_unchecked())
        }
    }

    /// A reference to the handle, if it still exists.
    pub fn handle(&self, py: Python<'_>) -> Option<Handle> {
        // SAFETY: a handle, alive while it is tied: one that dies takes itself out.
        unsafe {
            let handle = Bound::from_borrowed_ptr_or_opt(py, self.handle.cast());
            handle.map(|handle| Handle::of(handle))
        }
    }

    #[inline]
    pub fn has_handle(&self) -> bool {
        !self.handle.is_null()
    }

    #[inline]
    pub fn is_tied_to(&self, handle: &Handle) -> bool {
        self.handle == handle.object()
    }

    /// Leaves the call to the queue: the handle dies.
    #[inline]
    pub fn forget_handle(&mut self) {
        self.handle = null_mut();
    }

    /// Makes the handle, if it still exists, an object of its own to the collector.
    pub fn track_handle(&self) {
        if !self.handle.is_null() {
            // SAFETY: alive while it is tied; the queue is only looked at with the GIL held.
            unsafe { track(self.handle) };
        }
    }

    pub fn traverse(&self, visit: &PyVisit<'_>) -> Result<(), PyTraverseError> {
        for field in [&self.callback, &self.context].into_iter().chain(&self.args) {
            // SAFETY: a nullable pointer to an object is what `Option<Py>` is; the collector holds
            // the GIL and runs no other code meanwhile.
            visit.call(unsafe { &*std::ptr::from_ref(field).cast::<Option<Py<PyAny>>>() })?;
        }
        Ok(())
    }
}

impl Drop for Queued {
    #[inline]
    fn drop(&mut self) {
        debug_assert!(self.handle.is_null(), "a call leaves the queue untied");
        // SAFETY: a thread that drops an entry of the ready queue holds the GIL. Each reference is ours,
        // or null after `fill`. Their destructors cannot reach this
        // call any more.
        unsafe {
            ffi::Py_XDECREF(self.callback);
            for arg in &self.args[..self.shape.count()] {
                ffi::Py_XDECREF(*arg);
            }
            ffi::Py_XDECREF(self.context);
        }
    }
}

#[cold]
fn raise(py: Python<'_>, error: PyErr) -> bool {
    error.restore(py);
    false
}

/// Leaves a context after a call that raised. The first exception counts.
///
/// # Safety
/// An exception must be set, and the context alive.
#[cold]
unsafe fn leave_raising(py: Python<'_>, context: Object) -> bool {
    // SAFETY: the caller's promise.
    let context = unsafe { Borrowed::from_ptr(py, context) };
    raise(py, leave_with(&context, object::fetch(py)))
}

/// Has an object of the program's, passed for a context, call the callback: asyncio asks no more of
/// it than a `run`.
///
/// # Safety
/// `callback` must be alive until this returns, the GIL held.
pub(in crate::event_loop) unsafe fn call_by_run(
    context: &Bound<'_, PyAny>,
    callback: Object,
    args: &Bound<'_, PyTuple>,
) -> PyResult<()> {
    let py = context.py();
    let run = context.getattr(pyo3::intern!(py, "run"))?;
    // SAFETY: the caller's promise.
    let callback = unsafe { Bound::from_borrowed_ptr(py, callback) };
    let all = PyTuple::new(py, [callback])?.add(args)?.cast_into::<PyTuple>()?;
    run.call1(all).map(drop)
}
