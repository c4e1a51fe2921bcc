//! Classes written by hand: the skeleton of their objects' lives, and their heap types.
//!
//! PyO3 writes most of our classes. The few made here need features that it lacks: arguments that
//! arrive as a plain slice, recycled memory, or a base class that is written in Python.
//!
//! # Skeleton
//!
//! [`NativeClass`] is implemented by the layout of a class's objects, and names the fields that hold
//! references. `tp_traverse`, `tp_clear` and `tp_dealloc` are then written once, here; a class adds
//! its own steps. [`ObjectRef`] is how a class's own code gets at an object's fields. It is
//! made of a pointer only by the functions that CPython calls with an object of the class, and where
//! a class finds one of its objects again.
//!
//! # Lifecycle
//!
//! [`allocate`] (or the class, from recycled memory) makes an object whose fields are all written, and
//! tracks it or not. The collector may clear it while others still hold it: each reference is taken
//! out of its field before it is dropped, so code that comes back finds null. When the last reference
//! goes, `tp_dealloc` runs [`NativeClass::dealloc`], and that [`free`], which takes an object apart in the
//! order that CPython asks for: weak references, fields, memory, type. CPython's trashcan, for chains of
//! objects, is not in the stable ABI: classes put it between the two, or drop one after the other.
//!
//! # Heads
//!
//! Every object starts with a head, which is CPython's. Code for one version of it knows the head's size, and
//! a layout may have it as its first field. A stable ABI for interpreters with and without a GIL
//! has heads of several sizes, and does not say which: there a layout is what comes [behind the
//! head](NativeClass::BEHIND_HEAD). `fields_of` and `object_of` go from one to the other.

use std::ffi::{CStr, c_int, c_ulong, c_void};
use std::marker::PhantomData;
use std::ptr::null_mut;
use std::sync::atomic::{AtomicUsize, Ordering};

use pyo3::ffi;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyTuple, PyType};

use crate::python::definitions::{GETTERS_END, MEMBERS_END, METHODS_END, offset_member};
use crate::python::finalizing;
use crate::python::object::{Object, fetch, owned};

/// The layout of the objects of a hand-written class, which has the collector's flag and no
/// subclasses.
///
/// # Safety
/// The layout must be `repr(C)` and the same in all objects of the class. It must start with an object's
/// head (that of its first base class); or `BEHIND_HEAD` is set, the head is no part of it, and the
/// class's only base is `object`. The offsets must be those of fields of the layout: a pointer for weak references or for a
/// `__dict__`, null at first, and a function for vectorcalls. Each pointer that `references` gives
/// must be to a field that is null or holds a reference of the object's own.
pub unsafe trait NativeClass: Sized + 'static {
    /// Whether the layout is only what comes behind the head.
    const BEHIND_HEAD: bool = false;
    /// Offset of the list of weak references, if objects can have such references.
    const WEAKREFS: Option<usize> = None;
    /// Offset of the `__dict__`, if objects have one.
    const DICT: Option<usize> = None;
    /// Offset of the vectorcall function, if `FLAGS` say that objects have one.
    const VECTORCALL: Option<usize> = None;
    /// Flags of the class besides those that all of these have.
    const FLAGS: c_ulong = 0;

    /// The fields that hold references, in the order in which they are cleared.
    ///
    /// # Safety
    /// `this` must be an object of the class that is not freed yet.
    unsafe fn references(this: *mut Self) -> impl IntoIterator<Item = *mut Object>;

    /// Whether the object holds a reference to itself that the collector is to count as its own.
    ///
    /// # Safety
    /// As for `references`, with the GIL held. Must not run Python code.
    #[inline]
    unsafe fn refers_to_itself(_this: *mut Self) -> bool {
        false
    }

    /// Drops the references that may be a part of a cycle. The collector calls it for garbage.
    ///
    /// # Safety
    /// As for `references`, with the GIL held. Runs Python code (destructors).
    #[inline]
    unsafe fn clear(this: *mut Self) {
        // SAFETY: the caller's promise.
        unsafe { clear_references(this) };
    }

    /// Drops everything that a dead object still holds.
    ///
    /// # Safety
    /// `this` must be a dead, untracked object of the class, the GIL held. Runs Python code.
    #[inline]
    unsafe fn drop_fields(this: *mut Self) {
        // SAFETY: the caller's promise.
        unsafe { Self::clear(this) };
    }

    /// Gives back the memory of an object whose fields hold nothing any more.
    ///
    /// # Safety
    /// `this` must be a dead, untracked object of the class, the GIL held.
    #[inline]
    unsafe fn release_memory(this: *mut Self) {
        // SAFETY: the caller's promise.
        unsafe { ffi::PyObject_GC_Del(object_of(this).cast()) };
    }

    /// The end of an object whose last reference is gone.
    ///
    /// # Safety
    /// Called by the class's `tp_dealloc`, with the GIL held, as the last thing it does.
    #[inline]
    unsafe fn dealloc(this: *mut Self) {
        finalizing::guard();
        let object = object_of(this);
        // SAFETY: the caller's promise. Untracking has no effect on an object that is not tracked.
        unsafe {
            ffi::PyObject_GC_UnTrack(object.cast());
            free::<Self>(object);
        }
    }
}

