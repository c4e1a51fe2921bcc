//! `run_coroutine_threadsafe`: a coroutine handed to a loop from another thread.
//!
//! One object takes the place of asyncio's closures: it is the callback that starts the task, and the
//! done callback of both futures.
//!
//! # States
//!
//! - *Submitted*: `coro`, `event_loop` and `future` are set; the loop's ready queue has the object.
//!   Called without arguments it starts: `coro` is taken out, so a second call by hand does nothing.
//! - *Started*: `task` is set, and both futures have the object as a callback. Its argument says which
//!   of them is done.
//! - *Done*, or cleared by the collector: everything is null, and a call does nothing. (If no task in C
//!   was made, loop and future stay where they are.)
//!
//! `future` may call from any thread, the task calls in the loop's; all fields change with the GIL
//! held, are emptied before they are dropped, and references are taken before Python code is called.
//! The last reference frees it, through the trashcan: a coroutine may hold another one's future.

use std::ffi::c_ulong;
use std::mem::offset_of;
use std::ptr::null_mut;

use pyo3::exceptions::PyTypeError;
use pyo3::ffi;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::PyType;

use super::ctypes::{self, CTypes, is_coroutine, is_plain_class};
use super::originals::{inner_function, originals};
use super::tasks;
use crate::event_loop::{NativeLoop, ends_loop};
use crate::ffi::arguments::{Args, Matching};
use crate::ffi::class::{
    self, Definition, NativeClass, object_getter, object_ref, references, slot,
};
use crate::ffi::definitions::getter;
use crate::ffi::object::Object;
use crate::ffi::trampoline::vectorcall;
use crate::ffi::trashcan::through_trashcan;

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

// SAFETY: the layout is C's and starts with the head; the offsets are those of the fields, and the
// other pointers are null or hold references.
unsafe impl NativeClass for SubmissionObject {
    const WEAKREFS: Option<usize> = Some(offset_of!(Self, weakrefs));
    const VECTORCALL: Option<usize> = Some(offset_of!(Self, vectorcall));
    const FLAGS: c_ulong = ffi::Py_TPFLAGS_HAVE_VECTORCALL;

    through_trashcan!();

    references!(coro, event_loop, future, task);
}

/// `tokioloop.run_coroutine_threadsafe(coro, loop)`.
pub(super) fn call<'py>(py: Python<'py>, args: &Args<'_, 'py>) -> PyResult<Bound<'py, PyAny>> {
    let originals = originals(py)?;
    if args.positional.len() == 2
        && !args.has_keywords()
        && let Some(types) = ctypes::types(py)?
    {
        let [coro, event_loop] = [args.positional[0], args.positional[1]];
        let native = is_coroutine(&coro)
            && is_plain_class(types, &event_loop)?
            // SAFETY: a live object, whose class is derived from ours, as was just checked.
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
    let fields = || SubmissionObject {
        head: ffi::PyObject_HEAD_INIT,
        weakrefs: null_mut(),
        vectorcall: Some(called),
        coro: coro.clone().into_ptr(),
        event_loop: event_loop.clone().into_ptr(),
        future: future.clone().into_ptr(),
        task: null_mut(),
    };
    // SAFETY: the class of this layout; the references move into the object.
    let submission = unsafe { class::allocate(py, class(py)?, fields)? };
    submission.track_new();
    event_loop.call_method1(intern!(py, "call_soon_threadsafe"), (submission.as_any(),))?;
    Ok(future)
}

object_ref!(
    /// A reference to a submission, and its fields.
    Submission, SubmissionObject
);

impl<'py> Submission<'py> {
    /// In the loop's thread: makes the task and ties the two together.
    fn start(&self) -> PyResult<()> {
        let py = self.py();
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
        let (py, this) = (self.py(), self.fields());
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
        // SAFETY: a submission, which `self` keeps alive, with the GIL held; it has no task yet.
        unsafe { (*this).task = task.clone().into_ptr() };
        // Calls back at once if the future was cancelled before the loop came here.
        future.call_method1(intern!(py, "add_done_callback"), (self.as_any(),))?;
        types.add_done_callback.call(&task, &[self.as_any()], None).map(drop)
    }

    /// asyncio's `_call_check_cancel`; in whichever thread the future was cancelled or set.
    fn future_done(&self, future: &Bound<'py, PyAny>) -> PyResult<()> {
        let py = self.py();
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
        let (py, this) = (self.py(), self.fields());
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

vectorcall!(called, |py, slf, args| {
    if args.positional.len() > 1 || args.has_keywords() {
        return Err(PyTypeError::new_err("takes no more than the future that is done"));
    }
    // SAFETY: the vectorcall of this class; CPython keeps `slf` alive for the call.
    let submission = unsafe { Submission::borrowed(py, slf) };
    let Some(done) = args.positional.first() else {
        submission.start()?;
        return Ok(py.None().into_bound(py));
    };
    // SAFETY: a submission, with the GIL held; only compared.
    let (future, task) = unsafe { ((*submission.fields()).future, (*submission.fields()).task) };
    if done.as_ptr() == future {
        submission.future_done(done)?;
    } else if done.as_ptr() == task {
        submission.task_done(done)?;
    }
    Ok(py.None().into_bound(py))
});

object_getter!(get_qualname, SubmissionObject, |slf| {
    Ok(if slf.get(|this| this.task).is_some() {
        intern!(slf.py(), "_chain_future.<locals>._call_set_state").clone()
    } else {
        intern!(slf.py(), "run_coroutine_threadsafe.<locals>.callback").clone()
    })
});

object_getter!(get_wrapped, SubmissionObject, |slf| {
    let originals = originals(slf.py())?;
    let (function, inner) = if slf.get(|this| this.task).is_some() {
        (&originals.chain_future, "_call_set_state")
    } else {
        (&originals.run_coroutine_threadsafe, "callback")
    };
    inner_function(slf.py(), function, inner)
});

fn class(py: Python<'_>) -> PyResult<&'static Py<PyType>> {
    static CLASS: PyOnceLock<Py<PyType>> = PyOnceLock::new();
    CLASS.get_or_try_init(py, || {
        let definition = Definition {
            getters: &[
                getter(c"__name__", get_qualname),
                getter(c"__qualname__", get_qualname),
                getter(c"__wrapped__", get_wrapped),
            ],
            slots: &[slot(ffi::Py_tp_call, ffi::PyVectorcall_Call as *mut _)],
            ..Definition::default()
        };
        // SAFETY: functions of these kinds, for the layout of submissions; `submit` alone makes one.
        unsafe {
            class::new_class::<SubmissionObject>(py, c"tokioloop._core.Submission", &definition)
        }
    })
}
