//! Wake targets: Python objects that wakers of Rust futures call back on a loop, from any thread.
//!
//! A waker holds a target, which is no Python object: it is kept, woken and dropped without the
//! GIL. The object it stands for is parked in it, and the loop takes it out to call it. Its owner takes
//! it back (`NativeLoop::release_target`) before it goes, so a waker that outlives it wakes nothing.
//!
//! `table`, `wake_state` and `carrier` are for any thread; `object` and `place` are the GIL's. A target is in
//! its loop's `parked` from the first `park_target` to `release_target` or the end of the loop, and
//! `place` is its index there, or `usize::MAX`. Closing takes the whole list, and from each target its
//! object, before that is called.
//!
//! # What the collector sees
//!
//! The reference to a parked object belongs to whoever can have it called. Until a wake that is any
//! waker: to the collector, somebody outside. From the wake on it is the loop alone, which visits the
//! object as its own: a loop that never runs again takes it along. And once no waker is left that
//! could wake, it is nobody (`is_forgotten`), and the object counts the reference as its own. A wake
//! may come in the midst of a collection, but `is_woken` turns only from false to true there, and a
//! target without wakers is never woken: so no reference is counted twice.

use std::ffi::c_void;
use std::sync::Arc;
use std::sync::atomic::{Ordering, fence};

use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::{PyTraverseError, PyVisit};

use crate::driver::mailbox::{Mailbox, Park};
use crate::driver::reactor::Reactor;
use crate::driver::wake_state::{Wake, WakeState};
use crate::ffi::gil::{GilCell, GilFlag, PySlot};
use crate::ffi::object;

/// Lists that grew beyond this many are given back after a burst.
const WORTH_KEEPING: usize = 1024;

/// Who carries a woken target to the thread that it belongs to.
pub trait Carrier: Send + Sync {
    fn carry(&self, target: &Arc<WakeTarget>);
}

/// The address of the functions that a target is used through; see `bridge::api`.
#[derive(Clone, Copy)]
pub struct TableAddress(pub *const c_void);

// SAFETY: the address of an immutable static, which is there for all threads.
unsafe impl Send for TableAddress {}
// SAFETY: a shared address can only be copied, and points to an immutable static.
unsafe impl Sync for TableAddress {}

/// What a waker refers to. The table's address comes first: code compiled apart reads it.
#[repr(C)]
pub struct WakeTarget {
    table: TableAddress,
    pub wake_state: WakeState,
    carrier: Arc<dyn Carrier>,
    /// Parked, and not taken out yet.
    object: PySlot,
    /// Where the loop's list of parked targets has it.
    place: GilFlag<usize>,
}

impl WakeTarget {
    pub fn new(table: TableAddress, carrier: Arc<dyn Carrier>) -> Arc<Self> {
        Arc::new(Self {
            table,
            wake_state: WakeState::default(),
            carrier,
            object: PySlot::empty(),
            place: GilFlag::new(usize::MAX),
        })
    }

    /// From any thread, with or without the GIL.
    pub fn wake(self: &Arc<Self>) {
        if self.wake_state.wake() == Wake::Notify {
            self.carrier.carry(self);
        }
    }

    /// Takes out the object to call, if it is there still.
    pub fn take_object(&self, py: Python<'_>) -> Option<Py<PyAny>> {
        self.object.take(py)
    }

    /// Parks an object; returns what was parked before.
    #[must_use]
    pub fn park_object(&self, object: Bound<'_, PyAny>) -> Option<Py<PyAny>> {
        let py = object.py();
        self.object.replace(py, Some(object.unbind()))
    }

    pub fn is_parked(&self, py: Python<'_>) -> bool {
        self.object.is_set(py)
    }

    /// In the loop's list of parked targets.
    fn is_listed(&self, py: Python<'_>) -> bool {
        self.place.get(py) != usize::MAX
    }

    /// Whether an object is parked that nothing will wake any more: besides the owner's and the loop's
    /// there is no reference left.
    pub fn is_forgotten(self: &Arc<Self>, py: Python<'_>) -> bool {
        let kept = 1 + usize::from(self.is_listed(py));
        if !self.is_parked(py) || Arc::strong_count(self) > kept {
            return false;
        }
        // A wake by the waker that went last is seen below.
        fence(Ordering::Acquire);
        !self.wake_state.is_woken()
    }
}

impl Carrier for Mailbox<Arc<WakeTarget>> {
    fn carry(&self, target: &Arc<WakeTarget>) {
        self.post(Arc::clone(target));
    }
}

