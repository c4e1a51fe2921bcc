//! `Handle` and `TimerHandle`: what `call_soon` and `call_later` give out.
//!
//! A handle holds its call: up to three arguments lie inside it, behind a scratch slot that lets a
//! bound method put its `self` in front without copying. Most handles are dropped as soon as they
//! are made, so a call of `call_soon` stays in the ready queue's own memory until somebody looks at
//! its handle (`queued`), and freed handles are kept for the next call. `__class__` answers with
//! asyncio's class, so `isinstance` holds.
//!
//! # States
//!
//! A handle is in one of these [`State`]s; every change happens with the GIL held and runs no
//! Python code on the way.
//!
//! - `Ticket`: the call is in the ready queue, tied to this handle (`event_loop::ready`). All that
//!   the handle holds is its loop; callback, context and arguments are null. The queue holds no
//!   reference: the last one that goes leaves the call to the queue, and where weak references know
//!   the handle the queue takes it (and the call becomes the handle's). Ends by `claim`, `give_up`,
//!   or the queue's `pop`; never comes back.
//! - `Whole`: the handle holds its call, or nothing any more, after `cancel()` or the collector's
//!   `clear`. The loop may hold it (in the ready queue, the heap, the table of descriptors) by a
//!   [`Handle`], which is a reference like any other.
//! - `Shown`: whole, in the loop's hands, and the last one given out while the loop did not run.
//!
//! # Who may touch what
//!
//! Whoever holds the GIL and a reference. `callback`, `many` and `inline` change only in `fill`
//! (from null) and `release_call` (to null), which empties each field before it drops what was
//! there: a destructor that comes back finds null. A call that is being made (`run`) borrows them,
//! so `cancel()` only hides them, and leaves their release to the end of the call. `context` is null in a ticket
//! only. `event_loop` is set for life, so that every method of a live handle finds its loop; only
//! `dealloc` drops it. No `&mut HandleObject` lives across a call that can run Python code.
//!
//! # Who visits it
//!
//! To the garbage collector a handle in the loop's hands is a part of the loop, while the loop
//! runs: the loop's traversal goes through it (`Handle::traverse`), and a burst of callbacks does
//! not make the collector visit each again and again. A loop that runs is no garbage, so nothing is
//! lost. A loop that does not may be, together with handles that only the rest of the garbage
//! holds, so there each handle that somebody besides the loop has is tracked: tickets, and what
//! `give` gives out, at once; all others at the end of `run`. To find out that the caller dropped a
//! handle the loop remembers the one that it gave out last (`Shown`), and looks at it when it gives
//! out the next.
//!
//! # What frees it
//!
//! The last reference, through `dismantle`, because a handle can be the argument of the
//! next one's call, and a chain of them may be long. A ticket has nothing to take apart.

mod class;
mod others;
mod queued;

use std::ptr::{NonNull, null_mut};

use pyo3::exceptions::PyTypeError;
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::{PyTuple, PyType};
use pyo3::{PyTraverseError, PyVisit};

pub(crate) use class::register;
pub(crate) use queued::{Queued, Ticket};

use crate::event_loop::NativeLoop;
use crate::ffi::cached;
use crate::ffi::gil::GilCell;
use crate::ffi::object::{self, Arg, Object};
use crate::ffi::tuples::{arguments, tuple_of};
use class::types;

const INLINE: usize = 3;

#[repr(C)]
pub(crate) struct HandleObject {
    head: ffi::PyObject,
    weakrefs: Object,
    event_loop: Object,
    /// Null once cancelled (asyncio: `_callback` is `None`).
    callback: Object,
    context: Object,
    source_traceback: Object,
    /// The text that a handle cancelled in debug mode goes on showing.
    repr: Object,
    /// All arguments, when they are more than `INLINE`.
    many: Object,
    /// A timer's deadline, as bits; else the number of a ticket's place in the ready queue.
    place: u64,
    state: State,
    count: u8,
    cancelled: bool,
    /// The context is a snapshot that others have too: a copy is entered in its place.
    shared: bool,
    /// In the timer heap.
    scheduled: bool,
    /// A timer whose deadline was given as something else than a `float`: that is in `inline[0]`,
    /// and the arguments, however few, are in `many`.
    keeps_time: bool,
    /// Callback and arguments must outlive a `cancel()` from inside of the call.
    run: Run,
    /// Other threads' `cancel()` and `cancelled()` wait while the callback is being called.
    thread_safe: bool,
    /// The thread that calls it.
    runner: libc::pthread_t,
    /// Owned by whoever is being called; see `PY_VECTORCALL_ARGUMENTS_OFFSET`.
    scratch: Object,
    inline: [Object; INLINE],
}

