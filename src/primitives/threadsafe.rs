//! `run_coroutine_threadsafe`: a coroutine handed to a loop from another thread.
//!
//! One object is all that asyncio makes closures for: the callback that starts the task, and what
//! the two futures call when one of them is done.
//!
//! # States
//!
//! - *Submitted*: `coro`, `event_loop` and `future` are set; the loop's ready queue has the object.
//!   Called without arguments it starts: `coro` is taken out, so a second call by hand does nothing.
//! - *Started*: `task` is set, and both futures have the object as a callback. It tells by the argument
//!   which of them is done.
//! - *Done*, or cleared by the collector: everything is null, and a call does nothing. (If no task in C
//!   came of it, loop and future stay where they are.)
//!
//! `future` may call from any thread, the task calls in the loop's; all fields change with the GIL
//! held, are emptied before they are dropped, and references are taken before Python code is called.
//! The last reference frees it, through the trashcan: a coroutine may hold another one's future.

use std::ffi::{c_int, c_void};
use std::mem::offset_of;
use std::ptr::null_mut;

use pyo3::exceptions::PyTypeError;
use pyo3::ffi;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::PyType;

use super::ctypes::{self, CTypes, is_plain_class};
use super::gather::is_coroutine;
use super::{originals, tasks};
use crate::event_loop::{NativeLoop, ends_loop};
use crate::ffi::arguments::Args;
use crate::ffi::class::{self, slot};
use crate::ffi::definitions::{self, Definitions, GETTERS_END, getter};
use crate::ffi::finalizing;
use crate::ffi::object::{self, Object};
use crate::ffi::trampoline::enter;
use crate::ffi::trashcan;
use crate::visit;

#[repr(C)]
struct SubmissionObject {
    head: ffi::PyObject,
    weakrefs: Object,
    vectorcall: Option<ffi::vectorcallfunc>,
    /// Null once the task is made.
    coro: Object,
    event_loop: Object,
    /// The `concurrent.futures.Future`; null once both are done.
    future: Object,
    task: Object,
}

/// `tokioloop.run_coroutine_threadsafe(coro, loop)`.
pub(super) fn call<'py>(py: Python<'py>, args: &Args<'_, 'py>) -> PyResult<Bound<'py, PyAny>> {
    let originals = originals(py)?;
    if args.positional.len() == 2
        && !args.has_keywords()
        && let Some(types) = ctypes::types(py)?
    {
        let [coro, event_loop] = [args.positional[0], args.positional[1]];
        let native = is_coroutine(&coro)?
            && is_plain_class(types, &event_loop)?
            // SAFETY: a live object, whose class was just seen to be derived from ours.
            && unsafe { !NativeLoop::of(event_loop.as_ptr()).is_debug(py) };
        if native {
            return submit(py, &coro, &event_loop);
        }
    }
    args.forward(originals.run_coroutine_threadsafe.bind(py))
}

fn submit<'py>(
    py: Python<'py>,
    coro: &Bound<'py, PyAny>,
    event_loop: &Bound<'py, PyAny>,
) -> PyResult<Bound<'py, PyAny>> {
    let future = originals(py)?.concurrent_future.bind(py).call0()?;
    let class = class(py)?.as_ptr().cast::<ffi::PyTypeObject>();
    // SAFETY: the allocator gives memory for one; all fields are written before it is seen.
    let submission = unsafe {
        let made = ffi::PyObject_GC_New::<SubmissionObject>(class);
        if made.is_null() {
            return Err(object::fetch(py));
        }
        let this = &mut *made;
        this.weakrefs = null_mut();
        this.vectorcall = Some(called);
        this.coro = coro.clone().into_ptr();
        this.event_loop = event_loop.clone().into_ptr();
        this.future = future.clone().into_ptr();
        this.task = null_mut();
        ffi::PyObject_GC_Track(made.cast());
        Bound::from_owned_ptr(py, made.cast())
    };
    event_loop.call_method1(intern!(py, "call_soon_threadsafe"), (submission,))?;
    Ok(future)
}

