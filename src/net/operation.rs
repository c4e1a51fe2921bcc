//! A `sock_*` call as a coroutine: tried when it is first stepped, else parked on a future.
//!
//! Its phases: fresh, then in its first step (`Starting`), then done; or `Waiting` between these,
//! while the loop's table of descriptors refers to it and its steps are those of the future; or
//! `Elsewhere`, its steps being those of asyncio's own coroutine. A step, a retry and a collection
//! may come inside of one another, through what they call: so every field is a cell, each is read
//! into a local before it is used, and what Python code may have changed is read again after it.
//! A waiting operation is referred to by the descriptors until it is done or its future is, and is
//! freed by its last reference, through the trashcan, because its arguments may be another one. Only
//! reached with the GIL held.

use std::cell::Cell;
use std::ffi::{c_int, c_void};
use std::mem::offset_of;
use std::os::fd::RawFd;
use std::ptr::{null_mut, write};

use pyo3::exceptions::{PyRuntimeError, PyTypeError, PyValueError};
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyString, PyType};

use super::calls::{Attempt, Call, Kind};
use crate::driver::reactor::Direction;
use crate::event_loop::{LoopRef, LoopSlot, NativeLoop, Tried, Waiter, ends_loop, watching};
use crate::ffi::arguments::Arg;
use crate::ffi::class::slot;
use crate::ffi::coroutine::{self, Coroutine, Sent, This};
use crate::ffi::definitions::{self, Definitions, GETTERS_END, getter};
use crate::ffi::finalizing;
use crate::ffi::gil::PySlot;
use crate::ffi::imports;
use crate::ffi::object::{self, Object};
use crate::ffi::socket_fd;
use crate::ffi::trampoline::{self, enter};
use crate::ffi::trashcan;
use crate::visit;

#[repr(C)]
pub(super) struct OperationObject {
    head: ffi::PyObject,
    weakrefs: Object,
    state: State,
}

struct State {
    call: Call,
    phase: Cell<Phase>,
    /// These three until it is done.
    event_loop: LoopSlot,
    socket: PySlot,
    /// What is stepped while it waits: an iterator of `future`, or asyncio's coroutine.
    steps: PySlot,
    /// What the loop tells once the call is done.
    future: PySlot,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Phase {
    Fresh,
    Starting,
    /// The number that its waiter was left under.
    Waiting(RawFd),
    Elsewhere,
    Done,
}

/// What the first step came to.
enum Started {
    Done(Py<PyAny>),
    /// There are `steps` to go on with.
    Waits,
}

/// A reference to an operation, and its fields.
pub(super) type Operation<'py> = This<'py, Calling>;

static TYPE: PyOnceLock<Py<PyType>> = PyOnceLock::new();

impl<'py> Operation<'py> {
    pub(super) fn new(
        event_loop: &NativeLoop,
        socket: &Bound<'py, PyAny>,
        call: Call,
    ) -> PyResult<Self> {
        let py = socket.py();
        let class = class(py)?.as_ptr().cast::<ffi::PyTypeObject>();
        // SAFETY: memory of the type's size; the Rust part is written before anyone sees it.
        unsafe {
            let made = ffi::PyType_GenericAlloc(class, 0).cast::<OperationObject>();
            if made.is_null() {
                return Err(object::fetch(py));
            }
            write(
                &raw mut (*made).state,
                State {
                    call,
                    phase: Cell::new(Phase::Fresh),
                    event_loop: LoopSlot::new(py, event_loop),
                    socket: PySlot::new(socket.clone().unbind()),
                    steps: PySlot::empty(),
                    future: PySlot::empty(),
                },
            );
            Ok(Self::owned(py, made.cast()))
        }
    }

    fn state(&self) -> &State {
        // SAFETY: alive, as this reference is. The state was written when the object was made, and
        // is only ever reached by shared references.
        unsafe { &(*self.fields()).state }
    }

    /// The loop and the socket, until the call is done.
    fn parties(&self) -> PyResult<(LoopRef<'py>, Bound<'py, PyAny>)> {
        let (py, state) = (self.py(), self.state());
        match (state.event_loop.get(py), state.socket.get(py)) {
            (Some(event_loop), Some(socket)) => Ok((event_loop, socket)),
            _ => Err(PyRuntimeError::new_err("cannot reuse already awaited coroutine")),
        }
    }

