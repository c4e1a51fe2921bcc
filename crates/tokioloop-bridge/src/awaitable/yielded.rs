//! The future that a pending awaitable yields: to asyncio's tasks a future, to the loop the object
//! that a waker has it call.
//!
//! A task hands over its wake-up function and its context. Woken, the yielded future calls it there
//! and then: the task steps in the same entry of the ready queue, with no handle and no second trip.
//!
//! # States
//!
//! One yielded future serves all waits of its awaitable. `arm` begins a wait: not woken, not
//! cancelled. A task leaves `callback` and `context`, once; the loop's call sets `woken`, takes both
//! out and calls. `cancel` marks the wait and wakes the awaitable; the task then asks for the result,
//! and gets the error. When the loop closes, it calls with itself as the argument, and both are
//! dropped uncalled.
//!
//! `owner` is borrowed, and null once the awaitable is done or dies: the awaitable calls `disown`
//! before it drops the yielded future.
//!
//! All fields change with the GIL held. A reference is taken before it is used, and out of its field
//! before it is dropped; no `&mut` to the object lasts over a call. A task may keep a yielded future
//! for ever; the last reference frees it. One whose owner lives has its owner's reference, so no target
//! refers to a dead one.

use std::ffi::{c_int, c_void};
use std::ptr::null_mut;

use pyo3::exceptions::{PyRuntimeError, PyTypeError};
use pyo3::ffi;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyBool, PyDict, PyString, PyType};

use super::state::{Awaitable, AwaitableObject, Phase, YieldedObject, is_awaited};
use crate::errors;
use crate::python::arguments::Args;
use crate::python::class::{self, Definition, ObjectRef, fields_of, object_getter, slot};
use crate::python::definitions::{fast_method, getter, plain_method};
use crate::python::imports;
use crate::python::object::{Object, owned};
use crate::python::trampoline::{enter, fast_function};

/// A new yielded future, which borrows its owner until `disown`.
pub(super) fn new<'py>(
    event_loop: &Bound<'py, PyAny>,
    owner: &Awaitable<'py>,
) -> PyResult<Bound<'py, PyAny>> {
    let py = event_loop.py();
    let fields = || YieldedObject {
        event_loop: event_loop.clone().into_ptr(),
        owner: owner.as_any().as_ptr(),
        link: owner.link(),
        callback: null_mut(),
        context: null_mut(),
        message: null_mut(),
        blocking: false,
        woken: false,
        cancelled: false,
    };
    // SAFETY: the class of this layout; the reference moves into the object.
    let yielded = unsafe { class::allocate(py, class(py)?, fields)? };
    yielded.track_new();
    Ok(yielded.into_any())
}

/// A reference to a yielded future, and its fields.
type Yielded<'py> = ObjectRef<'py, YieldedObject>;

