//! The Python classes of handles: collection, destruction, recycling.

use std::ffi::{CStr, c_int, c_void};
use std::mem::offset_of;
use std::ptr::null_mut;

use pyo3::basic::CompareOp;
use pyo3::ffi;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyBool, PyString, PyType};

use super::attributes::{
    GETTERS, HANDLE_GETTERS, METHODS, THREAD_SAFE_GETTERS, TIMER_GETTERS, repr, when,
};
use super::calling::{claim, give_up, release_call};
use crate::event_loop::queue::{FREE, HandleObject, State, track};
use crate::ffi::class::{self, Definition, NativeClass, slot};
use crate::ffi::finalizing;
use crate::ffi::imports;
use crate::ffi::object::Object;
use crate::ffi::trampoline::enter;
use crate::ffi::trashcan;

/// The classes of plain handles and of timers; their instances are alike.
pub(super) struct Types {
    pub handle: Py<PyType>,
    pub timer: Py<PyType>,
    /// Where asyncio has such a class.
    pub thread_safe: Option<Py<PyType>>,
}

// SAFETY: the layout is C's and starts with the head; the offset is that of the weak references, and
// the fields below are null or hold references.
unsafe impl NativeClass for HandleObject {
    const WEAKREFS: Option<usize> = Some(offset_of!(Self, weakrefs));

    #[inline]
    unsafe fn references(this: *mut Self) -> impl IntoIterator<Item = *mut Object> {
        // SAFETY: the caller's promise.
        unsafe {
            let [a, b, c] = [0, 1, 2].map(|at| &raw mut (*this).inline[at]);
            [
                &raw mut (*this).event_loop,
                &raw mut (*this).callback,
                &raw mut (*this).context,
                &raw mut (*this).source_traceback,
                &raw mut (*this).many,
                a,
                b,
                c,
            ]
        }
    }

    /// Loop and context stay, because a destructor may still call `cancel()` or `_run()`: dropping
    /// callback and arguments breaks every cycle that does not go through the loop or the context
    /// alone, and those two break their own.
    unsafe fn clear(this: *mut Self) {
        // SAFETY: the caller's promise.
        unsafe {
            release_call(this);
            forget_time(this);
            ffi::Py_CLEAR(&raw mut (*this).source_traceback);
        }
    }

    unsafe fn drop_fields(this: *mut Self) {
        // SAFETY: the caller's promise.
        unsafe {
            Self::clear(this);
            ffi::Py_CLEAR(&raw mut (*this).context);
            ffi::Py_CLEAR(&raw mut (*this).repr);
        }
    }

    /// Keeps the memory of a handle, which holds nothing but its loop, for the next one, or gives it
    /// back.
    #[inline(always)]
    unsafe fn release_memory(this: *mut Self) {
        // SAFETY: the caller's promise. The loop goes last, when the handle is not needed any more:
        // its destructor may run Python code.
        unsafe {
            let event_loop = std::mem::replace(&mut (*this).event_loop, null_mut());
            FREE.push(Python::assume_attached(), this);
            ffi::Py_DECREF(event_loop);
        }
    }

    #[inline]
    unsafe fn dealloc(this: *mut Self) {
        // SAFETY: the caller's promise: the last reference is gone, so the object is ours.
        unsafe {
            let py = Python::assume_attached();
            if (*this).state != State::Ticket {
                if (*this).callback.is_null() {
                    finalizing::guard();
                    // Cancelled: nothing is left that could hold another handle, short of a context,
                    // whose map of values CPython takes apart without recursion.
                    ffi::PyObject_GC_UnTrack(this.cast());
                    return class::free::<Self>(this.cast());
                }
                return trashcan::dealloc(this.cast(), class::free::<Self>);
            }
            if !(*this).weakrefs.is_null() {
                // Seen through these it lives until its call has run, as in asyncio: the queue takes a
                // reference, the only one. Another thread may have the loop collected before.
                claim(py, this);
                return track(this);
            }
            // The usual end: the program dropped the handle, and its call is the queue's alone. A
            // ticket holds nothing but its loop.
            give_up(py, this);
            ffi::PyObject_GC_UnTrack(this.cast());
            let class = ffi::Py_TYPE(this.cast());
            Self::release_memory(this);
            ffi::Py_DECREF(class.cast());
        }
    }
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
    PyBool::new(py, value).to_owned().into_any()
}

const HANDLE_DOC: &CStr = c"\
    A callback scheduled by :meth:`NativeLoop.call_soon`, which it can cancel.\n\
    \n\
    An ``asyncio.Handle`` to ``isinstance``. Only the loop creates it. Its attributes\n\
    are read-only, except ``_callback``.";

const TIMER_DOC: &CStr = c"\
    A callback scheduled by :meth:`NativeLoop.call_later`, which it can cancel.\n\
    \n\
    An ``asyncio.TimerHandle`` to ``isinstance``. Only the loop creates it. Its\n\
    attributes are read-only, except ``_callback``. Handles are ordered by their times, as\n\
    asyncio's are among themselves.";

pub(super) fn types(py: Python<'_>) -> PyResult<&Types> {
    static TYPES: PyOnceLock<Types> = PyOnceLock::new();
    TYPES.get_or_try_init(py, || {
        let of_all = [slot(ffi::Py_tp_repr, repr as *mut c_void)];
        let of_plain = [class::doc(HANDLE_DOC)];
        let of_timers = [
            class::doc(TIMER_DOC),
            slot(ffi::Py_tp_hash, timer_hash as *mut c_void),
            slot(ffi::Py_tp_richcompare, timer_compare as *mut c_void),
        ];
        let make = |name, methods: &[_], getters: &[_], slots: &[&[_]]| {
            let getters = [&GETTERS, getters].concat();
            let definition = Definition {
                methods,
                getters: &getters,
                slots: &slots.concat(),
                ..Definition::default()
            };
            // SAFETY: functions of these kinds, for the layout of handles, which `making` alone makes.
            unsafe { class::new_class::<HandleObject>(py, name, &definition) }
        };
        // A plain handle has no `when`.
        let plain = &METHODS[..METHODS.len() - 1];
        Ok(Types {
            handle: make(c"tokioloop._core.Handle", plain, &HANDLE_GETTERS, &[&of_all, &of_plain])?,
            timer: make(
                c"tokioloop._core.TimerHandle",
                &METHODS,
                &TIMER_GETTERS,
                &[&of_all, &of_timers],
            )?,
            thread_safe: match imports::asyncio(py)?.thread_safe_handle {
                Some(_) => {
                    let name = c"tokioloop._core.ThreadSafeHandle";
                    Some(make(name, plain, &THREAD_SAFE_GETTERS, &[&of_all, &of_plain])?)
                }
                None => None,
            },
        })
    })
}

/// Adds the two classes to the extension module.
pub(crate) fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    let types = types(module.py())?;
    module.add("Handle", types.handle.clone_ref(module.py()))?;
    module.add("TimerHandle", types.timer.clone_ref(module.py()))
}
