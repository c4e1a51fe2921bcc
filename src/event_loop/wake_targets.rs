//! Wake targets: Python objects that wakers of Rust futures call back on a loop, from any thread.
//!
//! A waker holds a target, which is no Python object: it is kept, woken and dropped without the
//! GIL. The object it stands for is only borrowed. Its owner takes it back
//! (`NativeLoop::release_target`) before it goes, so a waker that outlives it wakes nothing.
//!
//! `table`, `wake_state` and `carrier` are for any thread; `object` and `place` are the GIL's. A target is in
//! its loop's `parked` from the first `park_target` to `release_target` or the end of the loop, and
//! `place` is its index there, or `usize::MAX`. Closing takes the whole list, and from each target its
//! object, before that is called.

use std::ffi::c_void;
use std::sync::Arc;

use pyo3::ffi;
use pyo3::prelude::*;

use crate::driver::mailbox::{Mailbox, Park};
use crate::driver::reactor::Reactor;
use crate::driver::wake_state::{Wake, WakeState};
use crate::ffi::gil::{GilCell, GilFlag};
use crate::ffi::object::{self, Object};

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
    /// Borrowed; null unless parked.
    object: GilFlag<Object>,
    /// Where the loop's list of parked targets has it.
    place: GilFlag<usize>,
}

impl WakeTarget {
    pub fn new(table: TableAddress, carrier: Arc<dyn Carrier>) -> Arc<Self> {
        Arc::new(Self {
            table,
            wake_state: WakeState::default(),
            carrier,
            object: GilFlag::new(std::ptr::null_mut()),
            place: GilFlag::new(usize::MAX),
        })
    }

    /// From any thread, with or without the GIL.
    pub fn wake(self: &Arc<Self>) {
        if self.wake_state.wake() == Wake::Notify {
            self.carrier.carry(self);
        }
    }

    /// The object to call, if it is there still.
    pub fn object<'py>(&self, py: Python<'py>) -> Option<Bound<'py, PyAny>> {
        // SAFETY: null, or alive: the caller of `set_object` promised that it stays until another one
        // is set.
        unsafe { Bound::from_borrowed_ptr_or_opt(py, self.object.get(py)) }
    }

    /// In the loop's list of parked targets.
    pub fn is_listed(&self, py: Python<'_>) -> bool {
        self.place.get(py) != usize::MAX
    }

    pub fn forget_object(&self, py: Python<'_>) {
        self.object.set(py, std::ptr::null_mut());
    }

    /// # Safety
    /// `object` must be null, or stay alive until another one takes its place.
    pub unsafe fn set_object(&self, py: Python<'_>, object: Object) {
        self.object.set(py, object);
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
    pub(super) fn collect<'py>(&self, py: Python<'py>, mut ready: impl FnMut(Bound<'py, PyAny>)) {
        let mut woken = self.woken.take(py);
        if self.mailbox.take(&mut woken) {
            for target in woken.drain(..) {
                if let Some(object) = target.object(py) {
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
    ///
    /// # Safety
    /// `object` must stay alive until `release`, or until `close` calls it.
    pub(super) unsafe fn park(&self, py: Python<'_>, target: &Arc<WakeTarget>, object: Object) {
        // SAFETY: the caller's promise; both take the object out.
        unsafe { target.set_object(py, object) };
        if target.place.get(py) == usize::MAX {
            self.parked.with(py, |parked| {
                target.place.set(py, parked.len());
                parked.push(Arc::clone(target));
            });
        }
    }

    /// How many objects wait for a wake.
    pub(super) fn parked(&self, py: Python<'_>) -> usize {
        self.parked.with(py, |parked| parked.len())
    }

    /// See `NativeLoop::release_target`.
    pub(super) fn release(&self, py: Python<'_>, target: &Arc<WakeTarget>) {
        target.forget_object(py);
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
    }

    /// Tells the parked objects, with the loop as the argument, that no wake will come any more.
    pub(super) fn close(&self, event_loop: &Bound<'_, PyAny>) {
        let py = event_loop.py();
        self.mailbox.close();
        for target in self.parked.take(py) {
            target.place.set(py, usize::MAX);
            let Some(object) = target.object(py) else { continue };
            target.forget_object(py);
            if let Err(error) = object.call1((event_loop,)) {
                error.write_unraisable(py, Some(&object));
            }
        }
    }
}

/// Calls the object of a target that was woken.
pub(super) fn call(py: Python<'_>, object: &Py<PyAny>) -> PyResult<()> {
    // SAFETY: a live object; a new reference or null with an exception set.
    unsafe { object::owned(py, ffi::PyObject_CallNoArgs(object.as_ptr())).map(drop) }
}