/// The size of an object's head, and as many bytes more as its fields need to be aligned. Set before
/// there is a class whose fields come behind the head.
static HEAD: AtomicUsize = AtomicUsize::new(0);

/// To what the fields behind a head are aligned: to that to which CPython aligns the objects.
const ALIGNMENT: usize = 2 * size_of::<usize>();

/// Asks the interpreter for the size of a head.
fn learn_head(py: Python<'_>) -> PyResult<()> {
    let size = py.get_type::<PyAny>().getattr(intern!(py, "__basicsize__"))?.extract::<usize>()?;
    HEAD.store(size.next_multiple_of(ALIGNMENT), Ordering::Relaxed);
    Ok(())
}

/// Where the layout begins in an object.
#[inline]
fn start<T: NativeClass>() -> usize {
    const { assert!(align_of::<T>() <= ALIGNMENT) };
    if T::BEHIND_HEAD { HEAD.load(Ordering::Relaxed) } else { 0 }
}

/// The fields of an object of the class.
#[inline]
pub fn fields_of<T: NativeClass>(object: Object) -> *mut T {
    object.wrapping_byte_add(start::<T>()).cast()
}

/// The object that has these fields.
#[inline]
pub fn object_of<T: NativeClass>(fields: *mut T) -> Object {
    fields.wrapping_byte_sub(start::<T>()).cast()
}

/// Defines [`NativeClass::references`] for fields of the layout that are pointers to objects.
#[doc(hidden)]
#[macro_export]
macro_rules! references {
    ($($field:ident),+ $(,)?) => {
        #[inline]
        unsafe fn references(
            this: *mut Self,
        ) -> impl IntoIterator<Item = *mut $crate::python::object::Object> {
            // SAFETY: the caller's promise.
            unsafe { [$(&raw mut (*this).$field),+] }
        }
    };
}
pub use crate::references;

/// Takes each reference out of its field and drops it.
///
/// # Safety
/// `this` must be an object of the class that is not freed yet, the GIL held. Runs Python code.
#[inline]
pub unsafe fn clear_references<T: NativeClass>(this: *mut T) {
    // SAFETY: the caller's promise. Each field is null before its reference is dropped.
    unsafe {
        for field in T::references(this) {
            ffi::Py_CLEAR(field);
        }
    }
}

/// Frees a dead object: weak references, fields, memory, type.
///
/// # Safety
/// `dead` must be a dead, untracked object of the class, the GIL held.
pub unsafe fn free<T: NativeClass>(dead: Object) {
    let fields = fields_of::<T>(dead);
    // SAFETY: the caller's promise: no code can reach the object any more, whatever destructors do.
    // An object holds a reference to its heap type.
    unsafe {
        let class = ffi::Py_TYPE(dead);
        if let Some(offset) = T::WEAKREFS
            && !fields.byte_add(offset).cast::<Object>().read().is_null()
        {
            ffi::PyObject_ClearWeakRefs(dead);
        }
        T::drop_fields(fields);
        T::release_memory(fields);
        ffi::Py_DECREF(class.cast());
    }
}

/// Visits one pointer for the collector, in a `tp_traverse`.
macro_rules! visit {
    ($visit:expr, $arg:expr, $object:expr) => {{
        let object: *mut pyo3::ffi::PyObject = $object;
        if !object.is_null() {
            let result = $visit(object, $arg);
            if result != 0 {
                return result;
            }
        }
    }};
}