/// Where a handle is in its life; see the head of this file.
#[derive(Clone, Copy, PartialEq)]
#[repr(u8)]
enum State {
    Ticket,
    Whole,
    Shown,
}

/// Whether the callback is being called right now.
#[derive(Clone, Copy, PartialEq)]
#[repr(u8)]
enum Run {
    No,
    Running,
    /// And was cancelled: what the call still uses is not shown any more.
    Forgotten,
}

/// Freed handles, for the next ones. All that they hold is null.
static RECYCLED: GilCell<Vec<NonNull<HandleObject>>> = GilCell::new(Vec::new());

/// The loop's own reference to a handle.
///
/// When the loop lets go of a handle that somebody else holds, that becomes an object of its own
/// to the collector.
pub struct Handle(Py<PyAny>);

impl Drop for Handle {
    #[inline]
    fn drop(&mut self) {
        let this = self.object();
        // SAFETY: alive: this is a reference to it. Whoever holds a `Handle` holds the GIL, and a
        // live handle holds its loop.
        unsafe {
            if (*this).state == State::Shown {
                (*this).state = State::Whole;
                NativeLoop::of((*this).event_loop).shown.set(Python::assume_attached(), null_mut());
            }
        }
        self.track_if_shared();
    }
}

/// What a new handle is to call.
pub struct Call<'a, 'py> {
    pub callback: Arg<'a, 'py>,
    pub args: &'a [Arg<'a, 'py>],
    /// `None`: a copy of the current context.
    pub context: Option<Arg<'a, 'py>>,
}

impl Call<'_, '_> {
    /// The context to run in, a new reference, and whether it is a snapshot that others have too.
    #[inline]
    fn take_context(&self, py: Python<'_>, event_loop: &NativeLoop) -> PyResult<(Object, bool)> {
        match self.context {
            None => event_loop.contexts.take(py),
            Some(context) => Ok((context.to_owned().into_ptr(), false)),
        }
    }
}

impl Handle {
    pub fn new(py: Python<'_>, event_loop: &NativeLoop, call: &Call<'_, '_>) -> PyResult<Self> {
        Self::build(py, &types(py)?.handle, event_loop, call, None)
    }

    /// For `call_soon_threadsafe`: from CPython 3.14 on a kind of its own.
    pub fn thread_safe(
        py: Python<'_>,
        event_loop: &NativeLoop,
        call: &Call<'_, '_>,
    ) -> PyResult<Self> {
        let Some(class) = &types(py)?.thread_safe else {
            return Self::new(py, event_loop, call);
        };
        let handle = Self::build(py, class, event_loop, call, None)?;
        // SAFETY: just made, of our layout; the GIL is held.
        unsafe { (*handle.object()).thread_safe = true };
        Ok(handle)
    }

