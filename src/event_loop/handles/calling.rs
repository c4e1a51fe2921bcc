//! A handle's callback is called in its context, or cancelled.

use std::ptr::null_mut;

use pyo3::exceptions::PyTypeError;
use pyo3::ffi;
use pyo3::prelude::*;

use super::thread_safe;
use crate::event_loop::NativeLoop;
use crate::event_loop::queue::{Handle, HandleObject, INLINE, Run, State, call_by_run};
use crate::ffi::contexts::is_entered;
use crate::ffi::object::{self, Object};
use crate::ffi::tuples::tuple_of;

impl Handle {
    pub fn cancel(&self, py: Python<'_>) -> PyResult<()> {
        // SAFETY: a handle, which this reference keeps alive.
        unsafe { cancel(py, self.object()) }
    }

    /// Whether the context is that of a call which is on the stack: it cannot be entered now.
    pub fn is_context_entered(&self, py: Python<'_>) -> bool {
        let object = self.object();
        // SAFETY: our layout; this reference keeps the handle alive, which holds its context, or none
        // once it was cancelled.
        let (context, shared) =
            unsafe { (Bound::from_borrowed_ptr_or_opt(py, (*object).context), (*object).shared) };
        !shared && context.is_some_and(|context| is_entered(&context))
    }

    /// Calls the callback in its context; the error is whatever it raised.
    #[inline]
    pub fn call(&self, py: Python<'_>) -> PyResult<()> {
        let object = self.object();
        // SAFETY: our layout; this reference keeps the handle alive, and `run` keeps a
        // `cancel()` from inside the callback from releasing what the call still uses.
        unsafe {
            let pristine = borrow_context(py, object)?;
            let result = self.call_entered(py);
            if let Some(pristine) = pristine {
                return_context(py, object, pristine);
            }
            result
        }
    }

    /// Calls the callback in the context that the handle has now.
    #[inline]
    fn call_entered(&self, py: Python<'_>) -> PyResult<()> {
        let object = self.object();
        // SAFETY: `self` keeps the handle alive, and the GIL is held, as `py` says. The arguments that
        // the call borrows stay: only `cancel()` and the collector release them, and the one leaves
        // that to us while `run` says so, the other takes no handle that has a reference like ours.
        // The slot in front of the arguments is `scratch`, for the callee to use.
        unsafe {
            let callback = Bound::from_borrowed_ptr_or_opt(py, (*object).callback);
            let Some(callback) = callback else {
                return Err(nothing_to_call());
            };
            let mut entering = Ok(());
            if ffi::PyContext_Enter((*object).context) != 0 {
                entering = Err(object::fetch(py));
                if ffi::PyContext_CheckExact((*object).context) != 0 {
                    return entering;
                }
            }
            (*object).run = Run::Running;
            if (*object).thread_safe {
                (*object).runner = libc::pthread_self();
            }
            let result = if entering.is_err() {
                call_whole_by_run(&callback, object)
            } else if (*object).many.is_null() {
                ffi::PyObject_Vectorcall(
                    callback.as_ptr(),
                    (&raw const (*object).inline).cast(),
                    (*object).count as usize | ffi::PY_VECTORCALL_ARGUMENTS_OFFSET,
                    null_mut(),
                )
            } else {
                ffi::PyObject_Call(callback.as_ptr(), (*object).many, null_mut())
            };
            let error = result.is_null().then(|| object::fetch(py));
            (*object).run = Run::No;
            if (*object).thread_safe {
                thread_safe::finished();
            }
            let exited = if entering.is_ok() { ffi::PyContext_Exit((*object).context) } else { 0 };
            if (*object).cancelled {
                release_call(object);
            }
            if let Some(error) = error {
                return Err(error);
            }
            ffi::Py_DECREF(result);
            if exited != 0 {
                return Err(object::fetch(py));
            }
            Ok(())
        }
    }
}

/// The same for a handle's call: a new reference, or null with an exception set.
///
/// # Safety
/// `handle` must be alive throughout the call, with arguments that stay until it returns.
#[cold]
unsafe fn call_whole_by_run(callback: &Bound<'_, PyAny>, handle: *mut HandleObject) -> Object {
    let py = callback.py();
    // SAFETY: the caller's promise; `many` is a tuple or null.
    let called = unsafe {
        let args = if (*handle).many.is_null() {
            object::owned(py, tuple_of(&(&(*handle).inline)[..(*handle).count as usize]))
        } else {
            Ok(Bound::from_borrowed_ptr(py, (*handle).many))
        };
        args.and_then(|args| {
            let context = Bound::from_borrowed_ptr(py, (*handle).context);
            call_by_run(&context, callback.as_ptr(), args.cast_unchecked())
        })
    };
    match called {
        Ok(()) => py.None().into_ptr(),
        Err(error) => {
            error.restore(py);
            null_mut()
        }
    }
}

/// For a handle that was cancelled, or cleared as garbage, and is run by hand: what asyncio's code
/// raises.
#[cold]
pub(super) fn nothing_to_call() -> PyErr {
    PyTypeError::new_err("Value after * must be an iterable, not NoneType")
}

