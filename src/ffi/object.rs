//! What the hand-written extension types share: trampolines, type creation, argument parsing.
//!
//! PyO3 writes most of our classes. The few made here need what it does not offer: arguments that
//! arrive as a plain slice, recycled memory, or a base class that is written in Python.

use std::ffi::{CStr, c_int, c_void};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::ptr::null_mut;

use pyo3::Borrowed;
use pyo3::exceptions::{PyMemoryError, PyRuntimeError, PyTypeError};
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::{PyString, PyTuple, PyType};

use crate::ffi::finalizing;
use crate::ffi::gil::PySlot;
use crate::ffi::memory;

pub(crate) type Object = *mut ffi::PyObject;

/// Runs the body of a C-level method: errors are raised, a panic becomes a `RuntimeError`.
///
/// `held` proves that the caller, a function that CPython calls, has the GIL. PyO3 is told so without
/// asking CPython: destructors call methods even while the interpreter exits, when `Python::attach`
/// panics (and a panic here is the end of the process).
#[inline]
pub(crate) fn enter<R>(
    _held: Python<'_>,
    failed: R,
    body: impl FnOnce(Python<'_>) -> PyResult<R>,
) -> R {
    let attached = |py: Python<'_>| {
        finalizing::guard();
        // To raise an error may panic as well: its text is made then, of a Python string.
        let raised = || match body(py) {
            Ok(value) => Some(value),
            Err(error) => {
                error.restore(py);
                None
            }
        };
        match catch_unwind(AssertUnwindSafe(raised)) {
            Ok(value) => value.unwrap_or(failed),
            Err(payload) => {
                raise_panic(py, &*payload);
                failed
            }
        }
    };
    // SAFETY: the GIL is held, as `_held` proves, so there is an interpreter to attach to.
    unsafe { Python::attach_unchecked(attached) }
}

/// Runs the body of a destructor. The exception that is on its way is put by meanwhile; a panic is
/// told like what a `__del__` raises. While it runs, Python objects that Rust values drop are
/// dropped at once, and not when somebody next attaches.
///
/// The exception does not become a `PyErr`: PyO3 resumes a panic that was told as an exception.
///
/// # Safety
/// As for `enter`: the GIL must be held.
pub(crate) unsafe fn destroy(body: impl FnOnce(Python<'_>)) {
    let (mut kind, mut value, mut traceback) = (null_mut(), null_mut(), null_mut());
    let attached = |py: Python<'_>| {
        finalizing::guard();
        if let Err(payload) = catch_unwind(AssertUnwindSafe(|| body(py))) {
            raise_panic(py, &*payload);
            // SAFETY: the GIL is held, and an exception set; there is no object to name.
            unsafe { ffi::PyErr_WriteUnraisable(null_mut()) };
        }
    };
    // SAFETY: the caller's promise. What is fetched is put back, references and all.
    #[allow(deprecated, reason = "what replaces these is not there before CPython 3.12")]
    unsafe {
        ffi::PyErr_Fetch(&mut kind, &mut value, &mut traceback);
        Python::attach_unchecked(attached);
        ffi::PyErr_Restore(kind, value, traceback);
    }
}

/// Runs the body of a method of PyO3's as `enter` does: PyO3 would raise a `PanicException`, which
/// `except Exception` does not catch.
pub(crate) fn without_panics<R>(py: Python<'_>, body: impl FnOnce() -> PyResult<R>) -> PyResult<R> {
    catch_unwind(AssertUnwindSafe(body)).unwrap_or_else(|payload| {
        raise_panic(py, &*payload);
        Err(PyErr::fetch(py))
    })
}

/// Raises what a panic stands for.
///
/// Where CPython cannot make an object, for want of memory most of all, PyO3 often panics instead of
/// giving an error, and leaves CPython's exception set. Then that is what has happened. To make
/// another one would fail in the same way, outside of everything that catches a panic.
#[cold]
fn raise_panic(py: Python<'_>, payload: &(dyn std::any::Any + Send)) {
    // SAFETY: the GIL is held.
    let is_raised = || unsafe { !ffi::PyErr_Occurred().is_null() };
    if is_raised() {
        return;
    }
    let raised = catch_unwind(AssertUnwindSafe(|| panic_error(payload).restore(py)));
    if raised.is_err() && !is_raised() {
        // SAFETY: the GIL is held. Needs no memory: CPython keeps some of these ready.
        unsafe { ffi::PyErr_NoMemory() };
    }
}

