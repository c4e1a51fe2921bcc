//! What a pending awaitable yields: to asyncio's tasks a future, to the loop what a waker calls.
//!
//! A task hands over its wake-up function and its context. A woken waiter calls it there and then:
//! the task steps in the same entry of the ready queue, with no handle and no second trip.
//!
//! # States
//!
//! One waiter serves all waits of its awaitable. `arm` begins a wait: not woken, not cancelled. A task
//! leaves `callback` and `context`, once; the loop's call sets `woken`, takes both out and calls.
//! `cancel` marks the wait and wakes the awaitable; the task then asks for the result, and gets the
//! error. When the loop closes, it calls with itself as the argument, and both are dropped uncalled.
//!
//! `owner` is borrowed, and null once the awaitable is done or dies: the awaitable calls `disown`
//! before it lets go of the waiter.
//!
//! All fields change with the GIL held. A reference is taken before it is used, and out of its field
//! before it is dropped; no `&mut` to the object lasts over a call. A task may keep a waiter for ever;
//! the last reference frees it, through the trashcan, because a callback may lead to another one.

use std::ffi::{c_int, c_void};
use std::ptr::null_mut;

use pyo3::Borrowed;
use pyo3::exceptions::{PyRuntimeError, PyTypeError};
use pyo3::ffi;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::PyDict;

use super::awaitable::{Awaitable, AwaitableObject, Phase};
use super::class;
use crate::event_loop::ends_loop;
use crate::ffi::arguments::Args;
use crate::ffi::contexts;
use crate::ffi::finalizing;
use crate::ffi::imports;
use crate::ffi::memory;
use crate::ffi::object::{self, Object};
use crate::ffi::trampoline::enter;
use crate::ffi::trashcan;

#[repr(C)]
pub(super) struct WaiterObject {
    head: ffi::PyObject,
    pub vectorcall: Option<ffi::vectorcallfunc>,
    event_loop: Object,
    /// The awaitable, borrowed; null once it is done.
    owner: Object,
    callback: Object,
    context: Object,
    /// What `cancel` was told, or null.
    message: Object,
    /// asyncio's mark of a future that was yielded by an `await`.
    blocking: bool,
    /// Called by the loop.
    woken: bool,
    cancelled: bool,
}

/// A new waiter, which borrows its owner until `disown`.
pub(super) fn new<'py>(
    event_loop: &Bound<'py, PyAny>,
    owner: &Awaitable<'py>,
) -> PyResult<Bound<'py, PyAny>> {
    let py = event_loop.py();
    let class = class::waiter(py)?.as_ptr().cast::<ffi::PyTypeObject>();
    // SAFETY: the allocator gives memory for one; all fields are written before anybody sees it.
    unsafe {
        let made = ffi::PyObject_GC_New::<WaiterObject>(class);
        if made.is_null() {
            return Err(object::fetch(py));
        }
        (&raw mut (*made).vectorcall).write(Some(called));
        (&raw mut (*made).event_loop).write(event_loop.clone().into_ptr());
        (&raw mut (*made).owner).write(owner.as_any().as_ptr());
        (&raw mut (*made).callback).write(null_mut());
        (&raw mut (*made).context).write(null_mut());
        (&raw mut (*made).message).write(null_mut());
        (&raw mut (*made).blocking).write(false);
        (&raw mut (*made).woken).write(false);
        (&raw mut (*made).cancelled).write(false);
        ffi::PyObject_GC_Track(made.cast());
        Ok(Bound::from_owned_ptr(py, made.cast()))
    }
}

/// About to be yielded.
///
/// # Safety
/// `slf` must be a live waiter, and the GIL be held.
pub(super) unsafe fn arm(slf: Object) {
    // SAFETY: the caller's promise.
    let this = unsafe { &mut *slf.cast::<WaiterObject>() };
    this.blocking = true;
    this.woken = false;
    this.cancelled = false;
}