/// Puts a working copy in the place of a shared snapshot, which comes back.
///
/// # Safety
/// `handle` must be alive, the GIL held.
#[inline]
unsafe fn borrow_context<'py>(
    py: Python<'py>,
    handle: *mut HandleObject,
) -> PyResult<Option<Bound<'py, PyAny>>> {
    // SAFETY: the caller's promise; a handle holds its loop and, before it ran, its context.
    unsafe {
        if !(*handle).shared {
            return Ok(None);
        }
        let contexts = &NativeLoop::of((*handle).event_loop).contexts;
        let pristine = Bound::from_borrowed_ptr(py, (*handle).context);
        let copy = contexts.lend(py, &pristine)?;
        ffi::Py_DECREF(std::mem::replace(&mut (*handle).context, copy.into_ptr()));
        (*handle).shared = false;
        Ok(Some(pristine))
    }
}

/// Hands the working copy back, unless the callback made it the handle's own.
///
/// # Safety
/// `handle` must be alive, the GIL held; `pristine` is what `borrow_context` gave.
#[inline]
unsafe fn return_context<'py>(
    py: Python<'py>,
    handle: *mut HandleObject,
    pristine: Bound<'py, PyAny>,
) {
    // SAFETY: the caller's promise; the handle's reference to its context is moved out, and one
    // is put back before anybody can look.
    unsafe {
        let contexts = &NativeLoop::of((*handle).event_loop).contexts;
        let copy = Bound::from_owned_ptr(py, (*handle).context);
        (*handle).context = pristine.clone().into_ptr();
        (*handle).shared = true;
        if let Some(copy) = contexts.take_back(&pristine, copy) {
            ffi::Py_DECREF(std::mem::replace(&mut (*handle).context, copy.into_ptr()));
            (*handle).shared = false;
        }
    }
}

/// Gives the handle a context of its own.
///
/// # Safety
/// `handle` must be alive, the GIL held.
#[inline]
pub(super) unsafe fn own_context(py: Python<'_>, handle: *mut HandleObject) -> PyResult<()> {
    // SAFETY: the caller's promise; the snapshot is a context.
    unsafe {
        if (*handle).shared {
            let copy = object::owned(py, ffi::PyContext_Copy((*handle).context))?.into_ptr();
            let snapshot = std::mem::replace(&mut (*handle).context, copy);
            (*handle).shared = false;
            ffi::Py_DECREF(snapshot);
        }
    }
    Ok(())
}

/// asyncio's `Handle.cancel()`.
///
/// # Safety
/// `handle` must be alive throughout the call, which may run Python code, and no ticket.
pub(super) unsafe fn cancel(py: Python<'_>, handle: *mut HandleObject) -> PyResult<()> {
    // SAFETY: the caller's promise; a live handle holds its loop, and the GIL is held, as `py` says.
    // No `&mut` lives across the calls that may run Python code.
    unsafe {
        if (*handle).cancelled {
            return Ok(());
        }
        let event_loop = NativeLoop::of((*handle).event_loop);
        (*handle).cancelled = true;
        if event_loop.is_debug(py) {
            let repr = ffi::PyObject_Repr(handle.cast());
            if repr.is_null() {
                return Err(object::fetch(py));
            }
            (*handle).repr = repr;
        }
        if (*handle).scheduled {
            event_loop.timer_cancelled(py);
        }
        match (*handle).run {
            Run::No => release_call(handle),
            Run::Running | Run::Forgotten => (*handle).run = Run::Forgotten,
        }
    }
    Ok(())
}

/// Drops callback and arguments. The time of a timer stays: a cancelled one is asked for it, too.
///
/// # Safety
/// `handle` must be alive, the GIL held. Runs Python code (destructors).
pub(super) unsafe fn release_call(handle: *mut HandleObject) {
    // SAFETY: each pointer is taken out before its reference is dropped, so code that comes back
    // here through a destructor finds null.
    unsafe {
        (*handle).count = 0;
        ffi::Py_CLEAR(&raw mut (*handle).callback);
        ffi::Py_CLEAR(&raw mut (*handle).many);
        for at in usize::from((*handle).keeps_time)..INLINE {
            ffi::Py_CLEAR(&raw mut (*handle).inline[at]);
        }
    }
}

/// Has a handle take its call over, if that is still in the ready queue.
///
/// # Safety
/// `handle` must be alive, the GIL held.
#[inline]
pub(super) unsafe fn claim(py: Python<'_>, handle: *mut HandleObject) {
    // SAFETY: the caller's promise; a handle holds its loop.
    unsafe {
        if (*handle).state == State::Ticket {
            NativeLoop::of((*handle).event_loop).claim(py, (*handle).place);
            debug_assert!((*handle).state != State::Ticket, "a ticket finds its call");
        }
    }
}

/// Leaves the call of a handle that dies to the ready queue.
///
/// # Safety
/// `handle` must be a ticket whose last reference is gone, not freed yet, the GIL held.
#[inline]
pub(super) unsafe fn give_up(py: Python<'_>, handle: *mut HandleObject) {
    // SAFETY: the caller's promise; a handle holds its loop.
    unsafe {
        (*handle).state = State::Whole;
        NativeLoop::of((*handle).event_loop).give_up(py, (*handle).place);
    }
}
