//! State that the GIL protects.

use std::cell::{Cell, RefCell, UnsafeCell};

use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::{PyTraverseError, PyVisit};

/// A value that only a thread holding the GIL reaches.
///
/// It is a `RefCell`: a closure that would run Python code (and so come back here) panics instead
/// of seeing a second `&mut`. Keep the closures short, and drop Python objects outside them.
pub struct GilCell<T>(RefCell<T>);

// SAFETY: every access takes a `Python` token, or the collector's visitor, which stands for one: the
// GIL serialises them.
unsafe impl<T> Sync for GilCell<T> {}
// SAFETY: the value of such a cell (references to Python objects, pointers to them, plain data) belongs
// to no thread: it may be used and dropped in any that holds the GIL, as a Python object is, and a
// thread that drops a cell with Python objects in it does.
unsafe impl<T> Send for GilCell<T> {}

impl<T> GilCell<T> {
    pub const fn new(value: T) -> Self {
        Self(RefCell::new(value))
    }

    #[inline(always)]
    pub fn with<R>(&self, _py: Python<'_>, f: impl FnOnce(&mut T) -> R) -> R {
        f(&mut self.0.borrow_mut())
    }

    /// The same, or `None` while borrowed.
    #[inline(always)]
    pub fn try_with<R>(&self, _py: Python<'_>, f: impl FnOnce(&mut T) -> R) -> Option<R> {
        self.0.try_borrow_mut().ok().map(|mut value| f(&mut value))
    }

    /// For the garbage collector, which holds the GIL but has no token; `None` while borrowed.
    pub fn peek(&self, _visit: &PyVisit<'_>) -> Option<std::cell::Ref<'_, T>> {
        self.0.try_borrow().ok()
    }
}

impl<T: Default> GilCell<T> {
    pub fn take(&self, py: Python<'_>) -> T {
        self.with(py, std::mem::take)
    }
}

/// A `Cell` that only a thread holding the GIL reaches.
pub struct GilFlag<T: Copy>(Cell<T>);

// SAFETY: `get` and `set` take a `Python` token: the GIL serialises them.
unsafe impl<T: Copy> Sync for GilFlag<T> {}
// SAFETY: numbers, marks, and pointers that are only followed with the GIL held: nothing that belongs
// to a thread, or that has to be dropped.
unsafe impl<T: Copy> Send for GilFlag<T> {}

impl<T: Copy> GilFlag<T> {
    pub const fn new(value: T) -> Self {
        Self(Cell::new(value))
    }

    #[inline]
    pub fn get(&self, _py: Python<'_>) -> T {
        self.0.get()
    }

    #[inline]
    pub fn set(&self, _py: Python<'_>, value: T) {
        self.0.set(value);
    }
}

/// A nullable strong reference inside an object that the garbage collector visits.
#[derive(Default)]
pub struct PySlot(UnsafeCell<Option<Py<PyAny>>>);

// SAFETY: every access takes a `Python` token, or something that stands for one; the GIL serialises
// them.
unsafe impl Sync for PySlot {}
// SAFETY: a `Py` may be moved to any thread, and dropped there.
unsafe impl Send for PySlot {}

impl PySlot {
    pub const fn empty() -> Self {
        Self(UnsafeCell::new(None))
    }

    pub fn new(value: Py<PyAny>) -> Self {
        Self(UnsafeCell::new(Some(value)))
    }

    #[inline]
    pub fn get<'py>(&self, py: Python<'py>) -> Option<Bound<'py, PyAny>> {
        // SAFETY: the GIL is held, and the shared borrow ends before any Python code runs.
        unsafe { (*self.0.get()).as_ref().map(|value| value.bind(py).clone()) }
    }

    #[inline]
    pub fn is_set(&self, _py: Python<'_>) -> bool {
        // SAFETY: the GIL is held.
        unsafe { (*self.0.get()).is_some() }
    }

    /// Whether the slot holds exactly this object.
    pub fn holds(&self, object: &Bound<'_, PyAny>) -> bool {
        self.as_ptr(object.py()) == object.as_ptr()
    }

    pub fn set(&self, py: Python<'_>, value: Option<Py<PyAny>>) {
        // Bound, as all that are dropped often: a `Py` first looks up whether the thread has the GIL.
        drop(self.replace(py, value).map(|value| value.into_bound(py)));
    }

    pub fn take(&self, py: Python<'_>) -> Option<Py<PyAny>> {
        self.replace(py, None)
    }

    /// Puts another value in, and gives the old one to be dropped where that may run Python code.
    #[must_use]
    pub fn replace(&self, _py: Python<'_>, value: Option<Py<PyAny>>) -> Option<Py<PyAny>> {
        // SAFETY: the GIL is held; the old value is handed out, so nothing is dropped (and no
        // Python code runs) while the `&mut` lives.
        unsafe { std::mem::replace(&mut *self.0.get(), value) }
    }

    /// For a `__traverse__` that PyO3 writes the frame of.
    pub fn traverse(&self, visit: &PyVisit<'_>) -> Result<(), PyTraverseError> {
        // SAFETY: the collector holds the GIL and runs no other code meanwhile.
        match unsafe { &*self.0.get() } {
            Some(object) => visit.call(object),
            None => Ok(()),
        }
    }

    /// The object's address, or null: for identity, or to use it before the slot can change.
    #[inline]
    pub fn as_ptr(&self, _py: Python<'_>) -> *mut ffi::PyObject {
        // SAFETY: the GIL is held, as the token says.
        unsafe { self.visited() }
    }

    /// The slot as a field of an object's layout, for the skeleton of its class.
    #[inline]
    pub const fn as_field(&self) -> *mut *mut ffi::PyObject {
        // An optional reference is a pointer that may be null, and nothing else.
        const { assert!(size_of::<Option<Py<PyAny>>>() == size_of::<*mut ffi::PyObject>()) };
        self.0.get().cast()
    }

    /// The object's address, or null, for a `tp_traverse`.
    ///
    /// # Safety
    /// The GIL must be held, as it is by the collector.
    #[inline]
    pub unsafe fn visited(&self) -> *mut ffi::PyObject {
        // SAFETY: the caller's promise; only read, and no Python code runs meanwhile.
        unsafe { (*self.0.get()).as_ref().map_or(std::ptr::null_mut(), |value| value.as_ptr()) }
    }
}
