//! `loop.create_task` and `loop.create_future`: CPython's own C types, without Python frames.
//!
//! With a task factory, in debug mode, or with options that asyncio may come to know, asyncio's own
//! method is called; so are its texts of errors.

use std::ptr::null_mut;

use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::PyDict;

use super::ctypes::{self, CTypes, OnLoop, is_plain_class};
use crate::cached;
use crate::event_loop::NativeLoop;
use crate::object::{self, Object, enter};

/// What asyncio's method hands on to the task.
const OPTIONS: &[&std::ffi::CStr] = if cfg!(Py_3_14) {
    &[c"name", c"context", c"eager_start"]
} else if cfg!(Py_3_11) {
    &[c"name", c"context"]
} else {
    &[c"name"]
};

/// A method of the loop's class; see `methods/scheduling.rs`.
pub(crate) unsafe extern "C" fn create_task(
    slf: Object,
    args: *const Object,
    count: ffi::Py_ssize_t,
    names: Object,
) -> Object {
    // SAFETY: CPython calls this, and holds the GIL.
    let held = unsafe { Python::assume_attached() };
    enter(held, null_mut(), |py| {
        // SAFETY: a method of the loop's class.
        let event_loop = unsafe { NativeLoop::of(slf) };
        if count == 1
            && !event_loop.closed.get(py)
            && !event_loop.debug.get(py)
            && !event_loop.has_task_factory.get(py)
            && let Some(types) = ctypes::types(py)?
            && types.task_is_ours(py)
            && is_unwrapped(types, event_loop, py)?
        {
            // SAFETY: CPython's own arguments: one positional value, then those of the names.
            let options = unsafe { read_options(py, args.add(1), names)? };
            if let Some(options) = options {
                // SAFETY: as above.
                let coro = unsafe { *args };
                return spawn(py, types, event_loop, coro, options).map(Bound::into_ptr);
            }
        }
        // SAFETY: CPython's own arguments.
        unsafe { asyncios_own(py, slf, args, count, names) }
    })
}

/// Nobody wrapped the method of asyncio's that ours takes the place of.
#[inline]
fn is_unwrapped(types: &CTypes, event_loop: &NativeLoop, py: Python<'_>) -> PyResult<bool> {
    let event_loop = event_loop.bind(py);
    if is_plain_class(types, &event_loop)? {
        return Ok(true);
    }
    // A class that overrides methods of ours may still call this one.
    let base = py.import("asyncio.base_events")?.getattr("BaseEventLoop")?;
    Ok(base.getattr("create_task")?.is(&types.create_task))
}

/// The options that are more than their default; `None` if there are others than we know.
///
/// # Safety
/// `values` must be as many live objects as the tuple `names`, or null, has.
#[inline]
unsafe fn read_options<'py>(
    py: Python<'py>,
    values: *const Object,
    names: Object,
) -> PyResult<Option<Option<Bound<'py, PyDict>>>> {
    if names.is_null() {
        return Ok(Some(None));
    }
    let mut options = None;
    // SAFETY: the caller's promise.
    unsafe {
        for at in 0..ffi::PyTuple_GET_SIZE(names) {
            let name = ffi::PyTuple_GET_ITEM(names, at);
            let is = |known: &&std::ffi::CStr| {
                ffi::PyUnicode_CompareWithASCIIString(name, known.as_ptr()) == 0
            };
            if !OPTIONS.iter().any(is) {
                return Ok(None);
            }
            let value = *values.add(at as usize);
            if value != ffi::Py_None() {
                options.get_or_insert_with(|| PyDict::new(py)).set_item(
                    Bound::from_borrowed_ptr(py, name),
                    Bound::from_borrowed_ptr(py, value),
                )?;
            }
        }
    }
    Ok(Some(options))
}

/// A new C task on the loop, with options besides it.
#[inline]
pub(super) fn spawn<'py>(
    py: Python<'py>,
    types: &CTypes,
    event_loop: &NativeLoop,
    coro: Object,
    options: Option<Bound<'py, PyDict>>,
) -> PyResult<Bound<'py, PyAny>> {
    let this = event_loop.bind(py);
    if let Some(options) = options {
        options.set_item(pyo3::intern!(py, "loop"), this)?;
        return types.new_task(py, coro, Some(&options));
    }
    types.new_task(py, coro, OnLoop::new(types, &this)?.options())
}

/// `loop.create_future`.
pub(crate) unsafe extern "C" fn create_future(slf: Object, _: Object) -> Object {
    // SAFETY: CPython calls this, and holds the GIL.
    let held = unsafe { Python::assume_attached() };
    enter(held, null_mut(), |py| {
        // SAFETY: alive for the call.
        let this = unsafe { Bound::from_borrowed_ptr(py, slf) };
        let class = &cached::asyncio(py)?.future;
        if let Some(types) = ctypes::types(py)?
            && class.is(&types.future)
        {
            let on_loop = OnLoop::new(types, &this)?;
            return types.new_future(types.future.bind(py), on_loop.options()).map(Bound::into_ptr);
        }
        let on_loop = OnLoop::naming(&this)?;
        class.bind(py).call((), on_loop.options()).map(Bound::into_ptr)
    })
}

/// # Safety
/// The arguments must be those of a `METH_FASTCALL | METH_KEYWORDS` method.
#[cold]
unsafe fn asyncios_own(
    py: Python<'_>,
    slf: Object,
    args: *const Object,
    count: ffi::Py_ssize_t,
    names: Object,
) -> PyResult<Object> {
    // As it is now: somebody may have wrapped it.
    let base = py.import("asyncio.base_events")?.getattr("BaseEventLoop")?;
    let method = base.getattr("create_task")?;
    // SAFETY: the caller's promise; the copy lives through the call.
    unsafe {
        let keywords = if names.is_null() { 0 } else { ffi::PyTuple_GET_SIZE(names) as usize };
        let all = count as usize + keywords;
        let given = if all == 0 { &[][..] } else { std::slice::from_raw_parts(args, all) };
        let stack = object::joined(&[&[slf], given])?;
        let result =
            ffi::PyObject_Vectorcall(method.as_ptr(), stack.as_ptr(), count as usize + 1, names);
        object::owned(py, result).map(Bound::into_ptr)
    }
}