/// A panic of ours, told in Python's terms.
pub(crate) fn panic_error(payload: &(dyn std::any::Any + Send)) -> PyErr {
    let text = payload
        .downcast_ref::<String>()
        .map(String::as_str)
        .or_else(|| payload.downcast_ref::<&str>().copied())
        .unwrap_or("unknown panic");
    PyRuntimeError::new_err(format!("tokioloop internal error: {text}"))
}

/// The Python error that a C call left behind.
pub(crate) fn fetch(py: Python<'_>) -> PyErr {
    PyErr::fetch(py)
}

/// Turns a C call's new reference into an owned object, or the raised error into `Err`.
///
/// # Safety
/// `object` must be a new reference, or null with an exception set.
#[inline]
pub(crate) unsafe fn owned<'py>(py: Python<'py>, object: Object) -> PyResult<Bound<'py, PyAny>> {
    // SAFETY: the caller's promise.
    unsafe { Bound::from_owned_ptr_or_err(py, object) }
}

/// An object that the caller of a function keeps alive for the call.
pub(crate) type Arg<'a, 'py> = Borrowed<'a, 'py, PyAny>;

/// The arguments of a vectorcall, borrowed from the caller.
#[derive(Clone, Copy)]
pub(crate) struct Args<'a, 'py> {
    pub positional: &'a [Arg<'a, 'py>],
    keywords: &'a [Arg<'a, 'py>],
    /// The names of `keywords`, one for each.
    names: Option<Borrowed<'a, 'py, PyTuple>>,
    py: Python<'py>,
}

impl<'a, 'py> Args<'a, 'py> {
    /// # Safety
    /// The three must be what CPython passed to a `METH_FASTCALL | METH_KEYWORDS` function (or to
    /// a vectorcall, with the flag taken off the count), and `'a` end before that returns.
    #[inline]
    pub(crate) unsafe fn new(
        py: Python<'py>,
        args: *const Object,
        count: ffi::Py_ssize_t,
        names: Object,
    ) -> Self {
        // A borrowed object is a pointer that is not null, and nothing else.
        const { assert!(size_of::<Arg<'_, '_>>() == size_of::<Object>()) };
        let (args, count) = (args.cast::<Arg<'a, 'py>>(), count as usize);
        // SAFETY: the caller's promise: CPython passes `count` positional values, then one for each
        // item of the tuple `names`, and all of them live through the call.
        unsafe {
            let slice = |at: *const Arg<'a, 'py>, len| {
                if len == 0 { &[][..] } else { std::slice::from_raw_parts(at, len) }
            };
            let names = (!names.is_null())
                .then(|| Borrowed::from_ptr(py, names).cast_unchecked::<PyTuple>());
            let keywords = names.map_or(0, |names| names.len());
            Self {
                positional: slice(args, count),
                keywords: slice(args.wrapping_add(count), keywords),
                names,
                py,
            }
        }
    }

    /// The keywords, each with its value.
    pub(crate) fn named(&self) -> impl Iterator<Item = (Arg<'a, 'py>, Arg<'a, 'py>)> {
        let names = self.names.into_iter().flat_map(|names| {
            // SAFETY: the places are within the tuple, which lives as long as the arguments.
            (0..names.len()).map(move |at| unsafe {
                Borrowed::from_ptr(names.py(), ffi::PyTuple_GET_ITEM(names.as_ptr(), at as isize))
            })
        });
        names.zip(self.keywords.iter().copied())
    }

    fn names_ptr(&self) -> Object {
        self.names.map_or(null_mut(), |names| names.as_ptr())
    }