/// The awaitable is done.
///
/// # Safety
/// `slf` must be a live waiter, and the GIL be held.
pub(super) unsafe fn disown(slf: Object) {
    // SAFETY: the caller's promise.
    unsafe { (*slf.cast::<WaiterObject>()).owner = null_mut() };
}

/// Whether a task waits for a waiter and has not been told to go on.
///
/// # Safety
/// `slf` must be a live waiter, and the GIL be held.
pub(super) unsafe fn is_waited_for(slf: Object) -> bool {
    // SAFETY: the caller's promise.
    unsafe { !(*slf.cast::<WaiterObject>()).callback.is_null() }
}

/// A reference to a waiter, and its fields.
struct Waiter<'py>(Bound<'py, PyAny>);

impl<'py> Waiter<'py> {
    /// # Safety
    /// `slf` must be a live waiter.
    #[inline]
    unsafe fn of(py: Python<'py>, slf: Object) -> Self {
        // SAFETY: the caller's promise.
        Self(unsafe { Bound::from_borrowed_ptr(py, slf) })
    }

    #[inline]
    fn fields(&self) -> *mut WaiterObject {
        self.0.as_ptr().cast()
    }

    fn owner(&self) -> Option<Awaitable<'py>> {
        // SAFETY: our layout; null, or an awaitable that is alive: it calls `disown` before it goes.
        unsafe {
            let owner = (*self.fields()).owner;
            (!owner.is_null()).then(|| Awaitable::borrowed(self.0.py(), owner))
        }
    }

    fn take(
        &self,
        field: impl FnOnce(&mut WaiterObject) -> &mut Object,
    ) -> Option<Bound<'py, PyAny>> {
        // SAFETY: our layout; the reference moves out, and no `&mut` outlives the statement.
        unsafe {
            let taken = std::mem::replace(field(&mut *self.fields()), null_mut());
            Bound::from_owned_ptr_or_opt(self.0.py(), taken)
        }
    }

    /// The loop calls: the task goes on.
    #[inline]
    fn wake_up(&self) -> PyResult<()> {
        let py = self.0.py();
        // SAFETY: a waiter, which `self` keeps alive, with the GIL held.
        unsafe { (*self.fields()).woken = true };
        let owner = self.owner();
        if let Some(owner) = &owner {
            owner.let_go();
        }
        let context = self.take(|this| &mut this.context);
        let Some(callback) = self.take(|this| &mut this.callback) else { return Ok(()) };
        let call = || {
            // SAFETY: live objects; a new reference or null with an exception set.
            unsafe {
                let arg = self.0.as_ptr();
                let result = ffi::PyObject_CallOneArg(callback.as_ptr(), arg);
                object::owned(py, result).map(drop)
            }
        };
        let result = match &context {
            Some(context) => match contexts::within(context, call) {
                // It could not be entered, so nothing was called.
                Err(_) if !contexts::is_context(context) => {
                    context.call_method1(intern!(py, "run"), (&callback, &self.0)).map(drop)
                }
                result => result,
            },
            None => call(),
        };
        result.or_else(|error| self.report(&callback, error))
    }

    #[cold]
    fn report(&self, callback: &Bound<'py, PyAny>, error: PyErr) -> PyResult<()> {
        let py = self.0.py();
        if ends_loop(py, &error) {
            return Err(error);
        }
        let about = PyDict::new(py);
        about.set_item("message", memory::text(py, "Exception in callback {}", (callback,))?)?;
        about.set_item("exception", error.into_value(py))?;
        self.event_loop().call_method1(intern!(py, "call_exception_handler"), (about,))?;
        Ok(())
    }

    fn event_loop(&self) -> Bound<'py, PyAny> {
        // SAFETY: our layout; null only once the collector has cleared it.
        unsafe { Bound::from_borrowed_ptr_or_opt(self.0.py(), (*self.fields()).event_loop) }
            .unwrap_or_else(|| self.0.py().None().into_bound(self.0.py()))
    }

    fn add_done_callback(&self, args: &Args<'_, 'py>) -> PyResult<()> {
        let this = self.fields();
        let &[callback] = args.positional else {
            return Err(PyTypeError::new_err("add_done_callback() takes one callback"));
        };
        let context = args.only_context().filter(|context| !context.is_none());
        let context = context.map(Borrowed::to_owned);
        // SAFETY: our layout; no Python code runs between the looks and the writes.
        unsafe {
            if !(*this).callback.is_null() {
                return Err(PyRuntimeError::new_err("somebody waits for this already"));
            }
            if (*this).woken {
                // Woken before somebody waited.
                return self.call_soon(callback.to_owned(), context);
            }
            (*this).callback = callback.to_owned().into_ptr();
            (*this).context = context.map_or(null_mut(), Bound::into_ptr);
        }
        Ok(())
    }

    fn call_soon(
        &self,
        callback: Bound<'py, PyAny>,
        context: Option<Bound<'py, PyAny>>,
    ) -> PyResult<()> {
        let py = self.0.py();
        let options = PyDict::new(py);
        if let Some(context) = context {
            options.set_item(intern!(py, "context"), context)?;
        }
        let args = (callback, &self.0);
        self.event_loop().call_method(intern!(py, "call_soon"), args, Some(&options)).map(drop)
    }

    fn cancel(&self, args: &Args<'_, 'py>) -> PyResult<bool> {
        let (py, this) = (self.0.py(), self.fields());
        let message = match args.positional {
            [] => args.only(intern!(py, "msg")),
            [message, ..] => Some(*message),
        };
        // SAFETY: a waiter, which `self` keeps alive, with the GIL held.
        let over = unsafe { (*this).cancelled };
        let owner = self.owner().filter(|it| it.phase() == Phase::Suspended);
        // Somebody closed what a task waits for; nothing else would ever wake that task.
        // SAFETY: a waiter, which `self` keeps alive, with the GIL held.
        let left = owner.is_none() && unsafe { is_waited_for(self.0.as_ptr()) };
        if over || (owner.is_none() && !left) {
            return Ok(false);
        }
        let old = self.take(|this| &mut this.message);
        // SAFETY: our layout; the old message was taken out, and is dropped only when this is whole.
        unsafe {
            (*this).cancelled = true;
            (*this).message = message
                .filter(|it| !it.is_none())
                .map_or(null_mut(), |it| it.to_owned().into_ptr());
        }
        drop(old);
        match owner {
            Some(owner) => owner.wake(),
            None => {
                let context = self.take(|this| &mut this.context);
                let Some(callback) = self.take(|this| &mut this.callback) else { return Ok(true) };
                self.call_soon(callback, context)?;
            }
        }
        Ok(true)
    }

    /// What a woken task asks: whether it goes on, or was cancelled.
    fn result(&self) -> PyResult<()> {
        let (py, this) = (self.0.py(), self.fields());
        // SAFETY: a waiter, which `self` keeps alive, with the GIL held.
        unsafe {
            if (*this).cancelled {
                let message = Bound::from_borrowed_ptr_or_opt(py, (*this).message);
                let class = imports::asyncio(py)?.cancelled_error.bind(py);
                let error = match message {
                    Some(message) => class.call1((message,))?,
                    None => class.call0()?,
                };
                return Err(PyErr::from_value(error));
            }
            if !(*this).woken {
                return Err(PyRuntimeError::new_err("Result is not ready."));
            }
        }
        Ok(())
    }

    /// The loop was closed: the future goes, and the task with it if nobody else has it.
    fn loop_closed(&self) {
        if let Some(owner) = self.owner().filter(|it| it.phase() == Phase::Suspended) {
            owner.end(Phase::Orphaned);
        }
        drop(self.take(|this| &mut this.context));
        drop(self.take(|this| &mut this.callback));
    }
}

