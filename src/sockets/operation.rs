//! A `sock_*` call as a coroutine: tried when it is first stepped, else parked on a future.

use std::ffi::{c_int, c_void};
use std::mem::offset_of;
use std::os::fd::RawFd;
use std::ptr::{null_mut, write};

use pyo3::exceptions::{PyRuntimeError, PyTypeError};
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyString, PyType};

use super::calls::Call;
use crate::coroutine::{self, Coroutine};
use crate::descriptors::{self, Waiter};
use crate::event_loop::{NativeLoop, ends_loop};
use crate::finalizing;
use crate::object::{self, GETTERS_END, Object, Table, enter, getter, slot};
use crate::reactor::Direction;
use crate::visit;

#[repr(C)]
struct OperationObject {
    head: ffi::PyObject,
    weakrefs: Object,
    state: State,
}

struct State {
    event_loop: Py<PyAny>,
    socket: Py<PyAny>,
    call: Call,
    phase: Phase,
}

enum Phase {
    Fresh,
    Waiting { fd: RawFd, future: Py<PyAny>, steps: Py<PyAny> },
    Done,
}

/// A strong reference to an operation.
pub struct Operation(Py<PyAny>);

static TYPE: PyOnceLock<Py<PyType>> = PyOnceLock::new();

impl Operation {
    pub fn new(
        py: Python<'_>,
        event_loop: &NativeLoop,
        socket: &Bound<'_, PyAny>,
        call: Call,
    ) -> PyResult<Self> {
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
                    event_loop: event_loop.bind(py).unbind(),
                    socket: socket.clone().unbind(),
                    call,
                    phase: Phase::Fresh,
                },
            );
            Ok(Self(Bound::from_owned_ptr(py, made.cast()).unbind()))
        }
    }

    pub fn into_ptr(self) -> Object {
        self.0.into_ptr()
    }

    fn state(&self) -> *mut State {
        // SAFETY: our layout.
        unsafe { &raw mut (*self.0.as_ptr().cast::<OperationObject>()).state }
    }

    /// The socket is ready: tries again. `true`: finished, one way or the other.
    fn retry(&self, py: Python<'_>) -> PyResult<bool> {
        // SAFETY: this reference keeps the state alive; nothing here runs `step` or `drop` on it
        // while the borrows live: a future's `done` and `set_*` only schedule callbacks.
        let State { event_loop, call, phase, .. } = unsafe { &mut *self.state() };
        let Phase::Waiting { fd, future, .. } = phase else {
            return Ok(true);
        };
        let future = future.bind(py).clone();
        // Cancelled, it must not take data that nobody will get.
        if future.call_method0(pyo3::intern!(py, "done"))?.is_truthy()? {
            return Ok(true);
        }
        // SAFETY: a loop, by construction.
        let event_loop = unsafe { NativeLoop::of(event_loop.as_ptr()) };
        match call.attempt(py, event_loop, *fd) {
            Ok(None) => return Ok(false),
            Ok(Some(value)) => future.call_method1(pyo3::intern!(py, "set_result"), (value,))?,
            Err(error) if ends_loop(py, &error) => return Err(error),
            Err(error) => {
                future.call_method1(pyo3::intern!(py, "set_exception"), (error.into_value(py),))?
            }
        };
        Ok(true)
    }

    /// The first step: the call itself, then the future that stands for the wait.
    fn start(&self, py: Python<'_>) -> PyResult<Option<Py<PyAny>>> {
        let state = self.state();
        // SAFETY: fresh, so nobody else refers to the state; each borrow ends before Python code
        // that could step this coroutine again runs.
        let (event_loop, socket) = unsafe {
            (*state).phase = Phase::Done;
            ((*state).event_loop.bind(py).clone(), (*state).socket.bind(py).clone())
        };
        // SAFETY: a loop, by construction.
        let native = unsafe { NativeLoop::of(event_loop.as_ptr()) };
        super::check_socket(py, native, &socket)?;
        let fd = socket.call_method0(pyo3::intern!(py, "fileno"))?.extract::<RawFd>()?;
        // SAFETY: as above; an attempt only makes system calls and buffers.
        let (done, direction) =
            unsafe { ((*state).call.attempt(py, native, fd)?, (*state).call.direction()) };
        if done.is_some() {
            if direction == Direction::Write {
                native.answered.set(py, true);
            }
            return Ok(done);
        }
        if native.sources.with(py, |sources| sources.owner_of(py, fd)).is_some() {
            event_loop.call_method1("_ensure_fd_no_transport", (&socket,))?;
        }
        let future = event_loop.call_method0(pyo3::intern!(py, "create_future"))?;
        let steps = future.call_method0(pyo3::intern!(py, "__await__"))?.unbind();
        // SAFETY: as above.
        unsafe { (*state).phase = Phase::Waiting { fd, future: future.unbind(), steps } };
        let waiter = Waiter { object: self.0.clone_ref(py), retry };
        descriptors::wait(py, native, fd, direction, waiter)?;
        Ok(None)
    }

    /// No longer waits; whoever was to retry finds nothing.
    fn stop(&self, py: Python<'_>) {
        let state = self.state();
        // SAFETY: our state; the old phase is moved out before anything is dropped.
        let (phase, direction, event_loop) = unsafe {
            (
                std::mem::replace(&mut (*state).phase, Phase::Done),
                (*state).call.direction(),
                NativeLoop::of((*state).event_loop.as_ptr()),
            )
        };
        if let Phase::Waiting { fd, .. } = phase {
            descriptors::forget(py, event_loop, fd, direction, &self.0);
        }
    }

    fn steps<'py>(&self, py: Python<'py>) -> Option<Bound<'py, PyAny>> {
        // SAFETY: read under the GIL.
        match unsafe { &(*self.state()).phase } {
            Phase::Waiting { steps, .. } => Some(steps.bind(py).clone()),
            Phase::Fresh | Phase::Done => None,
        }
    }

    fn send(
        &self,
        py: Python<'_>,
        value: Object,
        result: *mut Object,
    ) -> PyResult<ffi::PySendResult> {
        // SAFETY: read under the GIL.
        if let Phase::Fresh = unsafe { &(*self.state()).phase } {
            // SAFETY: a live object.
            if value != unsafe { ffi::Py_None() } {
                return Err(PyTypeError::new_err(
                    "can't send non-None value to a just-started coroutine",
                ));
            }
            if let Some(value) = self.start(py)? {
                // SAFETY: the caller's out parameter.
                unsafe { *result = value.into_ptr() };
                return Ok(ffi::PySendResult::PYGEN_RETURN);
            }
        }
        let Some(steps) = self.steps(py) else {
            return Err(PyRuntimeError::new_err("cannot reuse already awaited coroutine"));
        };
        // SAFETY: an iterator, a live value and the caller's out parameter.
        let sent = unsafe { ffi::PyIter_Send(steps.as_ptr(), value, result) };
        match sent {
            ffi::PySendResult::PYGEN_NEXT => {}
            ffi::PySendResult::PYGEN_RETURN => self.stop(py),
            ffi::PySendResult::PYGEN_ERROR => {
                let error = PyErr::fetch(py);
                self.stop(py);
                return Err(error);
            }
        }
        Ok(sent)
    }

    fn throw(&self, py: Python<'_>, args: &[Object]) -> PyResult<Object> {
        let Some(steps) = self.steps(py) else {
            self.stop(py);
            return Err(coroutine::uncaught(py, args)?);
        };
        let args = crate::handles::arguments(py, args)?;
        match steps.call_method1(pyo3::intern!(py, "throw"), args) {
            Ok(value) => Ok(value.into_ptr()),
            Err(error) => {
                self.stop(py);
                Err(error)
            }
        }
    }
}

