//! `gather`: the children made, watched and collected without Python frames.
//!
//! Native where everything is what it seems: coroutines, and CPython's own C tasks and futures, on
//! a plain loop of ours. Anything else is asyncio's own `gather`, before anything was done. The
//! outer future is asyncio's own, too. One object, the gathering, is the done callback of all
//! children.
//!
//! # States
//!
//! - *Being made*: `outer` and `children` are null. The children so far are in a vector of
//!   `gather`'s own, because making a task runs Python code, which could find a list. The gathering
//!   is a callback of theirs already, and may be called by anybody who looks at their callbacks.
//! - *Waiting*: both are set. `children` is the very list that the outer future has as `_children`,
//!   as in asyncio, so others may change it at any time: it is read element by element, each looked
//!   for anew after whatever ran Python code, and it may hold anything.
//! - *Cleared* by the collector: `outer` is null again, so a call does nothing.
//! - *Forgetting* (3.14 and later): `forgets` is another gathering, and this one no more than the
//!   outer future's callback.
//!
//! `finished` and `total` count calls; asyncio counts the same way, so a callback that is called by
//! hand counts, too. All fields change with the GIL held, and a reference is taken before anything
//! is asked. The children's callbacks keep a gathering alive, and the last reference frees it.

use std::collections::HashMap;
use std::collections::hash_map::Entry as Seen;
use std::ffi::{c_int, c_void};
use std::hash::{BuildHasherDefault, Hasher};
use std::mem::offset_of;
use std::ptr::null_mut;

use pyo3::exceptions::{PyMemoryError, PyTypeError};
use pyo3::ffi;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyTuple, PyType};

use super::ctypes::{self, CTypes, OnLoop, on_plain_loop};
use super::{originals, sleep};
use crate::event_loop::NativeLoop;
use crate::ffi::arguments::{Arg, Args};
use crate::ffi::class::{self, slot};
use crate::ffi::definitions::{self, Definitions, GETTERS_END, getter};
use crate::ffi::finalizing;
use crate::ffi::memory;
use crate::ffi::object::{self, Object};
use crate::ffi::trampoline::enter;
use crate::ffi::trashcan;
use crate::visit;

#[repr(C)]
struct GatheringObject {
    head: ffi::PyObject,
    weakrefs: Object,
    vectorcall: Option<ffi::vectorcallfunc>,
    /// The future that `gather` gave out; null until it is made.
    outer: Object,
    /// A list with a future for each argument, which others reach as well; null until it is made.
    children: Object,
    /// The task that called `gather`, where the call graph is kept (3.14 and later).
    waiter: Object,
    /// Different children, and how many of them have called back.
    total: usize,
    finished: usize,
    return_exceptions: bool,
    /// Another gathering: then this is no more than the outer future's callback.
    forgets: Object,
}

/// An address is as good a hash as any once its low bits, always zero, are mixed in.
#[derive(Default)]
struct Address(u64);

impl Hasher for Address {
    fn write(&mut self, _: &[u8]) {}
    fn write_usize(&mut self, address: usize) {
        self.0 = (address as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15).rotate_left(26);
    }
    fn finish(&self) -> u64 {
        self.0
    }
}

/// `tokioloop.gather(*coros_or_futures, return_exceptions=False)`.
pub(super) fn call<'py>(py: Python<'py>, args: &Args<'_, 'py>) -> PyResult<Bound<'py, PyAny>> {
    let mut return_exceptions = false;
    let mut native = !args.positional.is_empty();
    if args.has_keywords() {
        match args.only(intern!(py, "return_exceptions")) {
            Some(value) => return_exceptions = value.is_truthy()?,
            None => native = false,
        }
    }
    let gathered = if native {
        on_plain_loop(py, |types, event_loop| {
            if event_loop.has_task_factory(py)
                || !types.task_is_ours(py)
                || !all_are_known(types, event_loop, args.positional)?
            {
                return Ok(None);
            }
            gather(py, types, event_loop, args.positional, return_exceptions).map(Some)
        })?
    } else {
        None
    };
    match gathered.flatten() {
        Some(outer) => Ok(outer),
        None => args.forward(originals(py)?.gather.bind(py)),
    }
}

