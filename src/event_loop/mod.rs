//! `NativeLoop`: the part of the event loop that runs per callback.
//!
//! `tokioloop.Loop` derives from it and from asyncio's own selector loop, which contributes what
//! runs per connection or per loop.
//!
//! # States
//!
//! - *Open* until `closed` is set, by `close()` or by the collector's `__clear__` (or by a program, as
//!   asyncio's `_closed` can be). What a program schedules is refused from then on; it is looked at
//!   again after what may run Python code. So `release_all` ends, whatever destructors do meanwhile.
//! - *Running* while `thread` is not 0, which the Python `run_forever` sets; `in_run` while a call of
//!   `run` is on the stack, whose caller keeps the loop. `idle` while the thread sleeps in the driver
//!   without the GIL: who makes something ready then wakes it, once.
//! - The reactor is there from its first need to `release_all`. A forked child makes another one when it
//!   finds that its own is the parent's.
//!
//! # Who may touch what
//!
//! Whoever holds the GIL and a reference, and only by `&NativeLoop`: each field is a cell that the GIL
//! guards. No Python code runs while one is borrowed. What is dropped is taken out before, and what Python
//! code may have changed is read again after it. Other threads without the GIL know the `mailbox` and
//! the reactor's events, and nothing else.
//!
//! `this` is the object that the struct is a part of. It is set whenever a pointer to the object
//! becomes a reference to the struct (`of`), so it is there for every method.
//!
//! # What frees it
//!
//! The last reference. Handles, transports and waiting calls each have one, so when a loop is freed
//! there are none any more that could ask for it. A loop that nobody closed is closed by its
//! finalizer, in Python, before the collector clears it.

pub(crate) mod descriptors;
mod dispatch;
pub(crate) mod handles;
mod iteration;
mod methods;
mod queue;
mod reference;
mod run;
mod sources;
pub(crate) mod targets;
pub(crate) mod timers;

use std::collections::VecDeque;
use std::mem::ManuallyDrop;
use std::ops::Deref;
use std::sync::Arc;

use pyo3::exceptions::{PyKeyboardInterrupt, PyMemoryError, PyRuntimeError, PySystemExit};
use pyo3::prelude::*;
use pyo3::types::{PyList, PyString};
use pyo3::{PyTraverseError, PyVisit, ffi};

pub(crate) use dispatch::deregister;
pub(crate) use queue::{Callback, Entry, Queued};
pub(crate) use reference::{LoopRef, LoopSlot};

/// An entry of the loop's table of sources.
pub(crate) type Source = sources::Source<NativeLoop>;
/// What the loop does with one kind of source.
pub(crate) type SourceVTable = sources::SourceVTable<NativeLoop>;

use crate::driver::reactor::{Key, Reactor};
use crate::event_loop::descriptors::Descriptors;
use crate::event_loop::handles::Handle;
use crate::event_loop::targets::{Mailbox, Target};
use crate::event_loop::timers::alarm::monotonic;
use crate::event_loop::timers::{Timer, Timers};
use crate::ffi::cached;
use crate::ffi::contexts::Contexts;
use crate::ffi::errors::{made, os_error};
use crate::ffi::finalizing;
use crate::ffi::gil::{GilCell, GilFlag, PySlot};
use crate::ffi::memory;
use crate::ffi::object::{self, Object};
use crate::ffi::trashcan::{Turns, drop_in_turn};
use queue::{Ready, Ticket};
use sources::Sources;

/// Gives the loop's class its methods, and puts it and the handles' classes into the extension module.
pub(crate) fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    let class = module.py().get_type::<NativeLoop>();
    methods::install(&class)?;
    handles::register(module)?;
    module.add("NativeLoop", class)
}

/// The size of the buffer that reads go through; asyncio's `max_size`.
const SCRATCH: usize = 256 * 1024;

#[pyclass(subclass, frozen, module = "tokioloop._core")]
pub struct NativeLoop {
    /// Borrowed pointer to the Python object that this struct is part of.
    this: GilFlag<Object>,
    made: GilFlag<bool>,
    pub closed: Closed,
    core: ManuallyDrop<Core>,
}

