//! Calls in the ready queue, and handles that are only tickets for one.
//!
//! `call_soon` puts what it is to call into the queue's own memory. The handle that it gives out
//! knows the number of that place, and the place knows the handle. Whoever looks at the handle
//! makes it take the call over (`claim`), and so does the loop when the call's turn comes and the
//! handle is still there: from then on it is a handle like any other. One that is dropped before,
//! as most are, leaves the call to the queue (`give_up`).

use std::ptr::null_mut;

use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::{PyTraverseError, PyVisit};

use super::class::types;
use super::{Call, Handle, HandleObject, INLINE};
use crate::contexts::within;
use crate::event_loop::NativeLoop;
use crate::object::{self, Object};

/// The number of a place in the ready queue; places are numbered from 1, first in first out.
pub type Ticket = u64;

/// A call that the ready queue owns.
pub struct Queued {
    /// Never null, save after `fill`.
    callback: Object,
    context: Object,
    args: [Object; INLINE],
    /// Borrowed: a handle that dies takes itself out. Null without one.
    handle: *mut HandleObject,
    count: u8,
    shared: bool,
}

impl Queued {
    /// As many arguments as a place has room for.
    pub const MOST_ARGUMENTS: usize = INLINE;

    /// The call, which the queue is to take at `ticket`, and the handle to give out.
    #[inline]
    pub fn new(
        py: Python<'_>,
        event_loop: &NativeLoop,
        call: &Call<'_>,
        thread_safe: bool,
    ) -> PyResult<(Self, Handle)> {
        debug_assert!(call.args.len() <= INLINE);
        let types = types(py)?;
        let (class, thread_safe) = match &types.thread_safe {
            Some(class) if thread_safe => (class, true),
            _ => (&types.handle, false),
        };
        let handle = Handle::bare(py, class, event_loop)?;
        let (context, shared) = call.take_context(py, event_loop)?;
        let mut args = [null_mut(); INLINE];
        // SAFETY: borrowed live objects; the handle was just made, of our layout.
        let callback = unsafe {
            for (to, from) in args.iter_mut().zip(call.args) {
                *to = ffi::Py_NewRef(*from);
            }
            (*handle.object()).thread_safe = thread_safe;
            ffi::Py_NewRef(call.callback)
        };
        let count = call.args.len() as u8;
        Ok((Self { callback, context, args, handle: handle.object(), count, shared }, handle))
    }

    /// The queue has taken the call at this place.
    #[inline]
    pub fn placed(&self, _py: Python<'_>, ticket: Ticket) {
        // SAFETY: the handle is alive: one that dies takes itself out.
        unsafe {
            if let Some(handle) = self.handle.as_mut() {
                handle.place = ticket;
                handle.queued = true;
            }
        }
    }

    /// The handle, if somebody has it, made whole.
    #[inline]
    pub fn into_handle(mut self, py: Python<'_>) -> Result<Handle, Self> {
        if self.handle.is_null() { Err(self) } else { Ok(self.fill(py)) }
    }

    /// The handle, made now if nobody has it.
    pub fn into_made_handle(mut self, py: Python<'_>, event_loop: &NativeLoop) -> PyResult<Handle> {
        if self.handle.is_null() {
            let handle = Handle::bare(py, &types(py)?.handle, event_loop)?;
            self.handle = handle.object();
            let _filled = self.fill(py);
            return Ok(handle);
        }
        Ok(self.fill(py))
    }

    /// Gives a blank handle to a call without one.
    pub fn adopt(&mut self, py: Python<'_>, handle: &Handle, ticket: Ticket) {
        self.handle = handle.object();
        self.placed(py, ticket);
    }