    /// The socket is ready: tries again, and tells the future.
    fn retry(&self) -> PyResult<Tried> {
        let (py, state) = (self.py(), self.state());
        let (Phase::Waiting(_), Some(future)) = (state.phase.get(), state.future.get(py)) else {
            return Ok(Tried::Over);
        };
        let (native, socket) = self.parties()?;
        match self.tell(&native, &socket, &future) {
            Err(error) if !ends_loop(py, &error) => {
                // The future is not one of asyncio's, and went wrong.
                native.report(py, "Exception in a socket's callback", error, &[])?;
                Ok(Tried::Over)
            }
            tried => tried,
        }
    }

    fn tell(
        &self,
        native: &NativeLoop,
        socket: &Bound<'_, PyAny>,
        future: &Bound<'_, PyAny>,
    ) -> PyResult<Tried> {
        let py = self.py();
        // Cancelled, it must not take data that nobody will get.
        if future.call_method0(pyo3::intern!(py, "done"))?.is_truthy()? {
            return Ok(Tried::Over);
        }
        match self.state().call.attempt(py, native, socket) {
            Ok(Attempt::Blocked) => return Ok(Tried::Blocked),
            Ok(Attempt::Done(value)) => {
                future.call_method1(pyo3::intern!(py, "set_result"), (value,))?;
            }
            Err(error) if ends_loop(py, &error) => return Err(error),
            Err(error) => {
                let error = error.into_value(py);
                future.call_method1(pyo3::intern!(py, "set_exception"), (error,))?;
            }
        }
        Ok(Tried::Over)
    }

    /// The first step: the call itself, then the future that stands for the wait.
    fn start(&self) -> PyResult<Started> {
        let (py, state) = (self.py(), self.state());
        state.phase.set(Phase::Starting);
        let (native, socket) = self.parties()?;
        let plain =
            socket.get_type().is(imports::socket_class(py)?) && imports::sockets_are_unpatched(py)?;
        if plain && native.is_debug(py) {
            imports::helpers(py)?
                .bind(py)
                .call_method1("check_socket", (native.as_any(), &socket))?;
        }
        let begun = if plain { state.call.begin(py, &native, &socket)? } else { None };
        match begun {
            Some(Attempt::Done(value)) => {
                if state.call.kind.direction() == Direction::Write {
                    native.set_answered(py, true);
                }
                Ok(Started::Done(value))
            }
            Some(Attempt::Blocked) => {
                self.wait(&native, &socket)?;
                Ok(Started::Waits)
            }
            None => {
                let theirs = imports::selector_loop(py)?.getattr(state.call.kind.name())?;
                let argument = state.call.slot().get(py);
                let steps = theirs.call1((native.into_any(), socket, argument))?;
                state.steps.set(py, Some(steps.unbind()));
                state.phase.set(Phase::Elsewhere);
                Ok(Started::Waits)
            }
        }
    }

    fn wait(&self, native: &LoopRef<'_>, socket: &Bound<'_, PyAny>) -> PyResult<()> {
        let (py, state, event_loop) = (self.py(), self.state(), native.as_any());
        let fd = socket_fd::now(socket)?;
        if native.sources().with(py, |sources| sources.owner_of(py, fd)).is_some() {
            event_loop.call_method1("_ensure_fd_no_transport", (fd,))?;
        }
        native.check_closed(py)?;
        let future = event_loop.call_method0(pyo3::intern!(py, "create_future"))?;
        let steps = future.call_method0(pyo3::intern!(py, "__await__"))?;
        state.future.set(py, Some(future.unbind()));
        state.steps.set(py, Some(steps.unbind()));
        let waiter = Waiter { object: self.as_any().clone().unbind(), retry, resume };
        watching::wait(py, native, fd, state.call.kind.direction(), waiter)?;
        state.phase.set(Phase::Waiting(fd));
        Ok(())
    }

    /// It is done: whoever was to retry finds nothing, and what it was made of goes.
    fn stop(&self) {
        let (py, state) = (self.py(), self.state());
        let event_loop = state.event_loop.take(py);
        if let (Phase::Waiting(fd), Some(native)) = (state.phase.replace(Phase::Done), &event_loop)
        {
            watching::forget(native, fd, state.call.kind.direction(), self.as_any());
        }
        for slot in state.slots() {
            slot.set(py, None);
        }
    }

    /// What is stepped, of a call that waits.
    fn steps(&self) -> PyResult<Bound<'py, PyAny>> {
        let state = self.state();
        match (state.phase.get(), state.steps.get(self.py())) {
            (Phase::Waiting(_) | Phase::Elsewhere, Some(steps)) => Ok(steps),
            (Phase::Starting, _) => Err(PyValueError::new_err("coroutine already executing")),
            _ => Err(PyRuntimeError::new_err("cannot reuse already awaited coroutine")),
        }
    }

