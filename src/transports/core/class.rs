//! The Python types of transports: objects laid out on top of asyncio's classes.
//!
//! A transport is a Rust struct behind a Python header. [`Transport`] says what differs between
//! the kinds; layout, garbage collection and finalization are here.
//!
//! # Layout
//!
//! [`Instance`] starts with what asyncio's base class has (the head and its `__slots__`, which stay
//! empty), so its methods work on ours; `class` compares the sizes before it makes a type. Only
//! `allocate` makes objects of these types, and none has subclasses: an object of a kind's class has
//! that kind's state, whole from before anything can see it until `drop_fields`. [`state`] relies on
//! the caller for the class, [`state_of`] checks it.
//!
//! # Who may touch what
//!
//! Any thread that holds the GIL and a reference, and only by `&T`: everything in a state that changes
//! is in a cell, a slot or a `RefCell`. Each call of the protocol, of the loop's Python methods or of a
//! destructor may come back into any method of the same transport, or give the GIL to a thread that
//! does. So no borrow of a `RefCell` lasts over such a call, references are taken before it, and what
//! it may have changed (the lifecycle, the loop, the protocol) is read again after it.
//!
//! # What frees it
//!
//! The finalizer runs first, once: it warns, and `abandon` gives back what the loop and the kernel
//! have of the transport. Until then the loop's table may borrow it (`Source::Quiet`). The rest goes
//! through the trashcan: a transport can be another one's protocol. The collector calls the finalizer
//! before `clear`, which empties the slots; a method that is called later finds neither loop nor
//! protocol, and does nothing.

use std::ffi::{CStr, c_void};
use std::mem::{ManuallyDrop, offset_of};
use std::ptr::{null_mut, write};

use pyo3::exceptions::{PyImportError, PyResourceWarning};
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{IntoPyDict, PyString, PyType};

use super::state::Core;
use super::state::Lifecycle;
use crate::ffi::class::{self, Definition, NativeClass, clear_references, free, slot};
use crate::ffi::definitions::getter;
use crate::ffi::gil::PySlot;
use crate::ffi::imports;
use crate::ffi::memory;
use crate::ffi::object::{self, Object};
use crate::ffi::trampoline::{self, enter};
use crate::ffi::trashcan;

