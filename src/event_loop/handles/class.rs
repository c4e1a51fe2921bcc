//! The Python types behind handles: attributes, comparison, garbage collection, recycling.

use std::ffi::{c_int, c_void};
use std::mem::offset_of;
use std::ptr::{NonNull, null_mut};

use pyo3::basic::CompareOp;
use pyo3::ffi;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyString, PyType};

use super::calling::{cancel, claim, give_up, nothing_to_call, own_context, release_call};
use super::thread_safe::wait_until_done;
use crate::event_loop::NativeLoop;
use crate::event_loop::queue::{Handle, HandleObject, INLINE, RECYCLED, Run, State, track};
use crate::ffi::class::{self, slot};
use crate::ffi::definitions::{self, Definitions, GETTERS_END, METHODS_END, getter, plain_method};
use crate::ffi::finalizing;
use crate::ffi::imports;
use crate::ffi::object::{self, Object};
use crate::ffi::trampoline::enter;
use crate::ffi::trashcan;
use crate::ffi::tuples::tuple_of;
use crate::visit;

/// Memory kept for the next handle, in objects; none under AddressSanitizer, which would not notice
/// that it is used after its end.
const MOST_RECYCLED: usize = if cfg!(never_recycle) { 0 } else { 512 };

/// The classes of plain handles and of timers; their instances are alike.
pub(super) struct Types {
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
    finalizing::guard();
    let handle = slf.cast::<HandleObject>();
    // SAFETY: our layout; only called on garbage. Loop and context stay, because a destructor may
    // still call `cancel()` or `_run()`: dropping callback and arguments breaks every cycle that
    // does not go through the loop or the context alone, and those two break their own.
    unsafe {
        release_call(handle);
        forget_time(handle);
        ffi::Py_CLEAR(&raw mut (*handle).source_traceback);
    }
    0
}

/// # Safety
/// `handle` must be alive, the GIL held. Runs Python code (destructors).
unsafe fn forget_time(handle: *mut HandleObject) {
    // SAFETY: the caller's promise; the slot belongs to the time until it is null.
    unsafe {
        if (*handle).keeps_time {
            ffi::Py_CLEAR(&raw mut (*handle).inline[0]);
        }
    }
}

unsafe extern "C" fn dealloc(slf: Object) {
    let handle = slf.cast::<HandleObject>();
    // SAFETY: the last reference is gone, so the object is ours; the GIL is held.
    unsafe {
        let py = Python::assume_attached();
        if (*handle).state != State::Ticket {
            if (*handle).callback.is_null() {
                // Cancelled: nothing is left that could hold another handle, short of a context,
                // whose map of values CPython takes apart in turn.
                ffi::PyObject_GC_UnTrack(slf.cast());
                return take_apart(slf);
            }
            return trashcan::dealloc(slf, take_apart);
        }
        if !(*handle).weakrefs.is_null() {
            // Seen through these it lives until its call has run, as in asyncio: the queue takes a
            // reference, the only one. Another thread may have the loop collected before.
            claim(py, handle);
            return track(handle);
        }
        // The usual end: nobody wanted the handle, and its call is the queue's alone. A ticket
        // holds nothing but its loop.
        give_up(py, handle);
        ffi::PyObject_GC_UnTrack(slf.cast());
        free(py, handle);
    }
}

/// # Safety
/// `slf` must be a dead, untracked handle, the GIL held.
unsafe fn take_apart(slf: Object) {
    let handle = slf.cast::<HandleObject>();
    // SAFETY: ours to take apart, in the order CPython asks for: weak references, fields, memory,
    // type. Nobody can reach it any more, whatever destructors do.
    unsafe {
        if !(*handle).weakrefs.is_null() {
            ffi::PyObject_ClearWeakRefs(slf);
        }
        release_call(handle);
        forget_time(handle);
        ffi::Py_CLEAR(&raw mut (*handle).context);
        ffi::Py_CLEAR(&raw mut (*handle).source_traceback);
        ffi::Py_CLEAR(&raw mut (*handle).repr);
        free(Python::assume_attached(), handle);
    }
}

/// Makes room for freed handles, once; whether there is any.
#[cold]
fn make_room<T>(recycled: &mut Vec<T>) -> bool {
    recycled.capacity() == 0 && recycled.try_reserve_exact(MOST_RECYCLED).is_ok()
}

/// Keeps the memory of a handle for the next one, or gives it back.
///
/// # Safety
/// `handle` must be dead and untracked, and hold nothing but its loop.
#[inline(always)]
unsafe fn free(py: Python<'_>, handle: *mut HandleObject) {
    // SAFETY: the caller's promise. Loop and type go last, when the handle is not needed any more:
    // the loop's destructor may run Python code.
    unsafe {
        let class = ffi::Py_TYPE(handle.cast());
        let event_loop = std::mem::replace(&mut (*handle).event_loop, null_mut());
        let kept = RECYCLED.with(py, |recycled| {
            let room = recycled.len() < recycled.capacity() || make_room(recycled);
            if room {
                recycled.push(NonNull::new_unchecked(handle));
            }
            room
        });
        if !kept {
            ffi::PyObject_GC_Del(handle.cast());
        }
        ffi::Py_DECREF(event_loop);
        ffi::Py_DECREF(class.cast());
    }
}

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
unsafe fn when<'py>(py: Python<'py>, timer: *mut HandleObject) -> PyResult<Bound<'py, PyAny>> {
    // SAFETY: the caller's promise.
    unsafe {
        match given_time(py, timer) {
            Some(time) => Ok(time),
            None => object::owned(py, ffi::PyFloat_FromDouble(f64::from_bits((*timer).place))),
        }
    }
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

