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
//! The last reference frees it, through the trashcan: its result may be another sleep. The memory is
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
use crate::event_loop::NativeLoop;
use crate::event_loop::timers::{NativeTimer, Timer};
use crate::ffi::arguments::{Arg, Args};
use crate::ffi::class::slot;
use crate::ffi::coroutine::{self, Coroutine, Sent, This};
use crate::ffi::definitions::{self, Definitions, GETTERS_END, getter};
use crate::ffi::finalizing;
use crate::ffi::gil::GilCell;
use crate::ffi::object::{self, Object};
use crate::ffi::trampoline::{self, enter};
use crate::ffi::trashcan;
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
    // SAFETY: the heap calls this with a sleep, which its reference keeps alive, and with the GIL
    // held.
    is_cancelled: |slf| unsafe { (*slf.as_ptr().cast::<SleepObject>()).phase != Phase::Waiting },
    // SAFETY: the heap calls this with a sleep that it still has, and with the GIL held.
    unscheduled: |slf| unsafe { (*slf.as_ptr().cast::<SleepObject>()).scheduled = false },
    // SAFETY: the heap calls this with a sleep that it is about to take, and with the GIL held.
    scheduled: |slf| unsafe { (*slf.as_ptr().cast::<SleepObject>()).scheduled = true },
};

/// `tokioloop.sleep(delay, result=None)`.
pub(super) fn call<'py>(py: Python<'py>, args: &Args<'_, 'py>) -> PyResult<Bound<'py, PyAny>> {
    if args.positional.len() > 2 {
        return Err(PyTypeError::new_err(format!(
            "sleep() takes from 1 to 2 positional arguments but {} were given",
            args.positional.len()
        )));
    }
    let [delay, result] = args.bind("sleep", ["delay", "result"], 2, 1)?;
    // SAFETY: `None` lives for ever.
    let none = unsafe { Arg::from_ptr(py, ffi::Py_None()) };
    let result = result.unwrap_or(none);
    // `bind` has raised if there is no delay.
    let Some(delay) = delay else { return Err(PyTypeError::new_err("no delay")) };
    if is_plain(&delay)
        && let Some(made) = on_plain_loop(py, |_, _| new(delay, result))?
    {
        return Ok(made.into_any());
    }
    asyncios_own(&delay, &result)
}

/// Exactly a `float`, or an `int` that can be made one.
fn is_plain(delay: &Bound<'_, PyAny>) -> bool {
    // SAFETY: a live object, of which the last question is only asked if it is exactly an `int`; an
    // error of that is taken back.
    unsafe {
        if ffi::PyFloat_CheckExact(delay.as_ptr()) != 0 {
            return true;
        }
        if ffi::PyLong_CheckExact(delay.as_ptr()) == 0 {
            return false;
        }
        let too_great =
            ffi::PyLong_AsDouble(delay.as_ptr()) == -1.0 && !ffi::PyErr_Occurred().is_null();
        if too_great {
            ffi::PyErr_Clear();
        }
        !too_great
    }
}

fn asyncios_own<'py>(
    delay: &Bound<'py, PyAny>,
    result: &Bound<'py, PyAny>,
) -> PyResult<Bound<'py, PyAny>> {
    let py = delay.py();
    super::originals(py)?.sleep.bind(py).call1((delay, result))
}

/// A new one; `delay` must be plain.
fn new<'py>(delay: Arg<'_, 'py>, result: Arg<'_, 'py>) -> PyResult<Sleep<'py>> {
    let py = delay.py();
    let class = class(py)?.as_ptr().cast::<ffi::PyTypeObject>();
    let recycled = RECYCLED.with(py, Vec::pop);
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
        this.delay = delay.to_owned().into_ptr();
        this.result = result.to_owned().into_ptr();
        this.event_loop = null_mut();
        this.future = null_mut();
        this.steps = null_mut();
        this.phase = Phase::Fresh;
        this.scheduled = false;
        this.running = false;
        // With nothing but numbers in it, it cannot be a part of a cycle yet.
        if ffi::PyObject_IS_GC(result.as_ptr()) != 0 {
            ffi::PyObject_GC_Track(made.cast());
        }
        Ok(Sleep::owned(py, made.cast()))
    }
}