unsafe extern "C" fn called(slf: Object, _args: *const Object, count: usize, _: Object) -> Object {
    // SAFETY: CPython calls this, and holds the GIL.
    let held = unsafe { Python::assume_attached() };
    enter(held, null_mut(), |py| {
        // SAFETY: the vectorcall of the waiters' class; CPython keeps `slf` alive for the call.
        let waiter = unsafe { Waiter::of(py, slf) };
        // SAFETY: only takes a flag off the number.
        if unsafe { ffi::PyVectorcall_NARGS(count) } == 0 {
            waiter.wake_up()?;
        } else {
            waiter.loop_closed();
        }
        Ok(py.None().into_ptr())
    })
}

pub(super) unsafe extern "C" fn method_add_done_callback(
    slf: Object,
    args: *const Object,
    count: ffi::Py_ssize_t,
    names: Object,
) -> Object {
    // SAFETY: CPython calls this, and holds the GIL.
    let held = unsafe { Python::assume_attached() };
    enter(held, null_mut(), |py| {
        // SAFETY: a method of the waiters' class, with CPython's own arguments; all are alive for
        // the call.
        let (waiter, args) = unsafe { (Waiter::of(py, slf), Args::new(py, args, count, names)) };
        waiter.add_done_callback(&args)?;
        Ok(py.None().into_ptr())
    })
}