    fn step(&self, value: Arg<'_, 'py>) -> PyResult<Sent<'py>> {
        if self.state().phase.get() == Phase::Fresh {
            if !value.is_none() {
                return Err(PyTypeError::new_err(
                    "can't send non-None value to a just-started coroutine",
                ));
            }
            match self.start().inspect_err(|_| self.stop())? {
                Started::Waits => {}
                Started::Done(value) => {
                    self.stop();
                    return Ok(Sent::Returns(value.into_bound(self.py())));
                }
            }
        }
        let sent = coroutine::send_to(&self.steps()?, value);
        if !matches!(sent, Ok(Sent::Yields(_))) {
            self.stop();
        }
        sent
    }

    fn thrown(&self, args: &[Arg<'_, 'py>]) -> PyResult<Bound<'py, PyAny>> {
        let py = self.py();
        if self.state().phase.get() == Phase::Fresh {
            self.stop();
            return Err(coroutine::uncaught(py, args)?);
        }
        let steps = self.steps()?;
        let args = crate::ffi::tuples::arguments(py, args)?;
        match steps.call_method1(pyo3::intern!(py, "throw"), args) {
            Ok(value) => Ok(value),
            Err(error) => {
                self.stop();
                Err(error)
            }
        }
    }

    fn closed(&self) -> PyResult<()> {
        let steps = match self.state().phase.get() {
            Phase::Fresh | Phase::Done => None,
            _ => Some(self.steps()?),
        };
        self.stop();
        match steps {
            Some(steps) => steps.call_method0(pyo3::intern!(self.py(), "close")).map(drop),
            None => Ok(()),
        }
    }
}

impl State {
    fn slots(&self) -> [&PySlot; 5] {
        [self.event_loop.slot(), &self.socket, &self.steps, &self.future, self.call.slot()]
    }
}

/// The socket is ready, and the operation's turn has come.
///
/// # Safety
///
/// `slf` is an operation of this module.
unsafe fn resume(py: Python<'_>, slf: &Py<PyAny>) -> PyResult<()> {
    // SAFETY: only a waiter that `wait` made has this function, and its object is an operation.
    let operation = unsafe { Operation::borrowed(py, slf.as_ptr()) };
    let state = operation.state();
    let (Phase::Waiting(fd), Some(native)) = (state.phase.get(), state.event_loop.get(py)) else {
        return Ok(());
    };
    watching::resume(py, &native, fd, state.call.kind.direction(), slf)
}

/// `Operation::retry`, for who knows only the object.
///
/// # Safety
/// `slf` must be an operation.
unsafe fn retry(py: Python<'_>, slf: &Py<PyAny>) -> PyResult<Tried> {
    // SAFETY: the caller's promise.
    unsafe { Operation::borrowed(py, slf.as_ptr()) }.retry()
}

/// The kind of coroutines that operations are.
pub(super) struct Calling;

// SAFETY: the layout is C's, and starts with the head.
unsafe impl Coroutine for Calling {
    type Object = OperationObject;

    #[inline]
    fn send<'py>(operation: &Operation<'py>, value: Arg<'_, 'py>) -> PyResult<Sent<'py>> {
        operation.step(value)
    }

    fn throw<'py>(
        operation: &Operation<'py>,
        args: &[Arg<'_, 'py>],
    ) -> PyResult<Bound<'py, PyAny>> {
        operation.thrown(args)
    }

    fn close(operation: &Operation<'_>) -> PyResult<()> {
        operation.closed()
    }

    fn is_awaited(operation: &Operation<'_>) -> bool {
        matches!(operation.state().phase.get(), Phase::Waiting(_) | Phase::Elsewhere)
    }
}

/// The kind of call that an operation is.
///
/// # Safety
/// `slf` must be a live object of `class()`, and the GIL be held.
unsafe fn kind(slf: Object) -> Kind {
    // SAFETY: the caller's promise; the kind never changes.
    unsafe { (*slf.cast::<OperationObject>()).state.call.kind }
}

unsafe extern "C" fn get_name(slf: Object, _closure: *mut c_void) -> Object {
    // SAFETY: CPython calls this, and holds the GIL.
    let held = unsafe { Python::assume_attached() };
    enter(held, null_mut(), |py| {
        // SAFETY: CPython passes a live object of the type that the getter belongs to.
        let name = unsafe { kind(slf) }.name();
        Ok(PyString::new(py, name).into_ptr())
    })
}