/// A reference to a submission, and its fields.
struct Submission<'py>(Bound<'py, PyAny>);

impl<'py> Submission<'py> {
    fn fields(&self) -> *mut SubmissionObject {
        self.0.as_ptr().cast()
    }

    /// A field, if it holds something.
    fn get(&self, field: impl Fn(&SubmissionObject) -> Object) -> Option<Bound<'py, PyAny>> {
        // SAFETY: our layout; a live object or null. Whoever has a `Bound` holds the GIL.
        unsafe { Bound::from_borrowed_ptr_or_opt(self.0.py(), field(&*self.fields())) }
    }

    /// In the loop's thread: makes the task and ties the two together.
    fn start(&self) -> PyResult<()> {
        let py = self.0.py();
        let (Some(types), Some(future)) = (ctypes::types(py)?, self.get(|this| this.future)) else {
            return Ok(());
        };
        self.start_task(types, &future).or_else(|error| {
            if !ends_loop(py, &error)
                && future.call_method0(intern!(py, "set_running_or_notify_cancel"))?.is_truthy()?
            {
                future.call_method1(intern!(py, "set_exception"), (error.value(py),))?;
            }
            // For the loop's exception handler.
            Err(error)
        })
    }

    fn start_task(&self, types: &CTypes, future: &Bound<'py, PyAny>) -> PyResult<()> {
        let (py, this) = (self.0.py(), self.fields());
        let (Some(coro), Some(event_loop)) =
            (self.get(|this| this.coro), self.get(|this| this.event_loop))
        else {
            return Ok(());
        };
        // SAFETY: our layout: taken out, then dropped. A loop of ours, as `call` saw: a class of
        // another layout cannot be put in the place of its own.
        let native = unsafe {
            ffi::Py_CLEAR(&raw mut (*this).coro);
            NativeLoop::of(event_loop.as_ptr())
        };
        let plain = types.task_is_ours(py)
            && is_plain_class(types, &event_loop)?
            && !native.has_task_factory(py)
            && !native.is_debug(py)
            && !native.has_own_methods(py)
            && !native.is_closed(py);
        let task = if plain {
            tasks::spawn(types, native, coro.as_borrowed(), None)?
        } else {
            let options = pyo3::types::PyDict::new(py);
            options.set_item(intern!(py, "loop"), &event_loop)?;
            originals(py)?.ensure_future.bind(py).call((coro,), Some(&options))?
        };
        if !ctypes::is_exact(&task)? {
            originals(py)?.chain_future.bind(py).call1((task, future))?;
            return Ok(());
        }
        // SAFETY: a submission, which `self` keeps alive, with the GIL held; no task is there yet.
        unsafe { (*this).task = task.clone().into_ptr() };
        // Calls back at once if somebody cancelled it before the loop came here.
        future.call_method1(intern!(py, "add_done_callback"), (&self.0,))?;
        types.add_done_callback.call(&task, &[&self.0], None).map(drop)
    }

    /// asyncio's `_call_check_cancel`; in whichever thread the future was cancelled or set.
    fn future_done(&self, future: &Bound<'py, PyAny>) -> PyResult<()> {
        let py = self.0.py();
        let (Some(types), Some(task), Some(event_loop)) =
            (ctypes::types(py)?, self.get(|this| this.task), self.get(|this| this.event_loop))
        else {
            return Ok(());
        };
        if !future.call_method0(intern!(py, "cancelled"))?.is_truthy()? {
            return Ok(());
        }
        if originals(py)?.cancels_at_once && types.running_loop(py)?.is(&event_loop) {
            task.call_method0(intern!(py, "cancel"))?;
        } else {
            let cancel = task.getattr(intern!(py, "cancel"))?;
            event_loop.call_method1(intern!(py, "call_soon_threadsafe"), (cancel,))?;
        }
        Ok(())
    }

    /// asyncio's `_call_set_state`, in the loop's thread.
    fn task_done(&self, task: &Bound<'py, PyAny>) -> PyResult<()> {
        let (py, this) = (self.0.py(), self.fields());
        let (Some(types), Some(future)) = (ctypes::types(py)?, self.get(|this| this.future)) else {
            return Ok(());
        };
        let result = copy_outcome(types, task, &future);
        // SAFETY: our layout; each reference is taken out, then dropped.
        unsafe {
            // `future` keeps its callbacks: this is where asyncio leaves a cycle.
            ffi::Py_CLEAR(&raw mut (*this).future);
            ffi::Py_CLEAR(&raw mut (*this).task);
            ffi::Py_CLEAR(&raw mut (*this).event_loop);
        }
        result
    }
}

