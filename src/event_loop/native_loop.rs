//! The class `NativeLoop`: what a loop is made of, and its making. Its end is in `closing`.
//!
//! The head of `event_loop` describes states, access and deallocation.

use std::collections::VecDeque;
use std::io;
use std::mem::ManuallyDrop;
use std::ops::Deref;

use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyTuple};
use pyo3::{Borrowed, PyTraverseError, PyVisit, ffi};

use super::backpressure::Backpressure;
use super::descriptors::Descriptors;
use super::flush::FlushList;
use super::overrides::Overrides;
use super::queue::{Entry, Ready};
use super::scratch::{self, Scratch};
use super::sources::Sources;
use super::timers::Timers;
use super::wake_targets::WakeTargets;
use super::wakeups::Wakeups;
use crate::ffi::contexts::Contexts;
use crate::ffi::finalizing;
use crate::ffi::gil::{GilCell, GilFlag};
use crate::ffi::object::Object;
use crate::ffi::trashcan::{NestedDrops, drop_nested};

/// The native part of the event loop: what runs for every callback and every packet.
///
/// A base class of :class:`tokioloop.Loop`, before ``asyncio.SelectorEventLoop``, which
/// contributes the rest of ``asyncio.AbstractEventLoop``. It ignores its arguments.
#[pyclass(subclass, frozen, module = "tokioloop._core")]
pub struct NativeLoop {
    /// Borrowed pointer to the Python object that this struct is part of.
    this: GilFlag<Object>,
    made: GilFlag<bool>,
    closed: Closed,
    core: ManuallyDrop<Core>,
}

/// The parts of a loop.
///
/// CPython's `object.__new__`, which makes the object before PyO3 fills it, may find no memory for
/// its `__dict__`, and frees it again: finalizers and destructors see a loop whose memory is all
/// zeros. It is not `made`, it is closed, and nothing else of it is touched or dropped.
pub struct Core {
    pub(super) state: RunState,
    pub(super) ready: GilCell<Ready>,
    pub(super) timers: GilCell<Timers>,
    pub(super) overrides: Overrides,
    pub(super) contexts: Contexts,
    pub(super) wakeups: Wakeups,
    pub(super) backpressure: Backpressure,
    pub(super) sources: GilCell<Sources<NativeLoop>>,
    pub(super) descriptors: GilCell<Descriptors>,
    pub(super) unflushed: FlushList,
    pub(super) scratch: Scratch,
    pub(super) wake_targets: WakeTargets,
}

/// Whether and how the loop runs.
pub(super) struct RunState {
    pub(super) debug: GilFlag<bool>,
    pub(super) stopping: GilFlag<bool>,
    /// `threading.get_ident()` of the running thread, or 0.
    pub(super) thread: GilFlag<u64>,
    /// Inside of `run`, whose caller keeps the loop: handles need not be tracked.
    pub(super) in_run: GilFlag<bool>,
    /// How many runs inside of callbacks of this loop are on the stack: see `nesting`.
    pub(super) inner_runs: GilFlag<usize>,
    /// The loop is asked before it blocks: see `virtual_time`.
    pub(super) virtual_time: GilFlag<bool>,
}

impl Deref for NativeLoop {
    type Target = Core;

    #[inline]
    fn deref(&self) -> &Core {
        &self.core
    }
}

impl Drop for NativeLoop {
    fn drop(&mut self) {
        // Before the fields, whose destructors may run Python code.
        finalizing::guard();
        // SAFETY: who drops a Python object holds the GIL.
        let py = unsafe { Python::assume_attached() };
        if !self.made.get(py) {
            return;
        }
        let entries = self.ready.with(py, Ready::take_at_the_end);
        if entries.iter().any(|entries| !entries.is_empty()) {
            drop_nested(&DROPPING, entries);
        }
        // SAFETY: made, and dropped once, here.
        unsafe { ManuallyDrop::drop(&mut self.core) };
    }
}

thread_local! {
    /// An entry of a loop that is freed may hold the last reference to another loop.
    static DROPPING: NestedDrops<[VecDeque<Entry>; 3]> = const { NestedDrops::new() };
}

