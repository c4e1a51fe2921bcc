//! `sleep`: a coroutine of the core's own, which is its timer as well.
//!
//! Stepped first, it puts itself into the loop's heap and waits for a C future, which is set when
//! the time has come without a handle, a context or a Python frame. Where the running loop is not
//! one of ours, or one with methods of somebody else's, the call gives asyncio's own coroutine.
//!
//! It has no `cr_await` and no `cr_frame`: asyncio's call graph takes who has them for a coroutine
//! with a Python frame.
//!
//! # States
//!
//! [`Phase`] says what a sleep holds; it only moves down the list, and `Done` holds no more than
//! `delay`. Whoever is in a step has `running` set, and everybody else is refused meanwhile, as by a
//! coroutine of Python's own: the loop's `time()` and what makes a future are Python code, which may
//! know the sleep. So phase and fields change only in a step, in `close()` and `throw()`, and in the
//! collector's `clear`, always with the GIL held. References are taken out before they are dropped.
//!
//! A sleep that waits is in the loop's heap, which holds a reference. `scheduled` says so, and only
//! the heap writes it. One that is over (`Done`) stays there as a cancelled timer: `fire` does
//! nothing then. It is the only way back from the loop, and needs `future` and `result`, which a
//! waiting sleep always has.
//!
//! The last reference frees it, through `dismantle`: its result may be another sleep. The memory is
//! kept for the next one.

use std::ffi::{c_int, c_void};
use std::mem::offset_of;
use std::ptr::{NonNull, null_mut};

use pyo3::exceptions::{PyRuntimeError, PyTypeError, PyValueError};
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyString, PyType};

use super::ctypes::{self, CTypes, OnLoop, on_plain_loop};
use crate::coroutine::{self, Coroutine};
use crate::dismantle::dismantle;
use crate::event_loop::NativeLoop;
use crate::finalizing;
use crate::gil::GilCell;
use crate::object::{self, Args, GETTERS_END, Object, Table, enter, getter, slot};
use crate::timers::{NativeTimer, Timer};
use crate::visit;

/// Memory kept for the next sleep, in objects; none under AddressSanitizer, which would not notice
/// that it is used after its end.
const MOST_RECYCLED: usize = if cfg!(never_recycle) { 0 } else { 512 };

#[derive(Clone, Copy, PartialEq)]
enum Phase {
    Fresh,
    /// A bare yield was made, for a delay of nothing.
    Yielded,
    /// `steps` are those of `future`, which the timer sets.
    Waiting,
    /// `steps` are asyncio's own coroutine: it was first stepped on another loop.
    Elsewhere,
    Done,
}

#[repr(C)]
struct SleepObject {
    head: ffi::PyObject,
    weakrefs: Object,
    /// Exactly a `float` or an `int`.
    delay: Object,
    result: Object,
    event_loop: Object,
    future: Object,
    steps: Object,
    phase: Phase,
    /// In the loop's heap.
    scheduled: bool,
    /// Inside of a step.
    running: bool,
}

static TYPE: PyOnceLock<Py<PyType>> = PyOnceLock::new();

/// Freed sleeps, for the next ones.
static RECYCLED: GilCell<Vec<NonNull<SleepObject>>> = GilCell::new(Vec::new());

static TIMER: NativeTimer = NativeTimer {
    fire,
    is_cancelled: |slf| {
        // SAFETY: our layout; the heap asks with the GIL held.
        unsafe { (*slf.as_ptr().cast::<SleepObject>()).phase != Phase::Waiting }
    },
    unscheduled: |slf| {
        // SAFETY: as above.
        unsafe { (*slf.as_ptr().cast::<SleepObject>()).scheduled = false };
    },
    scheduled: |slf| {
        // SAFETY: as above.
        unsafe { (*slf.as_ptr().cast::<SleepObject>()).scheduled = true };
    },
};