/// A kind of transport: the state behind its Python objects, and what its class is made of.
pub(crate) trait Transport: Sized + 'static {
    /// The `__slots__` of the asyncio classes it derives from: `[Object; n]`. They stay empty,
    /// our class answers for those names through properties.
    type BaseSlots: AsRef<[Object]> + AsMut<[Object]>;
    const NAME: &'static CStr;
    const DOC: &'static CStr;

    fn class_cell() -> &'static PyOnceLock<Py<PyType>>;
    fn methods() -> Vec<ffi::PyMethodDef>;
    fn fields() -> Vec<ffi::PyGetSetDef>;
    /// asyncio's classes, the one with the longest layout first.
    fn bases(py: Python<'_>) -> PyResult<Vec<Bound<'_, PyType>>> {
        Ok(vec![imports::asyncio(py)?.transport.bind(py).clone()])
    }
    /// Sets the attributes of the class that asyncio asks for.
    fn decorate(_class: &Bound<'_, PyType>) -> PyResult<()> {
        Ok(())
    }

    fn core(&self) -> &Core;
    /// Every reference that the garbage collector must know of.
    fn slots(&self) -> impl Iterator<Item = &PySlot>;
    /// Whether nothing is left for `abandon`.
    fn is_closed(&self, _py: Python<'_>) -> bool {
        self.core().lifecycle() == Lifecycle::Closed
    }
    /// The transport was dropped without being closed: gives everything back.
    fn abandon(&self, slf: &Bound<'_, PyAny>) -> PyResult<()>;
    /// `repr(transport)`
    fn describe<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyString>>;
}

/// The slots of `_FlowControlMixin`: `_extra`, `_loop` and the marks.
pub(crate) type FlowControlSlots = [Object; 5];

#[repr(C)]
struct Instance<T: Transport> {
    head: ffi::PyObject,
    base: T::BaseSlots,
    dict: Object,
    weakrefs: Object,
    state: ManuallyDrop<T>,
}

/// The state behind a transport of a kind that the caller knows it to be of.
///
/// # Safety
/// `slf` must be a transport of this kind: an object that `allocate::<T>` made.
#[inline]
pub(crate) unsafe fn state<'a, T: Transport>(slf: &'a Bound<'_, PyAny>) -> &'a T {
    debug_assert!(is::<T>(slf).unwrap_or(false));
    // SAFETY: the caller's promise gives the layout. The object outlives the borrow, and all of its
    // mutable state is in cells that the GIL guards, so a shared reference is enough.
    unsafe { &(*slf.as_ptr().cast::<Instance<T>>()).state }
}

/// The state behind an object that is a transport of this kind; `None` for all others.
#[inline]
pub(crate) fn state_of<'a, T: Transport>(object: &'a Bound<'_, PyAny>) -> PyResult<Option<&'a T>> {
    if !is::<T>(object)? {
        return Ok(None);
    }
    // SAFETY: of the class, which has no subclasses and of which only `allocate` makes objects.
    Ok(Some(unsafe { state(object) }))
}

/// Whether an object is a transport of this kind.
pub(crate) fn is<T: Transport>(object: &Bound<'_, PyAny>) -> PyResult<bool> {
    Ok(object.get_type().is(class::<T>(object.py())?))
}

pub(crate) fn allocate<T: Transport>(py: Python<'_>, state: T) -> PyResult<Bound<'_, PyAny>> {
    let class = class::<T>(py)?.as_ptr().cast::<ffi::PyTypeObject>();
    // SAFETY: zeroed memory of the type's size; the Rust part is written before other code sees it.
    unsafe {
        let made = ffi::PyType_GenericAlloc(class, 0).cast::<Instance<T>>();
        if made.is_null() {
            return Err(object::fetch(py));
        }
        write(&raw mut (*made).state, ManuallyDrop::new(state));
        Ok(Bound::from_owned_ptr(py, made.cast()))
    }
}

// SAFETY: `repr(C)`. The base starts with a head, and has nothing but references besides (`class`
// compares its size). Weak references and the `__dict__` are pointers, null at first.
unsafe impl<T: Transport> NativeClass for Instance<T> {
    const WEAKREFS: Option<usize> = Some(offset_of!(Self, weakrefs));
    const DICT: Option<usize> = Some(offset_of!(Self, dict));

    unsafe fn references(this: *mut Self) -> impl IntoIterator<Item = *mut Object> {
        // SAFETY: the caller's promise.
        let (base, dict, state): (_, _, &T) =
            unsafe { ((*this).base.as_mut(), &raw mut (*this).dict, &(*this).state) };
        let base = base.iter_mut().map(|reference| &raw mut *reference);
        base.chain([dict]).chain(state.slots().map(PySlot::as_field))
    }

    unsafe fn drop_fields(this: *mut Self) {
        // SAFETY: the caller's promise. Nothing reads the state again.
        unsafe {
            clear_references(this);
            trampoline::destroy(|_py| ManuallyDrop::drop(&mut (*this).state));
        }
    }

    /// First the finalizer, which takes the transport out of the loop's table, where it may be borrowed.
    /// It runs once; if it brings the object back nothing else is to be done.
    unsafe fn dealloc(this: *mut Self) {
        // SAFETY: the caller's promise: the last reference is gone.
        unsafe {
            if ffi::PyObject_CallFinalizerFromDealloc(this.cast()) == 0 {
                trashcan::dealloc(this.cast(), free::<Self>);
            }
        }
    }
}

/// As asyncio's `__del__`: warns of a transport that was not closed, and closes it.
unsafe extern "C" fn finalize<T: Transport>(slf: Object) {
    let finalize = |py: Python<'_>| {
        // SAFETY: alive: CPython resurrects the object for the time of its finalizer.
        let slf = unsafe { Bound::from_borrowed_ptr(py, slf) };
        // SAFETY: the finalizer of this kind's class, which has no subclasses.
        let state = unsafe { state::<T>(&slf) };
        if !state.is_closed(py) {
            if let Err(error) = warn_unclosed(py, &slf) {
                error.write_unraisable(py, Some(&slf));
            }
            if let Err(error) = state.abandon(&slf) {
                error.write_unraisable(py, Some(&slf));
            }
        }
    };
    // SAFETY: CPython calls finalizers with the GIL held.
    unsafe { trampoline::destroy(finalize) };
}

fn warn_unclosed(py: Python<'_>, slf: &Bound<'_, PyAny>) -> PyResult<()> {
    let category = py.get_type::<PyResourceWarning>();
    let text = memory::text(py, "unclosed transport {!r}", (slf,))?;
    let arguments = [("source", slf)].into_py_dict(py)?;
    imports::warn(py)?.call((text, category), Some(&arguments)).map(drop)
}

unsafe extern "C" fn repr<T: Transport>(slf: Object) -> Object {
    // SAFETY: CPython calls this, and holds the GIL.
    let held = unsafe { pyo3::Python::assume_attached() };
    enter(held, null_mut(), |py| {
        // SAFETY: CPython keeps `slf` alive for the call of a slot.
        let slf = unsafe { Bound::from_borrowed_ptr(py, slf) };
        // SAFETY: a slot of this kind's class, which has no subclasses.
        Ok(unsafe { state::<T>(&slf) }.describe(py)?.into_ptr())
    })
}

unsafe extern "C" fn get_dict(slf: Object, _closure: *mut c_void) -> Object {
    // SAFETY: the type has a dict offset.
    unsafe { ffi::PyObject_GenericGetDict(slf, null_mut()) }
}

const DICT: ffi::PyGetSetDef = getter(c"__dict__", get_dict);

fn class<T: Transport>(py: Python<'_>) -> PyResult<&Py<PyType>> {
    T::class_cell().get_or_try_init(py, || {
        let bases = T::bases(py)?;
        // The struct starts with the base's own layout, so it must be what it was.
        let expected = offset_of!(Instance<T>, dict);
        let found = bases[0].getattr("__basicsize__")?.extract::<usize>()?;
        if found != expected {
            return Err(PyImportError::new_err(format!(
                "tokioloop does not know this asyncio's transports: instances of {} have {found} \
                 bytes instead of {expected}",
                bases[0].name()?
            )));
        }
        let definition = Definition {
            bases: &bases,
            methods: &T::methods(),
            getters: &[&T::fields()[..], &[DICT]].concat(),
            slots: &[
                class::doc(T::DOC),
                slot(ffi::Py_tp_finalize, finalize::<T> as *mut c_void),
                slot(ffi::Py_tp_repr, repr::<T> as *mut c_void),
            ],
        };
        // SAFETY: functions and tables of these kinds, for objects of this layout, which starts with the
        // first base's, as was just seen, and which `allocate` alone makes.
        let class = unsafe { class::new_class::<Instance<T>>(py, T::NAME, &definition)? };
        let class = class.into_bound(py);
        T::decorate(&class)?;
        Ok(class.unbind())
    })
}

/// Puts the class into the extension module.
pub(crate) fn register<T: Transport>(module: &Bound<'_, PyModule>) -> PyResult<()> {
    let class = class::<T>(module.py())?.bind(module.py());
    module.add(class.name()?, class)
}
