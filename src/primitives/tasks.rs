//! `loop.create_task` and `loop.create_future`: CPython's own C types, without Python frames.
//!
//! With a task factory, in debug mode, or with options that are not known here, asyncio's own method is
//! called, so the texts of errors are asyncio's.

use std::ptr::null_mut;

use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::PyDict;

use super::ctypes::{self, CTypes, OnLoop, is_plain_class};
use crate::event_loop::NativeLoop;
use crate::ffi::arguments::{Arg, Args, Matching};
use crate::ffi::imports;
use crate::ffi::object::Object;
use crate::ffi::trampoline::{enter, fast_function};

/// The options that asyncio's method passes on to the task.
const OPTIONS: &[&std::ffi::CStr] = if cfg!(Py_3_14) {
    &[c"name", c"context", c"eager_start"]
} else if cfg!(Py_3_11) {
    &[c"name", c"context"]
} else {
    &[c"name"]
};

fast_function!(pub(super) create_task, |py, slf, args| {
    // SAFETY: a method of the loop's class; CPython keeps `slf` alive for the call.
    let event_loop = unsafe { NativeLoop::of(slf) };
    if let [coro] = args.positional
        && !event_loop.is_closed(py)
        && !event_loop.is_debug(py)
        && !event_loop.has_task_factory(py)
        && let Some(types) = ctypes::types(py)?
        && types.task_is_ours(py)
        && is_unwrapped(types, event_loop, py)?
    {
        if args.names.is_none() {
            return spawn(types, event_loop, *coro, None);
        }
        if let Some(options) = read_options(py, &args)? {
            return spawn(types, event_loop, *coro, options);
        }
    }
    // As it is now: a tool may have wrapped it.
    let base = py.import("asyncio.base_events")?.getattr("BaseEventLoop")?;
    let (method, event_loop) = (base.getattr("create_task")?, event_loop.bind(py));
    args.forward_behind(&[event_loop.as_borrowed()], &method)
});

/// Whether no tool wrapped asyncio's method, which ours replaces.
#[inline(always)]
fn is_unwrapped(types: &CTypes, event_loop: &NativeLoop, py: Python<'_>) -> PyResult<bool> {
    if is_plain_class(types, &event_loop.borrowed(py))? {
        return Ok(true);
    }
    // A class that overrides methods of ours may still call this one.
    types.has_asyncios_create_task(py)
}

/// The options that differ from their defaults; `None` if one of them is not known here.
fn read_options<'py>(
    py: Python<'py>,
    args: &Args<'_, 'py>,
) -> PyResult<Option<Option<Bound<'py, PyDict>>>> {
    let mut options = None;
    for (name, value) in args.named() {
        // SAFETY: a `str`, as the names of keywords are, and static text.
        let is = |known: &&std::ffi::CStr| unsafe {
            ffi::PyUnicode_CompareWithASCIIString(name.as_ptr(), known.as_ptr()) == 0
        };
        if !OPTIONS.iter().any(is) {
            return Ok(None);
        }
        if !value.is_none() {
            options.get_or_insert_with(|| PyDict::new(py)).set_item(name, value)?;
        }
    }
    Ok(Some(options))
}

/// A new C task on the loop, with further options.
#[inline(always)]
pub(super) fn spawn<'py>(
    types: &CTypes,
    event_loop: &NativeLoop,
    coro: Arg<'_, 'py>,
    options: Option<Bound<'py, PyDict>>,
) -> PyResult<Bound<'py, PyAny>> {
    let py = coro.py();
    let this = event_loop.borrowed(py);
    if let Some(options) = options {
        options.set_item(pyo3::intern!(py, "loop"), this)?;
        return types.new_task(coro, Some(&options));
    }
    types.new_task(coro, OnLoop::new(types, &this)?.options())
}

/// `loop.create_future`.
pub(crate) unsafe extern "C" fn create_future(slf: Object, _: Object) -> Object {
    // SAFETY: CPython calls this, and holds the GIL.
    let held = unsafe { Python::assume_attached() };
    enter(held, null_mut(), |py| {
        // SAFETY: a method of the loop's class; CPython keeps `slf` alive for the call.
        let this = unsafe { Bound::from_borrowed_ptr(py, slf) };
        let class = &imports::asyncio(py)?.future;
        if let Some(types) = ctypes::types(py)?
            && class.is(&types.future)
        {
            let on_loop = OnLoop::new(types, &this)?;
            return types.new_future(py, on_loop.options()).map(Bound::into_ptr);
        }
        let on_loop = OnLoop::naming(&this)?;
        class.bind(py).call((), on_loop.options()).map(Bound::into_ptr)
    })
}
