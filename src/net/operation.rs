//! A `sock_*` call as a coroutine: tried when it is first stepped, else parked on a future.
//!
//! Its phases: fresh, then in its first step (`Starting`), then done; or `Waiting` between these,
//! while the loop's table of descriptors refers to it and its steps are those of the future; or
//! `Elsewhere`, its steps being those of asyncio's own coroutine. A step, a retry and a collection
//! may come inside of one another, through the Python code that they run: so every field is a cell,
//! each is read into a local before it is used, and read again after Python code that may have
//! changed it. A waiting operation is referred to by the descriptors until it is done or its future
//! is. Its last reference frees it, through the trashcan, because its arguments may be another one.
//! Only reached with the GIL held.

use std::cell::Cell;
use std::ffi::c_void;
use std::mem::offset_of;
use std::os::fd::RawFd;
use std::ptr::null_mut;

use pyo3::exceptions::{PyRuntimeError, PyTypeError, PyValueError};
use pyo3::ffi;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyString, PyType};

use super::calls::{Attempt, SocketCall, SocketMethod};
use crate::driver::reactor::Direction;
use crate::event_loop::{
    LoopRef, LoopSlot, NativeLoop, PendingOperation, Tried, ends_loop, watching,
};
use crate::ffi::arguments::Arg;
use crate::ffi::class::{
    self, Definition, NativeClass, ObjectRef, clear_references, object_getter, object_ref, slot,
};
use crate::ffi::coroutine::{self, Coroutine, SendResult};
use crate::ffi::definitions::getter;
use crate::ffi::gil::PySlot;
use crate::ffi::imports;
use crate::ffi::object::Object;
use crate::ffi::socket_fd;
use crate::ffi::trampoline::{self, enter};
use crate::ffi::trashcan::through_trashcan;
use crate::ffi::tuples::arguments;

#[repr(C)]
pub(super) struct OperationObject {
    head: ffi::PyObject,
    weakrefs: Object,
    state: State,
}

struct State {
    call: SocketCall,
    phase: Cell<Phase>,
    /// These three until it is done.
    event_loop: LoopSlot,
    socket: PySlot,
    /// Stepped while it waits: an iterator of `future`, or asyncio's coroutine.
    steps: PySlot,
    /// Set by the loop once the call is done.
    future: PySlot,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Phase {
    Fresh,
    Starting,
    /// The number that it waits under.
    Waiting(RawFd),
    Elsewhere,
    Done,
}

/// The result of the first step's work.
enum Started {
    Done(Py<PyAny>),
    /// It goes on with `steps`.
    Waits,
}

object_ref!(
    /// A reference to an operation, and its fields.
    pub(super) Operation, OperationObject
);

// SAFETY: the layout is C's and starts with the head; the offset is that of the weak references, and
// a slot is null or holds a reference.
unsafe impl NativeClass for OperationObject {
    through_trashcan!();

    const WEAKREFS: Option<usize> = Some(offset_of!(Self, weakrefs));

    unsafe fn references(this: *mut Self) -> impl IntoIterator<Item = *mut Object> {
        // SAFETY: the caller's promise.
        unsafe { (*this).state.slots().map(PySlot::as_field) }
    }

    unsafe fn clear(this: *mut Self) {
        // SAFETY: the caller's promise.
        unsafe {
            (*this).state.phase.set(Phase::Done);
            clear_references(this);
        }
    }

    unsafe fn drop_fields(this: *mut Self) {
        // SAFETY: the caller's promise: the state is dropped once.
        unsafe {
            trampoline::destroy(|py| {
                if (*this).state.phase.get() == Phase::Fresh {
                    let name = format!("Loop.{}", (*this).state.call.method.name());
                    coroutine::warn_never_awaited(py, &name);
                }
                std::ptr::drop_in_place(&raw mut (*this).state);
            });
        }
    }
}

impl<'py> Operation<'py> {
    pub(super) fn fresh(
        event_loop: &NativeLoop,
        socket: &Bound<'py, PyAny>,
        call: SocketCall,
    ) -> PyResult<ObjectRef<'py, OperationObject>> {
        let py = socket.py();
        let fields = || OperationObject {
            head: ffi::PyObject_HEAD_INIT,
            weakrefs: null_mut(),
            state: State {
                call,
                phase: Cell::new(Phase::Fresh),
                event_loop: LoopSlot::new(py, event_loop),
                socket: PySlot::new(socket.clone().unbind()),
                steps: PySlot::empty(),
                future: PySlot::empty(),
            },
        };
        // SAFETY: the class of this layout.
        let operation = unsafe { class::allocate(py, class(py)?, fields)? };
        operation.track_new();
        Ok(operation)
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