unsafe extern "C" fn traverse<T: NativeClass>(
    slf: Object,
    visit: ffi::visitproc,
    arg: *mut c_void,
) -> c_int {
    let fields = fields_of::<T>(slf);
    // SAFETY: an object of the class, as CPython promises; the collector holds the GIL and runs no
    // other code meanwhile.
    unsafe {
        visit!(visit, arg, ffi::Py_TYPE(slf).cast());
        for field in T::references(fields) {
            visit!(visit, arg, *field);
        }
        if T::refers_to_itself(fields) {
            visit!(visit, arg, slf);
        }
    }
    0
}

unsafe extern "C" fn clear<T: NativeClass>(slf: Object) -> c_int {
    finalizing::guard();
    // SAFETY: an object of the class, which the collector keeps alive; it holds the GIL.
    unsafe { T::clear(fields_of(slf)) };
    0
}

unsafe extern "C" fn dealloc<T: NativeClass>(slf: Object) {
    // SAFETY: CPython calls this for an object of the class when the last reference is gone, with the
    // GIL held.
    unsafe { T::dealloc(fields_of(slf)) };
}

/// A reference to an object that is known to be of a class.
pub struct ObjectRef<'py, T>(Bound<'py, PyAny>, PhantomData<T>);

impl<'py, T: NativeClass> ObjectRef<'py, T> {
    /// # Safety
    /// `object` must be a live object of the class.
    #[inline]
    pub unsafe fn borrowed(py: Python<'py>, object: Object) -> Self {
        // SAFETY: the caller's promise.
        Self(unsafe { Bound::from_borrowed_ptr(py, object) }, PhantomData)
    }

    /// # Safety
    /// `object` must be a new reference to an object of the class.
    #[inline]
    pub unsafe fn owned(py: Python<'py>, object: Object) -> Self {
        // SAFETY: the caller's promise.
        Self(unsafe { Bound::from_owned_ptr(py, object) }, PhantomData)
    }

    #[inline]
    pub fn py(&self) -> Python<'py> {
        self.0.py()
    }

    #[inline]
    pub fn as_any(&self) -> &Bound<'py, PyAny> {
        &self.0
    }

    #[inline]
    pub fn into_any(self) -> Bound<'py, PyAny> {
        self.0
    }

    /// The object's fields, which are valid as long as this reference.
    #[inline]
    pub fn fields(&self) -> *mut T {
        fields_of(self.0.as_ptr())
    }

    /// A new reference to the object in a field, if there is one.
    #[inline]
    pub fn get(&self, field: impl FnOnce(&T) -> Object) -> Option<Bound<'py, PyAny>> {
        // SAFETY: an object of the class, which `self` keeps alive, with the GIL held. Its fields are
        // null or hold a reference.
        unsafe { Bound::from_borrowed_ptr_or_opt(self.py(), field(&*self.fields())) }
    }

    /// Takes the reference out of a field, if it holds one.
    #[inline]
    pub fn take(&self, field: impl FnOnce(&mut T) -> &mut Object) -> Option<Bound<'py, PyAny>> {
        // SAFETY: an object of the class, which `self` keeps alive, with the GIL held. The reference
        // moves out of its field, and no `&mut` outlives the statement.
        unsafe {
            let taken = std::mem::replace(field(&mut *self.fields()), null_mut());
            Bound::from_owned_ptr_or_opt(self.py(), taken)
        }
    }

    /// Tracks an object that was never tracked.
    #[inline]
    pub fn track_new(&self) {
        // SAFETY: `self` keeps the object alive, and all of its fields are written.
        unsafe { ffi::PyObject_GC_Track(self.0.as_ptr().cast()) };
    }

    /// Tracks the object, if the collector does not see it yet.
    pub fn track(&self) {
        let object = self.0.as_ptr();
        // SAFETY: `self` keeps the object alive, and all of its fields are written.
        unsafe {
            if ffi::PyObject_GC_IsTracked(object) == 0 {
                ffi::PyObject_GC_Track(object.cast());
            }
        }
    }
}