impl<'py> Yielded<'py> {
    fn owner(&self) -> Option<Awaitable<'py>> {
        // SAFETY: our layout; null, or an awaitable that is alive: it calls `disown` before it dies.
        unsafe {
            let owner = (*self.fields()).owner;
            (!owner.is_null()).then(|| Awaitable::borrowed(self.py(), owner))
        }
    }

    /// The loop's call: the task goes on.
    #[inline]
    fn wake_up(&self) -> PyResult<()> {
        let py = self.py();
        // SAFETY: a yielded future, which `self` keeps alive, with the GIL held.
        unsafe { (*self.fields()).woken = true };
        let context = self.take(|this| &mut this.context);
        let Some(callback) = self.take(|this| &mut this.callback) else { return Ok(()) };
        let result = match &context {
            // SAFETY: live objects, and the table's own answer.
            Some(context) => unsafe {
                let call = (*self.fields()).link.api().call_in;
                owned(py, call(context.as_ptr(), callback.as_ptr(), self.as_any().as_ptr()))
            },
            None => callback.call1((self.as_any(),)),
        };
        result.map(drop).or_else(|error| self.report(&callback, error))
    }

    #[cold]
    fn report(&self, callback: &Bound<'py, PyAny>, error: PyErr) -> PyResult<()> {
        let py = self.py();
        if errors::ends_loop(py, &error) {
            return Err(error);
        }
        let message =
            intern!(py, "Exception in callback {}").call_method1("format", (callback,))?;
        errors::tell(&self.event_loop(), message, &error)
    }

    fn event_loop(&self) -> Bound<'py, PyAny> {
        // Null only once the collector has cleared it.
        self.get(|this| this.event_loop).unwrap_or_else(|| self.py().None().into_bound(self.py()))
    }

    fn add_done_callback(&self, args: &Args<'_, 'py>) -> PyResult<()> {
        let this = self.fields();
        let &[callback] = args.positional else {
            return Err(PyTypeError::new_err("add_done_callback() takes one callback"));
        };
        let context = args.only(intern!(self.py(), "context")).filter(|it| !it.is_none());
        // SAFETY: our layout; no Python code runs between the reads and the writes.
        unsafe {
            if !(*this).callback.is_null() {
                return Err(PyRuntimeError::new_err("a task waits for this already"));
            }
            if (*this).woken {
                // Woken before a task waited.
                return self.call_soon(callback.to_owned(), context.map(|it| it.to_owned()));
            }
            (*this).callback = callback.to_owned().into_ptr();
            (*this).context = context.map_or(null_mut(), |it| it.to_owned().into_ptr());
        }
        Ok(())
    }

    fn call_soon(
        &self,
        callback: Bound<'py, PyAny>,
        context: Option<Bound<'py, PyAny>>,
    ) -> PyResult<()> {
        let py = self.py();
        let options = PyDict::new(py);
        if let Some(context) = context {
            options.set_item(intern!(py, "context"), context)?;
        }
        let args = (callback, self.as_any());
        self.event_loop().call_method(intern!(py, "call_soon"), args, Some(&options)).map(drop)
    }

    fn cancel(&self, args: &Args<'_, 'py>) -> PyResult<bool> {
        let this = self.fields();
        let message = args.positional.first().copied();
        let message = message.or_else(|| args.only(intern!(self.py(), "msg")));
        // SAFETY: a yielded future, which `self` keeps alive, with the GIL held.
        let over = unsafe { (*this).cancelled };
        let owner = self.owner().filter(|it| it.phase() == Phase::Suspended);
        // The awaitable was closed while a task waits for it; nothing else would ever wake that task.
        // SAFETY: a yielded future, which `self` keeps alive, with the GIL held.
        let left = owner.is_none() && unsafe { is_awaited(self.as_any().as_ptr()) };
        if over || (owner.is_none() && !left) {
            return Ok(false);
        }
        let old = self.take(|this| &mut this.message);
        // SAFETY: our layout; the old message was taken out, and is dropped only when the fields are
        // consistent.
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

    /// A woken task's question: whether it goes on, or was cancelled.
    fn result(&self) -> PyResult<()> {
        let (py, this) = (self.py(), self.fields());
        // SAFETY: a yielded future, which `self` keeps alive, with the GIL held.
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

    /// The loop was closed: the future is dropped, and the task with it if nothing else refers to it.
    fn loop_closed(&self) {
        if let Some(owner) = self.owner().filter(|it| it.phase() == Phase::Suspended) {
            owner.end(Phase::Orphaned);
        }
        drop(self.take(|this| &mut this.context));
        drop(self.take(|this| &mut this.callback));
    }
}

/// The loop's call: without arguments after a wake, with itself when it closes.
unsafe extern "C" fn called(slf: Object, args: Object, _keywords: Object) -> Object {
    // SAFETY: CPython calls this, and holds the GIL.
    let held = unsafe { Python::assume_attached() };
    enter(held, null_mut(), |py| {
        // SAFETY: a slot of this class; CPython keeps `slf` and the tuple alive for the call.
        let (yielded, count) = unsafe { (Yielded::borrowed(py, slf), ffi::PyTuple_Size(args)) };
        if count == 0 {
            yielded.wake_up()?;
        } else {
            yielded.loop_closed();
        }
        Ok(py.None().into_ptr())
    })
}

fast_function!(method_add_done_callback, |py, slf, args| {
    // SAFETY: a method of this class; CPython keeps `slf` alive for the call.
    unsafe { Yielded::borrowed(py, slf) }.add_done_callback(&args)?;
    Ok(py.None().into_bound(py))
});

fast_function!(method_cancel, |py, slf, args| {
    // SAFETY: a method of this class; CPython keeps `slf` alive for the call.
    let cancelled = unsafe { Yielded::borrowed(py, slf) }.cancel(&args)?;
    Ok(PyBool::new(py, cancelled).to_owned())
});

object_getter!(method_result, YieldedObject, |slf| {
    slf.result()?;
    Ok(slf.py().None().into_bound(slf.py()))
});

object_getter!(method_done, YieldedObject, |slf| {
    // SAFETY: our layout, with the GIL held.
    let this = unsafe { &*slf.fields() };
    let done = this.woken || this.cancelled || this.owner.is_null();
    Ok(PyBool::new(slf.py(), done).to_owned())
});

object_getter!(method_cancelled, YieldedObject, |slf| {
    // SAFETY: our layout, with the GIL held.
    Ok(PyBool::new(slf.py(), unsafe { (*slf.fields()).cancelled }).to_owned())
});

object_getter!(get_loop, YieldedObject, |slf| Ok(slf.event_loop()));

/// Without a trampoline: each `await` that yields this asks.
unsafe extern "C" fn get_blocking(slf: Object, _closure: *mut c_void) -> Object {
    // SAFETY: CPython checked the type of `slf`; the GIL is held.
    unsafe { ffi::PyBool_FromLong((*fields_of::<YieldedObject>(slf)).blocking.into()) }
}

unsafe extern "C" fn set_blocking(slf: Object, value: Object, _: *mut c_void) -> c_int {
    // SAFETY: CPython calls this, and holds the GIL.
    let held = unsafe { Python::assume_attached() };
    enter(held, -1, |py| {
        // SAFETY: null (to delete) or a live object.
        let value = unsafe { Bound::from_borrowed_ptr_or_opt(py, value) };
        let blocking = value.map_or(Ok(false), |it| it.is_truthy())?;
        // SAFETY: CPython checked the type of `slf`; the GIL is held.
        unsafe { (*fields_of::<YieldedObject>(slf)).blocking = blocking };
        Ok(0)
    })
}

unsafe extern "C" fn repr(slf: Object) -> Object {
    // SAFETY: CPython calls this, and holds the GIL.
    let held = unsafe { Python::assume_attached() };
    enter(held, null_mut(), |py| {
        // SAFETY: our layout; the owner is null or alive.
        let name = unsafe {
            let owner = (*fields_of::<YieldedObject>(slf)).owner;
            match owner.is_null() {
                true => "done",
                false => (*fields_of::<AwaitableObject>(owner)).future_type.name(),
            }
        };
        Ok(PyString::new(py, &format!("<Rust future {name}>")).into_ptr())
    })
}

fn class(py: Python<'_>) -> PyResult<&Py<PyType>> {
    static CLASS: PyOnceLock<Py<PyType>> = PyOnceLock::new();
    CLASS.get_or_try_init(py, || {
        let definition = Definition {
            methods: &[
                fast_method(
                    c"add_done_callback",
                    method_add_done_callback,
                    c"add_done_callback($self, callback, /, *, context=None)\n--\n\n",
                ),
                fast_method(c"cancel", method_cancel, c"cancel($self, msg=None)\n--\n\n"),
                plain_method(c"cancelled", method_cancelled, c"cancelled($self, /)\n--\n\n"),
                plain_method(c"done", method_done, c"done($self, /)\n--\n\n"),
                plain_method(c"get_loop", get_loop, c"get_loop($self, /)\n--\n\n"),
                plain_method(c"result", method_result, c"result($self, /)\n--\n\n"),
            ],
            getters: &[
                ffi::PyGetSetDef {
                    set: Some(set_blocking),
                    ..getter(c"_asyncio_future_blocking", get_blocking)
                },
                getter(c"_loop", get_loop),
            ],
            slots: &[
                slot(ffi::Py_tp_repr, repr as *mut c_void),
                slot(ffi::Py_tp_call, called as *mut c_void),
            ],
            ..Definition::default()
        };
        let name = c"tokioloop_bridge.RustFutureWaiter";
        // SAFETY: functions of these kinds, for the layout of yielded futures; `new` alone makes one.
        unsafe { class::new_class::<YieldedObject>(py, name, &definition) }
    })
}
