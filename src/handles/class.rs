//! The Python types behind handles: attributes, comparison, garbage collection, recycling.

use std::ffi::{c_int, c_void};
use std::mem::offset_of;
use std::ptr::{NonNull, null_mut};

use pyo3::exceptions::PyRuntimeError;
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::PyType;

use super::others::wait_until_done;
use super::queued::{claim, give_up};
use super::{Handle, HandleObject, INLINE, RECYCLED, cancel, own_context, release_call, tuple_of};
use crate::cached;
use crate::event_loop::NativeLoop;
use crate::object::{
    self, GETTERS_END, METHODS_END, Object, Table, enter, getter, plain_method, slot,
};
use crate::visit;

/// Memory kept for the next handle, in objects; none under AddressSanitizer, which would not notice
/// that it is used after its end.
const MOST_RECYCLED: usize = if cfg!(never_recycle) { 0 } else { 512 };

/// The classes of plain handles and of timers; their instances are alike.
pub struct Types {
    pub handle: Py<PyType>,
    pub timer: Py<PyType>,
    /// Where asyncio has such a class.
    pub thread_safe: Option<Py<PyType>>,
}

static TYPES: PyOnceLock<Types> = PyOnceLock::new();

unsafe extern "C" fn traverse(slf: Object, visit: ffi::visitproc, arg: *mut c_void) -> c_int {
    let handle = slf.cast::<HandleObject>();
    // SAFETY: our layout; the collector holds the GIL.
    unsafe {
        visit!(visit, arg, ffi::Py_TYPE(slf).cast());
        visit!(visit, arg, (*handle).event_loop);
        visit!(visit, arg, (*handle).callback);
        visit!(visit, arg, (*handle).context);
        visit!(visit, arg, (*handle).source_traceback);
        visit!(visit, arg, (*handle).many);
        for at in 0..INLINE {
            visit!(visit, arg, (*handle).inline[at]);
        }
    }
    0
}

unsafe extern "C" fn clear(slf: Object) -> c_int {
    let handle = slf.cast::<HandleObject>();
    // SAFETY: our layout; only called on garbage. The loop reference stays: a destructor may
    // still call `cancel()`, and dropping callback, context and arguments breaks every cycle.
    unsafe {
        release_call(handle);
        ffi::Py_CLEAR(&raw mut (*handle).source_traceback);
    }
    0
}

unsafe extern "C" fn dealloc(slf: Object) {
    let handle = slf.cast::<HandleObject>();
    // SAFETY: the last reference is gone; the object is ours to take apart, in the order CPython
    // asks for: untrack, weak references, fields, memory, type.
    unsafe {
        let class = ffi::Py_TYPE(slf);
        let py = Python::assume_attached();
        if (*handle).queued {
            if !(*handle).weakrefs.is_null() {
                // Seen through these it lives until its call has run, as in asyncio: the queue
                // takes a reference, the only one.
                claim(py, handle);
                return;
            }
            // The usual end: nobody wanted the handle, and its call is the queue's alone.
            give_up(py, handle);
        }
        ffi::PyObject_GC_UnTrack(slf.cast());
        if !(*handle).weakrefs.is_null() {
            ffi::PyObject_ClearWeakRefs(slf);
        }
        release_call(handle);
        ffi::Py_CLEAR(&raw mut (*handle).context);
        ffi::Py_CLEAR(&raw mut (*handle).source_traceback);
        ffi::Py_CLEAR(&raw mut (*handle).repr);
        ffi::Py_CLEAR(&raw mut (*handle).event_loop);
        let kept = RECYCLED.with(py, |recycled| {
            recycled.len() < MOST_RECYCLED && {
                recycled.push(NonNull::new_unchecked(handle));
                true
            }
        });
        if !kept {
            ffi::PyObject_GC_Del(slf.cast());
        }
        ffi::Py_DECREF(class.cast());
    }
}

fn or_none(object: Object) -> Object {
    // SAFETY: null or a live object; the GIL is held.
    unsafe { ffi::Py_NewRef(if object.is_null() { ffi::Py_None() } else { object }) }
}

fn boolean(value: bool) -> Object {
    // SAFETY: the GIL is held by the C-level caller.
    unsafe { ffi::PyBool_FromLong(value.into()) }
}

/// A timer's deadline.
fn when(timer: &HandleObject) -> f64 {
    f64::from_bits(timer.place)
}

/// The handle with what it is to call, which may have been in the ready queue until now.
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
            // SAFETY: CPython checked the type of `slf`; the GIL is held.
            let $handle = unsafe { whole(slf) };
            $value
        }
    };
}

field!(get_loop, handle => or_none(handle.event_loop));
field!(get_callback, handle => or_none(handle.callback));

unsafe extern "C" fn get_context_field(slf: Object, _closure: *mut c_void) -> Object {
    enter(null_mut(), |py| {
        let handle = slf.cast::<HandleObject>();
        // SAFETY: CPython checked the type of `slf`; alive for the call.
        unsafe {
            claim(py, handle);
            own_context(py, handle)?;
            Ok(or_none((*handle).context))
        }
    })
}