/// asyncio's `_set_concurrent_future_state`.
fn copy_outcome<'py>(
    types: &CTypes,
    task: &Bound<'py, PyAny>,
    future: &Bound<'py, PyAny>,
) -> PyResult<()> {
    let py = task.py();
    if types.cancelled.ask(task)? {
        future.call_method0(intern!(py, "cancel"))?;
    }
    if !future.call_method0(intern!(py, "set_running_or_notify_cancel"))?.is_truthy()? {
        return Ok(());
    }
    let error = types.exception.call(task, &[], None)?;
    if error.is_none() {
        let result = types.result.call(task, &[], None)?;
        future.call_method1(intern!(py, "set_result"), (result,))?;
    } else {
        let error = originals(py)?.convert_exception.bind(py).call1((error,))?;
        future.call_method1(intern!(py, "set_exception"), (error,))?;
    }
    Ok(())
}

unsafe extern "C" fn called(
    slf: Object,
    args: *const Object,
    count: usize,
    names: Object,
) -> Object {
    // SAFETY: CPython calls this, and holds the GIL.
    let held = unsafe { Python::assume_attached() };
    enter(held, null_mut(), |py| {
        // SAFETY: CPython's own arguments; `slf` is of our type, which has this function.
        unsafe {
            let count = ffi::PyVectorcall_NARGS(count);
            if count > 1 || (!names.is_null() && ffi::PyTuple_GET_SIZE(names) != 0) {
                return Err(PyTypeError::new_err("takes no more than the future that is done"));
            }
            let submission = Submission(Bound::from_borrowed_ptr(py, slf));
            if count == 0 {
                submission.start()?;
            } else {
                let done = Bound::from_borrowed_ptr(py, *args);
                let fields = submission.fields();
                if done.as_ptr() == (*fields).future {
                    submission.future_done(&done)?;
                } else if done.as_ptr() == (*fields).task {
                    submission.task_done(&done)?;
                }
            }
        }
        Ok(py.None().into_ptr())
    })
}

unsafe extern "C" fn get_qualname(slf: Object, _closure: *mut c_void) -> Object {
    // SAFETY: CPython calls this, and holds the GIL.
    let held = unsafe { Python::assume_attached() };
    enter(held, null_mut(), |py| {
        // SAFETY: CPython checked the type of `slf`.
        let started = unsafe { !(*slf.cast::<SubmissionObject>()).task.is_null() };
        let name = if started {
            intern!(py, "_chain_future.<locals>._call_set_state")
        } else {
            intern!(py, "run_coroutine_threadsafe.<locals>.callback")
        };
        Ok(name.clone().into_ptr())
    })
}

unsafe extern "C" fn get_wrapped(slf: Object, _closure: *mut c_void) -> Object {
    // SAFETY: CPython calls this, and holds the GIL.
    let held = unsafe { Python::assume_attached() };
    enter(held, null_mut(), |py| {
        // SAFETY: CPython checked the type of `slf`.
        let started = unsafe { !(*slf.cast::<SubmissionObject>()).task.is_null() };
        let originals = originals(py)?;
        let (function, inner) = if started {
            (&originals.chain_future, "_call_set_state")
        } else {
            (&originals.run_coroutine_threadsafe, "callback")
        };
        Ok(super::function_inside(py, function, inner)?.into_ptr())
    })
}

