//! State that the GIL protects, and the slot that hands the GIL over while the loop sleeps.

use std::cell::{Cell, RefCell, UnsafeCell};

use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::{PyTraverseError, PyVisit};

/// A value that only a thread holding the GIL reaches.
///
/// It is a `RefCell`: a closure that would run Python code (and so come back here) panics instead
/// of seeing a second `&mut`. Keep the closures short, and drop Python objects outside them.
pub struct GilCell<T>(RefCell<T>);

// SAFETY: every access takes a `Python` token, so accesses are serialised by the GIL; the value
// itself may then be dropped by whichever thread holds the GIL, as any Python object may.
unsafe impl<T> Sync for GilCell<T> {}
// SAFETY: as above.
unsafe impl<T> Send for GilCell<T> {}

impl<T> GilCell<T> {
    pub const fn new(value: T) -> Self {
        Self(RefCell::new(value))
    }

    #[inline]
    pub fn with<R>(&self, _py: Python<'_>, f: impl FnOnce(&mut T) -> R) -> R {
        f(&mut self.0.borrow_mut())
    }

    /// For the garbage collector, which holds the GIL but has no token; `None` while borrowed.
    pub fn peek(&self) -> Option<std::cell::Ref<'_, T>> {
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
// SAFETY: plain data.
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

// SAFETY: every access takes a `Python` token; the GIL serialises them.
unsafe impl Sync for PySlot {}
// SAFETY: as above.
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
        self.as_ptr() == object.as_ptr()
    }

    pub fn set(&self, py: Python<'_>, value: Option<Py<PyAny>>) {
        drop(self.replace(py, value));
    }

    pub fn take(&self, py: Python<'_>) -> Option<Py<PyAny>> {
        self.replace(py, None)
    }

    fn replace(&self, _py: Python<'_>, value: Option<Py<PyAny>>) -> Option<Py<PyAny>> {
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

    /// The object's address, or null; for the collector's visits and for identity.
    pub fn as_ptr(&self) -> *mut ffi::PyObject {
        // SAFETY: only read; callers hold the GIL or are the collector, which does.
        unsafe { (*self.0.get()).as_ref().map_or(std::ptr::null_mut(), |value| value.as_ptr()) }
    }
}

/// Where the running thread's state waits while tokio parks.
///
/// The GIL is held through a whole turn and released only here, so a callback costs no
/// `PyGILState_Ensure`.
#[derive(Default)]
pub struct GilHandover(Cell<*mut ffi::PyThreadState>);

// SAFETY: only the thread that runs the loop touches the cell (`run`, and tokio's park hooks on
// the same thread); one thread runs a loop at a time.
unsafe impl Send for GilHandover {}
// SAFETY: as above.
unsafe impl Sync for GilHandover {}

impl GilHandover {
    /// Gives the GIL away, if this thread has it through us.
    pub fn release(&self) {
        if self.0.get().is_null() {
            // SAFETY: between `acquire` and `release` this thread holds the GIL.
            self.0.set(unsafe { ffi::PyEval_SaveThread() });
        }
    }

    /// Takes the GIL back. Hangs, as CPython asks of foreign threads, once the interpreter ends.
    pub fn acquire(&self) {
        let state = self.0.replace(std::ptr::null_mut());
        if !state.is_null() {
            // SAFETY: the state was saved by `release` on this very thread.
            unsafe { ffi::PyEval_RestoreThread(state) };
        }
    }

    /// Runs `f` on this thread with the GIL held, in the way that lets `f` hand it over.
    ///
    /// PyO3 counts the thread as detached meanwhile: what drops a `Py` while tokio is parked
    /// must not touch a reference count.
    pub fn scope<R>(&self, py: Python<'_>, f: impl FnOnce() -> R) -> R {
        struct OneThread<T>(T);
        // SAFETY: `Python::detach` runs its closure at once on this same thread.
        unsafe impl<T> Send for OneThread<T> {}

        struct Held<'a>(&'a GilHandover);
        impl Drop for Held<'_> {
            fn drop(&mut self) {
                // A panic may come with the GIL already released: make both cases alike.
                self.0.release();
                self.0.0.set(std::ptr::null_mut());
            }
        }

        let body = OneThread((self, f));
        py.detach(move || {
            let OneThread((slot, f)) = { body };
            // SAFETY: detached just now, on a thread that has a thread state of its own.
            slot.0.set(unsafe { thread_state() });
            slot.acquire();
            let _held = Held(slot);
            OneThread(f())
        })
        .0
    }
}

/// This thread's Python thread state, attached or not.
///
/// # Safety
/// The thread must have been attached to the interpreter before.
unsafe fn thread_state() -> *mut ffi::PyThreadState {
    // SAFETY: callable without the GIL; the caller's thread has a state.
    unsafe { ffi::PyGILState_GetThisThreadState() }
}
