//! The Python types of awaitables and waiters.
//!
//! Each is made once a process, for one layout, without subclasses, and its objects are made by one
//! function (`awaitable::new`, `waiter::new`). So CPython's check of `self` is the proof of the layout
//! that the functions in these tables rest on.

use std::ffi::c_void;
use std::mem::offset_of;
use std::ptr::null_mut;

use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyString, PyType};

use super::awaitable::{self, Awaitable, AwaitableObject, Phase};
use super::waiter::{self, WaiterObject};
use crate::ffi::arguments::Arg;
use crate::ffi::class::{self, slot};
use crate::ffi::coroutine::{self, Coroutine, Sent};
use crate::ffi::definitions::{
    self, Definitions, GETTERS_END, METHODS_END, fast_method, getter, plain_method,
};
use crate::ffi::object::Object;
use crate::ffi::trampoline::enter;
use crate::primitives::RUST_FUTURE;

/// The kind of coroutines that awaitables are.
pub(super) struct Awaiting;

// SAFETY: the layout is C's, and starts with the head.
unsafe impl Coroutine for Awaiting {
    type Object = AwaitableObject;

    #[inline]
    fn send<'py>(awaitable: &Awaitable<'py>, value: Arg<'_, 'py>) -> PyResult<Sent<'py>> {
        awaitable.step(value)
    }

    fn throw<'py>(
        awaitable: &Awaitable<'py>,
        args: &[Arg<'_, 'py>],
    ) -> PyResult<Bound<'py, PyAny>> {
        Err(awaitable.thrown(args))
    }

    fn close(awaitable: &Awaitable<'_>) -> PyResult<()> {
        awaitable.closed()
    }

    fn is_awaited(awaitable: &Awaitable<'_>) -> bool {
        !matches!(awaitable.phase(), Phase::Fresh | Phase::Done)
    }
}

/// # Safety
/// `slf` must be a live awaitable.
unsafe fn name_of(slf: Object) -> &'static str {
    // SAFETY: the caller's promise; the name never changes.
    unsafe { (*slf.cast::<AwaitableObject>()).name }
}

unsafe extern "C" fn get_name(slf: Object, _closure: *mut c_void) -> Object {
    // SAFETY: CPython checked the type of `slf`, which is alive for the call.
    let name = unsafe { name_of(slf) };
    let last = name.rsplit("::").next().unwrap_or(name);
    // SAFETY: CPython calls this, and holds the GIL.
    let held = unsafe { Python::assume_attached() };
    enter(held, null_mut(), |py| Ok(PyString::new(py, last).into_ptr()))
}

unsafe extern "C" fn get_qualname(slf: Object, _closure: *mut c_void) -> Object {
    // SAFETY: CPython calls this, and holds the GIL.
    let held = unsafe { Python::assume_attached() };
    enter(held, null_mut(), |py| {
        // SAFETY: CPython checked the type of `slf`, which is alive for the call.
        Ok(PyString::new(py, unsafe { name_of(slf) }).into_ptr())
    })
}

unsafe extern "C" fn get_running(slf: Object, _closure: *mut c_void) -> Object {
    // SAFETY: CPython calls this, and holds the GIL.
    let held = unsafe { Python::assume_attached() };
    // SAFETY: CPython checked the type of `slf`, which is alive for the call.
    enter(held, null_mut(), |py| unsafe { is_in(py, slf, Phase::Running) })
}

unsafe extern "C" fn get_suspended(slf: Object, _closure: *mut c_void) -> Object {
    // SAFETY: CPython calls this, and holds the GIL.
    let held = unsafe { Python::assume_attached() };
    // SAFETY: CPython checked the type of `slf`, which is alive for the call.
    enter(held, null_mut(), |py| unsafe { is_in(py, slf, Phase::Suspended) })
}

/// # Safety
/// `slf` must be a live awaitable.
unsafe fn is_in(py: Python<'_>, slf: Object, phase: Phase) -> PyResult<Object> {
    // SAFETY: the caller's promise.
    let now = unsafe { Awaitable::borrowed(py, slf) }.phase();
    // SAFETY: the GIL is held, as `py` says.
    Ok(unsafe { ffi::PyBool_FromLong((now == phase).into()) })
}

unsafe extern "C" fn get_origin(_slf: Object, _closure: *mut c_void) -> Object {
    // SAFETY: lives for ever.
    unsafe { ffi::Py_NewRef(ffi::Py_None()) }
}

unsafe extern "C" fn repr(slf: Object) -> Object {
    // SAFETY: CPython calls this, and holds the GIL.
    let held = unsafe { Python::assume_attached() };
    enter(held, null_mut(), |py| {
        // SAFETY: CPython checked the type of `slf`, which is alive for the call.
        let name = unsafe { name_of(slf) };
        let text = format!("<coroutine object {name} at {slf:p}>");
        Ok(PyString::new(py, &text).into_ptr())
    })
}