unsafe extern "C" fn traverse(slf: Object, visit: ffi::visitproc, arg: *mut c_void) -> c_int {
    let this = slf.cast::<SubmissionObject>();
    // SAFETY: our layout; the collector holds the GIL and runs no other code meanwhile.
    unsafe {
        visit!(visit, arg, ffi::Py_TYPE(slf).cast());
        visit!(visit, arg, (*this).coro);
        visit!(visit, arg, (*this).event_loop);
        visit!(visit, arg, (*this).future);
        visit!(visit, arg, (*this).task);
    }
    0
}

unsafe extern "C" fn clear(slf: Object) -> c_int {
    finalizing::guard();
    let this = slf.cast::<SubmissionObject>();
    // SAFETY: our layout; each reference is taken out before it is dropped.
    unsafe {
        ffi::Py_CLEAR(&raw mut (*this).coro);
        ffi::Py_CLEAR(&raw mut (*this).event_loop);
        ffi::Py_CLEAR(&raw mut (*this).future);
        ffi::Py_CLEAR(&raw mut (*this).task);
    }
    0
}

unsafe extern "C" fn dealloc(slf: Object) {
    // SAFETY: the last reference is gone; `take_apart` frees it.
    unsafe { trashcan::dealloc(slf, take_apart) };
}

/// # Safety
/// As `trashcan::dealloc` promises.
unsafe fn take_apart(slf: Object) {
    let this = slf.cast::<SubmissionObject>();
    // SAFETY: dead and untracked; taken apart in the order CPython asks for: weak references,
    // fields, memory, type.
    unsafe {
        let class = ffi::Py_TYPE(slf);
        if !(*this).weakrefs.is_null() {
            ffi::PyObject_ClearWeakRefs(slf);
        }
        clear(slf);
        ffi::PyObject_GC_Del(slf.cast());
        ffi::Py_DECREF(class.cast());
    }
}

static FIELDS: Definitions<[ffi::PyGetSetDef; 4]> = Definitions([
    getter(c"__name__", get_qualname),
    getter(c"__qualname__", get_qualname),
    getter(c"__wrapped__", get_wrapped),
    GETTERS_END,
]);

static MEMBERS: Definitions<[ffi::PyMemberDef; 3]> = Definitions([
    definitions::offset_member(c"__weaklistoffset__", offset_of!(SubmissionObject, weakrefs)),
    definitions::offset_member(c"__vectorcalloffset__", offset_of!(SubmissionObject, vectorcall)),
    definitions::MEMBERS_END,
]);

fn class(py: Python<'_>) -> PyResult<&'static Py<PyType>> {
    static TYPE: PyOnceLock<Py<PyType>> = PyOnceLock::new();
    TYPE.get_or_try_init(py, || {
        let slots = vec![
            slot(ffi::Py_tp_traverse, traverse as *mut c_void),
            slot(ffi::Py_tp_clear, clear as *mut c_void),
            slot(ffi::Py_tp_dealloc, dealloc as *mut c_void),
            slot(ffi::Py_tp_call, ffi::PyVectorcall_Call as *mut c_void),
            slot(ffi::Py_tp_getset, FIELDS.0.as_ptr().cast_mut().cast()),
            slot(ffi::Py_tp_members, MEMBERS.0.as_ptr().cast_mut().cast()),
        ];
        // SAFETY: functions and tables of these kinds, all static, for objects of this layout, which
        // are made in one place, with their vectorcall.
        let class = unsafe {
            class::new_type_with(
                py,
                c"tokioloop._core.Submission",
                size_of::<SubmissionObject>(),
                &[py.get_type::<PyAny>()],
                slots,
                ffi::Py_TPFLAGS_HAVE_VECTORCALL,
            )?
        };
        Ok(class.unbind())
    })
}