/// `Operation::retry`, for who knows only the object.
fn retry(py: Python<'_>, slf: &Py<PyAny>) -> PyResult<bool> {
    Operation(slf.clone_ref(py)).retry(py)
}

fn borrowed(py: Python<'_>, slf: Object) -> Operation {
    // SAFETY: CPython passes a live object of the type that the slot belongs to.
    Operation(unsafe { Bound::from_borrowed_ptr(py, slf).unbind() })
}

/// The kind of coroutines that operations are.
struct Calling;

impl Coroutine for Calling {
    #[inline]
    fn send(
        py: Python<'_>,
        slf: Object,
        value: Object,
        result: *mut Object,
    ) -> PyResult<ffi::PySendResult> {
        borrowed(py, slf).send(py, value, result)
    }

    fn throw(py: Python<'_>, slf: Object, args: &[Object]) -> PyResult<Object> {
        borrowed(py, slf).throw(py, args)
    }

    fn close(py: Python<'_>, slf: Object) -> PyResult<()> {
        let operation = borrowed(py, slf);
        let steps = operation.steps(py);
        operation.stop(py);
        if let Some(steps) = steps {
            steps.call_method0(pyo3::intern!(py, "close"))?;
        }
        Ok(())
    }
}

unsafe extern "C" fn get_name(slf: Object, _closure: *mut c_void) -> Object {
    enter(null_mut(), |py| {
        // SAFETY: read under the GIL.
        let name = unsafe { (*borrowed(py, slf).state()).call.name() };
        Ok(PyString::new(py, name).into_ptr())
    })
}