/// `tokioloop.sleep(delay, result=None)`.
pub(super) fn call(py: Python<'_>, args: &Args<'_>) -> PyResult<Object> {
    if args.positional.len() > 2 {
        return Err(PyTypeError::new_err(format!(
            "sleep() takes from 1 to 2 positional arguments but {} were given",
            args.positional.len()
        )));
    }
    let [delay, result] = args.bind(py, "sleep", ["delay", "result"], 2, 1)?;
    // SAFETY: `bind` saw to it that the delay is there.
    let plain = unsafe {
        ffi::PyFloat_CheckExact(delay) != 0
            || (ffi::PyLong_CheckExact(delay) != 0 && small(delay).is_some())
    };
    if plain && let Some(made) = on_plain_loop(py, |_, _| new(py, delay, result))? {
        return Ok(made);
    }
    let result = if result.is_null() { none() } else { result };
    asyncios_own(py, delay, result).map(Bound::into_ptr)
}

fn none() -> Object {
    // SAFETY: lives for ever.
    unsafe { ffi::Py_None() }
}

/// An `int` as a `float`, unless that is too great for one.
fn small(number: Object) -> Option<f64> {
    // SAFETY: exactly an `int`; the error, if any, is taken back.
    unsafe {
        let value = ffi::PyLong_AsDouble(number);
        if value == -1.0 && !ffi::PyErr_Occurred().is_null() {
            ffi::PyErr_Clear();
            return None;
        }
        Some(value)
    }
}

fn asyncios_own<'py>(
    py: Python<'py>,
    delay: Object,
    result: Object,
) -> PyResult<Bound<'py, PyAny>> {
    let args = crate::handles::arguments(py, &[delay, result])?;
    super::originals(py)?.sleep.bind(py).call1(args)
}

fn new(py: Python<'_>, delay: Object, result: Object) -> PyResult<Object> {
    let class = class(py)?.as_ptr().cast::<ffi::PyTypeObject>();
    let recycled = RECYCLED.with(py, Vec::pop);
    let result = if result.is_null() { none() } else { result };
    // SAFETY: recycled memory was a sleep, is untracked and holds nothing; else the allocator
    // gives memory for one. All fields are written before anybody sees the object.
    unsafe {
        let made = match recycled {
            Some(old) => {
                ffi::PyObject_Init(old.as_ptr().cast(), class);
                old.as_ptr()
            }
            None => ffi::PyObject_GC_New::<SleepObject>(class),
        };
        if made.is_null() {
            return Err(object::fetch(py));
        }
        let this = &mut *made;
        this.weakrefs = null_mut();
        this.delay = ffi::Py_NewRef(delay);
        this.result = ffi::Py_NewRef(result);
        this.event_loop = null_mut();
        this.future = null_mut();
        this.steps = null_mut();
        this.phase = Phase::Fresh;
        this.scheduled = false;
        this.running = false;
        // With nothing but numbers in it, it cannot be a part of a cycle yet.
        if ffi::PyObject_IS_GC(result) != 0 {
            ffi::PyObject_GC_Track(made.cast());
        }
        Ok(made.cast())
    }
}

/// A reference to a sleep, and its fields.
struct Sleep<'py>(Bound<'py, PyAny>);

impl<'py> Sleep<'py> {
    #[inline]
    fn of(py: Python<'py>, slf: Object) -> Self {
        // SAFETY: CPython passes a live object of the type that the slot belongs to.
        Self(unsafe { Bound::from_borrowed_ptr(py, slf) })
    }

    #[inline]
    fn fields(&self) -> *mut SleepObject {
        self.0.as_ptr().cast()
    }

    #[inline]
    fn phase(&self) -> Phase {
        // SAFETY: our layout; whoever has a `Bound` holds the GIL.
        unsafe { (*self.fields()).phase }
    }

    /// The first step. `true`: it waits for something.
    fn start(&self) -> PyResult<bool> {
        let (py, this) = (self.0.py(), self.fields());
        // SAFETY: our layout; the delay is exactly a `float` or an `int` that fits.
        let delay = unsafe {
            (*this).phase = Phase::Done;
            let delay = (*this).delay;
            if ffi::PyFloat_CheckExact(delay) != 0 {
                ffi::PyFloat_AS_DOUBLE(delay)
            } else {
                ffi::PyLong_AsDouble(delay)
            }
        };
        if delay <= 0.0 {
            // SAFETY: our layout.
            unsafe { (*this).phase = Phase::Yielded };
            return Ok(false);
        }
        if delay.is_nan() {
            return Err(PyValueError::new_err("Invalid delay: NaN (not a number)"));
        }
        let waits = on_plain_loop(py, |types, event_loop| self.wait(types, event_loop, delay))?;
        if waits.is_none() {
            // SAFETY: our layout; a fresh sleep has no steps yet.
            unsafe {
                let steps = asyncios_own(py, (*this).delay, (*this).result)?;
                (*this).steps = steps.into_ptr();
                (*this).phase = Phase::Elsewhere;
            }
        }
        self.track();
        Ok(true)
    }