    /// The value of `context`, if it is the only keyword.
    ///
    /// Asked for every step of a task. A caller's tuple of names is the same object each time, so
    /// the last one seen is kept and known again by its address.
    #[inline]
    pub(crate) fn only_context(&self) -> Option<Arg<'a, 'py>> {
        static SEEN: PySlot = PySlot::empty();
        let ([value], Some(names)) = (self.keywords, self.names) else { return None };
        if names.as_ptr() != SEEN.as_ptr(self.py) {
            // SAFETY: there is one keyword, so the tuple has one item, which is a `str`.
            unsafe {
                let name = ffi::PyTuple_GET_ITEM(names.as_ptr(), 0);
                if ffi::PyUnicode_CompareWithASCIIString(name, c"context".as_ptr()) != 0 {
                    return None;
                }
            }
            SEEN.set(self.py, Some(names.to_owned().into_any().unbind()));
        }
        Some(*value)
    }

    /// The value of a keyword, if it is the only one.
    pub(crate) fn only(&self, name: &Bound<'py, PyString>) -> Option<Arg<'a, 'py>> {
        let [value] = self.keywords else { return None };
        let (found, _) = self.named().next()?;
        // SAFETY: both are `str`.
        let same =
            found.is(name) || unsafe { ffi::PyUnicode_Compare(found.as_ptr(), name.as_ptr()) == 0 };
        same.then_some(*value)
    }

    /// Calls another function with the same arguments.
    pub(crate) fn forward(&self, function: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
        self.forward_behind(&[], function)
    }

    /// Calls another function with `first`, and behind that the same arguments.
    pub(crate) fn forward_behind(
        &self,
        first: &[Arg<'_, 'py>],
        function: &Bound<'py, PyAny>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let stack = joined(&[first, self.positional, self.keywords])?;
        // SAFETY: as many live objects as the count and the names say; the call gives a new
        // reference, or null with an exception set.
        unsafe {
            let result = ffi::PyObject_Vectorcall(
                function.as_ptr(),
                stack.as_ptr().cast(),
                first.len() + self.positional.len(),
                self.names_ptr(),
            );
            owned(function.py(), result)
        }
    }

    #[inline]
    pub(crate) fn has_keywords(&self) -> bool {
        !self.keywords.is_empty()
    }

    /// Matches keywords against `names` (the method's parameters, positional ones included).
    ///
    /// Gives the value of each name, if there is one. `required` of them must be there; positional
    /// values past `names.len()` are left to the caller, who reads them from `positional`.
    pub(crate) fn bind<const N: usize>(
        &self,
        method: &str,
        names: [&str; N],
        positional: usize,
        required: usize,
    ) -> PyResult<[Option<Arg<'a, 'py>>; N]> {
        let mut bound = [None; N];
        for (slot, value) in bound[..positional].iter_mut().zip(self.positional) {
            *slot = Some(*value);
        }
        for (name, value) in self.named() {
            // A program's `str` may be no text that Rust knows (lone surrogates), and of any length.
            let text = name.cast::<PyString>().ok();
            let text = text.as_ref().and_then(|name| name.to_str().ok());
            let known = text.and_then(|text| names.iter().position(|known| *known == text));
            let Some(index) = known else {
                let text = "{}() got an unexpected keyword argument '{}'";
                return Err(memory::error::<PyTypeError>(self.py, text, (method, name)));
            };
            if bound[index].is_some() {
                let text = "{}() got multiple values for argument '{}'";
                return Err(memory::error::<PyTypeError>(self.py, text, (method, name)));
            }
            bound[index] = Some(value);
        }
        let missing: Vec<_> = (0..required).filter(|at| bound[*at].is_none()).collect();
        if let Some(first) = missing.first() {
            return Err(PyTypeError::new_err(format!(
                "{method}() missing {} required positional argument{}: '{}'",
                missing.len(),
                if missing.len() == 1 { "" } else { "s" },
                missing.iter().map(|at| names[*at]).collect::<Vec<_>>().join("', '"),
            )))
            .inspect_err(|_| debug_assert!(*first < N));
        }
        Ok(bound)
    }

