//! The attributes of handles: those of asyncio's handles, under the same names.

use std::ffi::{c_int, c_void};
use std::ptr::null_mut;

use pyo3::exceptions::PyAttributeError;
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::PyBool;

use super::calling::{cancel, claim, nothing_to_call, own_context};
use super::thread_safe::wait_until_done;
use crate::event_loop::NativeLoop;
use crate::event_loop::queue::{Handle, HandleObject, Run};
use crate::ffi::class::object_getter;
use crate::ffi::definitions::{getter, plain_method};
use crate::ffi::imports;
use crate::ffi::object::{self, Object};
use crate::ffi::trampoline::enter;
use crate::ffi::tuples::tuple_of;

/// A new reference to an object, or to `None` for null.
///
/// # Safety
/// `object` must be null or a live object, the GIL held.
unsafe fn or_none(object: Object) -> Object {
    // SAFETY: the caller's promise; `None` lives for ever.
    unsafe { ffi::Py_NewRef(if object.is_null() { ffi::Py_None() } else { object }) }
}

/// A new reference to `True` or `False`.
///
/// # Safety
/// The GIL must be held.
unsafe fn boolean(value: bool) -> Object {
    // SAFETY: the caller's promise.
    unsafe { ffi::PyBool_FromLong(value.into()) }
}

/// A timer's deadline as it was given, if that was not exactly a `float`.
///
/// # Safety
/// `timer` must be a live timer handle, the GIL held.
unsafe fn given_time<'py>(py: Python<'py>, timer: *mut HandleObject) -> Option<Bound<'py, PyAny>> {
    // SAFETY: the caller's promise; null once it was cleared as garbage.
    unsafe {
        let time = if (*timer).keeps_time { (*timer).inline[0] } else { null_mut() };
        Bound::from_borrowed_ptr_or_opt(py, time)
    }
}

/// A timer's deadline.
///
/// # Safety
/// `timer` must be a live timer handle, the GIL held.
pub(super) unsafe fn when<'py>(
    py: Python<'py>,
    timer: *mut HandleObject,
) -> PyResult<Bound<'py, PyAny>> {
    // SAFETY: the caller's promise.
    unsafe {
        match given_time(py, timer) {
            Some(time) => Ok(time),
            None => object::owned(py, ffi::PyFloat_FromDouble(f64::from_bits((*timer).place))),
        }
    }
}

/// The handle with its call, which may have been in the ready queue until now.
///
/// # Safety
/// `slf` must be a live handle, the GIL held.
unsafe fn whole<'a>(slf: Object) -> &'a HandleObject {
    let handle = slf.cast::<HandleObject>();
    // SAFETY: the caller's promise.
    unsafe {
        claim(Python::assume_attached(), handle);
        &*handle
    }
}

macro_rules! field {
    ($name:ident, $handle:ident => $value:expr) => {
        unsafe extern "C" fn $name(slf: Object, _closure: *mut c_void) -> Object {
            // SAFETY: a getter of the handles' classes: CPython checked the type of `slf`, which is
            // alive for the call, and holds the GIL. A live handle's fields are null or hold a
            // reference.
            unsafe {
                let $handle = whole(slf);
                $value
            }
        }
    };
}

field!(get_loop, handle => or_none(handle.event_loop));
field!(get_callback, handle => if handle.run == Run::Forgotten {
    or_none(null_mut())
} else {
    or_none(handle.callback)
});

/// `handle._callback = function`, by a tool that runs the handle. A cancelled handle stays without.
unsafe extern "C" fn set_callback(slf: Object, value: Object, _closure: *mut c_void) -> c_int {
    // SAFETY: CPython calls this, and holds the GIL.
    let held = unsafe { Python::assume_attached() };
    enter(held, -1, |py| {
        // SAFETY: a setter of the handles' classes: CPython checked the type of `slf`, which is alive
        // for the call as the value is; there is none if the attribute is deleted.
        unsafe {
            let Some(value) = Bound::from_borrowed_ptr_or_opt(py, value) else {
                return Err(PyAttributeError::new_err("_callback"));
            };
            let handle = slf.cast::<HandleObject>();
            claim(py, handle);
            if !(*handle).callback.is_null() && (*handle).run != Run::Forgotten {
                let before = std::mem::replace(&mut (*handle).callback, value.into_ptr());
                ffi::Py_DECREF(before);
            }
            Ok(0)
        }
    })
}

object_getter!(get_when, HandleObject, |slf| {
    // SAFETY: a timer, which `slf` keeps alive, with the GIL held.
    unsafe { when(slf.py(), slf.fields()) }
});

object_getter!(get_context, HandleObject, |slf| {
    let (py, handle) = (slf.py(), slf.fields());
    // SAFETY: a handle, which `slf` keeps alive, with the GIL held. Its fields are null or hold a
    // reference.
    unsafe {
        claim(py, handle);
        own_context(py, handle)?;
        Ok(Bound::from_owned_ptr(py, or_none((*handle).context)))
    }
});