    /// The socket is ready: tries again, and sets the future.
    fn retry(&self) -> PyResult<Tried> {
        let (py, state) = (self.py(), self.state());
        let (Phase::Waiting(_), Some(future)) = (state.phase.get(), state.future.get(py)) else {
            return Ok(Tried::Over);
        };
        let (native, socket) = self.parties()?;
        match self.settle(&native, &socket, &future) {
            Err(error) if !ends_loop(py, &error) => {
                // The future is not one of asyncio's, and raised.
                native.report(py, "Exception in a socket's callback", error, &[])?;
                Ok(Tried::Over)
            }
            tried => tried,
        }
    }

    fn settle(
        &self,
        native: &NativeLoop,
        socket: &Bound<'_, PyAny>,
        future: &Bound<'_, PyAny>,
    ) -> PyResult<Tried> {
        let py = self.py();
        // Cancelled, it must not take data that no caller would receive.
        if future.call_method0(intern!(py, "done"))?.is_truthy()? {
            return Ok(Tried::Over);
        }
        match self.state().call.attempt(py, native, socket) {
            Ok(Attempt::Blocked) => return Ok(Tried::Blocked),
            Ok(Attempt::Done(value)) => {
                future.call_method1(intern!(py, "set_result"), (value,))?;
            }
            Err(error) if ends_loop(py, &error) => return Err(error),
            Err(error) => {
                let error = error.into_value(py);
                future.call_method1(intern!(py, "set_exception"), (error,))?;
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
            imports::debug_mode(py)?
                .bind(py)
                .call_method1("check_socket", (native.as_any(), &socket))?;
        }
        let begun = if plain { state.call.begin(py, &native, &socket)? } else { None };
        match begun {
            Some(Attempt::Done(value)) => {
                if state.call.method.direction() == Direction::Write {
                    native.set_answered(py, true);
                }
                Ok(Started::Done(value))
            }
            Some(Attempt::Blocked) => {
                self.wait(&native, &socket)?;
                Ok(Started::Waits)
            }
            None => {
                let theirs = imports::selector_loop(py)?.getattr(state.call.method.name())?;
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
        let future = event_loop.call_method0(intern!(py, "create_future"))?;
        let steps = future.call_method0(intern!(py, "__await__"))?;
        state.future.set(py, Some(future.unbind()));
        state.steps.set(py, Some(steps.unbind()));
        let pending = PendingOperation {
            object: self.as_any().clone().unbind(),
            retry,
            resume,
            on_new_file: state.call.method == SocketMethod::Connect,
        };
        watching::wait(py, native, fd, state.call.method.direction(), pending)?;
        state.phase.set(Phase::Waiting(fd));
        Ok(())
    }

    /// It is done: no retry finds it any more, and all of its references are dropped.
    fn stop(&self) {
        let (py, state) = (self.py(), self.state());
        let event_loop = state.event_loop.take(py);
        if let (Phase::Waiting(fd), Some(native)) = (state.phase.replace(Phase::Done), &event_loop)
        {
            watching::forget(native, fd, state.call.method.direction(), self.as_any());
        }
        for slot in state.slots() {
            slot.set(py, None);
        }
    }

    /// The steps of a call that waits.
    fn steps(&self) -> PyResult<Bound<'py, PyAny>> {
        let state = self.state();
        match (state.phase.get(), state.steps.get(self.py())) {
            (Phase::Waiting(_) | Phase::Elsewhere, Some(steps)) => Ok(steps),
            (Phase::Starting, _) => Err(PyValueError::new_err("coroutine already executing")),
            _ => Err(PyRuntimeError::new_err("cannot reuse already awaited coroutine")),
        }
    }

    fn step(&self, value: Arg<'_, 'py>) -> PyResult<SendResult<'py>> {
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
                    return Ok(SendResult::Returned(value.into_bound(self.py())));
                }
            }
        }
        let sent = coroutine::send_to(&self.steps()?, value);
        if !matches!(sent, Ok(SendResult::Yielded(_))) {
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
        let args = arguments(py, args)?;
        steps.call_method1(intern!(py, "throw"), args).inspect_err(|_| self.stop())
    }