#[inline]
pub(super) fn is_coroutine(object: &Bound<'_, PyAny>) -> PyResult<bool> {
    // SAFETY: any live object may be asked.
    Ok(unsafe { ffi::PyCoro_CheckExact(object.as_ptr()) != 0 }
        || object.get_type_ptr() == sleep::class(object.py())?.as_ptr().cast()
        || super::is_rust_future(object))
}

/// Each is a coroutine, or a future in C of this very loop.
fn all_are_known(types: &CTypes, event_loop: &NativeLoop, args: &[Arg<'_, '_>]) -> PyResult<bool> {
    let gathering = types.gathering_future.as_ptr().cast();
    for object in args {
        if is_coroutine(object)? {
            continue;
        }
        if object.get_type_ptr() != gathering && !ctypes::is_exact(object)? {
            return Ok(false);
        }
        // One that was never initialised has none. asyncio finds that out when it has made tasks of
        // the coroutines before it.
        let its_loop = types.get_loop.call(object, &[], None);
        if !its_loop.is_ok_and(|it| it.as_ptr() == event_loop.object()) {
            return Ok(false);
        }
    }
    Ok(true)
}

fn gather<'py>(
    py: Python<'py>,
    types: &CTypes,
    event_loop: &NativeLoop,
    args: &[Arg<'_, 'py>],
    return_exceptions: bool,
) -> PyResult<Bound<'py, PyAny>> {
    let gathering = Gathering::new(py, return_exceptions)?;
    let this = gathering.fields();
    #[cfg(Py_3_14)]
    {
        let current = originals(py)?.current_task.bind(py).call1((event_loop.bind(py),))?;
        if !current.is_none() {
            // SAFETY: made just now, and kept by `gathering`; the field is null yet.
            unsafe { (*this).waiter = current.into_ptr() };
        }
    }
    // asyncio copies it for each child; nothing of the program's runs in it.
    // SAFETY: a new reference or null with an exception set.
    let context = unsafe { object::owned(py, ffi::PyContext_CopyCurrent())? };
    let on_loop = OnLoop::running(&event_loop.bind(py))?;
    // Callbacks of these are called when `outer` is there.
    let mut done_already = Vec::new();
    let mut children: Vec<Bound<'py, PyAny>> = Vec::new();
    let mut seen = HashMap::<usize, usize, BuildHasherDefault<Address>>::default();
    let distinct = if args.len() > 1 { args.len() } else { 0 };
    children.try_reserve_exact(args.len()).map_err(|_| no_memory())?;
    seen.try_reserve(distinct).map_err(|_| no_memory())?;
    for (at, arg) in args.iter().enumerate() {
        if args.len() > 1 {
            match seen.entry(arg.as_ptr() as usize) {
                Seen::Vacant(entry) => entry.insert(at),
                Seen::Occupied(entry) => {
                    children.push(children[*entry.get()].clone());
                    continue;
                }
            };
        }
        let mut child = (*arg).to_owned();
        let is_new = is_coroutine(arg)?;
        if is_new {
            child = types.new_task(*arg, on_loop.options())?;
            // Nobody else can wait for it, so nobody is to be warned.
            child.setattr(intern!(py, "_log_destroy_pending"), false)?;
        }
        // SAFETY: a gathering, which `gathering` keeps alive, with the GIL held.
        unsafe { (*this).total += 1 };
        children.push(child.clone());
        if cfg!(Py_3_12) && !is_new && types.done.ask(&child)? {
            memory::push(&mut done_already, child)?;
            continue;
        }
        #[cfg(Py_3_14)]
        gathering.record_waiter(&child, Edge::Add)?;
        gathering.watch(types, &child, &context)?;
    }
    let outer = types.new_gathering_future(py, on_loop.options())?;
    let children = memory::list(py, children.into_iter())?;
    outer.setattr(intern!(py, "_children"), &children)?;
    // SAFETY: a gathering, which `gathering` keeps alive, with the GIL held; both fields are null yet,
    // and nothing but this function sets them.
    unsafe {
        (*this).children = children.into_ptr();
        (*this).outer = outer.clone().into_ptr();
    }
    outer.setattr(intern!(py, "_cancel_requested"), false)?;
    #[cfg(Py_3_14)]
    // SAFETY: a gathering, which `gathering` keeps alive, with the GIL held.
    if unsafe { !(*this).waiter.is_null() } && originals(py)?.discard_awaited_by.is_some() {
        gathering.add_forgetting(types, &outer, &context)?;
    }
    for child in done_already {
        gathering.child_done(&child)?;
    }
    Ok(outer)
}