pub(super) unsafe extern "C" fn method_cancel(
    slf: Object,
    args: *const Object,
    count: ffi::Py_ssize_t,
    names: Object,
) -> Object {
    // SAFETY: CPython calls this, and holds the GIL.
    let held = unsafe { Python::assume_attached() };
    enter(held, null_mut(), |py| {
        // SAFETY: a method of the waiters' class, with CPython's own arguments; all are alive for
        // the call.
        let (waiter, args) = unsafe { (Waiter::of(py, slf), Args::new(py, args, count, names)) };
        boolean(py, waiter.cancel(&args)?)
    })
}

pub(super) unsafe extern "C" fn method_result(slf: Object, _: Object) -> Object {
    // SAFETY: CPython calls this, and holds the GIL.
    let held = unsafe { Python::assume_attached() };
    enter(held, null_mut(), |py| {
        // SAFETY: a method of the waiters' class; CPython keeps `slf` alive for the call.
        unsafe { Waiter::of(py, slf) }.result()?;
        Ok(py.None().into_ptr())
    })
}

pub(super) unsafe extern "C" fn method_done(slf: Object, _: Object) -> Object {
    // SAFETY: CPython checked the type of `slf`, which is alive for the call; the GIL is held.
    let this = unsafe { &*slf.cast::<WaiterObject>() };
    // SAFETY: CPython calls this, and holds the GIL.
    let held = unsafe { Python::assume_attached() };
    enter(held, null_mut(), |py| boolean(py, this.woken || this.cancelled || this.owner.is_null()))
}

pub(super) unsafe extern "C" fn method_cancelled(slf: Object, _: Object) -> Object {
    // SAFETY: CPython calls this, and holds the GIL.
    let held = unsafe { Python::assume_attached() };
    enter(held, null_mut(), |py| {
        // SAFETY: CPython checked the type of `slf`, which is alive for the call.
        boolean(py, unsafe { (*slf.cast::<WaiterObject>()).cancelled })
    })
}

pub(super) unsafe extern "C" fn method_get_loop(slf: Object, _: Object) -> Object {
    // SAFETY: CPython calls this, and holds the GIL.
    let held = unsafe { Python::assume_attached() };
    enter(held, null_mut(), |py| {
        // SAFETY: a method of the waiters' class; CPython keeps `slf` alive for the call.
        Ok(unsafe { Waiter::of(py, slf) }.event_loop().into_ptr())
    })
}