unsafe extern "C" fn get_qualname(slf: Object, _closure: *mut c_void) -> Object {
    enter(null_mut(), |py| {
        // SAFETY: read under the GIL.
        let name = unsafe { (*borrowed(py, slf).state()).call.name() };
        Ok(PyString::new(py, &format!("Loop.{name}")).into_ptr())
    })
}

unsafe extern "C" fn repr(slf: Object) -> Object {
    enter(null_mut(), |py| {
        // SAFETY: read under the GIL.
        let name = unsafe { (*borrowed(py, slf).state()).call.name() };
        let text = format!("<coroutine object Loop.{name} at {slf:p}>");
        Ok(PyString::new(py, &text).into_ptr())
    })
}

unsafe extern "C" fn traverse(slf: Object, visit: ffi::visitproc, arg: *mut c_void) -> c_int {
    // SAFETY: our layout; the collector holds the GIL and runs no other code meanwhile.
    unsafe {
        visit!(visit, arg, ffi::Py_TYPE(slf).cast());
        let state = &(*slf.cast::<OperationObject>()).state;
        visit!(visit, arg, state.event_loop.as_ptr());
        visit!(visit, arg, state.socket.as_ptr());
        visit!(visit, arg, state.call.argument().as_ptr());
        if let Phase::Waiting { future, steps, .. } = &state.phase {
            visit!(visit, arg, future.as_ptr());
            visit!(visit, arg, steps.as_ptr());
        }
    }
    0
}

unsafe extern "C" fn clear(slf: Object) -> c_int {
    finalizing::guard();
    // SAFETY: our layout; the old phase is moved out first. That breaks the only cycles there
    // are: through the future. The rest never refers back.
    unsafe {
        let state = &raw mut (*slf.cast::<OperationObject>()).state;
        drop(std::mem::replace(&mut (*state).phase, Phase::Done));
    }
    0
}

unsafe extern "C" fn dealloc(slf: Object) {
    finalizing::guard();
    // SAFETY: the last reference is gone; taken apart in the order CPython asks for.
    unsafe {
        let class = ffi::Py_TYPE(slf);
        ffi::PyObject_GC_UnTrack(slf.cast());
        let this = slf.cast::<OperationObject>();
        if !(*this).weakrefs.is_null() {
            ffi::PyObject_ClearWeakRefs(slf);
        }
        if matches!((*this).state.phase, Phase::Fresh) {
            let name = format!("Loop.{}", (*this).state.call.name());
            object::destroy(|py| coroutine::warn_never_awaited(py, &name));
        }
        std::ptr::drop_in_place(&raw mut (*this).state);
        ffi::PyObject_GC_Del(slf.cast());
        ffi::Py_DECREF(class.cast());
    }
}

static FIELDS: Table<[ffi::PyGetSetDef; 3]> =
    Table([getter(c"__name__", get_name), getter(c"__qualname__", get_qualname), GETTERS_END]);

static MEMBERS: Table<[ffi::PyMemberDef; 2]> = Table([
    object::offset_member(c"__weaklistoffset__", offset_of!(OperationObject, weakrefs)),
    object::MEMBERS_END,
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
        let size = size_of::<OperationObject>();
        coroutine::new_class::<Calling>(py, c"tokioloop._core.SocketOperation", size, own)
    })
}

/// Puts the class into the extension module.
pub fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    let class = class(module.py())?.clone_ref(module.py());
    module.add("SocketOperation", class)
}