    /// `time`: what the deadline was given as, if that is not exactly a `float`.
    pub fn timer(
        py: Python<'_>,
        event_loop: &NativeLoop,
        call: &Call<'_, '_>,
        when: f64,
        time: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<Self> {
        let handle = Self::build(py, &types(py)?.timer, event_loop, call, time)?;
        // SAFETY: just made, of our layout; the GIL is held.
        unsafe { (*handle.object()).place = when.to_bits() };
        Ok(handle)
    }

    fn build(
        py: Python<'_>,
        class: &Py<PyType>,
        event_loop: &NativeLoop,
        call: &Call<'_, '_>,
        time: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<Self> {
        let many = if call.args.len() > INLINE || time.is_some() {
            Some(arguments(py, call.args)?)
        } else {
            None
        };
        let handle = Self::bare(py, class, event_loop)?;
        let (context, shared) = call.take_context(py, event_loop)?;
        // SAFETY: just made; nobody else has seen it, and its fields hold nothing.
        unsafe {
            let made = &mut *handle.object();
            made.callback = call.callback.to_owned().into_ptr();
            made.context = context;
            made.shared = shared;
            if let Some(many) = many {
                made.many = many.into_ptr();
            } else {
                made.count = call.args.len() as u8;
                for (to, from) in made.inline.iter_mut().zip(call.args) {
                    *to = (*from).to_owned().into_ptr();
                }
            }
            if let Some(time) = time {
                made.keeps_time = true;
                made.inline[0] = time.clone().into_ptr();
            }
        }
        Ok(handle)
    }

    /// A handle of nothing, for a call without one.
    pub fn blank(py: Python<'_>, event_loop: &NativeLoop) -> PyResult<Self> {
        Self::bare(py, &types(py)?.handle, event_loop)
    }

    #[inline]
    fn bare(py: Python<'_>, class: &Py<PyType>, event_loop: &NativeLoop) -> PyResult<Self> {
        let class = class.as_ptr().cast::<ffi::PyTypeObject>();
        let recycled = RECYCLED.with(py, Vec::pop);
        // SAFETY: recycled memory was a handle, is untracked and holds nothing; else the allocator
        // gives memory for one, whose fields after the head are made so.
        unsafe {
            let made = match recycled {
                Some(old) => {
                    ffi::PyObject_Init(old.as_ptr().cast(), class);
                    old.as_ptr()
                }
                None => {
                    let new = ffi::PyObject_GC_New::<HandleObject>(class);
                    if new.is_null() {
                        return Err(object::fetch(py));
                    }
                    let head = size_of::<ffi::PyObject>();
                    new.cast::<u8>().add(head).write_bytes(0, size_of::<HandleObject>() - head);
                    new
                }
            };
            let handle = &mut *made;
            handle.event_loop = ffi::Py_NewRef(event_loop.object());
            handle.place = 0;
            handle.state = State::Whole;
            handle.count = 0;
            handle.cancelled = false;
            handle.shared = false;
            handle.scheduled = false;
            handle.keeps_time = false;
            handle.run = Run::No;
            handle.thread_safe = false;
            Ok(Self(Bound::from_owned_ptr(py, made.cast()).unbind()))
        }
    }

    /// Makes the handle an object of its own to the collector, unless only the loop has it.
    #[inline]
    pub fn track_if_shared(&self) {
        let this = self.object();
        // SAFETY: alive: this is a reference to it. Whoever holds a `Handle` holds the GIL. A weak
        // reference may become another strong one at any time.
        unsafe {
            if ffi::Py_REFCNT(this.cast()) > 1 || !(*this).weakrefs.is_null() {
                track(this);
            }
        }
    }

    /// A handle that was just made for Python, while it stays in the loop's hands.
    #[inline]
    pub fn give<'py>(&self, py: Python<'py>, event_loop: &NativeLoop) -> Bound<'py, PyAny> {
        if !event_loop.in_run.get(py) {
            self.show(py, event_loop);
        }
        self.0.bind(py).clone()
    }

    /// The loop may become garbage, and the handle with it: from now on the collector sees it. The
    /// one that was shown before is a part of the loop again if it was dropped since.
    fn show(&self, py: Python<'_>, event_loop: &NativeLoop) {
        let this = self.object();
        let before = event_loop.shown.get(py).cast::<HandleObject>();
        event_loop.shown.set(py, this.cast());
        // SAFETY: the one before is alive, in the loop's hands: a `Handle` that is dropped takes
        // its object out of `shown`.
        unsafe {
            if let Some(before) = before.as_mut() {
                before.state = State::Whole;
                if ffi::Py_REFCNT(&raw mut before.head) == 1 && before.weakrefs.is_null() {
                    ffi::PyObject_GC_UnTrack((&raw mut *before).cast());
                }
            }
            (*this).state = State::Shown;
            ffi::PyObject_GC_Track(this.cast());
        }
    }