/// Whether a loop is closed. All zeros mean that it is.
pub(super) struct Closed {
    open: GilFlag<bool>,
}

impl Closed {
    #[inline]
    pub(super) fn get(&self, py: Python<'_>) -> bool {
        !self.open.get(py)
    }

    fn set(&self, py: Python<'_>, closed: bool) {
        self.open.set(py, !closed);
    }
}

#[pymethods]
impl NativeLoop {
    #[new]
    #[pyo3(signature = (*_args, **_kwargs))]
    fn new(
        py: Python<'_>,
        _args: &Bound<'_, PyTuple>,
        _kwargs: Option<&Bound<'_, PyDict>>,
    ) -> PyResult<Self> {
        finalizing::guard();
        let state = RunState {
            debug: GilFlag::new(false),
            stopping: GilFlag::new(false),
            thread: GilFlag::new(0),
            in_run: GilFlag::new(false),
            inner_runs: GilFlag::new(0),
            virtual_time: GilFlag::new(false),
        };
        let core = Core {
            state,
            ready: GilCell::new(Ready::new()),
            timers: GilCell::new(Timers::default()),
            overrides: Overrides::new(&py.get_type::<Self>())?,
            contexts: Contexts::default(),
            wakeups: Wakeups::new(),
            backpressure: Backpressure::new(),
            sources: GilCell::new(Sources::default()),
            descriptors: GilCell::new(Descriptors::default()),
            unflushed: FlushList::new(),
            scratch: Scratch::new(),
            wake_targets: WakeTargets::new(),
        };
        Ok(Self {
            this: GilFlag::new(std::ptr::null_mut()),
            made: GilFlag::new(true),
            closed: Closed { open: GilFlag::new(true) },
            core: ManuallyDrop::new(core),
        })
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        // SAFETY: the collector holds the GIL.
        if !self.made.get(unsafe { Python::assume_attached() }) {
            return Ok(());
        }
        // A cell that is borrowed right now is skipped: what is not visited is only kept alive.
        if let Some(ready) = self.ready.peek(&visit) {
            ready.traverse(&visit)?;
        }
        if let Some(timers) = self.timers.peek(&visit) {
            timers.traverse(&visit)?;
        }
        if let Some(sources) = self.sources.peek(&visit) {
            sources.traverse(&visit)?;
        }
        if let Some(descriptors) = self.descriptors.peek(&visit) {
            descriptors.traverse(&visit)?;
        }
        self.unflushed.traverse(&visit)?;
        self.wake_targets.traverse(&visit)?;
        self.contexts.traverse(&visit)
    }
}

impl NativeLoop {
    /// The loop behind a Python object.
    ///
    /// # Safety
    /// `object` must be a live instance of `NativeLoop` (or of a class derived from it) that
    /// outlives `'a`, and the GIL must be held.
    #[inline]
    pub unsafe fn of<'a>(object: Object) -> &'a Self {
        // SAFETY: the caller's promise; the struct's address is fixed for the object's life.
        unsafe {
            let py = Python::assume_attached();
            let bound = pyo3::Borrowed::from_ptr(py, object);
            let this = std::ptr::from_ref::<Self>(bound.cast_unchecked::<Self>().get());
            (*this).this.set(py, object);
            &*this
        }
    }

    /// The loop behind the receiver of a PyO3 method. From now on the thread is guarded: see
    /// `finalizing`.
    pub fn entered<'a>(slf: &'a Bound<'_, Self>) -> &'a Self {
        finalizing::guard();
        // SAFETY: an instance of this class, alive as long as `slf`, which implies the GIL.
        unsafe { Self::of(slf.as_ptr()) }
    }

    /// The Python object, borrowed.
    #[inline]
    pub fn object(&self) -> Object {
        // SAFETY: only reached through `of`, which the GIL guards and which set the pointer.
        self.this.get(unsafe { Python::assume_attached() })
    }

    /// The Python object, for the time of a borrow.
    #[inline]
    pub(crate) fn borrowed<'a, 'py>(&'a self, py: Python<'py>) -> Borrowed<'a, 'py, PyAny> {
        // SAFETY: `self` lives inside this object.
        unsafe { Borrowed::from_ptr(py, self.object()) }
    }