/// What becomes of the call graph's edge from a child to the task that waits for it.
#[cfg(Py_3_14)]
#[derive(Clone, Copy)]
enum Edge {
    Add,
    Discard,
}

/// A reference to a gathering, and its fields.
struct Gathering<'py>(Bound<'py, PyAny>);

impl<'py> Gathering<'py> {
    fn new(py: Python<'py>, return_exceptions: bool) -> PyResult<Self> {
        let class = class(py)?.as_ptr().cast::<ffi::PyTypeObject>();
        // SAFETY: the allocator gives memory for one; all fields are written before it is seen.
        unsafe {
            let made = ffi::PyObject_GC_New::<GatheringObject>(class);
            if made.is_null() {
                return Err(object::fetch(py));
            }
            let this = &mut *made;
            this.weakrefs = null_mut();
            this.vectorcall = Some(called);
            this.outer = null_mut();
            this.children = null_mut();
            this.waiter = null_mut();
            this.total = 0;
            this.finished = 0;
            this.return_exceptions = return_exceptions;
            this.forgets = null_mut();
            ffi::PyObject_GC_Track(made.cast());
            Ok(Self(Bound::from_owned_ptr(py, made.cast())))
        }
    }

    #[inline]
    fn fields(&self) -> *mut GatheringObject {
        self.0.as_ptr().cast()
    }

    fn watch(
        &self,
        types: &CTypes,
        child: &Bound<'py, PyAny>,
        context: &Bound<'py, PyAny>,
    ) -> PyResult<()> {
        static NAMES: PyOnceLock<Py<PyTuple>> = PyOnceLock::new();
        let py = self.0.py();
        let names =
            NAMES.get_or_try_init(py, || PyResult::Ok(PyTuple::new(py, ["context"])?.unbind()))?;
        let args = [&self.0, context];
        types.add_done_callback.call(child, &args, Some(names.bind(py))).map(drop)
    }

    /// The call graph's edge from a child to the task that waits for it.
    #[cfg(Py_3_14)]
    fn record_waiter(&self, child: &Bound<'py, PyAny>, edge: Edge) -> PyResult<()> {
        // SAFETY: a gathering, which `self` keeps alive, with the GIL held.
        let waiter = unsafe { (*self.fields()).waiter };
        if waiter.is_null() {
            return Ok(());
        }
        let originals = originals(self.0.py())?;
        let function = match edge {
            Edge::Add => &originals.add_to_awaited_by,
            Edge::Discard => &originals.discard,
        };
        let args = [child.as_ptr(), waiter];
        // SAFETY: two live objects; a new reference or null with an exception set.
        unsafe {
            let result = ffi::PyObject_Vectorcall(function.as_ptr(), args.as_ptr(), 2, null_mut());
            object::owned(self.0.py(), result).map(drop)
        }
    }

    /// asyncio's `_done_callback`.
    fn child_done(&self, child: &Bound<'py, PyAny>) -> PyResult<()> {
        let (py, this) = (self.0.py(), self.fields());
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
        let py = self.0.py();
        outer.call_method1(pyo3::types::PyString::intern(py, method), (value,)).map(drop)
    }

    /// asyncio's `_discard_awaited_by`: children that outlive the outer future are not waited for.
    #[cfg(Py_3_14)]
    fn forget_children(&self) -> PyResult<()> {
        let this = self.fields();
        // Those that called back are forgotten already.
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

    /// The outer future's own callback, which has `forget_children` done.
    #[cfg(Py_3_14)]
    fn add_forgetting(
        &self,
        types: &CTypes,
        outer: &Bound<'py, PyAny>,
        context: &Bound<'py, PyAny>,
    ) -> PyResult<()> {
        let callback = Self::new(self.0.py(), false)?;
        // SAFETY: made just now, and kept by `callback`; the field is null yet.
        unsafe { (*callback.fields()).forgets = self.0.clone().into_ptr() };
        callback.watch(types, outer, context)
    }

    /// The child at this place now; others may have changed the list since the last look.
    fn child(&self, at: usize) -> Option<Bound<'py, PyAny>> {
        // SAFETY: our layout; a list, as the type of the field says, or null. The element is
        // looked for where there is one, and a reference taken, before anything else can run.
        unsafe {
            let children = (*self.fields()).children;
            if children.is_null() || at >= ffi::PyList_GET_SIZE(children) as usize {
                return None;
            }
            let child = ffi::PyList_GET_ITEM(children, at as isize);
            Some(Bound::from_borrowed_ptr(self.0.py(), child))
        }
    }