    /// Visits the handle, or what it refers to while it is a part of the loop.
    pub fn traverse(&self, visit: &PyVisit<'_>) -> Result<(), PyTraverseError> {
        let object = self.object();
        // SAFETY: our layout; the collector holds the GIL and runs no other code meanwhile. A
        // nullable pointer to an object is what `Option<Py>` is.
        unsafe {
            if ffi::PyObject_GC_IsTracked(object.cast()) != 0 {
                return visit.call(&self.0);
            }
            if ffi::Py_REFCNT(object.cast()) > 1 {
                return Ok(());
            }
            let handle = &*object;
            let one = [
                &handle.event_loop,
                &handle.callback,
                &handle.context,
                &handle.source_traceback,
                &handle.many,
            ];
            for field in one.into_iter().chain(&handle.inline) {
                visit.call(&*std::ptr::from_ref(field).cast::<Option<Py<PyAny>>>())?;
            }
        }
        Ok(())
    }

    /// Makes a ticket that was just made an object of its own to the collector.
    #[inline]
    pub fn track_new(&self) {
        // SAFETY: alive, and never tracked until now: recycled memory is untracked. Whoever holds a
        // `Handle` holds the GIL.
        unsafe { ffi::PyObject_GC_Track(self.0.as_ptr().cast()) };
    }

    fn object(&self) -> *mut HandleObject {
        self.0.as_ptr().cast()
    }

    pub fn clone_ref(&self, py: Python<'_>) -> Self {
        Self(self.0.clone_ref(py))
    }

    pub fn bind<'py>(&self, py: Python<'py>) -> &Bound<'py, PyAny> {
        self.0.bind(py)
    }

    /// This reference, for Python.
    pub fn into_ptr(self) -> Object {
        std::mem::ManuallyDrop::new(self).0.as_ptr()
    }

    pub fn is_cancelled(&self, _py: Python<'_>) -> bool {
        // SAFETY: a handle, which this reference keeps alive; the GIL is held, as `_py` says.
        unsafe { (*self.object()).cancelled }
    }

    /// The heap has this timer.
    pub fn scheduled(&self, _py: Python<'_>) {
        // SAFETY: a handle, which this reference keeps alive; the GIL is held, as `_py` says.
        unsafe { (*self.object()).scheduled = true };
    }

    /// The heap let go of this timer.
    pub fn unscheduled(&self, _py: Python<'_>) {
        // SAFETY: a handle, which this reference keeps alive; the GIL is held, as `_py` says.
        unsafe { (*self.object()).scheduled = false };
    }

    /// A handle that in debug mode remembers, as asyncio's do, where it was made.
    pub fn with_source(
        py: Python<'_>,
        event_loop: &NativeLoop,
        call: &Call<'_, '_>,
    ) -> PyResult<Self> {
        let handle = Self::new(py, event_loop, call)?;
        if event_loop.debug.get(py) {
            handle.remember_source(py)?;
        }
        Ok(handle)
    }

    /// Notes, in a fresh handle, where it was made.
    #[cold]
    pub fn remember_source(&self, py: Python<'_>) -> PyResult<()> {
        self.set_source_traceback(py, source(py)?);
        Ok(())
    }

    pub fn set_source_traceback(&self, _py: Python<'_>, traceback: Py<PyAny>) {
        // SAFETY: our layout, GIL held; a fresh handle has no traceback yet.
        unsafe { (*self.object()).source_traceback = traceback.into_ptr() };
    }

    pub fn cancel(&self, py: Python<'_>) -> PyResult<()> {
        // SAFETY: a handle, which this reference keeps alive.
        unsafe { cancel(py, self.object()) }
    }

    /// Calls the callback in its context; the error is whatever it raised.
    #[inline]
    pub fn call(&self, py: Python<'_>) -> PyResult<()> {
        let object = self.object();
        // SAFETY: our layout; this reference keeps the handle alive, and `run` keeps a
        // `cancel()` from inside the callback from releasing what the call still uses.
        unsafe {
            let pristine = borrow_context(py, object)?;
            let result = self.call_entered(py);
            if let Some(pristine) = pristine {
                return_context(py, object, pristine);
            }
            result
        }
    }

    /// Calls the callback in the context that the handle has now.
    #[inline]
    fn call_entered(&self, py: Python<'_>) -> PyResult<()> {
        let object = self.object();
        // SAFETY: `self` keeps the handle alive, and the GIL is held, as `py` says. What the call
        // borrows stays: only `cancel()` and the collector release it, and the one leaves it to us
        // while `run` says so, the other takes no handle that has a reference like ours. The
        // slot in front of the arguments is `scratch`, for the callee to use.
        unsafe {
            if (*object).callback.is_null() {
                return Err(nothing_to_call());
            }
            let mut entering = Ok(());
            if ffi::PyContext_Enter((*object).context) != 0 {
                entering = Err(object::fetch(py));
                if ffi::PyContext_CheckExact((*object).context) != 0 {
                    return entering;
                }
            }
            (*object).run = Run::Running;
            if (*object).thread_safe {
                (*object).runner = libc::pthread_self();
            }
            let result = if entering.is_err() {
                call_whole_by_run(py, object)
            } else if (*object).many.is_null() {
                ffi::PyObject_Vectorcall(
                    (*object).callback,
                    (&raw const (*object).inline).cast(),
                    (*object).count as usize | ffi::PY_VECTORCALL_ARGUMENTS_OFFSET,
                    null_mut(),
                )
            } else {
                ffi::PyObject_Call((*object).callback, (*object).many, null_mut())
            };
            let error = result.is_null().then(|| object::fetch(py));
            (*object).run = Run::No;
            if (*object).thread_safe {
                others::finished();
            }
            let exited = if entering.is_ok() { ffi::PyContext_Exit((*object).context) } else { 0 };
            if (*object).cancelled {
                release_call(object);
            }
            if let Some(error) = error {
                return Err(error);
            }
            ffi::Py_DECREF(result);
            if exited != 0 {
                return Err(object::fetch(py));
            }
            Ok(())
        }
    }
}