/// What a loop is made of.
///
/// CPython's `object.__new__`, which makes the object before PyO3 fills it, may find no memory for
/// its `__dict__`, and frees it again: finalizers and destructors see a loop whose memory is all
/// zeros. It is not `made`, it is closed, and nothing else of it is touched or dropped.
pub struct Core {
    pub debug: GilFlag<bool>,
    pub stopping: GilFlag<bool>,
    /// `threading.get_ident()` of the running thread, or 0.
    thread: GilFlag<u64>,
    ready: GilCell<Ready>,
    /// Inside of `run`, whose caller keeps the loop: handles need not be tracked.
    pub in_run: GilFlag<bool>,
    timers: GilCell<Timers>,
    clock: Clock,
    pub contexts: Contexts,
    reactor: GilCell<Option<Arc<Reactor>>>,
    pub sources: GilCell<Sources<NativeLoop>>,
    pub descriptors: GilCell<Descriptors>,
    /// Transports with unsent writes of this batch.
    pub unflushed: GilCell<Vec<(Py<PyAny>, Callback)>>,
    scratch: GilCell<Vec<u8>>,
    /// The loop sleeps; whoever makes something ready must wake it.
    idle: GilFlag<bool>,
    /// A peer was answered since the loop last blocked, and may ask again at once.
    pub answered: GilFlag<bool>,
    fired: GilCell<Vec<Key>>,
    /// One of the methods that the primitives would go past was replaced on the instance.
    pub replaced: GilFlag<bool>,
    pub has_task_factory: GilFlag<bool>,
    /// Wakers of Rust futures refer to this loop.
    pub has_targets: GilFlag<bool>,
    /// Rust futures use the runtime: it may have tasks and timers, which no descriptor tells of.
    runtime_is_shared: GilFlag<bool>,
    pub mailbox: Arc<Mailbox>,
    /// Targets whose objects wait to be called.
    pub parked: GilCell<Vec<Arc<Target>>>,
    pub woken: GilCell<Vec<Arc<Target>>>,
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
            drop_in_turn(&DROPPING, entries);
        }
        // SAFETY: made, and dropped once, here.
        unsafe { ManuallyDrop::drop(&mut self.core) };
    }
}

thread_local! {
    /// What waits in a loop that is freed may be all that another loop is kept by.
    static DROPPING: Turns<[VecDeque<Entry>; 2]> = const { Turns::new() };
}

/// Whether a loop is closed. All zeros mean that it is.
pub struct Closed {
    open: GilFlag<bool>,
}

impl Closed {
    #[inline]
    pub fn get(&self, py: Python<'_>) -> bool {
        !self.open.get(py)
    }

    fn set(&self, py: Python<'_>, closed: bool) {
        self.open.set(py, !closed);
    }
}

/// Whether `time()` and `call_at()` are ours, so that they need not be called as methods.
struct Clock {
    type_version: GilFlag<u32>,
    custom: GilFlag<Custom>,
    /// The descriptors that `time` and `call_at` are when nobody overrode them.
    native_time: PySlot,
    native_call_at: PySlot,
}

/// What a program put in the place of our methods.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
struct Custom {
    class_time: bool,
    own_time: bool,
    class_call_at: bool,
    own_call_at: bool,
}

