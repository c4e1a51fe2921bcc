//! The wake targets of one loop: what wakers of Rust futures have it call.
//!
//! A target is in its loop's `parked` from the first `park_target` to `release_target` or the end of
//! the loop, and knows its index there. Closing takes the whole list, and from each target its object,
//! before that is called.

use std::sync::Arc;

use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::{PyTraverseError, PyVisit};
use tokioloop_bridge::wake_target::{Carrier, TableAddress, WakeTarget};

use crate::driver::mailbox::{Mailbox, Park};
use crate::driver::reactor::Reactor;
use crate::ffi::gil::{GilCell, GilFlag};
use crate::ffi::object;

/// Lists that grew beyond this many are given back after a burst.
const WORTH_KEEPING: usize = 1024;

/// The letters that wake a loop.
#[derive(Default)]
struct WakeBox(Mailbox<Arc<WakeTarget>>);

impl Carrier for WakeBox {
    fn carry(&self, target: &Arc<WakeTarget>) {
        self.0.post(Arc::clone(target));
    }
}

/// The targets of one loop.
pub(super) struct WakeTargets {
    mailbox: Arc<WakeBox>,
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
        self.mailbox.0.attach(&reactor.events);
    }

    /// Gives the objects of the targets that were woken.
    pub(super) fn collect(&self, py: Python<'_>, mut ready: impl FnMut(Py<PyAny>)) {
        let mut woken = self.woken.take(py);
        if self.mailbox.0.take(&mut woken) {
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
        !self.used.get(py) || self.mailbox.0.park() == Park::Sleep
    }

    #[inline]
    pub(super) fn sleep_is_over(&self, py: Python<'_>) {
        if self.used.get(py) {
            self.mailbox.0.unpark();
        }
    }

    /// A target whose wakes this loop carries.
    pub(super) fn add(&self, py: Python<'_>, table: TableAddress) -> Arc<WakeTarget> {
        self.used.set(py, true);
        let carrier: Arc<WakeBox> = Arc::clone(&self.mailbox);
        WakeTarget::new(table, carrier)
    }

    /// See `NativeLoop::park_target`.
    pub(super) fn park(&self, target: &Arc<WakeTarget>, object: Bound<'_, PyAny>) {
        let py = object.py();
        let before = target.park_object(object);
        if target.place(py).is_none() {
            self.parked.with(py, |parked| {
                target.set_place(py, Some(parked.len()));
                parked.push(Arc::clone(target));
            });
        }
        drop(before);
    }

    /// Visits the objects that the loop alone is going to call.
    pub(super) fn traverse(&self, visit: &PyVisit<'_>) -> Result<(), PyTraverseError> {
        let Some(parked) = self.parked.peek(visit) else { return Ok(()) };
        let mut woken = parked.iter().filter(|target| target.wake_state.is_woken());
        woken.try_for_each(|target| target.traverse(visit))
    }

    /// How many objects wait for a wake.
    pub(super) fn parked(&self, py: Python<'_>) -> usize {
        self.parked.with(py, |parked| parked.len())
    }

    /// See `NativeLoop::release_target`.
    pub(super) fn release(&self, py: Python<'_>, target: &Arc<WakeTarget>) {
        let object = target.take_object(py);
        if let Some(place) = target.place(py) {
            target.set_place(py, None);
            self.parked.with(py, |parked| {
                if parked.get(place).is_some_and(|it| Arc::ptr_eq(it, target)) {
                    parked.swap_remove(place);
                    match parked.get(place) {
                        Some(moved) => moved.set_place(py, Some(place)),
                        None if parked.is_empty() => parked.shrink_to(WORTH_KEEPING),
                        None => {}
                    }
                }
            });
        }
        drop(object);
    }

    /// Tells the parked objects, with the loop as the argument, that no wake will come any more.
    pub(super) fn close(&self, event_loop: &Bound<'_, PyAny>) {
        let py = event_loop.py();
        self.mailbox.0.close();
        for target in self.parked.take(py) {
            target.set_place(py, None);
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