field!(get_traceback, handle => or_none(handle.source_traceback));
field!(get_repr, handle => or_none(handle.repr));
field!(get_cancelled, handle => boolean(handle.cancelled));
field!(get_scheduled, handle => boolean(handle.scheduled));
// SAFETY (both): the GIL is held.
field!(get_when, handle => unsafe { ffi::PyFloat_FromDouble(when(handle)) });
field!(get_args, handle => if handle.callback.is_null() {
    or_none(null_mut())
} else if handle.many.is_null() {
    unsafe { tuple_of(&handle.inline[..handle.count as usize]) }
} else {
    or_none(handle.many)
});

unsafe extern "C" fn handle_class(_slf: Object, _closure: *mut c_void) -> Object {
    enter(null_mut(), |py| Ok(cached::asyncio(py)?.handle.clone_ref(py).into_ptr()))
}

unsafe extern "C" fn timer_class(_slf: Object, _closure: *mut c_void) -> Object {
    enter(null_mut(), |py| Ok(cached::asyncio(py)?.timer_handle.clone_ref(py).into_ptr()))
}

unsafe extern "C" fn thread_safe_class(_slf: Object, _closure: *mut c_void) -> Object {
    enter(null_mut(), |py| {
        let class = cached::asyncio(py)?.thread_safe_handle.as_ref();
        Ok(class.map_or_else(|| py.None(), |class| class.clone_ref(py)).into_ptr())
    })
}

unsafe extern "C" fn method_cancel(slf: Object, _: Object) -> Object {
    enter(null_mut(), |py| {
        // SAFETY: alive for the call.
        unsafe {
            claim(py, slf.cast());
            wait_until_done(py, slf.cast());
        }
        cancel(py, slf.cast())?;
        Ok(or_none(null_mut()))
    })
}

unsafe extern "C" fn method_cancelled(slf: Object, _: Object) -> Object {
    enter(null_mut(), |py| {
        // SAFETY: CPython checked the type of `slf`; alive for the call.
        unsafe {
            wait_until_done(py, slf.cast());
            Ok(boolean((*slf.cast::<HandleObject>()).cancelled))
        }
    })
}

unsafe extern "C" fn method_when(slf: Object, _: Object) -> Object {
    // SAFETY: as above.
    unsafe { get_when(slf, null_mut()) }
}

unsafe extern "C" fn method_get_context(slf: Object, _: Object) -> Object {
    // SAFETY: as above.
    unsafe { get_context_field(slf, null_mut()) }
}

/// `Handle._run()`: asyncio's way of running a handle by hand.
unsafe extern "C" fn method_run(slf: Object, _: Object) -> Object {
    enter(null_mut(), |py| {
        // SAFETY: `slf` is alive for the call.
        let handle = unsafe {
            claim(py, slf.cast());
            Handle(Bound::from_borrowed_ptr(py, slf).unbind())
        };
        if handle.is_cancelled(py) {
            return Err(PyRuntimeError::new_err("the handle is cancelled"));
        }
        // SAFETY: a handle always has its loop.
        let event_loop = unsafe { NativeLoop::of((*handle.object()).event_loop) };
        event_loop.run_handle(py, &handle)?;
        Ok(or_none(null_mut()))
    })
}

unsafe extern "C" fn repr(slf: Object) -> Object {
    enter(null_mut(), |py| {
        // SAFETY: `slf` is alive for the call.
        let slf = unsafe { Bound::from_borrowed_ptr(py, slf) };
        let text = cached::helpers(py)?.bind(py).call_method1("describe_handle", (slf,))?;
        Ok(text.into_ptr())
    })
}

unsafe extern "C" fn timer_hash(slf: Object) -> ffi::Py_hash_t {
    enter(-1, |py| {
        // SAFETY: CPython checked the type of `slf`.
        let handle = unsafe { &*slf.cast::<HandleObject>() };
        when(handle).into_pyobject(py)?.hash()
    })
}

unsafe extern "C" fn timer_compare(left: Object, right: Object, op: c_int) -> Object {
    enter(null_mut(), |py| {
        // SAFETY: both are alive for the call.
        let pair =
            unsafe { (Bound::from_borrowed_ptr(py, left), Bound::from_borrowed_ptr(py, right)) };
        let timer = &types(py)?.timer;
        if !pair.0.get_type().is(timer) || !pair.1.get_type().is(timer) {
            return Ok(py.NotImplemented().into_ptr());
        }
        // SAFETY: both are timer handles.
        let (a, b) = unsafe { (&*left.cast::<HandleObject>(), &*right.cast::<HandleObject>()) };
        let equal = || -> PyResult<bool> {
            Ok(when(a) == when(b)
                && a.cancelled == b.cancelled
                && pair.0.getattr("_callback")?.eq(pair.1.getattr("_callback")?)?
                && pair.0.getattr("_args")?.eq(pair.1.getattr("_args")?)?)
        };
        let result = match op {
            ffi::Py_LT => when(a) < when(b),
            ffi::Py_LE => when(a) < when(b) || equal()?,
            ffi::Py_GT => when(a) > when(b),
            ffi::Py_GE => when(a) > when(b) || equal()?,
            ffi::Py_EQ => equal()?,
            _ => !equal()?,
        };
        Ok(boolean(result))
    })
}