pub(super) unsafe extern "C" fn get_loop(slf: Object, _closure: *mut c_void) -> Object {
    // SAFETY: CPython checked the type of `slf` for this getter as it does for the method.
    unsafe { method_get_loop(slf, null_mut()) }
}

pub(super) unsafe extern "C" fn get_blocking(slf: Object, _closure: *mut c_void) -> Object {
    // SAFETY: CPython checked the type of `slf`; the GIL is held.
    unsafe { ffi::PyBool_FromLong((*slf.cast::<WaiterObject>()).blocking.into()) }
}

pub(super) unsafe extern "C" fn set_blocking(slf: Object, value: Object, _: *mut c_void) -> c_int {
    // SAFETY: CPython calls this, and holds the GIL.
    let held = unsafe { Python::assume_attached() };
    enter(held, -1, |py| {
        // SAFETY: null (to delete) or a live object.
        let value = unsafe { Bound::from_borrowed_ptr_or_opt(py, value) };
        let blocking = value.map_or(Ok(false), |it| it.is_truthy())?;
        // SAFETY: CPython checked the type of `slf`; the GIL is held.
        unsafe { (*slf.cast::<WaiterObject>()).blocking = blocking };
        Ok(0)
    })
}

fn boolean(_held: Python<'_>, value: bool) -> PyResult<Object> {
    // SAFETY: the GIL is held, as the token says.
    Ok(unsafe { ffi::PyBool_FromLong(value.into()) })
}

pub(super) unsafe extern "C" fn repr(slf: Object) -> Object {
    // SAFETY: CPython calls this, and holds the GIL.
    let held = unsafe { Python::assume_attached() };
    enter(held, null_mut(), |py| {
        // SAFETY: our layout; the owner is null or alive.
        let name = unsafe {
            let owner = (*slf.cast::<WaiterObject>()).owner.cast::<AwaitableObject>();
            if owner.is_null() { "done" } else { (*owner).name }
        };
        Ok(pyo3::types::PyString::new(py, &format!("<Rust future {name}>")).into_ptr())
    })
}

pub(super) unsafe extern "C" fn traverse(
    slf: Object,
    visit: ffi::visitproc,
    arg: *mut c_void,
) -> c_int {
    let this = slf.cast::<WaiterObject>();
    // SAFETY: our layout; the collector holds the GIL and runs no other code meanwhile.
    unsafe {
        crate::visit!(visit, arg, ffi::Py_TYPE(slf).cast());
        crate::visit!(visit, arg, (*this).event_loop);
        crate::visit!(visit, arg, (*this).callback);
        crate::visit!(visit, arg, (*this).context);
        crate::visit!(visit, arg, (*this).message);
    }
    0
}

pub(super) unsafe extern "C" fn clear(slf: Object) -> c_int {
    finalizing::guard();
    let this = slf.cast::<WaiterObject>();
    // SAFETY: our layout; each reference is taken out before it is dropped.
    unsafe {
        ffi::Py_CLEAR(&raw mut (*this).callback);
        ffi::Py_CLEAR(&raw mut (*this).context);
        ffi::Py_CLEAR(&raw mut (*this).message);
        ffi::Py_CLEAR(&raw mut (*this).event_loop);
    }
    0
}

pub(super) unsafe extern "C" fn dealloc(slf: Object) {
    // SAFETY: the last reference is gone. A waiter whose owner lives has its owner's reference, so
    // nobody refers to it by its target.
    unsafe { trashcan::dealloc(slf, free) };
}

/// Fields, memory, type.
///
/// # Safety
/// `slf` must be a dead, untracked waiter, the GIL held.
unsafe fn free(slf: Object) {
    // SAFETY: called by `trashcan::dealloc` with a dead, untracked object that nobody can get hold of.
    unsafe {
        let class = ffi::Py_TYPE(slf);
        clear(slf);
        ffi::PyObject_GC_Del(slf.cast());
        ffi::Py_DECREF(class.cast());
    }
}
