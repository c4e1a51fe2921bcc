//! Wake targets on loops that know nothing of them: woken by `call_soon_threadsafe`.
//!
//! Only for futures that pyo3-async-runtimes cannot serve: those that are not `Send`, and those made
//! while no loop ran.

use std::ffi::c_int;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use pyo3::intern;
use pyo3::prelude::*;
use pyo3_async_runtimes::tokio as upstream;

use super::api::{self, BridgeApi, OpaqueTarget};
use super::running::running_loop;
use crate::event_loop::wake_targets::{Carrier, WakeTarget};
use crate::ffi::finalizing;
use crate::ffi::object::Object;
use crate::ffi::trampoline::enter;

pub(super) static API: BridgeApi = BridgeApi::with(new_target, park, release, runs_here);

struct Threadsafe;

impl Carrier for Threadsafe {
    fn carry(&self, target: &Arc<WakeTarget>) {
        // A waker's caller must not wait for the GIL: it may hold locks.
        let target = Arc::clone(target);
        let deliver = move || finalizing::try_attach(|py| deliver(py, &target));
        let post = move || drop(upstream::get_runtime().spawn_blocking(deliver));
        // tokio panics where the system has no thread left, and the table's functions must not.
        let _ = catch_unwind(AssertUnwindSafe(post));
    }
}

fn deliver(py: Python<'_>, target: &WakeTarget) {
    let Some(object) = target.take_object(py) else { return };
    let event_loop = object.bind(py).getattr(intern!(py, "_loop"));
    // The loop may be closed by now; then no task waits any more.
    let _ =
        event_loop.and_then(|it| it.call_method1(intern!(py, "call_soon_threadsafe"), (object,)));
}

unsafe extern "C" fn new_target(_event_loop: Object) -> *const OpaqueTarget {
    api::into_opaque(WakeTarget::new(API.address(), Arc::new(Threadsafe)))
}

unsafe extern "C" fn park(_event_loop: Object, target: *const OpaqueTarget, object: Object) {
    // SAFETY: callers through the table hold the GIL here.
    let held = unsafe { Python::assume_attached() };
    enter(held, (), |py| {
        // SAFETY: a target of this file's, to which the caller has a reference, and a live object.
        let (target, object) =
            unsafe { (api::borrow(target), Bound::from_borrowed_ptr(py, object)) };
        drop(target.park_object(object));
        Ok(())
    });
}

unsafe extern "C" fn release(_event_loop: Object, target: *const OpaqueTarget) {
    // SAFETY: callers through the table hold the GIL here.
    let held = unsafe { Python::assume_attached() };
    enter(held, (), |py| {
        // SAFETY: a target of this file's, to which the caller has a reference.
        drop(unsafe { api::borrow(target) }.take_object(py));
        Ok(())
    });
}

unsafe extern "C" fn runs_here(event_loop: Object) -> c_int {
    // SAFETY: callers through the table hold the GIL here.
    let held = unsafe { Python::assume_attached() };
    enter(held, 0, |py| Ok(running_loop(py)?.is_some_and(|it| it.as_ptr() == event_loop).into()))
}