    pub fn bind<'py>(&self, py: Python<'py>) -> Bound<'py, PyAny> {
        // SAFETY: `self` lives inside this object.
        unsafe { Bound::from_borrowed_ptr(py, self.object()) }
    }

    /// Some thread is inside `run_forever`.
    pub fn is_running(&self, py: Python<'_>) -> bool {
        self.state.thread.get(py) != 0
    }

    /// `threading.get_ident()` of the thread that is inside `run_forever`.
    pub fn running_thread(&self, py: Python<'_>) -> Option<u64> {
        Some(self.state.thread.get(py)).filter(|id| *id != 0)
    }

    /// Refuses to run a loop whose constructor has not run.
    pub(super) fn check_made(&self, py: Python<'_>) -> PyResult<()> {
        if self.made.get(py) { Ok(()) } else { self.check_closed(py) }
    }

    #[inline]
    pub fn check_closed(&self, py: Python<'_>) -> PyResult<()> {
        if self.closed.get(py) {
            return Err(PyRuntimeError::new_err("Event loop is closed"));
        }
        Ok(())
    }

    /// Whether entries are ready, or the loop is to stop: then a transport reads no further.
    #[inline]
    pub fn others_wait(&self, py: Python<'_>) -> bool {
        self.state.stopping.get(py) || self.ready.with(py, |ready| ready.len()) > 0
    }

    /// Whether a callback of this loop waits on the stack for the run that serves the queue.
    #[inline]
    pub(super) fn is_inner_run(&self, py: Python<'_>) -> bool {
        self.state.inner_runs.get(py) > 0
    }

    /// Whether this is the thread that runs the loop.
    pub fn runs_in_this_thread(&self, py: Python<'_>) -> bool {
        // SAFETY: no arguments; answers in any thread.
        self.running_thread(py) == Some(unsafe { ffi::PyThread_get_thread_ident() } as u64)
    }

    /// Whether the constructor has run: see `Core`.
    pub(super) fn is_made(&self, py: Python<'_>) -> bool {
        self.made.get(py)
    }

    pub fn is_closed(&self, py: Python<'_>) -> bool {
        self.closed.get(py)
    }

    pub(super) fn mark_closed(&self, py: Python<'_>, closed: bool) {
        self.closed.set(py, closed);
    }

    #[inline]
    pub fn is_debug(&self, py: Python<'_>) -> bool {
        self.state.debug.get(py)
    }

    /// The snapshots of contexts that callbacks run in.
    #[inline]
    pub fn contexts(&self) -> &Contexts {
        &self.contexts
    }

    /// What the loop registered with the reactor.
    #[inline]
    pub fn sources(&self) -> &GilCell<Sources<Self>> {
        &self.sources
    }

    /// Ends the loop's sleep. Needed after each change that the loop has to see.
    #[inline]
    pub(crate) fn wake(&self, py: Python<'_>) {
        self.wakeups.wake(py);
    }

    /// A peer was answered, and may ask again at once: the next sleep begins with a short spin.
    #[inline]
    pub(crate) fn set_answered(&self, py: Python<'_>, answered: bool) {
        self.wakeups.set_answered(py, answered);
    }

    /// The most bytes that one read takes.
    pub(crate) const fn most_at_once(&self) -> usize {
        scratch::SIZE
    }

    /// Lends the buffer that reads go through. `f` may run Python code: see `Scratch::lend`.
    pub(crate) fn with_scratch<R>(
        &self,
        py: Python<'_>,
        f: impl FnOnce(&mut [u8]) -> R,
    ) -> io::Result<R> {
        self.scratch.lend(py, |scratch| f(scratch))
    }

    /// The same; `f` may keep the buffer for `return_scratch`, and leave an empty one.
    pub(crate) fn with_whole_scratch<R>(
        &self,
        py: Python<'_>,
        f: impl FnOnce(&mut Vec<u8>) -> R,
    ) -> io::Result<R> {
        self.scratch.lend(py, f)
    }

    /// Takes back a buffer that was kept, as it was lent.
    pub(crate) fn return_scratch(&self, py: Python<'_>, scratch: Vec<u8>) {
        if !self.is_closed(py) {
            self.scratch.put(py, scratch);
        }
    }
}