    /// Refuses positional values past the `most` that a method takes.
    pub(crate) fn at_most(&self, method: &str, most: usize) -> PyResult<()> {
        if self.positional.len() > most {
            return Err(PyTypeError::new_err(format!(
                "{method}() takes at most {most} positional arguments ({} given)",
                self.positional.len()
            )));
        }
        Ok(())
    }
}

/// Arguments one after the other. How many there are is up to the caller.
fn joined<'a, 'py>(parts: &[&[Arg<'a, 'py>]]) -> PyResult<Vec<Arg<'a, 'py>>> {
    let mut all = Vec::new();
    let count = parts.iter().map(|part| part.len()).sum();
    all.try_reserve_exact(count).map_err(|_| PyMemoryError::new_err(()))?;
    parts.iter().for_each(|part| all.extend_from_slice(part));
    Ok(all)
}

pub(crate) type FastCall =
    unsafe extern "C" fn(Object, *const Object, ffi::Py_ssize_t, Object) -> Object;
pub(crate) type NoArgs = unsafe extern "C" fn(Object, Object) -> Object;

/// A `METH_FASTCALL | METH_KEYWORDS` method.
pub(crate) const fn fast_method(
    name: &'static CStr,
    function: FastCall,
    doc: &'static CStr,
) -> ffi::PyMethodDef {
    ffi::PyMethodDef {
        ml_name: name.as_ptr(),
        ml_meth: ffi::PyMethodDefPointer { PyCFunctionFastWithKeywords: function },
        ml_flags: ffi::METH_FASTCALL | ffi::METH_KEYWORDS,
        ml_doc: doc.as_ptr(),
    }
}

/// A `METH_NOARGS` method.
pub(crate) const fn plain_method(
    name: &'static CStr,
    function: NoArgs,
    doc: &'static CStr,
) -> ffi::PyMethodDef {
    ffi::PyMethodDef {
        ml_name: name.as_ptr(),
        ml_meth: ffi::PyMethodDefPointer { PyCFunction: function },
        ml_flags: ffi::METH_NOARGS,
        ml_doc: doc.as_ptr(),
    }
}

/// A `METH_O` method.
pub(crate) const fn unary_method(
    name: &'static CStr,
    function: NoArgs,
    doc: &'static CStr,
) -> ffi::PyMethodDef {
    ffi::PyMethodDef {
        ml_name: name.as_ptr(),
        ml_meth: ffi::PyMethodDefPointer { PyCFunction: function },
        ml_flags: ffi::METH_O,
        ml_doc: doc.as_ptr(),
    }
}

pub(crate) const METHODS_END: ffi::PyMethodDef = ffi::PyMethodDef::zeroed();

pub(crate) const fn getter(
    name: &'static CStr,
    get: unsafe extern "C" fn(Object, *mut c_void) -> Object,
) -> ffi::PyGetSetDef {
    ffi::PyGetSetDef {
        name: name.as_ptr(),
        get: Some(get),
        set: None,
        doc: std::ptr::null(),
        closure: std::ptr::null_mut(),
    }
}

pub(crate) const GETTERS_END: ffi::PyGetSetDef = ffi::PyGetSetDef {
    name: std::ptr::null(),
    get: None,
    set: None,
    doc: std::ptr::null(),
    closure: std::ptr::null_mut(),
};

/// Tells CPython where an instance keeps its `__dict__` or its weak references.
pub(crate) const fn offset_member(name: &'static CStr, offset: usize) -> ffi::PyMemberDef {
    ffi::PyMemberDef {
        name: name.as_ptr(),
        type_code: ffi::Py_T_PYSSIZET,
        offset: offset as ffi::Py_ssize_t,
        flags: ffi::Py_READONLY,
        doc: std::ptr::null(),
    }
}

pub(crate) const MEMBERS_END: ffi::PyMemberDef = ffi::PyMemberDef {
    name: std::ptr::null(),
    type_code: 0,
    offset: 0,
    flags: 0,
    doc: std::ptr::null(),
};

