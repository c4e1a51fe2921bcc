//! The table of this crate's own loops, and the capsule in which it is offered.

use std::ffi::{c_int, c_void};
use std::ptr::{null, null_mut};

use pyo3::exceptions::PyTypeError;
use pyo3::ffi;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use tokio::runtime::Handle;
use tokioloop_bridge::host::{self, Host};
use tokioloop_bridge::table::{ATTRIBUTE, BridgeApi, CAPSULE, OpaqueTarget, borrow, into_opaque};

use crate::event_loop::NativeLoop;
use crate::ffi::contexts;
use crate::ffi::object::{self, Object};
use crate::ffi::trampoline::enter;
use crate::primitives::ctypes;

static API: BridgeApi =
    BridgeApi::with(new_target, park, release, runs_here, running_loop, call_in);

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

unsafe extern "C" fn running_loop() -> Object {
    static ASK: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    // SAFETY: callers through the table hold the GIL here.
    let held = unsafe { Python::assume_attached() };
    enter(held, null_mut(), |py| {
        let running = match ctypes::types(py)? {
            Some(types) => types.running_loop(py)?,
            None => ASK.import(py, "asyncio", "_get_running_loop")?.call0()?,
        };
        Ok(running.into_ptr())
    })
}

unsafe extern "C" fn call_in(context: Object, function: Object, arg: Object) -> Object {
    // SAFETY: callers through the table hold the GIL here.
    let held = unsafe { Python::assume_attached() };
    enter(held, null_mut(), |py| {
        // SAFETY: the caller lends live objects.
        let [context, function, arg] =
            unsafe { [context, function, arg].map(|it| Bound::from_borrowed_ptr(py, it)) };
        // SAFETY: live objects; a new reference or null with an exception set.
        let call = || unsafe {
            object::owned(py, ffi::PyObject_CallOneArg(function.as_ptr(), arg.as_ptr()))
        };
        let result = match contexts::within(&context, call) {
            // It could not be entered, so nothing was called: whatever has a `run` will do.
            Err(_) if !contexts::is_context(&context) => {
                context.call_method1(intern!(py, "run"), (&function, &arg))
            }
            result => result,
        };
        result.map(Bound::into_ptr)
    })
}

fn is_native(event_loop: &Bound<'_, PyAny>) -> bool {
    event_loop.is_instance_of::<NativeLoop>()
}

/// The runtime of a loop of this crate's.
///
/// # Safety
/// `is_native` must be true of the loop.
unsafe fn runtime(event_loop: &Bound<'_, PyAny>) -> PyResult<Handle> {
    // SAFETY: the caller's promise; the reference keeps the loop alive.
    let reactor = unsafe { NativeLoop::of(event_loop.as_ptr()) }.shared_reactor(event_loop.py())?;
    Ok(reactor.handle().clone())
}

/// Adds the capsule to the class of loops, and makes them known to the bridge in this extension.
pub(crate) fn offer(py: Python<'_>) -> PyResult<()> {
    host::offer(Host { table: &API, owns: is_native, runtime });
    let api = std::ptr::from_ref(&API).cast_mut().cast::<c_void>();
    // SAFETY: a static, and a static name; a new reference or null with an exception set.
    let capsule = unsafe { object::owned(py, ffi::PyCapsule_New(api, CAPSULE.as_ptr(), None))? };
    py.get_type::<NativeLoop>().setattr(ATTRIBUTE, capsule)
}