/// What the first step came to.
enum Started {
    /// There is nothing to wait for but the loop's next batch.
    Yields,
    /// There are `steps` to go on with.
    Waits,
}

/// A reference to a sleep, and its fields.
type Sleep<'py> = This<'py, Sleeping>;

impl<'py> Sleep<'py> {
    #[inline]
    fn phase(&self) -> Phase {
        // SAFETY: alive, as this reference is; the GIL is held, as it implies.
        unsafe { (*self.fields()).phase }
    }

    /// The first step.
    fn start(&self) -> PyResult<Started> {
        let (py, this) = (self.py(), self.fields());
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
            // SAFETY: a sleep, alive for this step, which runs with the GIL held.
            unsafe { (*this).phase = Phase::Yielded };
            return Ok(Started::Yields);
        }
        if delay.is_nan() {
            return Err(PyValueError::new_err("Invalid delay: NaN (not a number)"));
        }
        let waits = on_plain_loop(py, |types, event_loop| self.wait(types, event_loop, delay))?;
        if waits.is_none() {
            // SAFETY: our layout; a fresh sleep has no steps yet.
            unsafe {
                let delay = Bound::from_borrowed_ptr(py, (*this).delay);
                let result = Bound::from_borrowed_ptr(py, (*this).result);
                let steps = asyncios_own(&delay, &result)?;
                (*this).steps = steps.into_ptr();
                (*this).phase = Phase::Elsewhere;
            }
        }
        self.track();
        Ok(Started::Waits)
    }

    fn wait(&self, types: &CTypes, event_loop: &NativeLoop, delay: f64) -> PyResult<()> {
        let (py, this) = (self.py(), self.fields());
        event_loop.check_closed(py)?;
        let now = event_loop.now(py)?;
        let on_loop = OnLoop::running(&event_loop.bind(py))?;
        let future = types.new_future(py, on_loop.options())?;
        let steps = future.call_method0(pyo3::intern!(py, "__await__"))?;
        let when = now + delay;
        // SAFETY: our layout; a fresh sleep has none of these yet.
        unsafe {
            (*this).future = future.into_ptr();
            (*this).steps = steps.into_ptr();
            (*this).event_loop = ffi::Py_NewRef(event_loop.object());
            (*this).phase = Phase::Waiting;
        }
        event_loop.add_timer(py, Timer::Native(self.as_any().clone().unbind(), &TIMER), when)
    }

    fn track(&self) {
        let object = self.as_any().as_ptr();
        // SAFETY: `self` keeps it alive, and `new` has written all of its fields.
        unsafe {
            if ffi::PyObject_GC_IsTracked(object) == 0 {
                ffi::PyObject_GC_Track(object.cast());
            }
        }
    }

    /// No longer waits. The timer, if it has not fired, finds nothing.
    fn stop(&self) {
        let (py, this) = (self.py(), self.fields());
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
        unsafe { Bound::from_borrowed_ptr_or_opt(self.py(), (*self.fields()).steps) }
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
    fn step(&self, value: Arg<'_, 'py>) -> PyResult<Sent<'py>> {
        let (py, this) = (self.py(), self.fields());
        match self.phase() {
            Phase::Fresh => {
                if !value.is_none() {
                    return Err(PyTypeError::new_err(
                        "can't send non-None value to a just-started coroutine",
                    ));
                }
                match self.start().inspect_err(|_| self.stop())? {
                    Started::Yields => return Ok(Sent::Yields(py.None().into_bound(py))),
                    Started::Waits => {}
                }
            }
            Phase::Yielded => {
                // SAFETY: our reference, which is passed on; only the last step gives it away.
                let result = unsafe {
                    Bound::from_owned_ptr(py, std::mem::replace(&mut (*this).result, null_mut()))
                };
                self.stop();
                return Ok(Sent::Returns(result));
            }
            _ => {}
        }
        let Some(steps) = self.steps() else {
            return Err(reused());
        };
        let sent = coroutine::send_to(&steps, value);
        if !matches!(sent, Ok(Sent::Yields(_))) {
            self.stop();
        }
        sent
    }

    fn thrown(&self, args: &[Arg<'_, 'py>]) -> PyResult<Bound<'py, PyAny>> {
        let py = self.py();
        let Some(steps) = self.steps() else {
            if self.phase() == Phase::Done {
                return Err(coroutine::thrown_at_the_end(py, args)?);
            }
            // What cannot be thrown at all leaves everything as it is.
            let error = if self.phase() == Phase::Yielded {
                // Where asyncio's has a generator inside.
                // SAFETY: our layout; the delay is there for life.
                let delay = unsafe { Bound::from_borrowed_ptr(py, (*self.fields()).delay) };
                let own = asyncios_own(&delay, py.None().bind(py))?;
                own.call_method1(pyo3::intern!(py, "send"), (py.None(),))?;
                coroutine::uncaught_by(&own, args)?
            } else {
                coroutine::uncaught(py, args)?
            };
            self.stop();
            return Err(error);
        };
        let args = crate::ffi::tuples::arguments(py, args)?;
        match steps.call_method1(pyo3::intern!(py, "throw"), args) {
            Ok(value) => Ok(value),
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
///
/// # Safety
///
/// `slf` is a sleep.
unsafe fn fire(py: Python<'_>, slf: &Py<PyAny>) -> PyResult<()> {
    // SAFETY: only `TIMER` has this function, and only sleeps are timers of that kind.
    let sleep = unsafe { Sleep::borrowed(py, slf.as_ptr()) };
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
        types.set_result.call(&future, &[&result], None)?;
    }
    Ok(())
}