field!(get_traceback, handle => or_none(handle.source_traceback));
field!(get_repr, handle => or_none(handle.repr));
field!(get_cancelled, handle => boolean(handle.cancelled));
field!(get_scheduled, handle => boolean(handle.scheduled));
field!(get_args, handle => if handle.callback.is_null() || handle.run == Run::Forgotten {
    or_none(null_mut())
} else if handle.many.is_null() {
    tuple_of(&handle.inline[..handle.count as usize])
} else {
    or_none(handle.many)
});

object_getter!(handle_class, HandleObject, |slf| {
    Ok(imports::asyncio(slf.py())?.handle.bind(slf.py()).clone())
});

object_getter!(timer_class, HandleObject, |slf| {
    Ok(imports::asyncio(slf.py())?.timer_handle.bind(slf.py()).clone())
});

object_getter!(thread_safe_class, HandleObject, |slf| {
    let class = imports::asyncio(slf.py())?.thread_safe_handle.as_ref();
    Ok(class
        .map_or_else(|| slf.py().None(), |class| class.clone_ref(slf.py()))
        .into_bound(slf.py()))
});

object_getter!(method_cancel, HandleObject, |slf| {
    let (py, handle) = (slf.py(), slf.fields());
    // SAFETY: a handle, which `slf` keeps alive; claimed, it is no ticket, and never becomes one again.
    unsafe {
        claim(py, handle);
        wait_until_done(py, handle);
        cancel(py, handle)?;
    }
    Ok(py.None().into_bound(py))
});

object_getter!(method_cancelled, HandleObject, |slf| {
    let (py, handle) = (slf.py(), slf.fields());
    // SAFETY: a handle, which `slf` keeps alive, with the GIL held.
    let cancelled = unsafe {
        wait_until_done(py, handle);
        (*handle).cancelled
    };
    Ok(PyBool::new(py, cancelled).to_owned())
});

object_getter!(
    /// `Handle._run()`: asyncio's way of running a handle by hand.
    method_run,
    HandleObject,
    |slf| {
        let (py, object) = (slf.py(), slf.fields());
        // SAFETY: a handle, which `slf` keeps alive, with the GIL held.
        let handle = unsafe {
            claim(py, object);
            Handle::of(Bound::from_borrowed_ptr(py, object.cast()))
        };
        // SAFETY: a handle always has its loop.
        let (event_loop, run) = unsafe { (NativeLoop::of((*object).event_loop), (*object).run) };
        if run == Run::Forgotten {
            event_loop.callback_failed(py, &handle, nothing_to_call())?;
        } else {
            event_loop.run_handle(py, &handle)?;
        }
        Ok(py.None().into_bound(py))
    }
);

pub(super) unsafe extern "C" fn repr(slf: Object) -> Object {
    // SAFETY: CPython calls this, and holds the GIL.
    let held = unsafe { Python::assume_attached() };
    enter(held, null_mut(), |py| {
        // SAFETY: `slf` is alive for the call.
        let slf = unsafe { Bound::from_borrowed_ptr(py, slf) };
        let text = imports::error_reports(py)?.bind(py).call_method1("describe_handle", (slf,))?;
        Ok(text.into_ptr())
    })
}

/// `when` is the last, for timers alone.
pub(super) const METHODS: [ffi::PyMethodDef; 5] = [
    plain_method(
        c"cancel",
        method_cancel,
        c"cancel($self, /)\n--\n\n\
        Cancel the callback, unless it was called already. As ``asyncio.Handle.cancel``.",
    ),
    plain_method(
        c"cancelled",
        method_cancelled,
        c"cancelled($self, /)\n--\n\n\
        Return True if the callback was cancelled. As ``asyncio.Handle.cancelled``.",
    ),
    plain_method(
        c"get_context",
        get_context,
        c"get_context($self, /)\n--\n\n\
        Return the ``contextvars.Context`` that the callback runs in.\n\
        \n\
        As ``asyncio.Handle.get_context``, which asyncio has from CPython 3.12 on.",
    ),
    plain_method(
        c"_run",
        method_run,
        c"_run($self, /)\n--\n\nCall the callback; errors go to the loop's exception handler.",
    ),
    plain_method(
        c"when",
        get_when,
        c"when($self, /)\n--\n\n\
        Return the time at which the callback is due, in seconds of the loop's ``time()``.\n\
        \n\
        As ``asyncio.TimerHandle.when``.",
    ),
];

pub(super) const GETTERS: [ffi::PyGetSetDef; 7] = [
    getter(c"_loop", get_loop),
    ffi::PyGetSetDef { set: Some(set_callback), ..getter(c"_callback", get_callback) },
    getter(c"_args", get_args),
    getter(c"_context", get_context),
    getter(c"_source_traceback", get_traceback),
    getter(c"_repr", get_repr),
    getter(c"_cancelled", get_cancelled),
];

pub(super) const TIMER_GETTERS: [ffi::PyGetSetDef; 3] = [
    getter(c"_when", get_when),
    getter(c"_scheduled", get_scheduled),
    getter(c"__class__", timer_class),
];

pub(super) const HANDLE_GETTERS: [ffi::PyGetSetDef; 1] = [getter(c"__class__", handle_class)];

pub(super) const THREAD_SAFE_GETTERS: [ffi::PyGetSetDef; 1] =
    [getter(c"__class__", thread_safe_class)];