/// Has an object of the program's, passed for a context, call the callback: asyncio asks no more of
/// it than a `run`.
///
/// # Safety
/// `callback` must be alive until this returns, the GIL held.
unsafe fn call_by_run(
    context: &Bound<'_, PyAny>,
    callback: Object,
    args: &Bound<'_, PyTuple>,
) -> PyResult<()> {
    let py = context.py();
    let run = context.getattr(pyo3::intern!(py, "run"))?;
    // SAFETY: the caller's promise.
    let callback = unsafe { Bound::from_borrowed_ptr(py, callback) };
    let all = PyTuple::new(py, [callback])?.add(args)?.cast_into::<PyTuple>()?;
    run.call1(all).map(drop)
}

/// The same for a handle's call: a new reference, or null with an exception set.
///
/// # Safety
/// `handle` must be alive throughout the call, with a callback that stays until it returns.
#[cold]
unsafe fn call_whole_by_run(py: Python<'_>, handle: *mut HandleObject) -> Object {
    // SAFETY: the caller's promise; `many` is a tuple or null.
    let called = unsafe {
        let args = if (*handle).many.is_null() {
            object::owned(py, tuple_of(&(&(*handle).inline)[..(*handle).count as usize]))
        } else {
            Ok(Bound::from_borrowed_ptr(py, (*handle).many))
        };
        args.and_then(|args| {
            let context = Bound::from_borrowed_ptr(py, (*handle).context);
            call_by_run(&context, (*handle).callback, args.cast_unchecked())
        })
    };
    match called {
        Ok(()) => py.None().into_ptr(),
        Err(error) => {
            error.restore(py);
            null_mut()
        }
    }
}

/// For a handle that was cancelled, or cleared as garbage, and is run by hand: what asyncio's code
/// raises.
#[cold]
fn nothing_to_call() -> PyErr {
    PyTypeError::new_err("Value after * must be an iterable, not NoneType")
}

/// The stack of who called into the core, as asyncio's debug mode keeps it.
#[cold]
pub(crate) fn source(py: Python<'_>) -> PyResult<Py<PyAny>> {
    cached::helpers(py)?.bind(py).call_method0("extract_stack").map(Bound::unbind)
}

