//! The gathering: the done callback of all children of a `gather`.
//!
//! # States
//!
//! - *Being made*: `outer` and `children` are null. The children so far are in a vector of
//!   `gather`'s own, because making a task runs Python code, which could find a list. The gathering
//!   is a callback of theirs already, and any code that looks at their callbacks may call it.
//! - *Waiting*: both are set. `children` is the very list that the outer future has as `_children`,
//!   as in asyncio, so others may change it at any time: it is read element by element, each looked
//!   up anew after Python code may have run, and it may hold anything.
//! - *Cleared* by the collector: `outer` is null again, so a call does nothing.
//! - *Forgetting* (3.14 and later): `forgets` is another gathering, and this one no more than the
//!   outer future's callback.
//!
//! `finished` and `total` count calls; asyncio counts the same way, so a callback that is called by
//! hand counts, too. All fields change with the GIL held, and a reference is taken before any object
//! is called. The children's callbacks keep a gathering alive, and the last reference frees it.

use std::ffi::c_ulong;
use std::mem::offset_of;

use pyo3::exceptions::PyTypeError;
use pyo3::ffi;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyString, PyTuple};

use crate::ffi::class::{NativeClass, object_ref, references};
use crate::ffi::imports;
use crate::ffi::memory;
#[cfg(Py_3_14)]
use crate::ffi::object;
use crate::ffi::object::Object;
use crate::ffi::trampoline::vectorcall;
use crate::ffi::trashcan::through_trashcan;
use crate::primitives::ctypes::{self, CTypes};
#[cfg(Py_3_14)]
use crate::primitives::originals::originals;

/// The change of the call graph's edge from a child to the task that waits for it.
#[cfg(Py_3_14)]
#[derive(Clone, Copy)]
pub(super) enum Edge {
    Add,
    Discard,
}

#[repr(C)]
pub(super) struct GatheringObject {
    pub head: ffi::PyObject,
    pub weakrefs: Object,
    pub vectorcall: Option<ffi::vectorcallfunc>,
    /// The future that `gather` returned; null until it is made.
    pub outer: Object,
    /// A list with a future for each argument, which other code reaches as well; null until it is
    /// made.
    pub children: Object,
    /// The task that called `gather`, where the call graph is kept (3.14 and later).
    pub waiter: Object,
    /// The number of distinct children, and how many of them have called back.
    pub total: usize,
    pub finished: usize,
    pub return_exceptions: bool,
    /// Another gathering: then this is no more than the outer future's callback.
    pub forgets: Object,
}

// SAFETY: the layout is C's and starts with the head; the offsets are those of the fields, and the
// other pointers are null or hold references.
unsafe impl NativeClass for GatheringObject {
    const WEAKREFS: Option<usize> = Some(offset_of!(Self, weakrefs));
    const VECTORCALL: Option<usize> = Some(offset_of!(Self, vectorcall));
    const FLAGS: c_ulong = ffi::Py_TPFLAGS_HAVE_VECTORCALL;

    through_trashcan!();

    // `outer` first: a call from a destructor then finds no outer future, and does nothing.
    references!(outer, children, waiter, forgets);
}

object_ref!(
    /// A reference to a gathering, and its fields.
    pub(super) Gathering, GatheringObject
);

impl<'py> Gathering<'py> {
    /// The gathering whose children are to be forgotten, if this is the outer future's callback.
    pub(super) fn forgets(&self) -> Option<Self> {
        // SAFETY: our layout; the field is null or another gathering.
        unsafe {
            let forgets = (*self.fields()).forgets;
            (!forgets.is_null()).then(|| Self::borrowed(self.py(), forgets))
        }
    }

    /// Adds itself to a child's done callbacks.
    pub(super) fn watch(
        &self,
        types: &CTypes,
        child: &Bound<'py, PyAny>,
        context: &Bound<'py, PyAny>,
    ) -> PyResult<()> {
        static NAMES: PyOnceLock<Py<PyTuple>> = PyOnceLock::new();
        let py = self.py();
        let names =
            NAMES.get_or_try_init(py, || PyResult::Ok(PyTuple::new(py, ["context"])?.unbind()))?;
        let args = [self.as_any(), context];
        types.add_done_callback.call(child, &args, Some(names.bind(py))).map(drop)
    }

    /// Changes the call graph's edge from a child to the task that waits for it.
    #[cfg(Py_3_14)]
    pub(super) fn record_waiter(&self, child: &Bound<'py, PyAny>, edge: Edge) -> PyResult<()> {
        // SAFETY: a gathering, which `self` keeps alive, with the GIL held.
        let waiter = unsafe { (*self.fields()).waiter };
        if waiter.is_null() {
            return Ok(());
        }
        let originals = originals(self.py())?;
        let function = match edge {
            Edge::Add => &originals.add_to_awaited_by,
            Edge::Discard => &originals.discard_from_awaited_by,
        };
        let args = [child.as_ptr(), waiter];
        // SAFETY: two live objects; a new reference or null with an exception set.
        unsafe {
            let result =
                ffi::PyObject_Vectorcall(function.as_ptr(), args.as_ptr(), 2, std::ptr::null_mut());
            object::owned(self.py(), result).map(drop)
        }
    }