    /// What the children have come to, and the last of them; `child` if there are none any more.
    fn collect(
        &self,
        types: &CTypes,
        child: &Bound<'py, PyAny>,
    ) -> PyResult<(Bound<'py, PyAny>, Bound<'py, PyAny>)> {
        // Not a list yet: to ask a child may run Python code, which could find it.
        let mut results = Vec::new();
        let mut last = child.clone();
        while let Some(child) = self.child(results.len()) {
            let result = outcome(types, &child)?;
            if results.is_empty() {
                // SAFETY: our layout; a list.
                let count = unsafe { ffi::PyList_GET_SIZE((*self.fields()).children) };
                results.try_reserve_exact(count as usize).map_err(|_| no_memory())?;
            }
            results.try_reserve(1).map_err(|_| no_memory())?;
            results.push(result);
            last = child;
        }
        Ok((memory::list(self.0.py(), results.into_iter())?.into_any(), last))
    }
}

fn no_memory() -> PyErr {
    PyMemoryError::new_err(())
}

/// What a child contributes to the list of results.
fn outcome<'py>(types: &CTypes, child: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
    let py = child.py();
    if types.cancelled.ask(child)? {
        let message = child.getattr(intern!(py, "_cancel_message"))?;
        let message = if message.is_none() { intern!(py, "").clone().into_any() } else { message };
        return crate::ffi::imports::asyncio(py)?.cancelled_error.bind(py).call1((message,));
    }
    let error = types.exception.call(child, &[], None)?;
    if error.is_none() { types.result.call(child, &[], None) } else { Ok(error) }
}

fn cancelled_error<'py>(child: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
    child.call_method0(intern!(child.py(), "_make_cancelled_error"))
}

unsafe extern "C" fn called(
    slf: Object,
    args: *const Object,
    count: usize,
    names: Object,
) -> Object {
    // SAFETY: CPython calls this, and holds the GIL.
    let held = unsafe { Python::assume_attached() };
    enter(held, null_mut(), |py| {
        // SAFETY: CPython's own arguments; `slf` is of our type, which has this function.
        unsafe {
            let count = ffi::PyVectorcall_NARGS(count);
            if count != 1 || (!names.is_null() && ffi::PyTuple_GET_SIZE(names) != 0) {
                return Err(PyTypeError::new_err(format!(
                    "gather.<locals>._done_callback() takes 1 positional argument but {count} \
                     were given"
                )));
            }
            let gathering = Gathering(Bound::from_borrowed_ptr(py, slf));
            #[cfg(Py_3_14)]
            if !(*gathering.fields()).forgets.is_null() {
                let forgetful = Bound::from_borrowed_ptr(py, (*gathering.fields()).forgets);
                return Gathering(forgetful).forget_children().map(|()| py.None().into_ptr());
            }
            gathering.child_done(&Bound::from_borrowed_ptr(py, *args))?;
        }
        Ok(py.None().into_ptr())
    })
}

unsafe extern "C" fn get_name(_slf: Object, _closure: *mut c_void) -> Object {
    // SAFETY: CPython calls this, and holds the GIL.
    let held = unsafe { Python::assume_attached() };
    enter(held, null_mut(), |py| Ok(intern!(py, "_done_callback").clone().into_ptr()))
}

unsafe extern "C" fn get_qualname(slf: Object, _closure: *mut c_void) -> Object {
    // SAFETY: CPython calls this, and holds the GIL.
    let held = unsafe { Python::assume_attached() };
    enter(held, null_mut(), |py| {
        // SAFETY: CPython checked the type of `slf`.
        let name = if unsafe { (*slf.cast::<GatheringObject>()).forgets.is_null() } {
            intern!(py, "gather.<locals>._done_callback")
        } else {
            // As asyncio's, which is a partial.
            intern!(py, "_discard_awaited_by()")
        };
        Ok(name.clone().into_ptr())
    })
}