/// Defines a type for [`ObjectRef`] of a layout, for crates that give it methods:
/// `object_ref!(pub(super) Name, Layout)`.
#[doc(hidden)]
#[macro_export]
macro_rules! object_ref {
    ($(#[$doc:meta])* $visibility:vis $name:ident, $layout:ty) => {
        $(#[$doc])*
        #[repr(transparent)]
        $visibility struct $name<'py>($crate::python::class::ObjectRef<'py, $layout>);

        impl<'py> $name<'py> {
            /// # Safety
            /// `object` must be a live object of the class.
            #[inline]
            $visibility unsafe fn borrowed(
                py: pyo3::Python<'py>,
                object: $crate::python::object::Object,
            ) -> Self {
                // SAFETY: the caller's promise.
                Self(unsafe { $crate::python::class::ObjectRef::borrowed(py, object) })
            }

            /// The same reference.
            #[inline]
            $visibility fn of<'a>(
                object: &'a $crate::python::class::ObjectRef<'py, $layout>,
            ) -> &'a Self {
                // SAFETY: this type is that one, by another name.
                unsafe { &*std::ptr::from_ref(object).cast::<Self>() }
            }
        }

        impl<'py> From<$crate::python::class::ObjectRef<'py, $layout>> for $name<'py> {
            #[inline]
            fn from(object: $crate::python::class::ObjectRef<'py, $layout>) -> Self {
                Self(object)
            }
        }

        impl<'py> std::ops::Deref for $name<'py> {
            type Target = $crate::python::class::ObjectRef<'py, $layout>;

            #[inline]
            fn deref(&self) -> &Self::Target {
                &self.0
            }
        }
    };
}
pub use crate::object_ref;

unsafe extern "C" {
    /// What `PyObject_GC_New` calls, in the stable ABI; PyO3 has it by one name or by the other.
    fn _PyObject_GC_New(class: *mut ffi::PyTypeObject) -> Object;
}

/// A new object, which the collector does not see yet. `fields` are made once there is memory for
/// them; their head is ignored.
///
/// # Safety
/// `class` must be of this layout; references in the fields become the object's own.
#[inline]
pub unsafe fn allocate<'py, T: NativeClass>(
    py: Python<'py>,
    class: &Py<PyType>,
    fields: impl FnOnce() -> T,
) -> PyResult<ObjectRef<'py, T>> {
    // SAFETY: a heap type with the collector's flag, for objects of this size; the head is
    // initialised by the allocator.
    unsafe {
        let made = _PyObject_GC_New(class.as_ptr().cast());
        if made.is_null() {
            return Err(fetch(py));
        }
        Ok(initialise(py, fields_of(made), fields()))
    }
}

/// Moves the fields of a new object behind its head, which is initialised.
///
/// # Safety
/// `made` must be the fields of an object of the class that holds nothing besides its head; its one
/// reference becomes the result.
#[inline]
pub unsafe fn initialise<'py, T: NativeClass>(
    py: Python<'py>,
    made: *mut T,
    fields: T,
) -> ObjectRef<'py, T> {
    let fields = std::mem::ManuallyDrop::new(fields);
    // In a layout that starts with the head, that part is initialised already.
    let head = if T::BEHIND_HEAD { 0 } else { size_of::<ffi::PyObject>() };
    // SAFETY: the caller's promise. The bytes behind the head are moved once.
    unsafe {
        let (from, to) = ((&raw const fields).cast::<u8>(), made.cast::<u8>());
        to.add(head).copy_from_nonoverlapping(from.add(head), size_of::<T>() - head);
        ObjectRef::owned(py, object_of(made))
    }
}

/// A class's attributes besides its skeleton. Only names and documentation need be static.
#[derive(Default)]
pub struct Definition<'a> {
    /// `object` if there is none. The first is the one whose layout an object's starts with.
    pub bases: &'a [Bound<'a, PyType>],
    pub methods: &'a [ffi::PyMethodDef],
    pub getters: &'a [ffi::PyGetSetDef],
    pub slots: &'a [ffi::PyType_Slot],
}