    fn wait(&self, types: &CTypes, event_loop: &NativeLoop, delay: f64) -> PyResult<()> {
        let (py, this) = (self.0.py(), self.fields());
        event_loop.check_closed(py)?;
        let now = event_loop.now(py)?;
        let on_loop = OnLoop::running(&event_loop.bind(py))?;
        let future = types.new_future(types.future.bind(py), on_loop.options())?;
        let steps = future.call_method0(pyo3::intern!(py, "__await__"))?;
        let when = now + delay;
        // SAFETY: our layout; a fresh sleep has none of these yet.
        unsafe {
            (*this).future = future.into_ptr();
            (*this).steps = steps.into_ptr();
            (*this).event_loop = ffi::Py_NewRef(event_loop.object());
            (*this).phase = Phase::Waiting;
        }
        event_loop.add_timer(py, Timer::Native(self.0.clone().unbind(), &TIMER), when)
    }

    fn track(&self) {
        let object = self.0.as_ptr();
        // SAFETY: alive, and complete.
        unsafe {
            if ffi::PyObject_GC_IsTracked(object) == 0 {
                ffi::PyObject_GC_Track(object.cast());
            }
        }
    }

    /// No longer waits. The timer, if it has not fired, finds nothing.
    fn stop(&self) {
        let (py, this) = (self.0.py(), self.fields());
        // SAFETY: our layout; each reference is taken out before it is dropped.
        unsafe {
            (*this).phase = Phase::Done;
            ffi::Py_CLEAR(&raw mut (*this).steps);
            ffi::Py_CLEAR(&raw mut (*this).future);
            ffi::Py_CLEAR(&raw mut (*this).result);
            let event_loop = std::mem::replace(&mut (*this).event_loop, null_mut());
            if event_loop.is_null() {
                return;
            }
            let event_loop = Bound::from_owned_ptr(py, event_loop);
            if (*this).scheduled {
                NativeLoop::of(event_loop.as_ptr()).timer_cancelled(py);
            }
        }
    }

    fn steps(&self) -> Option<Bound<'py, PyAny>> {
        // SAFETY: our layout; a live object or null.
        unsafe { Bound::from_borrowed_ptr_or_opt(self.0.py(), (*self.fields()).steps) }
    }

    /// Runs a step, and keeps everybody else out meanwhile.
    #[inline]
    fn stepping<R>(&self, step: impl FnOnce() -> PyResult<R>) -> PyResult<R> {
        let this = self.fields();
        // SAFETY: our layout; `self` keeps it alive.
        unsafe {
            if (*this).running {
                return Err(PyValueError::new_err("coroutine already executing"));
            }
            (*this).running = true;
            let result = step();
            (*this).running = false;
            result
        }
    }

    #[inline]
    fn send(&self, value: Object, result: *mut Object) -> PyResult<ffi::PySendResult> {
        let this = self.fields();
        match self.phase() {
            Phase::Fresh => {
                if value != none() {
                    return Err(PyTypeError::new_err(
                        "can't send non-None value to a just-started coroutine",
                    ));
                }
                if !self.start().inspect_err(|_| self.stop())? {
                    // SAFETY: the caller's out parameter.
                    unsafe { *result = ffi::Py_NewRef(none()) };
                    return Ok(ffi::PySendResult::PYGEN_NEXT);
                }
            }
            Phase::Yielded => {
                // SAFETY: the caller's out parameter, and our reference, which is passed on.
                unsafe { *result = std::mem::replace(&mut (*this).result, null_mut()) };
                self.stop();
                return Ok(ffi::PySendResult::PYGEN_RETURN);
            }
            _ => {}
        }
        let Some(steps) = self.steps() else {
            return Err(reused());
        };
        // SAFETY: an iterator or a coroutine, a live value and the caller's out parameter.
        let sent = unsafe { ffi::PyIter_Send(steps.as_ptr(), value, result) };
        match sent {
            ffi::PySendResult::PYGEN_NEXT => {}
            ffi::PySendResult::PYGEN_RETURN => self.stop(),
            ffi::PySendResult::PYGEN_ERROR => {
                let error = PyErr::fetch(self.0.py());
                self.stop();
                return Err(error);
            }
        }
        Ok(sent)
    }

    fn throw(&self, args: &[Object]) -> PyResult<Object> {
        let py = self.0.py();
        let Some(steps) = self.steps() else {
            // What cannot be thrown at all leaves everything as it is.
            let error = if self.phase() == Phase::Yielded {
                // Where asyncio's has a generator inside.
                // SAFETY: our layout; the delay is there for life.
                let own = unsafe { asyncios_own(py, (*self.fields()).delay, none())? };
                own.call_method1(pyo3::intern!(py, "send"), (py.None(),))?;
                coroutine::uncaught_by(&own, args)?
            } else {
                coroutine::uncaught(py, args)?
            };
            if self.phase() == Phase::Done {
                return Err(reused());
            }
            self.stop();
            return Err(error);
        };
        let args = crate::handles::arguments(py, args)?;
        match steps.call_method1(pyo3::intern!(py, "throw"), args) {
            Ok(value) => Ok(value.into_ptr()),
            Err(error) => {
                self.stop();
                Err(error)
            }
        }
    }
}