/// What `repr()` of a child looks for, to say where its callback is from.
unsafe extern "C" fn get_wrapped(slf: Object, _closure: *mut c_void) -> Object {
    // SAFETY: CPython calls this, and holds the GIL.
    let held = unsafe { Python::assume_attached() };
    enter(held, null_mut(), |py| {
        // SAFETY: CPython checked the type of `slf`.
        if unsafe { !(*slf.cast::<GatheringObject>()).forgets.is_null() }
            && let Some(function) = &originals(py)?.discard_awaited_by
        {
            return Ok(function.clone_ref(py).into_ptr());
        }
        Ok(super::function_inside(py, &originals(py)?.gather, "_done_callback")?.into_ptr())
    })
}

unsafe extern "C" fn traverse(slf: Object, visit: ffi::visitproc, arg: *mut c_void) -> c_int {
    let this = slf.cast::<GatheringObject>();
    // SAFETY: our layout; the collector holds the GIL and runs no other code meanwhile.
    unsafe {
        visit!(visit, arg, ffi::Py_TYPE(slf).cast());
        visit!(visit, arg, (*this).outer);
        visit!(visit, arg, (*this).children);
        visit!(visit, arg, (*this).waiter);
        visit!(visit, arg, (*this).forgets);
    }
    0
}

unsafe extern "C" fn clear(slf: Object) -> c_int {
    finalizing::guard();
    let this = slf.cast::<GatheringObject>();
    // SAFETY: our layout; only called on garbage, or when the last reference is gone. Each field is
    // emptied before its reference is dropped, so a call from a destructor finds no outer future,
    // and does nothing.
    unsafe {
        ffi::Py_CLEAR(&raw mut (*this).outer);
        ffi::Py_CLEAR(&raw mut (*this).children);
        ffi::Py_CLEAR(&raw mut (*this).waiter);
        ffi::Py_CLEAR(&raw mut (*this).forgets);
    }
    0
}

unsafe extern "C" fn dealloc(slf: Object) {
    // SAFETY: the last reference is gone; `take_apart` frees it.
    unsafe { trashcan::dealloc(slf, take_apart) };
}

/// # Safety
/// As `trashcan::dealloc` promises.
unsafe fn take_apart(slf: Object) {
    let this = slf.cast::<GatheringObject>();
    // SAFETY: dead and untracked; taken apart in the order CPython asks for: weak references,
    // fields, memory, type.
    unsafe {
        let class = ffi::Py_TYPE(slf);
        if !(*this).weakrefs.is_null() {
            ffi::PyObject_ClearWeakRefs(slf);
        }
        clear(slf);
        ffi::PyObject_GC_Del(slf.cast());
        ffi::Py_DECREF(class.cast());
    }
}

static FIELDS: Definitions<[ffi::PyGetSetDef; 4]> = Definitions([
    getter(c"__name__", get_name),
    getter(c"__qualname__", get_qualname),
    getter(c"__wrapped__", get_wrapped),
    GETTERS_END,
]);

static MEMBERS: Definitions<[ffi::PyMemberDef; 3]> = Definitions([
    definitions::offset_member(c"__weaklistoffset__", offset_of!(GatheringObject, weakrefs)),
    definitions::offset_member(c"__vectorcalloffset__", offset_of!(GatheringObject, vectorcall)),
    definitions::MEMBERS_END,
]);

fn class(py: Python<'_>) -> PyResult<&'static Py<PyType>> {
    static TYPE: PyOnceLock<Py<PyType>> = PyOnceLock::new();
    TYPE.get_or_try_init(py, || {
        let slots = vec![
            slot(ffi::Py_tp_traverse, traverse as *mut c_void),
            slot(ffi::Py_tp_clear, clear as *mut c_void),
            slot(ffi::Py_tp_dealloc, dealloc as *mut c_void),
            slot(ffi::Py_tp_call, ffi::PyVectorcall_Call as *mut c_void),
            slot(ffi::Py_tp_getset, FIELDS.0.as_ptr().cast_mut().cast()),
            slot(ffi::Py_tp_members, MEMBERS.0.as_ptr().cast_mut().cast()),
        ];
        // SAFETY: functions and tables of these kinds, all static, for objects of this layout, which
        // are made in one place, with their vectorcall.
        let class = unsafe {
            class::new_type_with(
                py,
                c"tokioloop._core.Gathering",
                size_of::<GatheringObject>(),
                &[py.get_type::<PyAny>()],
                slots,
                ffi::Py_TPFLAGS_HAVE_VECTORCALL,
            )?
        };
        Ok(class.unbind())
    })
}