/// Puts a working copy in the place of a shared snapshot, which comes back.
///
/// # Safety
/// `handle` must be alive, the GIL held.
#[inline]
unsafe fn borrow_context<'py>(
    py: Python<'py>,
    handle: *mut HandleObject,
) -> PyResult<Option<Bound<'py, PyAny>>> {
    // SAFETY: the caller's promise; a handle holds its loop and, before it ran, its context.
    unsafe {
        if !(*handle).shared {
            return Ok(None);
        }
        let contexts = &NativeLoop::of((*handle).event_loop).contexts;
        let pristine = Bound::from_borrowed_ptr(py, (*handle).context);
        let copy = contexts.lend(py, &pristine)?;
        ffi::Py_DECREF(std::mem::replace(&mut (*handle).context, copy.into_ptr()));
        (*handle).shared = false;
        Ok(Some(pristine))
    }
}

/// Hands the working copy back, unless the callback made it the handle's own.
///
/// # Safety
/// `handle` must be alive, the GIL held; `pristine` is what `borrow_context` gave.
#[inline]
unsafe fn return_context<'py>(
    py: Python<'py>,
    handle: *mut HandleObject,
    pristine: Bound<'py, PyAny>,
) {
    // SAFETY: the caller's promise; the handle's reference to its context is moved out, and one
    // is put back before anybody can look.
    unsafe {
        let contexts = &NativeLoop::of((*handle).event_loop).contexts;
        let copy = Bound::from_owned_ptr(py, (*handle).context);
        (*handle).context = pristine.clone().into_ptr();
        (*handle).shared = true;
        if let Some(copy) = contexts.take_back(&pristine, copy) {
            ffi::Py_DECREF(std::mem::replace(&mut (*handle).context, copy.into_ptr()));
            (*handle).shared = false;
        }
    }
}

/// Gives the handle a context of its own.
///
/// # Safety
/// `handle` must be alive, the GIL held.
#[inline]
unsafe fn own_context(py: Python<'_>, handle: *mut HandleObject) -> PyResult<()> {
    // SAFETY: the caller's promise; the snapshot is a context.
    unsafe {
        if (*handle).shared {
            let copy = object::owned(py, ffi::PyContext_Copy((*handle).context))?.into_ptr();
            let snapshot = std::mem::replace(&mut (*handle).context, copy);
            (*handle).shared = false;
            ffi::Py_DECREF(snapshot);
        }
    }
    Ok(())
}

/// asyncio's `Handle.cancel()`.
///
/// # Safety
/// `handle` must be alive throughout the call, which may run Python code, and no ticket.
unsafe fn cancel(py: Python<'_>, handle: *mut HandleObject) -> PyResult<()> {
    // SAFETY: the caller's promise; a live handle holds its loop, and the GIL is held, as `py` says.
    // No `&mut` lives across the calls that may run Python code.
    unsafe {
        if (*handle).cancelled {
            return Ok(());
        }
        let event_loop = NativeLoop::of((*handle).event_loop);
        (*handle).cancelled = true;
        if event_loop.debug.get(py) {
            let repr = ffi::PyObject_Repr(handle.cast());
            if repr.is_null() {
                return Err(object::fetch(py));
            }
            (*handle).repr = repr;
        }
        if (*handle).scheduled {
            event_loop.timer_cancelled(py);
        }
        match (*handle).run {
            Run::No => release_call(handle),
            Run::Running | Run::Forgotten => (*handle).run = Run::Forgotten,
        }
    }
    Ok(())
}

/// Makes a handle an object of its own to the collector.
///
/// # Safety
/// `handle` must be alive and complete, the GIL held.
#[inline]
unsafe fn track(handle: *mut HandleObject) {
    // SAFETY: the caller's promise.
    unsafe {
        if ffi::PyObject_GC_IsTracked(handle.cast()) == 0 {
            ffi::PyObject_GC_Track(handle.cast());
        }
    }
}

/// Drops callback and arguments. The time of a timer stays: a cancelled one is asked for it, too.
///
/// # Safety
/// `handle` must be alive, the GIL held. Runs Python code (destructors).
unsafe fn release_call(handle: *mut HandleObject) {
    // SAFETY: each pointer is taken out before its reference is dropped, so code that comes back
    // here through a destructor finds null.
    unsafe {
        (*handle).count = 0;
        ffi::Py_CLEAR(&raw mut (*handle).callback);
        ffi::Py_CLEAR(&raw mut (*handle).many);
        for at in usize::from((*handle).keeps_time)..INLINE {
            ffi::Py_CLEAR(&raw mut (*handle).inline[at]);
        }
    }
}