#[pymethods]
impl NativeLoop {
    #[new]
    #[pyo3(signature = (*_args, **_kwargs))]
    fn new(
        py: Python<'_>,
        _args: &Bound<'_, pyo3::types::PyTuple>,
        _kwargs: Option<&Bound<'_, pyo3::types::PyDict>>,
    ) -> PyResult<Self> {
        finalizing::guard();
        let native = |name: &Bound<'_, PyString>| {
            py.get_type::<Self>().getattr(name).map(|it| PySlot::new(it.unbind()))
        };
        let core = Core {
            debug: GilFlag::new(false),
            stopping: GilFlag::new(false),
            thread: GilFlag::new(0),
            ready: GilCell::new(Ready::new()),
            in_run: GilFlag::new(false),
            timers: GilCell::new(Timers::default()),
            clock: Clock {
                type_version: GilFlag::new(0),
                custom: GilFlag::new(Custom::default()),
                native_time: native(pyo3::intern!(py, "time"))?,
                native_call_at: native(pyo3::intern!(py, "call_at"))?,
            },
            contexts: Contexts::default(),
            reactor: GilCell::new(None),
            sources: GilCell::new(Sources::default()),
            descriptors: GilCell::new(Descriptors::default()),
            unflushed: GilCell::new(Vec::new()),
            scratch: GilCell::new(Vec::new()),
            idle: GilFlag::new(false),
            answered: GilFlag::new(false),
            fired: GilCell::new(Vec::new()),
            replaced: GilFlag::new(false),
            has_task_factory: GilFlag::new(false),
            has_targets: GilFlag::new(false),
            runtime_is_shared: GilFlag::new(false),
            mailbox: Arc::default(),
            parked: GilCell::new(Vec::new()),
            woken: GilCell::new(Vec::new()),
        };
        let closed = Closed { open: GilFlag::new(true) };
        Ok(Self {
            this: GilFlag::new(std::ptr::null_mut()),
            made: GilFlag::new(true),
            closed,
            core: ManuallyDrop::new(core),
        })
    }

    #[getter(_closed)]
    fn get_closed(&self, py: Python<'_>) -> bool {
        self.closed.get(py)
    }

    #[setter(_closed)]
    fn set_closed(&self, py: Python<'_>, closed: bool) {
        if self.made.get(py) {
            self.closed.set(py, closed);
        }
    }

    #[getter(_debug)]
    fn get_debug_flag(&self, py: Python<'_>) -> bool {
        self.debug.get(py)
    }

    #[setter(_debug)]
    fn set_debug_flag(&self, debug: &Bound<'_, PyAny>) -> PyResult<()> {
        finalizing::guard();
        self.debug.set(debug.py(), debug.is_truthy()?);
        Ok(())
    }

    #[getter(_stopping)]
    fn get_stopping(&self, py: Python<'_>) -> bool {
        self.stopping.get(py)
    }

    #[setter(_stopping)]
    fn set_stopping(&self, py: Python<'_>, stopping: bool) {
        self.stopping.set(py, stopping);
    }

    #[getter(_thread_id)]
    fn get_thread_id(&self, py: Python<'_>) -> Option<u64> {
        self.running_thread(py)
    }

    #[setter(_thread_id)]
    fn set_thread_id(&self, py: Python<'_>, id: Option<u64>) {
        self.thread.set(py, id.unwrap_or(0));
    }

    /// The handles in the ready queue, for who wants to look.
    #[getter(_ready)]
    fn get_ready<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyList>> {
        let (py, this) = (slf.py(), Self::entered(slf));
        if this.closed.get(py) {
            // asyncio's `close()` clears it; what is in it yet `_dispose` drops, without a list.
            return list_of(py, &[]);
        }
        // Made outside of the borrow: to allocate may run the garbage collector, and so anything.
        // What comes into the queue meanwhile may be left out.
        let missing = this.ready.with(py, |ready| ready.without_handle());
        let mut spare = room_for(missing)?;
        for _ in 0..missing {
            spare.push(Handle::blank(py, this)?);
        }
        let mut found = room_for(this.ready.with(py, |ready| ready.len()))?;
        this.ready.with(py, |ready| ready.handles(py, &spare, &mut found));
        list_of(py, &found)
    }

    /// asyncio's constructor assigns it; the queue stays the core's.
    #[setter(_ready)]
    fn set_ready(&self, _queue: &Bound<'_, PyAny>) {}

    /// The timers that have not fired, for who wants to look.
    #[getter(_scheduled)]
    fn get_scheduled<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyList>> {
        finalizing::guard();
        if self.closed.get(py) {
            return list_of(py, &[]);
        }
        let mut found = room_for(self.timers.with(py, |timers| timers.len()))?;
        self.timers.with(py, |timers| {
            found.extend(timers.handles().map(|handle| handle.clone_ref(py)));
        });
        list_of(py, &found)
    }

    /// See `set_ready`.
    #[setter(_scheduled)]
    fn set_scheduled(&self, _heap: &Bound<'_, PyAny>) {}

    /// One iteration, without the frame that `run_forever` sets around it.
    fn _run_once(slf: &Bound<'_, Self>) -> PyResult<()> {
        let this = Self::entered(slf);
        object::without_panics(slf.py(), || {
            this.check_made(slf.py())?;
            this.run_once(slf.py())
        })
    }

    /// Runs until `stop()`; the Python `run_forever` sets the scene.
    fn _run(slf: &Bound<'_, Self>) -> PyResult<()> {
        let this = Self::entered(slf);
        object::without_panics(slf.py(), || {
            this.check_made(slf.py())?;
            this.run(slf.py())
        })
    }

    /// Lets go of everything, once the loop is closed; called by `close()`.
    fn _dispose(slf: &Bound<'_, Self>) {
        let this = Self::entered(slf);
        if this.closed.get(slf.py()) && this.made.get(slf.py()) {
            this.release_all(slf.py());
        }
    }

    /// Wakes the loop if it sleeps.
    fn _write_to_self(&self, py: Python<'_>) {
        self.wake(py);
    }

    fn __setattr__(
        slf: &Bound<'_, Self>,
        name: Bound<'_, PyAny>,
        value: Bound<'_, PyAny>,
    ) -> PyResult<()> {
        let this = Self::entered(slf);
        // SAFETY: generic attribute setting on a live object.
        let result =
            unsafe { ffi::PyObject_GenericSetAttr(slf.as_ptr(), name.as_ptr(), value.as_ptr()) };
        this.attribute_changed(&name, result, Some(&value))
    }

    fn __delattr__(slf: &Bound<'_, Self>, name: Bound<'_, PyAny>) -> PyResult<()> {
        let this = Self::entered(slf);
        // SAFETY: generic attribute setting on a live object; a null value deletes.
        let result = unsafe {
            ffi::PyObject_GenericSetAttr(slf.as_ptr(), name.as_ptr(), std::ptr::null_mut())
        };
        this.attribute_changed(&name, result, None)
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
        if let Some(unflushed) = self.unflushed.peek(&visit) {
            for (transport, _) in unflushed.iter() {
                visit.call(transport)?;
            }
        }
        self.contexts.traverse(&visit)
    }

    fn __clear__(slf: &Bound<'_, Self>) {
        let this = Self::entered(slf);
        if !this.made.get(slf.py()) {
            return;
        }
        // The finalizer had its time to close the loop. What still reaches it, out of the
        // destructors of its own garbage, finds it closed.
        this.closed.set(slf.py(), true);
        this.release_all(slf.py());
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

    /// The loop behind an object that a method of PyO3's got, in a thread that is guarded from now
    /// on: see `finalizing`.
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

    pub fn bind<'py>(&self, py: Python<'py>) -> Bound<'py, PyAny> {
        // SAFETY: `self` lives inside this object.
        unsafe { Bound::from_borrowed_ptr(py, self.object()) }
    }

    /// Some thread is inside `run_forever`.
    pub fn is_running(&self, py: Python<'_>) -> bool {
        self.thread.get(py) != 0
    }

    /// `threading.get_ident()` of the thread that is inside `run_forever`.
    pub fn running_thread(&self, py: Python<'_>) -> Option<u64> {
        Some(self.thread.get(py)).filter(|id| *id != 0)
    }

    /// One that was not made must not be run.
    fn check_made(&self, py: Python<'_>) -> PyResult<()> {
        if self.made.get(py) { Ok(()) } else { self.check_closed(py) }
    }

    #[inline]
    pub fn check_closed(&self, py: Python<'_>) -> PyResult<()> {
        if self.closed.get(py) {
            return Err(PyRuntimeError::new_err("Event loop is closed"));
        }
        Ok(())
    }

    /// Something else is to run before more is read, or the loop is to stop.
    #[inline]
    pub fn others_wait(&self, py: Python<'_>) -> bool {
        self.stopping.get(py) || self.ready.with(py, |ready| ready.len()) > 0
    }

    /// Puts an entry at the end of the ready queue and sees to it that it is run.
    #[inline]
    pub fn push(&self, py: Python<'_>, entry: Entry) {
        self.ready.with(py, |ready| ready.push(entry));
        self.wake(py);
    }

    /// `push` of a call that nobody has looked at, and of the handle that is its ticket.
    #[inline]
    pub fn push_call(&self, py: Python<'_>, call: Queued, handle: &Handle) -> PyResult<()> {
        // Again: to make the handle may have run the collector, and a finalizer closed the loop.
        self.check_closed(py)?;
        if let Some(call) = self.ready.with(py, |ready| ready.push_call(py, call, handle)) {
            drop(call);
            return Err(PyMemoryError::new_err(()));
        }
        if !self.in_run.get(py) {
            // The loop may become garbage, and the ticket with it.
            handle.track_new();
        }
        self.wake(py);
        Ok(())
    }

    /// `push` of a handle that was made for the user.
    pub fn push_handle(&self, py: Python<'_>, handle: Handle) -> PyResult<()> {
        self.check_closed(py)?;
        if !self.ready.with(py, Ready::make_room) {
            return Err(PyMemoryError::new_err(()));
        }
        self.push(py, Entry::Handle(handle));
        Ok(())
    }

    /// The handle with this ticket takes its call over.
    pub fn claim(&self, py: Python<'_>, ticket: Ticket) {
        self.ready.with(py, |ready| ready.claim(py, ticket));
    }

    /// The handle with this ticket dies; its call is the queue's.
    #[inline]
    pub fn give_up(&self, py: Python<'_>, ticket: Ticket) {
        self.ready.with(py, |ready| ready.give_up(ticket));
    }

    #[inline]
    pub fn wake(&self, py: Python<'_>) {
        if self.idle.get(py) {
            self.idle.set(py, false);
            self.reactor.with(py, |reactor| {
                if let Some(reactor) = reactor {
                    reactor.wake();
                }
            });
        }
    }

    pub fn add_timer(&self, py: Python<'_>, timer: Timer, when: f64) -> PyResult<()> {
        self.check_closed(py)?;
        if let Some(timer) = self.timers.with(py, |timers| timers.push(py, timer, when)) {
            drop(timer);
            return Err(PyMemoryError::new_err(()));
        }
        self.wake(py);
        Ok(())
    }

    /// A timer in the heap was cancelled.
    pub fn timer_cancelled(&self, py: Python<'_>) {
        drop(self.timers.with(py, |timers| timers.count_cancelled(py)));
    }

    /// When the first timer is due.
    pub fn first_timer(&self, py: Python<'_>) -> Option<f64> {
        self.timers.with(py, |timers| timers.next())
    }

    /// `self.time()`, without the call when nobody overrode it.
    pub fn now(&self, py: Python<'_>) -> PyResult<f64> {
        if self.has_custom_time(py) { self.time(py)?.extract() } else { Ok(monotonic()) }
    }

    /// `self.time()`, whatever it gives.
    pub fn time<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        if self.has_custom_time(py) {
            self.bind(py).call_method0(pyo3::intern!(py, "time"))
        } else {
            Ok(monotonic().into_pyobject(py)?.into_any())
        }
    }

    #[inline]
    pub fn has_custom_time(&self, py: Python<'_>) -> bool {
        let custom = self.custom_clock(py);
        custom.own_time || custom.class_time
    }

    /// Whether `call_later` must call `time()` or `call_at()` as a method.
    #[inline]
    pub fn has_custom_timers(&self, py: Python<'_>) -> bool {
        self.custom_clock(py) != Custom::default()
    }

    /// Whether `call_later` must call `call_at()` as a method.
    pub fn has_custom_call_at(&self, py: Python<'_>) -> bool {
        let custom = self.custom_clock(py);
        custom.own_call_at || custom.class_call_at
    }

    #[inline]
    fn custom_clock(&self, py: Python<'_>) -> Custom {
        // SAFETY: the type of a live object.
        let version = unsafe { (*ffi::Py_TYPE(self.object())).tp_version_tag } as u32;
        if version == 0 || version != self.clock.type_version.get(py) {
            self.look_up_clock(py, version);
        }
        self.clock.custom.get(py)
    }

    #[cold]
    fn look_up_clock(&self, py: Python<'_>, version: u32) {
        let class = self.bind(py).get_type();
        let overridden = |name: &Bound<'_, PyString>, native: &PySlot| {
            class.getattr(name).is_ok_and(|found| !native.holds(&found))
        };
        let class_time = overridden(pyo3::intern!(py, "time"), &self.clock.native_time);
        let class_call_at = overridden(pyo3::intern!(py, "call_at"), &self.clock.native_call_at);
        let custom = self.clock.custom.get(py);
        self.clock.custom.set(py, Custom { class_time, class_call_at, ..custom });
        self.clock.type_version.set(py, version);
    }

    fn attribute_changed(
        &self,
        name: &Bound<'_, PyAny>,
        result: i32,
        value: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<()> {
        let py = name.py();
        if result != 0 {
            return Err(PyErr::fetch(py));
        }
        // One that is no text to Rust (with lone surrogates) is none of these.
        let name = name.cast::<PyString>().ok().and_then(|name| name.to_str().ok());
        match name.unwrap_or_default() {
            "time" => {
                let custom = self.clock.custom.get(py);
                self.clock.custom.set(py, Custom { own_time: value.is_some(), ..custom });
            }
            "_task_factory" => {
                self.has_task_factory.set(py, value.is_some_and(|factory| !factory.is_none()));
            }
            // For good: who did it once may have kept what it had, to put it back.
            "call_at" => {
                let custom = self.clock.custom.get(py);
                self.clock.custom.set(py, Custom { own_call_at: value.is_some(), ..custom });
                self.replaced.set(py, true);
            }
            "call_later" | "call_soon" | "create_future" | "create_task" => {
                self.replaced.set(py, true);
            }
            _ => {}
        }
        Ok(())
    }

    /// The runtime, made at first need and made anew in a forked child.
    pub fn reactor(&self, py: Python<'_>) -> PyResult<Arc<Reactor>> {
        if let Some(reactor) = self.reactor.with(py, |reactor| reactor.clone())
            && !reactor.is_forked()
        {
            return Ok(reactor);
        }
        self.check_closed(py)?;
        let reactor = Arc::new(Reactor::new().map_err(|error| os_error(py, &error))?);
        self.mailbox.attach(&reactor.events);
        let inherited = self.reactor.with(py, |slot| slot.replace(Arc::clone(&reactor)));
        if inherited.is_some() {
            drop(inherited);
            dispatch::move_to(py, self, &reactor)?;
        }
        // A loop that has run out of descriptors needs timers, to go on later. If there is none
        // left now, the first timer tries again.
        drop(dispatch::prepare_alarm(py, self));
        Ok(reactor)
    }

    /// The runtime, for futures that use it: from now on it is polled for their sake, too.
    pub fn shared_reactor(&self, py: Python<'_>) -> PyResult<Arc<Reactor>> {
        self.runtime_is_shared.set(py, true);
        self.reactor(py)
    }

    /// Registers a descriptor and what its events are for.
    pub fn add_source(
        &self,
        py: Python<'_>,
        fd: i32,
        source: Source,
    ) -> PyResult<(Key, crate::driver::reactor::Registration)> {
        let reactor = self.reactor(py)?;
        let key = self.sources.with(py, |sources| sources.insert(source));
        match reactor.register(fd, key) {
            Ok(registration) => Ok((key, registration)),
            Err(error) => {
                drop(self.sources.with(py, |sources| sources.remove(key)));
                Err(os_error(py, &error))
            }
        }
    }

    /// The most bytes that one read takes.
    pub const fn most_at_once(&self) -> usize {
        SCRATCH
    }

    /// Lends the scratch buffer that reads go through. It is taken out meanwhile: should `f` come
    /// to run Python code that reads as well, that gets one of its own.
    pub fn with_scratch<R>(&self, py: Python<'_>, f: impl FnOnce(&mut [u8]) -> R) -> R {
        let mut scratch = self.scratch.take(py);
        if scratch.is_empty() {
            scratch.resize(SCRATCH, 0);
        }
        let result = f(&mut scratch);
        drop(self.scratch.with(py, |slot| std::mem::replace(slot, scratch)));
        result
    }

    /// Calls a handle; what it raises goes to the exception handler, save what ends the loop.
    #[inline]
    pub fn run_handle(&self, py: Python<'_>, handle: &Handle) -> PyResult<()> {
        match handle.call(py) {
            Ok(()) => Ok(()),
            Err(error) => self.callback_failed(py, handle, error),
        }
    }

    /// Runs a call of the ready queue that has no handle.
    #[inline]
    fn run_call(&self, py: Python<'_>, call: Queued) -> PyResult<()> {
        match call.call(py, &self.contexts) {
            Ok(()) => Ok(()),
            Err(error) => {
                let handle = call.into_new_handle(py, self)?;
                self.callback_failed(py, &handle, error)
            }
        }
    }

    /// Reports what a callback raised, as asyncio's handles do.
    #[cold]
    pub fn callback_failed(&self, py: Python<'_>, handle: &Handle, error: PyErr) -> PyResult<()> {
        if ends_loop(py, &error) {
            return Err(error);
        }
        cached::helpers(py)?.bind(py).call_method1(
            pyo3::intern!(py, "report_callback_error"),
            (self.bind(py), handle.bind(py), error.into_value(py)),
        )?;
        Ok(())
    }

    /// `call_exception_handler` with asyncio's context keys.
    pub fn report(
        &self,
        py: Python<'_>,
        message: &str,
        error: PyErr,
        context: &[(&str, &Bound<'_, PyAny>)],
    ) -> PyResult<()> {
        self.report_text(&PyString::new(py, message), error, context)
    }

    /// The same with a message that has a program's names in it.
    pub fn report_text(
        &self,
        message: &Bound<'_, PyString>,
        error: PyErr,
        context: &[(&str, &Bound<'_, PyAny>)],
    ) -> PyResult<()> {
        let py = message.py();
        let error = made(py, error);
        if ends_loop(py, &error) {
            return Err(error);
        }
        let about = pyo3::types::PyDict::new(py);
        about.set_item("message", message)?;
        about.set_item("exception", error.into_value(py))?;
        for (key, value) in context {
            about.set_item(key, value)?;
        }
        self.bind(py).call_method1(pyo3::intern!(py, "call_exception_handler"), (about,))?;
        Ok(())
    }

    /// Lets go of everything. The loop is closed already, so nothing is scheduled any more.
    ///
    /// Each step may run destructors, which may come back here, look at the loop, drop handles, or
    /// hand the GIL to a thread that does. So what is dropped is out of the loop's reach before.
    fn release_all(&self, py: Python<'_>) {
        self.close_targets(py);
        self.contexts.forget(py);
        // One at a time, and never as a whole: `ready` says why.
        while let Some(entry) = self.ready.with(py, |ready| ready.pop(py)) {
            drop(entry);
        }
        self.ready.with(py, Ready::trim);
        drop(self.timers.with(py, Timers::take));
        drop(self.unflushed.take(py));
        // Out of reach first: nothing is registered any more. It goes last.
        let reactor = self.reactor.take(py);
        dispatch::detach_all(py, self);
        drop(self.sources.take(py));
        drop(self.descriptors.take(py));
        drop(reactor);
        drop(self.scratch.take(py));
    }
}

/// An empty list with room for `count` handles.
fn room_for(count: usize) -> PyResult<Vec<Handle>> {
    let mut room = Vec::new();
    room.try_reserve_exact(count).map_err(|_| PyMemoryError::new_err(()))?;
    Ok(room)
}

fn list_of<'py>(py: Python<'py>, handles: &[Handle]) -> PyResult<Bound<'py, PyList>> {
    memory::list(py, handles.iter().map(|handle| handle.bind(py).clone()))
}

/// `SystemExit` and `KeyboardInterrupt` leave `run_forever`; everything else is reported.
pub(crate) fn ends_loop(py: Python<'_>, error: &PyErr) -> bool {
    error.is_instance_of::<PySystemExit>(py) || error.is_instance_of::<PyKeyboardInterrupt>(py)
}
