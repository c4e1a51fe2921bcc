//! `gather`: the children made, watched and collected without Python frames.
//!
//! Native where all arguments are exactly coroutines, or CPython's own C tasks and futures, on a plain
//! loop of ours. For all else asyncio's own `gather` is called, before anything was done. The
//! outer future is asyncio's own, too. One object, the gathering, is the done callback of all
//! children (`gathering`).

// `gathering`, then `class`, which uses it.
mod class;
mod gathering;

use std::collections::HashMap;
use std::collections::hash_map::Entry as Seen;
use std::hash::{BuildHasherDefault, Hasher};

use pyo3::ffi;
use pyo3::intern;
use pyo3::prelude::*;

use super::ctypes::{self, CTypes, OnLoop, is_coroutine, on_plain_loop};
use super::originals::originals;
use crate::event_loop::NativeLoop;
use crate::ffi::arguments::{Arg, Args, Matching};
use crate::ffi::memory;
use crate::ffi::object;
#[cfg(Py_3_14)]
use gathering::{Edge, Gathering};

/// An address is as good a hash as any once its low bits, always zero, are mixed in.
#[derive(Default)]
struct Address(u64);

impl Hasher for Address {
    fn write(&mut self, _: &[u8]) {}
    fn write_usize(&mut self, address: usize) {
        self.0 = (address as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15).rotate_left(26);
    }
    fn finish(&self) -> u64 {
        self.0
    }
}

/// `tokioloop.gather(*coros_or_futures, return_exceptions=False)`.
pub(super) fn call<'py>(py: Python<'py>, args: &Args<'_, 'py>) -> PyResult<Bound<'py, PyAny>> {
    let mut return_exceptions = false;
    let mut native = !args.positional.is_empty();
    if args.has_keywords() {
        match args.only(intern!(py, "return_exceptions")) {
            Some(value) => return_exceptions = value.is_truthy()?,
            None => native = false,
        }
    }
    let gathered = if native {
        on_plain_loop(py, |types, event_loop| {
            if event_loop.has_task_factory(py)
                || !types.task_is_ours(py)
                || !all_are_known(types, event_loop, args.positional)?
            {
                return Ok(None);
            }
            gather(py, types, event_loop, args.positional, return_exceptions).map(Some)
        })?
    } else {
        None
    };
    match gathered.flatten() {
        Some(outer) => Ok(outer),
        None => args.forward(originals(py)?.gather.bind(py)),
    }
}

/// Each is a coroutine, or a future in C of this very loop.
fn all_are_known(types: &CTypes, event_loop: &NativeLoop, args: &[Arg<'_, '_>]) -> PyResult<bool> {
    let gathering = types.gathering_future.as_ptr().cast();
    for object in args {
        if is_coroutine(object) {
            continue;
        }
        if object.get_type_ptr() != gathering && !ctypes::is_exact(object)? {
            return Ok(false);
        }
        // A future that was never initialised has no loop. asyncio learns that once it has made tasks
        // of the coroutines before it.
        let its_loop = types.get_loop.call(object, &[], None);
        if !its_loop.is_ok_and(|it| it.as_ptr() == event_loop.object()) {
            return Ok(false);
        }
    }
    Ok(true)
}

fn gather<'py>(
    py: Python<'py>,
    types: &CTypes,
    event_loop: &NativeLoop,
    args: &[Arg<'_, 'py>],
    return_exceptions: bool,
) -> PyResult<Bound<'py, PyAny>> {
    let gathering = class::new(py, return_exceptions)?;
    let this = gathering.fields();
    #[cfg(Py_3_14)]
    {
        let current = originals(py)?.current_task.bind(py).call1((event_loop.bind(py),))?;
        if !current.is_none() {
            // SAFETY: made just now, and kept by `gathering`; the field is still null.
            unsafe { (*this).waiter = current.into_ptr() };
        }
    }
    // asyncio copies it for each child; no code of the program runs in it.
    // SAFETY: a new reference or null with an exception set.
    let context = unsafe { object::owned(py, ffi::PyContext_CopyCurrent())? };
    let on_loop = OnLoop::running(&event_loop.bind(py))?;
    // The callback is called for these once `outer` is made.
    let mut done_already = Vec::new();
    let mut children: Vec<Bound<'py, PyAny>> = Vec::new();
    let mut seen = HashMap::<usize, usize, BuildHasherDefault<Address>>::default();
    let distinct = if args.len() > 1 { args.len() } else { 0 };
    children.try_reserve_exact(args.len()).map_err(|_| memory::exhausted())?;
    seen.try_reserve(distinct).map_err(|_| memory::exhausted())?;
    for (at, arg) in args.iter().enumerate() {
        if args.len() > 1 {
            match seen.entry(arg.as_ptr() as usize) {
                Seen::Vacant(entry) => entry.insert(at),
                Seen::Occupied(entry) => {
                    children.push(children[*entry.get()].clone());
                    continue;
                }
            };
        }
        let mut child = (*arg).to_owned();
        let is_new = is_coroutine(arg);
        if is_new {
            child = types.new_task(*arg, on_loop.options())?;
            // Nothing else can await it, so a warning that it is pending would be of no use.
            child.setattr(intern!(py, "_log_destroy_pending"), false)?;
        }
        // SAFETY: a gathering, which `gathering` keeps alive, with the GIL held.
        unsafe { (*this).total += 1 };
        children.push(child.clone());
        if cfg!(Py_3_12) && !is_new && types.done.ask(&child)? {
            memory::push(&mut done_already, child)?;
            continue;
        }
        #[cfg(Py_3_14)]
        gathering.record_waiter(&child, Edge::Add)?;
        gathering.watch(types, &child, &context)?;
    }
    let outer = types.new_gathering_future(py, on_loop.options())?;
    let children = memory::list(py, children.into_iter())?;
    outer.setattr(intern!(py, "_children"), &children)?;
    // SAFETY: a gathering, which `gathering` keeps alive, with the GIL held; both fields are still null,
    // and nothing but this function sets them.
    unsafe {
        (*this).children = children.into_ptr();
        (*this).outer = outer.clone().into_ptr();
    }
    outer.setattr(intern!(py, "_cancel_requested"), false)?;
    #[cfg(Py_3_14)]
    // SAFETY: a gathering, which `gathering` keeps alive, with the GIL held.
    if unsafe { !(*this).waiter.is_null() } && originals(py)?.discard_awaited_by.is_some() {
        forget_children_after(&gathering, types, &outer, &context)?;
    }
    for child in done_already {
        gathering.child_done(&child)?;
    }
    Ok(outer)
}

/// Adds a callback to the outer future that discards the edges of children which outlive it.
#[cfg(Py_3_14)]
fn forget_children_after<'py>(
    gathering: &Gathering<'py>,
    types: &CTypes,
    outer: &Bound<'py, PyAny>,
    context: &Bound<'py, PyAny>,
) -> PyResult<()> {
    let callback = class::new(outer.py(), false)?;
    // SAFETY: made just now, and kept by `callback`; the field is still null.
    unsafe { (*callback.fields()).forgets = gathering.as_any().clone().into_ptr() };
    callback.watch(types, outer, context)
}