/// The kind of coroutines that sleeps are.
struct Sleeping;

// SAFETY: the layout is C's, and starts with the head.
unsafe impl Coroutine for Sleeping {
    type Object = SleepObject;

    #[inline]
    fn send<'py>(sleep: &Sleep<'py>, value: Arg<'_, 'py>) -> PyResult<Sent<'py>> {
        sleep.stepping(|| sleep.step(value))
    }

    fn throw<'py>(sleep: &Sleep<'py>, args: &[Arg<'_, 'py>]) -> PyResult<Bound<'py, PyAny>> {
        sleep.stepping(|| sleep.thrown(args))
    }

    fn close(sleep: &Sleep<'_>) -> PyResult<()> {
        sleep.stepping(|| {
            let steps = sleep.steps();
            sleep.stop();
            if let Some(steps) = steps {
                steps.call_method0(pyo3::intern!(sleep.py(), "close"))?;
            }
            Ok(())
        })
    }

    fn is_awaited(sleep: &Sleep<'_>) -> bool {
        !matches!(sleep.phase(), Phase::Fresh | Phase::Done)
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
        // SAFETY: a getter of the sleeps' class; CPython checked the type of `slf`, which is alive
        // for the call.
        let sleep = unsafe { Sleep::borrowed(py, slf) };
        // SAFETY: the GIL is held.
        Ok(unsafe { ffi::PyBool_FromLong(Sleeping::is_awaited(&sleep).into()) })
    })
}

unsafe extern "C" fn get_origin(_slf: Object, _closure: *mut c_void) -> Object {
    // SAFETY: lives for ever.
    unsafe { ffi::Py_NewRef(ffi::Py_None()) }
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
    // SAFETY: a sleep; only called on garbage. A heap that still holds it is that of a loop that is
    // garbage as well, and `fire` finds it done.
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
    unsafe { trashcan::dealloc(slf, take_apart) };
}

/// # Safety
/// `slf` must be a dead, untracked sleep, the GIL held.
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
            trampoline::destroy(|py| coroutine::warn_never_awaited(py, "sleep"));
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

static FIELDS: Definitions<[ffi::PyGetSetDef; 6]> = Definitions([
    getter(c"__name__", get_name),
    getter(c"__qualname__", get_name),
    getter(c"cr_running", get_running),
    getter(c"cr_suspended", get_suspended),
    getter(c"cr_origin", get_origin),
    GETTERS_END,
]);

static MEMBERS: Definitions<[ffi::PyMemberDef; 2]> = Definitions([
    definitions::offset_member(c"__weaklistoffset__", offset_of!(SleepObject, weakrefs)),
    definitions::MEMBERS_END,
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
        // SAFETY: functions and tables of these kinds, all static, for the sleeps' layout; `new`
        // alone makes one.
        unsafe { coroutine::new_class::<Sleeping>(py, c"tokioloop._core.Sleep", own) }
    })
}