unsafe extern "C" fn get_when(slf: Object, _closure: *mut c_void) -> Object {
    // SAFETY: CPython calls this, and holds the GIL.
    let held = unsafe { Python::assume_attached() };
    enter(held, null_mut(), |py| {
        // SAFETY: CPython checked the type of `slf`, which is alive for the call.
        unsafe { when(py, slf.cast()).map(Bound::into_ptr) }
    })
}

unsafe extern "C" fn get_context_field(slf: Object, _closure: *mut c_void) -> Object {
    // SAFETY: CPython calls this, and holds the GIL.
    let held = unsafe { Python::assume_attached() };
    enter(held, null_mut(), |py| {
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
field!(get_args, handle => if handle.callback.is_null() || handle.run == Run::Forgotten {
    or_none(null_mut())
} else if handle.many.is_null() {
    tuple_of(&handle.inline[..handle.count as usize])
} else {
    or_none(handle.many)
});

unsafe extern "C" fn handle_class(_slf: Object, _closure: *mut c_void) -> Object {
    // SAFETY: CPython calls this, and holds the GIL.
    let held = unsafe { Python::assume_attached() };
    enter(held, null_mut(), |py| Ok(imports::asyncio(py)?.handle.clone_ref(py).into_ptr()))
}

unsafe extern "C" fn timer_class(_slf: Object, _closure: *mut c_void) -> Object {
    // SAFETY: CPython calls this, and holds the GIL.
    let held = unsafe { Python::assume_attached() };
    enter(held, null_mut(), |py| Ok(imports::asyncio(py)?.timer_handle.clone_ref(py).into_ptr()))
}

unsafe extern "C" fn thread_safe_class(_slf: Object, _closure: *mut c_void) -> Object {
    // SAFETY: CPython calls this, and holds the GIL.
    let held = unsafe { Python::assume_attached() };
    enter(held, null_mut(), |py| {
        let class = imports::asyncio(py)?.thread_safe_handle.as_ref();
        Ok(class.map_or_else(|| py.None(), |class| class.clone_ref(py)).into_ptr())
    })
}

unsafe extern "C" fn method_cancel(slf: Object, _: Object) -> Object {
    // SAFETY: CPython calls this, and holds the GIL.
    let held = unsafe { Python::assume_attached() };
    enter(held, null_mut(), |py| {
        // SAFETY: CPython checked the type of `slf`, which is alive for the call; claimed, it is no
        // ticket, and never becomes one again.
        unsafe {
            claim(py, slf.cast());
            wait_until_done(py, slf.cast());
            cancel(py, slf.cast())?;
        }
        Ok(py.None().into_ptr())
    })
}

unsafe extern "C" fn method_cancelled(slf: Object, _: Object) -> Object {
    // SAFETY: CPython calls this, and holds the GIL.
    let held = unsafe { Python::assume_attached() };
    enter(held, null_mut(), |py| {
        // SAFETY: CPython checked the type of `slf`; alive for the call.
        unsafe {
            wait_until_done(py, slf.cast());
            Ok(boolean((*slf.cast::<HandleObject>()).cancelled))
        }
    })
}

unsafe extern "C" fn method_when(slf: Object, _: Object) -> Object {
    // SAFETY: CPython checked the type of `slf` for this method as it does for the getter.
    unsafe { get_when(slf, null_mut()) }
}

unsafe extern "C" fn method_get_context(slf: Object, _: Object) -> Object {
    // SAFETY: CPython checked the type of `slf` for this method as it does for the getter.
    unsafe { get_context_field(slf, null_mut()) }
}

/// `Handle._run()`: asyncio's way of running a handle by hand.
unsafe extern "C" fn method_run(slf: Object, _: Object) -> Object {
    // SAFETY: CPython calls this, and holds the GIL.
    let held = unsafe { Python::assume_attached() };
    enter(held, null_mut(), |py| {
        // SAFETY: `slf` is alive for the call.
        let handle = unsafe {
            claim(py, slf.cast());
            Handle(Bound::from_borrowed_ptr(py, slf).unbind())
        };
        // SAFETY: a handle always has its loop.
        let (event_loop, run) = unsafe {
            let object = handle.object();
            (NativeLoop::of((*object).event_loop), (*object).run)
        };
        if run == Run::Forgotten {
            event_loop.callback_failed(py, &handle, nothing_to_call())?;
        } else {
            event_loop.run_handle(py, &handle)?;
        }
        Ok(py.None().into_ptr())
    })
}

unsafe extern "C" fn repr(slf: Object) -> Object {
    // SAFETY: CPython calls this, and holds the GIL.
    let held = unsafe { Python::assume_attached() };
    enter(held, null_mut(), |py| {
        // SAFETY: `slf` is alive for the call.
        let slf = unsafe { Bound::from_borrowed_ptr(py, slf) };
        let text = imports::helpers(py)?.bind(py).call_method1("describe_handle", (slf,))?;
        Ok(text.into_ptr())
    })
}

unsafe extern "C" fn timer_hash(slf: Object) -> ffi::Py_hash_t {
    // SAFETY: CPython calls this, and holds the GIL.
    let held = unsafe { Python::assume_attached() };
    enter(held, -1, |py| {
        // SAFETY: CPython checked the type of `slf`, which is alive for the call.
        unsafe { when(py, slf.cast())?.hash() }
    })
}

unsafe extern "C" fn timer_compare(left: Object, right: Object, op: c_int) -> Object {
    // SAFETY: CPython calls this, and holds the GIL.
    let held = unsafe { Python::assume_attached() };
    enter(held, null_mut(), |py| {
        // SAFETY: both are alive for the call.
        let (left, right) =
            unsafe { (Bound::from_borrowed_ptr(py, left), Bound::from_borrowed_ptr(py, right)) };
        let timer = &types(py)?.timer;
        if !left.get_type().is(timer) || !right.get_type().is(timer) {
            return Ok(py.NotImplemented().into_ptr());
        }
        // As asyncio writes it: by the times, and by all the rest where that asks for equality.
        // SAFETY: both are live timer handles.
        let (a, b) = unsafe { (when(py, left.as_ptr().cast())?, when(py, right.as_ptr().cast())?) };
        let same = |name: &Bound<'_, PyString>| -> PyResult<bool> {
            left.getattr(name)?.eq(right.getattr(name)?)
        };
        let equal = || -> PyResult<bool> {
            Ok(a.eq(&b)?
                && same(intern!(py, "_callback"))?
                && same(intern!(py, "_args"))?
                && same(intern!(py, "_cancelled"))?)
        };
        let or_equal = |op| -> PyResult<Bound<'_, PyAny>> {
            let before = a.rich_compare(&b, op)?;
            if before.is_truthy()? { Ok(before) } else { Ok(truth(py, equal()?)) }
        };
        let result = match op {
            ffi::Py_LT => a.rich_compare(&b, CompareOp::Lt)?,
            ffi::Py_LE => or_equal(CompareOp::Lt)?,
            ffi::Py_GT => a.rich_compare(&b, CompareOp::Gt)?,
            ffi::Py_GE => or_equal(CompareOp::Gt)?,
            ffi::Py_EQ => truth(py, equal()?),
            _ => truth(py, !equal()?),
        };
        Ok(result.into_ptr())
    })
}

fn truth(py: Python<'_>, value: bool) -> Bound<'_, PyAny> {
    pyo3::types::PyBool::new(py, value).to_owned().into_any()
}

static METHODS: Definitions<[ffi::PyMethodDef; 6]> = Definitions([
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

static HANDLE_FIELDS: Definitions<[ffi::PyGetSetDef; 9]> = {
    let [a, b, c, d, e, f, g] = FIELDS;
    Definitions([a, b, c, d, e, f, g, getter(c"__class__", handle_class), GETTERS_END])
};

static THREAD_SAFE_FIELDS: Definitions<[ffi::PyGetSetDef; 9]> = {
    let [a, b, c, d, e, f, g] = FIELDS;
    Definitions([a, b, c, d, e, f, g, getter(c"__class__", thread_safe_class), GETTERS_END])
};

static TIMER_FIELDS: Definitions<[ffi::PyGetSetDef; 11]> = {
    let [a, b, c, d, e, f, g] = FIELDS;
    Definitions([
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

static MEMBERS: Definitions<[ffi::PyMemberDef; 2]> = Definitions([
    definitions::offset_member(c"__weaklistoffset__", offset_of!(HandleObject, weakrefs)),
    definitions::MEMBERS_END,
]);

pub(super) fn types(py: Python<'_>) -> PyResult<&Types> {
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
            let (size, base) = (size_of::<HandleObject>(), std::slice::from_ref(&object));
            // SAFETY: functions and tables of these kinds, all static, for objects of this layout,
            // which `Handle::bare` alone makes.
            let class = unsafe { class::new_type(py, name, size, base, slots)? };
            if !timer {
                class.delattr("when")?;
            }
            Ok(class.unbind())
        };
        Ok(Types {
            handle: make(c"tokioloop._core.Handle", HANDLE_FIELDS.0.as_ptr().cast_mut(), false)?,
            timer: make(c"tokioloop._core.TimerHandle", TIMER_FIELDS.0.as_ptr().cast_mut(), true)?,
            thread_safe: match imports::asyncio(py)?.thread_safe_handle {
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
pub(crate) fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    let types = types(module.py())?;
    module.add("Handle", types.handle.clone_ref(module.py()))?;
    module.add("TimerHandle", types.timer.clone_ref(module.py()))
}