/// The targets of one loop.
pub(super) struct WakeTargets {
    mailbox: Arc<Mailbox<Arc<WakeTarget>>>,
    /// Wakers of Rust futures refer to this loop.
    used: GilFlag<bool>,
    /// Targets whose objects wait to be called.
    parked: GilCell<Vec<Arc<WakeTarget>>>,
    /// Room for the targets that were woken, kept from batch to batch.
    woken: GilCell<Vec<Arc<WakeTarget>>>,
}

impl WakeTargets {
    pub(super) fn new() -> Self {
        Self {
            mailbox: Arc::default(),
            used: GilFlag::new(false),
            parked: GilCell::new(Vec::new()),
            woken: GilCell::new(Vec::new()),
        }
    }

    #[inline]
    pub(super) fn are_used(&self, py: Python<'_>) -> bool {
        self.used.get(py)
    }

    /// From now on the loop sleeps in this reactor.
    pub(super) fn attach(&self, reactor: &Reactor) {
        self.mailbox.attach(&reactor.events);
    }

    /// Gives the objects of the targets that were woken.
    pub(super) fn collect(&self, py: Python<'_>, mut ready: impl FnMut(Py<PyAny>)) {
        let mut woken = self.woken.take(py);
        if self.mailbox.take(&mut woken) {
            for target in woken.drain(..) {
                if let Some(object) = target.take_object(py) {
                    ready(object);
                }
            }
        }
        if woken.capacity() <= WORTH_KEEPING {
            self.woken.with(py, |slot| *slot = woken);
        }
    }

    /// Whether the loop may sleep: no target was woken meanwhile.
    #[inline]
    pub(super) fn allow_sleep(&self, py: Python<'_>) -> bool {
        !self.used.get(py) || self.mailbox.park() == Park::Sleep
    }

    #[inline]
    pub(super) fn sleep_is_over(&self, py: Python<'_>) {
        if self.used.get(py) {
            self.mailbox.unpark();
        }
    }

    /// A target whose wakes this loop carries.
    pub(super) fn add(&self, py: Python<'_>, table: TableAddress) -> Arc<WakeTarget> {
        self.used.set(py, true);
        let carrier: Arc<Mailbox<Arc<WakeTarget>>> = Arc::clone(&self.mailbox);
        WakeTarget::new(table, carrier)
    }

    /// See `NativeLoop::park_target`.
    pub(super) fn park(&self, target: &Arc<WakeTarget>, object: Bound<'_, PyAny>) {
        let py = object.py();
        let before = target.park_object(object);
        if !target.is_listed(py) {
            self.parked.with(py, |parked| {
                target.place.set(py, parked.len());
                parked.push(Arc::clone(target));
            });
        }
        drop(before);
    }

    /// Visits the objects that the loop alone is going to call.
    pub(super) fn traverse(&self, visit: &PyVisit<'_>) -> Result<(), PyTraverseError> {
        let Some(parked) = self.parked.peek(visit) else { return Ok(()) };
        let mut woken = parked.iter().filter(|target| target.wake_state.is_woken());
        woken.try_for_each(|target| target.object.traverse(visit))
    }

    /// How many objects wait for a wake.
    pub(super) fn parked(&self, py: Python<'_>) -> usize {
        self.parked.with(py, |parked| parked.len())
    }

    /// See `NativeLoop::release_target`.
    pub(super) fn release(&self, py: Python<'_>, target: &Arc<WakeTarget>) {
        let object = target.take_object(py);
        let place = target.place.get(py);
        target.place.set(py, usize::MAX);
        self.parked.with(py, |parked| {
            if place < parked.len() && Arc::ptr_eq(&parked[place], target) {
                parked.swap_remove(place);
                match parked.get(place) {
                    Some(moved) => moved.place.set(py, place),
                    None if parked.is_empty() => parked.shrink_to(WORTH_KEEPING),
                    None => {}
                }
            }
        });
        drop(object);
    }

    /// Tells the parked objects, with the loop as the argument, that no wake will come any more.
    pub(super) fn close(&self, event_loop: &Bound<'_, PyAny>) {
        let py = event_loop.py();
        self.mailbox.close();
        for target in self.parked.take(py) {
            target.place.set(py, usize::MAX);
            let Some(object) = target.take_object(py) else { continue };
            if let Err(error) = object.call1(py, (event_loop,)) {
                error.write_unraisable(py, Some(object.bind(py)));
            }
        }
    }
}

/// Calls the object of a target that was woken.
pub(super) fn call(py: Python<'_>, object: &Py<PyAny>) -> PyResult<()> {
    // SAFETY: a live object; a new reference or null with an exception set.
    unsafe { object::owned(py, ffi::PyObject_CallNoArgs(object.as_ptr())).map(drop) }
}