static METHODS: Table<[ffi::PyMethodDef; 6]> = Table([
    plain_method(
        c"cancel",
        method_cancel,
        c"cancel($self, /)\n--\n\nCancel the callback; as asyncio.Handle.cancel.",
    ),
    plain_method(
        c"cancelled",
        method_cancelled,
        c"cancelled($self, /)\n--\n\nWhether the callback was cancelled.",
    ),
    plain_method(
        c"get_context",
        method_get_context,
        c"get_context($self, /)\n--\n\nThe contextvars.Context the callback runs in.",
    ),
    plain_method(
        c"_run",
        method_run,
        c"_run($self, /)\n--\n\nCall the callback; errors go to the loop's exception handler.",
    ),
    plain_method(
        c"when",
        method_when,
        c"when($self, /)\n--\n\nThe scheduled time, in seconds of loop.time().",
    ),
    METHODS_END,
]);

const FIELDS: [ffi::PyGetSetDef; 7] = [
    getter(c"_loop", get_loop),
    getter(c"_callback", get_callback),
    getter(c"_args", get_args),
    getter(c"_context", get_context_field),
    getter(c"_source_traceback", get_traceback),
    getter(c"_repr", get_repr),
    getter(c"_cancelled", get_cancelled),
];

static HANDLE_FIELDS: Table<[ffi::PyGetSetDef; 9]> = {
    let [a, b, c, d, e, f, g] = FIELDS;
    Table([a, b, c, d, e, f, g, getter(c"__class__", handle_class), GETTERS_END])
};

static THREAD_SAFE_FIELDS: Table<[ffi::PyGetSetDef; 9]> = {
    let [a, b, c, d, e, f, g] = FIELDS;
    Table([a, b, c, d, e, f, g, getter(c"__class__", thread_safe_class), GETTERS_END])
};

static TIMER_FIELDS: Table<[ffi::PyGetSetDef; 11]> = {
    let [a, b, c, d, e, f, g] = FIELDS;
    Table([
        a,
        b,
        c,
        d,
        e,
        f,
        g,
        getter(c"_when", get_when),
        getter(c"_scheduled", get_scheduled),
        getter(c"__class__", timer_class),
        GETTERS_END,
    ])
};

static MEMBERS: Table<[ffi::PyMemberDef; 2]> = Table([
    object::offset_member(c"__weaklistoffset__", offset_of!(HandleObject, weakrefs)),
    object::MEMBERS_END,
]);

pub fn types(py: Python<'_>) -> PyResult<&Types> {
    TYPES.get_or_try_init(py, || {
        let object = py.get_type::<PyAny>();
        let make = |name, fields: *mut ffi::PyGetSetDef, timer: bool| -> PyResult<Py<PyType>> {
            // `when` is the last method before the end: a plain handle starts without it.
            let methods = METHODS.0.as_ptr().cast_mut();
            let mut slots = vec![
                slot(ffi::Py_tp_traverse, traverse as *mut c_void),
                slot(ffi::Py_tp_clear, clear as *mut c_void),
                slot(ffi::Py_tp_dealloc, dealloc as *mut c_void),
                slot(ffi::Py_tp_repr, repr as *mut c_void),
                slot(ffi::Py_tp_methods, methods.cast()),
                slot(ffi::Py_tp_getset, fields.cast()),
                slot(ffi::Py_tp_members, MEMBERS.0.as_ptr().cast_mut().cast()),
            ];
            if timer {
                slots.push(slot(ffi::Py_tp_hash, timer_hash as *mut c_void));
                slots.push(slot(ffi::Py_tp_richcompare, timer_compare as *mut c_void));
            }
            let class = object::new_type(
                py,
                name,
                size_of::<HandleObject>(),
                std::slice::from_ref(&object),
                slots,
            )?;
            if !timer {
                class.delattr("when")?;
            }
            Ok(class.unbind())
        };
        Ok(Types {
            handle: make(c"tokioloop._core.Handle", HANDLE_FIELDS.0.as_ptr().cast_mut(), false)?,
            timer: make(c"tokioloop._core.TimerHandle", TIMER_FIELDS.0.as_ptr().cast_mut(), true)?,
            thread_safe: match cached::asyncio(py)?.thread_safe_handle {
                Some(_) => {
                    let fields = THREAD_SAFE_FIELDS.0.as_ptr().cast_mut();
                    Some(make(c"tokioloop._core.ThreadSafeHandle", fields, false)?)
                }
                None => None,
            },
        })
    })
}

/// Puts the two classes into the extension module.
pub fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    let types = types(module.py())?;
    module.add("Handle", types.handle.clone_ref(module.py()))?;
    module.add("TimerHandle", types.timer.clone_ref(module.py()))
}