    fn closed(&self) -> PyResult<()> {
        let steps = match self.state().phase.get() {
            Phase::Fresh | Phase::Done => None,
            _ => Some(self.steps()?),
        };
        self.stop();
        match steps {
            Some(steps) => steps.call_method0(intern!(self.py(), "close")).map(drop),
            None => Ok(()),
        }
    }
}

impl State {
    fn slots(&self) -> [&PySlot; 5] {
        [self.event_loop.slot(), &self.socket, &self.steps, &self.future, self.call.slot()]
    }
}

/// The socket is ready: the entry of the ready queue that resumes the operation.
///
/// # Safety
///
/// `slf` is an operation of this module.
unsafe fn resume(py: Python<'_>, slf: &Py<PyAny>) -> PyResult<()> {
    // SAFETY: only a pending operation that `wait` made has this function, and its object is an operation.
    let operation = unsafe { Operation::borrowed(py, slf.as_ptr()) };
    let state = operation.state();
    let (Phase::Waiting(fd), Some(native)) = (state.phase.get(), state.event_loop.get(py)) else {
        return Ok(());
    };
    watching::resume(py, &native, fd, state.call.method.direction(), slf)
}

/// `Operation::retry`, for the table of descriptors, which knows only the object.
///
/// # Safety
/// `slf` must be an operation.
unsafe fn retry(py: Python<'_>, slf: &Py<PyAny>) -> PyResult<Tried> {
    // SAFETY: the caller's promise.
    unsafe { Operation::borrowed(py, slf.as_ptr()) }.retry()
}

impl Coroutine for OperationObject {
    #[inline]
    fn send<'py>(slf: &ObjectRef<'py, Self>, value: Arg<'_, 'py>) -> PyResult<SendResult<'py>> {
        Operation::of(slf).step(value)
    }

    fn throw<'py>(
        slf: &ObjectRef<'py, Self>,
        args: &[Arg<'_, 'py>],
    ) -> PyResult<Bound<'py, PyAny>> {
        coroutine::check_throw(slf.py(), args)?;
        Operation::of(slf).thrown(args)
    }

    fn close(slf: &ObjectRef<'_, Self>) -> PyResult<()> {
        Operation::of(slf).closed()
    }

    fn is_awaited(slf: &ObjectRef<'_, Self>) -> bool {
        matches!(Operation::of(slf).state().phase.get(), Phase::Waiting(_) | Phase::Elsewhere)
    }
}

object_getter!(get_name, OperationObject, |slf| {
    Ok(PyString::new(slf.py(), Operation::of(slf).state().call.method.name()))
});

object_getter!(get_qualname, OperationObject, |slf| {
    Ok(PyString::new(slf.py(), &format!("Loop.{}", Operation::of(slf).state().call.method.name())))
});

unsafe extern "C" fn repr(slf: Object) -> Object {
    // SAFETY: CPython calls this, and holds the GIL.
    let held = unsafe { Python::assume_attached() };
    enter(held, null_mut(), |py| {
        // SAFETY: CPython passes a live object of the class that the slot belongs to.
        let operation = unsafe { Operation::borrowed(py, slf) };
        let name = operation.state().call.method.name();
        let text = format!("<coroutine object Loop.{name} at {slf:p}>");
        Ok(PyString::new(py, &text).into_ptr())
    })
}

fn class(py: Python<'_>) -> PyResult<&Py<PyType>> {
    static CLASS: PyOnceLock<Py<PyType>> = PyOnceLock::new();
    CLASS.get_or_try_init(py, || {
        let definition = Definition {
            getters: &[getter(c"__name__", get_name), getter(c"__qualname__", get_qualname)],
            slots: &[
                class::doc(
                    c"\
                    A ``sock_*`` call of a loop: a coroutine, to be awaited once.\n\
                    \n\
                    Warns with ``RuntimeWarning`` if it is never awaited.",
                ),
                slot(ffi::Py_tp_repr, repr as *mut c_void),
            ],
            ..Definition::default()
        };
        // SAFETY: functions of these kinds, for the layout of operations; `Operation::new` alone
        // makes one.
        unsafe {
            coroutine::new_class::<OperationObject>(
                py,
                c"tokioloop._core.SocketOperation",
                &definition,
            )
        }
    })
}

/// Adds the class to the extension module.
pub(crate) fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    let class = class(module.py())?.clone_ref(module.py());
    module.add("SocketOperation", class)
}
