//! Wake targets: Python objects that wakers of Rust futures call back on a loop, from any thread.
//!
//! A waker holds a target, which is no Python object: it is kept, woken and dropped without the
//! GIL. The object it stands for is parked in it, and the loop takes it out to call it. Its owner takes
//! it back before it goes, so a waker that outlives it wakes nothing.
//!
//! `table`, `wake_state` and `carrier` are for any thread; `object` and `place` are the GIL's.
//!
//! # What the collector sees
//!
//! The reference to a parked object belongs to whoever can have it called. Until a wake that is any
//! waker: to the collector, somebody outside. From the wake on it is the loop alone, which visits the
//! object as its own, if it can: a loop that never runs again takes it along. And once no waker is left
//! that could wake, it is nobody (`is_forgotten`), and the object counts the reference as its own. A
//! wake may come in the midst of a collection, but `is_woken` turns only from false to true there, and
//! a target without wakers is never woken: so no reference is counted twice.

use std::ffi::c_void;
use std::sync::Arc;
use std::sync::atomic::{Ordering, fence};

use pyo3::prelude::*;
use pyo3::{PyTraverseError, PyVisit};

use crate::python::gil::{GilFlag, PySlot};
use crate::sys::wake_state::{Wake, WakeState};

/// Who carries a woken target to the thread that it belongs to.
pub trait Carrier: Send + Sync {
    fn carry(&self, target: &Arc<WakeTarget>);
}

/// The address of the functions that a target is used through; see [`table`](crate::table).
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
    place: GilFlag<Option<usize>>,
}

impl WakeTarget {
    pub fn new(table: TableAddress, carrier: Arc<dyn Carrier>) -> Arc<Self> {
        Arc::new(Self {
            table,
            wake_state: WakeState::default(),
            carrier,
            object: PySlot::empty(),
            place: GilFlag::new(None),
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

    /// Where the loop's list of parked targets has it; such a list has a reference to it.
    pub fn place(&self, py: Python<'_>) -> Option<usize> {
        self.place.get(py)
    }

    /// The list has it there from now on, or has it no more.
    pub fn set_place(&self, py: Python<'_>, place: Option<usize>) {
        self.place.set(py, place);
    }

    /// Visits the object, for the one who is going to call it.
    pub fn traverse(&self, visit: &PyVisit<'_>) -> Result<(), PyTraverseError> {
        self.object.traverse(visit)
    }

    /// Whether an object is parked that nothing will wake any more: besides the owner's and the loop's
    /// there is no reference left.
    pub fn is_forgotten(self: &Arc<Self>, py: Python<'_>) -> bool {
        let kept = 1 + usize::from(self.place(py).is_some());
        if !self.is_parked(py) || Arc::strong_count(self) > kept {
            return false;
        }
        // A wake by the waker that went last is seen below.
        fence(Ordering::Acquire);
        !self.wake_state.is_woken()
    }
}