static FIELDS: Definitions<[ffi::PyGetSetDef; 6]> = Definitions([
    getter(c"__name__", get_name),
    getter(c"__qualname__", get_qualname),
    getter(c"cr_running", get_running),
    getter(c"cr_suspended", get_suspended),
    getter(c"cr_origin", get_origin),
    GETTERS_END,
]);

static MEMBERS: Definitions<[ffi::PyMemberDef; 2]> = Definitions([
    definitions::offset_member(c"__weaklistoffset__", offset_of!(AwaitableObject, weakrefs)),
    definitions::MEMBERS_END,
]);

/// The class of what `future_into_py` gives.
pub(super) fn awaitable(py: Python<'_>) -> PyResult<&Py<PyType>> {
    RUST_FUTURE.get_or_try_init(py, || {
        let own = [
            slot(ffi::Py_tp_traverse, awaitable::traverse as *mut c_void),
            slot(ffi::Py_tp_clear, awaitable::clear as *mut c_void),
            slot(ffi::Py_tp_dealloc, awaitable::dealloc as *mut c_void),
            slot(ffi::Py_tp_repr, repr as *mut c_void),
            slot(ffi::Py_tp_getset, FIELDS.0.as_ptr().cast_mut().cast()),
            slot(ffi::Py_tp_members, MEMBERS.0.as_ptr().cast_mut().cast()),
        ];
        // SAFETY: functions and tables of these kinds, all static, for the awaitables' layout;
        // `awaitable::new` alone makes one.
        unsafe { coroutine::new_class::<Awaiting>(py, c"tokioloop._core.RustFuture", own) }
    })
}

static WAITER_METHODS: Definitions<[ffi::PyMethodDef; 7]> = Definitions([
    fast_method(
        c"add_done_callback",
        waiter::method_add_done_callback,
        c"add_done_callback($self, callback, /, *, context=None)\n--\n\n",
    ),
    fast_method(c"cancel", waiter::method_cancel, c"cancel($self, msg=None)\n--\n\n"),
    plain_method(c"cancelled", waiter::method_cancelled, c"cancelled($self, /)\n--\n\n"),
    plain_method(c"done", waiter::method_done, c"done($self, /)\n--\n\n"),
    plain_method(c"get_loop", waiter::method_get_loop, c"get_loop($self, /)\n--\n\n"),
    plain_method(c"result", waiter::method_result, c"result($self, /)\n--\n\n"),
    METHODS_END,
]);

static WAITER_FIELDS: Definitions<[ffi::PyGetSetDef; 3]> = Definitions([
    ffi::PyGetSetDef {
        set: Some(waiter::set_blocking),
        ..getter(c"_asyncio_future_blocking", waiter::get_blocking)
    },
    getter(c"_loop", waiter::get_loop),
    GETTERS_END,
]);

static WAITER_MEMBERS: Definitions<[ffi::PyMemberDef; 2]> = Definitions([
    definitions::offset_member(c"__vectorcalloffset__", offset_of!(WaiterObject, vectorcall)),
    definitions::MEMBERS_END,
]);

/// The class of what a pending awaitable yields.
pub(super) fn waiter(py: Python<'_>) -> PyResult<&Py<PyType>> {
    static TYPE: PyOnceLock<Py<PyType>> = PyOnceLock::new();
    TYPE.get_or_try_init(py, || {
        let slots = vec![
            slot(ffi::Py_tp_traverse, waiter::traverse as *mut c_void),
            slot(ffi::Py_tp_clear, waiter::clear as *mut c_void),
            slot(ffi::Py_tp_dealloc, waiter::dealloc as *mut c_void),
            slot(ffi::Py_tp_repr, waiter::repr as *mut c_void),
            slot(ffi::Py_tp_call, ffi::PyVectorcall_Call as *mut c_void),
            slot(ffi::Py_tp_methods, WAITER_METHODS.0.as_ptr().cast_mut().cast()),
            slot(ffi::Py_tp_getset, WAITER_FIELDS.0.as_ptr().cast_mut().cast()),
            slot(ffi::Py_tp_members, WAITER_MEMBERS.0.as_ptr().cast_mut().cast()),
        ];
        // SAFETY: functions and tables of these kinds, all static, for objects of this layout, which
        // `waiter::new` alone makes, with their vectorcall.
        let class = unsafe {
            class::new_type_with(
                py,
                c"tokioloop._core.RustFutureWaiter",
                size_of::<WaiterObject>(),
                &[py.get_type::<PyAny>()],
                slots,
                ffi::Py_TPFLAGS_HAVE_VECTORCALL,
            )?
        };
        Ok(class.unbind())
    })
}