    /// Moves the call into its handle, which must be there.
    fn fill(&mut self, py: Python<'_>) -> Handle {
        let handle = std::mem::replace(&mut self.handle, null_mut());
        // SAFETY: alive: one that dies takes itself out. A ticket holds nothing, so nothing is
        // overwritten; each reference moves once, as the call is left empty.
        unsafe {
            let whole = &mut *handle;
            whole.queued = false;
            whole.place = 0;
            whole.callback = std::mem::replace(&mut self.callback, null_mut());
            whole.context = std::mem::replace(&mut self.context, null_mut());
            whole.inline = std::mem::replace(&mut self.args, [null_mut(); INLINE]);
            whole.count = self.count;
            whole.shared = self.shared;
            Handle(Bound::from_borrowed_ptr(py, handle.cast()).unbind())
        }
    }

    /// Calls the callback in its context; the error is whatever it raised.
    ///
    /// Only for a call whose handle is gone: nobody can cancel it or look at it.
    #[inline]
    pub fn call(&self, py: Python<'_>, event_loop: &NativeLoop) -> PyResult<()> {
        // SAFETY: the call holds its context.
        let context = unsafe { Bound::from_borrowed_ptr(py, self.context) };
        if !self.shared {
            return self.call_in(&context);
        }
        let copy = event_loop.contexts.lend(py, &context)?;
        let result = self.call_in(&copy);
        drop(event_loop.contexts.take_back(&context, copy));
        result
    }

    #[inline]
    fn call_in(&self, context: &Bound<'_, PyAny>) -> PyResult<()> {
        let py = context.py();
        // In front of the arguments room for a bound method's `self`.
        let mut stack = [null_mut(); INLINE + 1];
        stack[1..].copy_from_slice(&self.args);
        within(context, || {
            // SAFETY: what the call holds lives until it is dropped, which is after this.
            let result = unsafe {
                object::owned(
                    py,
                    ffi::PyObject_Vectorcall(
                        self.callback,
                        stack.as_ptr().add(1),
                        self.count as usize | ffi::PY_VECTORCALL_ARGUMENTS_OFFSET,
                        null_mut(),
                    ),
                )?
            };
            drop(result);
            Ok(())
        })
    }

    /// The handle, if somebody has it.
    pub fn handle<'py>(&self, py: Python<'py>) -> Option<Bound<'py, PyAny>> {
        // SAFETY: alive: one that dies takes itself out.
        unsafe { Bound::from_borrowed_ptr_or_opt(py, self.handle.cast()) }
    }

    pub fn has_handle(&self) -> bool {
        !self.handle.is_null()
    }

    /// Leaves the call to the queue: the handle dies.
    pub fn forget_handle(&mut self) {
        self.handle = null_mut();
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
        // SAFETY: whoever drops an entry of the ready queue holds the GIL. Each reference is ours,
        // or null after `fill`.
        unsafe {
            if !self.handle.is_null() {
                // The loop is closed: the handle keeps its call, as in asyncio.
                drop(self.fill(Python::assume_attached()));
                return;
            }
            ffi::Py_XDECREF(self.callback);
            for arg in &self.args[..self.count as usize] {
                ffi::Py_XDECREF(*arg);
            }
            ffi::Py_XDECREF(self.context);
        }
    }
}

/// Has a handle take its call over, if that is still in the ready queue.
///
/// # Safety
/// `handle` must be alive, the GIL held.
#[inline]
pub unsafe fn claim(py: Python<'_>, handle: *mut HandleObject) {
    // SAFETY: the caller's promise; a handle holds its loop.
    unsafe {
        if (*handle).queued {
            NativeLoop::of((*handle).event_loop).claim(py, (*handle).place);
        }
    }
}

/// Leaves the call of a handle that dies to the ready queue.
///
/// # Safety
/// As for `claim`.
#[inline]
pub unsafe fn give_up(py: Python<'_>, handle: *mut HandleObject) {
    // SAFETY: the caller's promise; a handle holds its loop.
    unsafe {
        (*handle).queued = false;
        NativeLoop::of((*handle).event_loop).give_up(py, (*handle).place);
    }
}
