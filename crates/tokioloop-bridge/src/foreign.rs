//! Wake targets on loops that know nothing of them: a waker leaves a letter at the loop's port.
//!
//! Only for futures that tokio's threads cannot run: those that are not `Send`, and those made while no
//! loop ran.

use std::ffi::c_int;
use std::ptr::{null, null_mut};
use std::sync::Arc;

use pyo3::intern;
use pyo3::prelude::*;

use crate::port::Port;
use crate::python::object::Object;
use crate::python::trampoline::enter;
use crate::running::running_loop;
use crate::table::{self, BridgeApi, OpaqueTarget};
use crate::wake_target::{Carrier, WakeTarget};

pub(super) static API: BridgeApi =
    BridgeApi::with(new_target, park, release, runs_here, running_here, call_in);

/// The loop, to which other threads carry targets as letters.
struct ByLetter(Arc<Port>);

impl Carrier for ByLetter {
    fn carry(&self, target: &Arc<WakeTarget>) {
        let target = Arc::clone(target);
        self.0.post(Box::new(move |py| deliver(py, &target)));
    }
}

fn deliver(py: Python<'_>, target: &WakeTarget) {
    let Some(object) = target.take_object(py) else { return };
    if let Err(error) = object.call0(py) {
        error.restore(py);
    }
}

unsafe extern "C" fn new_target(event_loop: Object) -> *const OpaqueTarget {
    // SAFETY: callers through the table hold the GIL here.
    let held = unsafe { Python::assume_attached() };
    enter(held, null(), |py| {
        // SAFETY: the caller lends a live object.
        let event_loop = unsafe { Bound::from_borrowed_ptr(py, event_loop) };
        let carrier = Arc::new(ByLetter(Port::of(&event_loop)?));
        Ok(table::into_opaque(WakeTarget::new(API.address(), carrier)))
    })
}

unsafe extern "C" fn park(_event_loop: Object, target: *const OpaqueTarget, object: Object) {
    // SAFETY: callers through the table hold the GIL here.
    let held = unsafe { Python::assume_attached() };
    enter(held, (), |py| {
        // SAFETY: a target of this file's, to which the caller has a reference, and a live object.
        let (target, object) =
            unsafe { (table::borrow(target), Bound::from_borrowed_ptr(py, object)) };
        drop(target.park_object(object));
        Ok(())
    });
}

unsafe extern "C" fn release(_event_loop: Object, target: *const OpaqueTarget) {
    // SAFETY: callers hold the GIL here, and have a reference to the target, as `unpark` asks.
    unsafe { table::unpark(target) };
}

unsafe extern "C" fn runs_here(event_loop: Object) -> c_int {
    // SAFETY: callers through the table hold the GIL here.
    let held = unsafe { Python::assume_attached() };
    enter(held, 0, |py| Ok(running_loop(py)?.is_some_and(|it| it.as_ptr() == event_loop).into()))
}

unsafe extern "C" fn running_here() -> Object {
    // SAFETY: callers through the table hold the GIL here.
    let held = unsafe { Python::assume_attached() };
    enter(held, null_mut(), |py| {
        let running = running_loop(py)?;
        Ok(running.unwrap_or_else(|| py.None().into_bound(py)).into_ptr())
    })
}

unsafe extern "C" fn call_in(context: Object, function: Object, arg: Object) -> Object {
    // SAFETY: callers through the table hold the GIL here.
    let held = unsafe { Python::assume_attached() };
    enter(held, null_mut(), |py| {
        // SAFETY: the caller lends live objects.
        let [context, function, arg] =
            unsafe { [context, function, arg].map(|it| Bound::from_borrowed_ptr(py, it)) };
        Ok(context.call_method1(intern!(py, "run"), (function, arg))?.into_ptr())
    })
}