unsafe extern "C" fn get_qualname(slf: Object, _closure: *mut c_void) -> Object {
    // SAFETY: CPython calls this, and holds the GIL.
    let held = unsafe { Python::assume_attached() };
    enter(held, null_mut(), |py| {
        // SAFETY: CPython passes a live object of the type that the getter belongs to.
        let name = unsafe { kind(slf) }.name();
        Ok(PyString::new(py, &format!("Loop.{name}")).into_ptr())
    })
}

unsafe extern "C" fn repr(slf: Object) -> Object {
    // SAFETY: CPython calls this, and holds the GIL.
    let held = unsafe { Python::assume_attached() };
    enter(held, null_mut(), |py| {
        // SAFETY: CPython passes a live object of the type that the slot belongs to.
        let name = unsafe { kind(slf) }.name();
        let text = format!("<coroutine object Loop.{name} at {slf:p}>");
        Ok(PyString::new(py, &text).into_ptr())
    })
}

unsafe extern "C" fn traverse(slf: Object, visit: ffi::visitproc, arg: *mut c_void) -> c_int {
    // SAFETY: an object of our class; the collector holds the GIL and runs no other code meanwhile.
    unsafe {
        visit!(visit, arg, ffi::Py_TYPE(slf).cast());
        for slot in (*slf.cast::<OperationObject>()).state.slots() {
            visit!(visit, arg, slot.visited());
        }
    }
    0
}

unsafe extern "C" fn clear(slf: Object) -> c_int {
    finalizing::guard();
    // SAFETY: an object of our class; the collector keeps it alive and holds the GIL. What a slot
    // held is dropped after it was taken out.
    unsafe {
        trampoline::destroy(|py| {
            let state = &(*slf.cast::<OperationObject>()).state;
            state.phase.set(Phase::Done);
            for slot in state.slots() {
                slot.set(py, None);
            }
        });
    }
    0
}

unsafe extern "C" fn dealloc(slf: Object) {
    // SAFETY: the last reference is gone; `take_apart` frees it.
    unsafe { trashcan::dealloc(slf, take_apart) };
}

/// # Safety
/// `slf` must be a dead, untracked operation, the GIL held.
unsafe fn take_apart(slf: Object) {
    let this = slf.cast::<OperationObject>();
    // SAFETY: dead and untracked; taken apart in the order CPython asks for: weak references,
    // fields, memory, type.
    unsafe {
        let class = ffi::Py_TYPE(slf);
        if !(*this).weakrefs.is_null() {
            ffi::PyObject_ClearWeakRefs(slf);
        }
        trampoline::destroy(|py| {
            if (*this).state.phase.get() == Phase::Fresh {
                let name = format!("Loop.{}", (*this).state.call.kind.name());
                coroutine::warn_never_awaited(py, &name);
            }
            std::ptr::drop_in_place(&raw mut (*this).state);
        });
        ffi::PyObject_GC_Del(slf.cast());
        ffi::Py_DECREF(class.cast());
    }
}

static FIELDS: Definitions<[ffi::PyGetSetDef; 3]> = Definitions([
    getter(c"__name__", get_name),
    getter(c"__qualname__", get_qualname),
    GETTERS_END,
]);

static MEMBERS: Definitions<[ffi::PyMemberDef; 2]> = Definitions([
    definitions::offset_member(c"__weaklistoffset__", offset_of!(OperationObject, weakrefs)),
    definitions::MEMBERS_END,
]);

fn class(py: Python<'_>) -> PyResult<&Py<PyType>> {
    TYPE.get_or_try_init(py, || {
        let own = [
            slot(ffi::Py_tp_traverse, traverse as *mut c_void),
            slot(ffi::Py_tp_clear, clear as *mut c_void),
            slot(ffi::Py_tp_dealloc, dealloc as *mut c_void),
            slot(ffi::Py_tp_repr, repr as *mut c_void),
            slot(ffi::Py_tp_getset, FIELDS.0.as_ptr().cast_mut().cast()),
            slot(ffi::Py_tp_members, MEMBERS.0.as_ptr().cast_mut().cast()),
        ];
        // SAFETY: functions and tables of these kinds, all static, for the operations' layout;
        // `Operation::new` alone makes one.
        unsafe { coroutine::new_class::<Calling>(py, c"tokioloop._core.SocketOperation", own) }
    })
}

/// Puts the class into the extension module.
pub(crate) fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    let class = class(module.py())?.clone_ref(module.py());
    module.add("SocketOperation", class)
}