/// A table that CPython keeps a pointer to. Its raw pointers only ever point to statics.
#[repr(transparent)]
pub(crate) struct Table<T: 'static>(pub T);

// SAFETY: plain data, which nobody writes to, and what it points to is static text and functions.
unsafe impl<const N: usize> Sync for Table<[ffi::PyMethodDef; N]> {}
// SAFETY: plain data, which nobody writes to, and what it points to is static text and functions;
// the closures are null.
unsafe impl<const N: usize> Sync for Table<[ffi::PyGetSetDef; N]> {}
// SAFETY: plain data, which nobody writes to: static text and numbers.
unsafe impl<const N: usize> Sync for Table<[ffi::PyMemberDef; N]> {}

/// Makes a heap type from slots, derived from `bases`.
///
/// # Safety
/// Each of `slots` must be what CPython wants under its number, and live as long as the type: for
/// ever. The functions must be right for instances of `size` bytes, whose layout starts with that of
/// the first base, and which nothing makes but code that writes all of their fields.
pub(crate) unsafe fn new_type<'py>(
    py: Python<'py>,
    name: &'static CStr,
    size: usize,
    bases: &[Bound<'py, PyType>],
    slots: Vec<ffi::PyType_Slot>,
) -> PyResult<Bound<'py, PyType>> {
    // SAFETY: the caller's promise.
    unsafe { new_type_with(py, name, size, bases, slots, 0) }
}

/// The same, with further `Py_TPFLAGS_...`.
///
/// # Safety
/// That of `new_type`, and the slots must fulfil what the flags tell CPython.
pub(crate) unsafe fn new_type_with<'py>(
    py: Python<'py>,
    name: &'static CStr,
    size: usize,
    bases: &[Bound<'py, PyType>],
    mut slots: Vec<ffi::PyType_Slot>,
    flags: std::ffi::c_ulong,
) -> PyResult<Bound<'py, PyType>> {
    slots.push(ffi::PyType_Slot { slot: 0, pfunc: std::ptr::null_mut() });
    let mut spec = ffi::PyType_Spec {
        name: name.as_ptr(),
        basicsize: size as c_int,
        itemsize: 0,
        flags: (ffi::Py_TPFLAGS_DEFAULT
            | ffi::Py_TPFLAGS_HAVE_GC
            | ffi::Py_TPFLAGS_DISALLOW_INSTANTIATION
            | flags) as u32,
        slots: slots.as_mut_ptr(),
    };
    let bases = PyTuple::new(py, bases)?;
    // SAFETY: the spec, its name and the bases outlive the call; the slots are what the caller
    // promised, and end with a zero.
    let made = unsafe { ffi::PyType_FromSpecWithBases(&mut spec, bases.as_ptr()) };
    // SAFETY: a new reference or null with an exception set.
    let made = unsafe { owned(py, made)? };
    Ok(made.cast_into::<PyType>()?)
}

pub(crate) const fn slot(id: c_int, function: *mut c_void) -> ffi::PyType_Slot {
    ffi::PyType_Slot { slot: id, pfunc: function }
}

/// Puts C-level methods into a class that PyO3 made.
///
/// # Safety
/// The functions must be of the kinds that their flags say, and right for instances of the class.
pub(crate) unsafe fn add_methods(
    class: &Bound<'_, PyType>,
    methods: &'static [ffi::PyMethodDef],
) -> PyResult<()> {
    for method in methods {
        if method.ml_name.is_null() {
            break;
        }
        // SAFETY: the definition is static, the class is a type object, and the caller promises
        // that they fit.
        let descriptor = unsafe {
            owned(
                class.py(),
                ffi::PyDescr_NewMethod(class.as_type_ptr(), std::ptr::from_ref(method).cast_mut()),
            )?
        };
        // SAFETY: `ml_name` is a static C string.
        let name = unsafe { CStr::from_ptr(method.ml_name) };
        class.setattr(name.to_string_lossy().as_ref(), descriptor)?;
    }
    Ok(())
}

/// Visits one pointer for the collector, in a `tp_traverse`.
#[macro_export]
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
