//! The table of this crate's own loops, and the capsule in which it is offered.

use std::ffi::{c_int, c_void};
use std::ptr::null;

use pyo3::exceptions::PyTypeError;
use pyo3::ffi;
use pyo3::prelude::*;

use super::api::{ATTRIBUTE, BridgeApi, CAPSULE, OpaqueTarget, borrow, into_opaque};
use crate::event_loop::NativeLoop;
use crate::ffi::object::{self, Object};
use crate::ffi::trampoline::enter;

pub(super) static API: BridgeApi = BridgeApi::with(new_target, park, release, runs_here);

unsafe extern "C" fn new_target(event_loop: Object) -> *const OpaqueTarget {
    // SAFETY: callers through the table hold the GIL here.
    let held = unsafe { Python::assume_attached() };
    enter(held, null(), |py| {
        // SAFETY: the caller lends a live object.
        let Some(event_loop) = (unsafe { native(py, event_loop) }) else {
            return Err(PyTypeError::new_err("the running loop is no loop of tokioloop's"));
        };
        event_loop.new_target(py, API.address()).map(into_opaque)
    })
}

/// The loop behind an object whose class has this table; `None` if it is not one of ours: attributes
/// can be copied. A loop that a target was made on was checked then.
///
/// # Safety
/// `event_loop` must be a live object that outlives `'a`.
unsafe fn native<'a>(py: Python<'_>, event_loop: Object) -> Option<&'a NativeLoop> {
    // SAFETY: the caller's promise, and its type is checked first.
    unsafe {
        let ours = Bound::from_borrowed_ptr(py, event_loop).is_instance_of::<NativeLoop>();
        ours.then(|| NativeLoop::of(event_loop))
    }
}

unsafe extern "C" fn park(event_loop: Object, target: *const OpaqueTarget, object: Object) {
    // SAFETY: callers through the table hold the GIL here.
    let held = unsafe { Python::assume_attached() };
    enter(held, (), |py| {
        // SAFETY: the loop that `new_target` made the target on, so it is one of ours, a target to
        // which the caller has a reference, and a live object.
        unsafe {
            let object = Bound::from_borrowed_ptr(py, object);
            NativeLoop::of(event_loop).park_target(&borrow(target), object);
        }
        Ok(())
    });
}

unsafe extern "C" fn release(event_loop: Object, target: *const OpaqueTarget) {
    // SAFETY: callers through the table hold the GIL here.
    let held = unsafe { Python::assume_attached() };
    enter(held, (), |py| {
        // SAFETY: the loop that `new_target` made the target on, and a target to which the caller has
        // a reference.
        unsafe { NativeLoop::of(event_loop).release_target(py, &borrow(target)) };
        Ok(())
    });
}

unsafe extern "C" fn runs_here(event_loop: Object) -> c_int {
    // SAFETY: callers through the table hold the GIL here.
    let held = unsafe { Python::assume_attached() };
    enter(held, 0, |py| {
        // SAFETY: the caller lends a live object.
        let event_loop = unsafe { native(py, event_loop) };
        Ok(event_loop.is_some_and(|it| it.runs_in_this_thread(py)).into())
    })
}

/// Adds the capsule to the class of loops.
pub(crate) fn offer(py: Python<'_>) -> PyResult<()> {
    let api = std::ptr::from_ref(&API).cast_mut().cast::<c_void>();
    // SAFETY: a static, and a static name; a new reference or null with an exception set.
    let capsule = unsafe { object::owned(py, ffi::PyCapsule_New(api, CAPSULE.as_ptr(), None))? };
    py.get_type::<NativeLoop>().setattr(ATTRIBUTE, capsule)
}