/// Makes a class of this layout.
///
/// # Safety
/// Each method, getter and slot must have the signature that CPython expects there, and be right for
/// objects of the layout. The layout must start with that of the first base. Nothing but the class's own
/// code may make such objects.
pub unsafe fn new_class<T: NativeClass>(
    py: Python<'_>,
    name: &'static CStr,
    definition: &Definition<'_>,
) -> PyResult<Py<PyType>> {
    learn_head(py)?;
    let mut slots = vec![
        slot(ffi::Py_tp_traverse, traverse::<T> as *mut c_void),
        slot(ffi::Py_tp_clear, clear::<T> as *mut c_void),
        slot(ffi::Py_tp_dealloc, dealloc::<T> as *mut c_void),
    ];
    slots.extend(definition.slots);
    let flags = ffi::Py_TPFLAGS_DEFAULT
        | ffi::Py_TPFLAGS_HAVE_GC
        | ffi::Py_TPFLAGS_DISALLOW_INSTANTIATION
        | T::FLAGS;
    // CPython reads the arrays of a type for as long as the type lives: for ever.
    if !definition.methods.is_empty() {
        let methods = [definition.methods, &[METHODS_END]].concat().leak();
        slots.push(slot(ffi::Py_tp_methods, methods.as_mut_ptr().cast()));
    }
    if !definition.getters.is_empty() {
        let getters = [definition.getters, &[GETTERS_END]].concat().leak();
        slots.push(slot(ffi::Py_tp_getset, getters.as_mut_ptr().cast()));
    }
    let offsets = [
        (c"__weaklistoffset__", T::WEAKREFS),
        (c"__dictoffset__", T::DICT),
        (c"__vectorcalloffset__", T::VECTORCALL),
    ];
    let offsets =
        offsets.iter().filter_map(|(name, at)| Some(offset_member(name, start::<T>() + (*at)?)));
    let members = offsets.chain([MEMBERS_END]).collect::<Vec<_>>().leak();
    slots.push(slot(ffi::Py_tp_members, members.as_mut_ptr().cast()));
    slots.push(slot(0, null_mut()));
    let mut spec = ffi::PyType_Spec {
        name: name.as_ptr(),
        basicsize: (start::<T>() + size_of::<T>()) as c_int,
        itemsize: 0,
        flags: flags as u32,
        slots: slots.as_mut_ptr(),
    };
    let bases = match definition.bases {
        [] => PyTuple::new(py, [py.get_type::<PyAny>()])?,
        bases => PyTuple::new(py, bases)?,
    };
    // SAFETY: the spec, its name and the bases outlive the call, the arrays are never freed. The
    // skeleton's functions are right for every layout of this kind, and the others by the caller's
    // promise. A layout with a vectorcall has it in each object. A new reference or null with an
    // exception set.
    let made = unsafe { owned(py, ffi::PyType_FromSpecWithBases(&mut spec, bases.as_ptr()))? };
    Ok(made.cast_into::<PyType>()?.unbind())
}

/// The docstring of a class.
pub const fn doc(text: &'static CStr) -> ffi::PyType_Slot {
    slot(ffi::Py_tp_doc, text.as_ptr().cast_mut().cast())
}

pub const fn slot(id: c_int, function: *mut c_void) -> ffi::PyType_Slot {
    ffi::PyType_Slot { slot: id, pfunc: function }
}

/// Defines a getter of a class, which is a method without arguments as well:
/// `object_getter!(name, Layout, |slf| body)`, where `slf` is an [`ObjectRef`] and the body gives a
/// `PyResult<Bound<...>>`.
#[doc(hidden)]
#[macro_export]
macro_rules! object_getter {
    ($(#[$doc:meta])* $name:ident, $layout:ty, |$slf:ident| $body:expr) => {
        $(#[$doc])*
        unsafe extern "C" fn $name<X>(
            slf: $crate::python::object::Object,
            _: *mut X,
        ) -> $crate::python::object::Object {
            // SAFETY: CPython calls this, and holds the GIL.
            let held = unsafe { pyo3::Python::assume_attached() };
            $crate::python::trampoline::enter(held, std::ptr::null_mut(), |py| {
                // SAFETY: an attribute of the class: CPython checked the type of `slf`, which is
                // alive for the call.
                let object = unsafe {
                    $crate::python::class::ObjectRef::<$layout>::borrowed(py, slf)
                };
                let $slf = &object;
                let body = || -> pyo3::PyResult<pyo3::Bound<'_, _>> { $body };
                body().map(pyo3::Bound::into_ptr)
            })
        }
    };
}
pub use crate::object_getter;