fn reused() -> PyErr {
    PyRuntimeError::new_err("cannot reuse already awaited coroutine")
}

/// The time has come.
fn fire(py: Python<'_>, slf: &Py<PyAny>) -> PyResult<()> {
    let sleep = Sleep(slf.bind(py).clone());
    if sleep.phase() != Phase::Waiting {
        return Ok(());
    }
    let Some(types) = ctypes::types(py)? else { return Ok(()) };
    let this = sleep.fields();
    // SAFETY: our layout; a sleep that waits has both.
    let (future, result) = unsafe {
        (Bound::from_borrowed_ptr(py, (*this).future), Bound::from_borrowed_ptr(py, (*this).result))
    };
    if !types.cancelled.ask(&future)? {
        types.set_result.call(&future, &[result.as_ptr()], null_mut())?;
    }
    Ok(())
}

/// The kind of coroutines that sleeps are.
struct Sleeping;

impl Coroutine for Sleeping {
    #[inline]
    fn send(
        py: Python<'_>,
        slf: Object,
        value: Object,
        result: *mut Object,
    ) -> PyResult<ffi::PySendResult> {
        let sleep = Sleep::of(py, slf);
        sleep.stepping(|| sleep.send(value, result))
    }

    fn throw(py: Python<'_>, slf: Object, args: &[Object]) -> PyResult<Object> {
        let sleep = Sleep::of(py, slf);
        sleep.stepping(|| sleep.throw(args))
    }

    fn close(py: Python<'_>, slf: Object) -> PyResult<()> {
        let sleep = Sleep::of(py, slf);
        sleep.stepping(|| {
            let steps = sleep.steps();
            sleep.stop();
            if let Some(steps) = steps {
                steps.call_method0(pyo3::intern!(py, "close"))?;
            }
            Ok(())
        })
    }

    fn is_awaited(py: Python<'_>, slf: Object) -> bool {
        !matches!(Sleep::of(py, slf).phase(), Phase::Fresh | Phase::Done)
    }
}

unsafe extern "C" fn get_name(_slf: Object, _closure: *mut c_void) -> Object {
    // SAFETY: CPython calls this, and holds the GIL.
    let held = unsafe { Python::assume_attached() };
    enter(held, null_mut(), |py| Ok(PyString::new(py, "sleep").into_ptr()))
}

unsafe extern "C" fn get_running(slf: Object, _closure: *mut c_void) -> Object {
    // SAFETY: the GIL is held; CPython checked the type of `slf`.
    unsafe { ffi::PyBool_FromLong((*slf.cast::<SleepObject>()).running.into()) }
}

unsafe extern "C" fn get_suspended(slf: Object, _closure: *mut c_void) -> Object {
    // SAFETY: CPython calls this, and holds the GIL.
    let held = unsafe { Python::assume_attached() };
    enter(held, null_mut(), |py| {
        // SAFETY: the GIL is held.
        Ok(unsafe { ffi::PyBool_FromLong(Sleeping::is_awaited(py, slf).into()) })
    })
}