    /// asyncio's `_done_callback`.
    pub(super) fn child_done(&self, child: &Bound<'py, PyAny>) -> PyResult<()> {
        let (py, this) = (self.py(), self.fields());
        let Some(types) = ctypes::types(py)? else { return Ok(()) };
        // SAFETY: our layout; a live object or null.
        let (outer, return_exceptions) = unsafe {
            (*this).finished += 1;
            (Bound::from_borrowed_ptr_or_opt(py, (*this).outer), (*this).return_exceptions)
        };
        #[cfg(Py_3_14)]
        self.record_waiter(child, Edge::Discard)?;
        let outer = match outer {
            Some(outer) if !types.done.ask(&outer)? => outer,
            _ => {
                if !types.cancelled.ask(child)? {
                    // Marks it as retrieved.
                    types.exception.call(child, &[], None)?;
                }
                return Ok(());
            }
        };
        if !return_exceptions {
            let error = if types.cancelled.ask(child)? {
                cancelled_error(child)?
            } else {
                types.exception.call(child, &[], None)?
            };
            if !error.is_none() {
                return self.finish(&outer, "set_exception", &error);
            }
        }
        // SAFETY: a gathering, which `self` keeps alive, with the GIL held.
        if unsafe { (*this).finished != (*this).total } {
            return Ok(());
        }
        let (results, last) = self.collect(types, child)?;
        if outer.getattr(intern!(py, "_cancel_requested"))?.is_truthy()? {
            // Whatever `return_exceptions` says. The last child's, as asyncio has it, whether
            // that was cancelled or not.
            return self.finish(&outer, "set_exception", &cancelled_error(&last)?);
        }
        self.finish(&outer, "set_result", &results)
    }

    fn finish(
        &self,
        outer: &Bound<'py, PyAny>,
        method: &str,
        value: &Bound<'py, PyAny>,
    ) -> PyResult<()> {
        let py = self.py();
        outer.call_method1(PyString::intern(py, method), (value,)).map(drop)
    }

    /// asyncio's `_discard_awaited_by`: children that outlive the outer future are not waited for.
    #[cfg(Py_3_14)]
    pub(super) fn forget_children(&self) -> PyResult<()> {
        let this = self.fields();
        // The edges of children that called back are discarded already.
        // SAFETY: a gathering, which `self` keeps alive, with the GIL held.
        if unsafe { (*this).finished == (*this).total } {
            return Ok(());
        }
        let mut at = 0;
        while let Some(child) = self.child(at) {
            self.record_waiter(&child, Edge::Discard)?;
            at += 1;
        }
        Ok(())
    }

    /// The child at this place now; others may have changed the list since the last look.
    fn child(&self, at: usize) -> Option<Bound<'py, PyAny>> {
        // SAFETY: our layout; the field is a list or null. The element is within the list, and a
        // reference is taken before any other code can run.
        unsafe {
            let children = (*self.fields()).children;
            if children.is_null() || at >= ffi::PyList_GET_SIZE(children) as usize {
                return None;
            }
            let child = ffi::PyList_GET_ITEM(children, at as isize);
            Some(Bound::from_borrowed_ptr(self.py(), child))
        }
    }

    /// The children's results, and the last child; `child` if none are left.
    fn collect(
        &self,
        types: &CTypes,
        child: &Bound<'py, PyAny>,
    ) -> PyResult<(Bound<'py, PyAny>, Bound<'py, PyAny>)> {
        // Not a list yet: calling a child may run Python code, which could find it.
        let mut results = Vec::new();
        let mut last = child.clone();
        while let Some(child) = self.child(results.len()) {
            let result = outcome(types, &child)?;
            if results.is_empty() {
                // SAFETY: our layout; a list.
                let count = unsafe { ffi::PyList_GET_SIZE((*self.fields()).children) };
                results.try_reserve_exact(count as usize).map_err(|_| memory::exhausted())?;
            }
            results.try_reserve(1).map_err(|_| memory::exhausted())?;
            results.push(result);
            last = child;
        }
        Ok((memory::list(self.py(), results.into_iter())?.into_any(), last))
    }
}

/// A child's item in the list of results.
fn outcome<'py>(types: &CTypes, child: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
    let py = child.py();
    if types.cancelled.ask(child)? {
        let message = child.getattr(intern!(py, "_cancel_message"))?;
        let message = if message.is_none() { intern!(py, "").clone().into_any() } else { message };
        return imports::asyncio(py)?.cancelled_error.bind(py).call1((message,));
    }
    let error = types.exception.call(child, &[], None)?;
    if error.is_none() { types.result.call(child, &[], None) } else { Ok(error) }
}

fn cancelled_error<'py>(child: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
    child.call_method0(intern!(child.py(), "_make_cancelled_error"))
}

vectorcall!(called, |py, slf, args| {
    let (&[child], false) = (args.positional, args.has_keywords()) else {
        return Err(PyTypeError::new_err(format!(
            "gather.<locals>._done_callback() takes 1 positional argument but {} were given",
            args.positional.len()
        )));
    };
    // SAFETY: the vectorcall of this class; CPython keeps `slf` alive for the call.
    let gathering = unsafe { Gathering::borrowed(py, slf) };
    #[cfg(Py_3_14)]
    if let Some(forgotten) = gathering.forgets() {
        forgotten.forget_children()?;
        return Ok(py.None().into_bound(py));
    }
    gathering.child_done(&child)?;
    Ok(py.None().into_bound(py))
});
