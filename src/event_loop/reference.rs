//! References to loops, typed: each proves that its object is a loop.

use std::ops::Deref;

use pyo3::prelude::*;

use super::NativeLoop;
use crate::ffi::gil::PySlot;

/// A loop, and the reference that keeps it alive.
pub(crate) struct LoopRef<'py>(Bound<'py, PyAny>);

impl<'py> LoopRef<'py> {
    /// # Safety
    /// `object` must be an instance of `NativeLoop`, or of a class derived from it.
    pub(crate) unsafe fn new(object: Bound<'py, PyAny>) -> Self {
        Self(object)
    }

    /// The Python object.
    pub(crate) fn as_any(&self) -> &Bound<'py, PyAny> {
        &self.0
    }

    pub(crate) fn into_any(self) -> Bound<'py, PyAny> {
        self.0
    }
}

impl Deref for LoopRef<'_> {
    type Target = NativeLoop;

    #[inline]
    fn deref(&self) -> &NativeLoop {
        // SAFETY: a loop, as `new` was promised, alive as long as `self`, which implies the GIL.
        unsafe { NativeLoop::of(self.0.as_ptr()) }
    }
}

/// A slot that holds a loop or nothing.
pub(crate) struct LoopSlot(PySlot);

impl LoopSlot {
    pub(crate) fn new(py: Python<'_>, event_loop: &NativeLoop) -> Self {
        Self(PySlot::new(event_loop.bind(py).unbind()))
    }

    #[inline]
    pub(crate) fn get<'py>(&self, py: Python<'py>) -> Option<LoopRef<'py>> {
        // SAFETY: nothing but a loop is ever put into the slot.
        self.0.get(py).map(|object| unsafe { LoopRef::new(object) })
    }

    pub(crate) fn is_set(&self, py: Python<'_>) -> bool {
        self.0.is_set(py)
    }

    pub(crate) fn take<'py>(&self, py: Python<'py>) -> Option<LoopRef<'py>> {
        // SAFETY: nothing but a loop is ever put into the slot, so nothing else comes out.
        self.0.take(py).map(|object| unsafe { LoopRef::new(object.into_bound(py)) })
    }

    /// For traversal, and for code that empties all slots alike. No other object may be put into it.
    pub(crate) fn slot(&self) -> &PySlot {
        &self.0
    }
}