unsafe extern "C" fn get_origin(_slf: Object, _closure: *mut c_void) -> Object {
    // SAFETY: lives for ever.
    unsafe { ffi::Py_NewRef(none()) }
}

unsafe extern "C" fn repr(slf: Object) -> Object {
    // SAFETY: CPython calls this, and holds the GIL.
    let held = unsafe { Python::assume_attached() };
    enter(held, null_mut(), |py| {
        Ok(PyString::new(py, &format!("<coroutine object sleep at {slf:p}>")).into_ptr())
    })
}

unsafe extern "C" fn traverse(slf: Object, visit: ffi::visitproc, arg: *mut c_void) -> c_int {
    let this = slf.cast::<SleepObject>();
    // SAFETY: our layout; the collector holds the GIL and runs no other code meanwhile.
    unsafe {
        visit!(visit, arg, ffi::Py_TYPE(slf).cast());
        visit!(visit, arg, (*this).result);
        visit!(visit, arg, (*this).event_loop);
        visit!(visit, arg, (*this).future);
        visit!(visit, arg, (*this).steps);
    }
    0
}

unsafe extern "C" fn clear(slf: Object) -> c_int {
    finalizing::guard();
    let this = slf.cast::<SleepObject>();
    // SAFETY: our layout; only called on garbage, which no heap holds any more.
    unsafe {
        (*this).phase = Phase::Done;
        ffi::Py_CLEAR(&raw mut (*this).steps);
        ffi::Py_CLEAR(&raw mut (*this).future);
        ffi::Py_CLEAR(&raw mut (*this).result);
        ffi::Py_CLEAR(&raw mut (*this).event_loop);
    }
    0
}

unsafe extern "C" fn dealloc(slf: Object) {
    // SAFETY: the last reference is gone; `take_apart` frees it.
    unsafe { dismantle(slf, take_apart) };
}

/// # Safety
/// As `dismantle` promises.
unsafe fn take_apart(slf: Object) {
    let this = slf.cast::<SleepObject>();
    // SAFETY: dead and untracked; taken apart in the order CPython asks for: weak references,
    // fields, memory, type.
    unsafe {
        let class = ffi::Py_TYPE(slf);
        if !(*this).weakrefs.is_null() {
            ffi::PyObject_ClearWeakRefs(slf);
        }
        if (*this).phase == Phase::Fresh {
            object::destroy(|py| coroutine::warn_never_awaited(py, "sleep"));
        }
        clear(slf);
        ffi::Py_CLEAR(&raw mut (*this).delay);
        let kept = RECYCLED.with(Python::assume_attached(), |recycled| {
            let room = recycled.len() < MOST_RECYCLED && recycled.try_reserve(1).is_ok();
            if room {
                recycled.push(NonNull::new_unchecked(this));
            }
            room
        });
        if !kept {
            ffi::PyObject_GC_Del(slf.cast());
        }
        ffi::Py_DECREF(class.cast());
    }
}

static FIELDS: Table<[ffi::PyGetSetDef; 6]> = Table([
    getter(c"__name__", get_name),
    getter(c"__qualname__", get_name),
    getter(c"cr_running", get_running),
    getter(c"cr_suspended", get_suspended),
    getter(c"cr_origin", get_origin),
    GETTERS_END,
]);

static MEMBERS: Table<[ffi::PyMemberDef; 2]> = Table([
    object::offset_member(c"__weaklistoffset__", offset_of!(SleepObject, weakrefs)),
    object::MEMBERS_END,
]);

/// The class of what `sleep()` gives on a loop of ours.
pub(super) fn class(py: Python<'_>) -> PyResult<&Py<PyType>> {
    TYPE.get_or_try_init(py, || {
        let own = [
            slot(ffi::Py_tp_traverse, traverse as *mut c_void),
            slot(ffi::Py_tp_clear, clear as *mut c_void),
            slot(ffi::Py_tp_dealloc, dealloc as *mut c_void),
            slot(ffi::Py_tp_repr, repr as *mut c_void),
            slot(ffi::Py_tp_getset, FIELDS.0.as_ptr().cast_mut().cast()),
            slot(ffi::Py_tp_members, MEMBERS.0.as_ptr().cast_mut().cast()),
        ];
        let size = size_of::<SleepObject>();
        coroutine::new_class::<Sleeping>(py, c"tokioloop._core.Sleep", size, own)
    })
}
