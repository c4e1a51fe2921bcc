//! Contexts for callbacks: shared until one of them is changed.
//!
//! asyncio copies the current context for every `call_soon` and every connection. A copy is an
//! object that the garbage collector tracks, and most are never changed. Here consecutive calls
//! from an unchanged context keep one pristine snapshot, which is never entered. A callback runs in
//! the loop's working copy of it, which becomes the callback's (or the transport's) own if it was
//! changed meanwhile, or if the program keeps a reference to it. A context has changed if its
//! immutable map of values is another. The place of that map in the object is probed once, as is the
//! place of the current context in the thread's state; where a probe fails calls copy, as in asyncio.

use std::cell::Cell;
use std::ptr::null_mut;

use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::PyDict;
use pyo3::{PyTraverseError, PyVisit};

use crate::ffi::gil::PySlot;
use crate::ffi::object::{self, Object};

/// `PyContext`: the head, the previous context, the map of values.
const VALUES: usize = size_of::<ffi::PyObject>() + size_of::<Object>();

/// The loop's contexts: the last snapshot, for the length of an iteration, and the working copy.
#[derive(Default)]
pub struct Contexts {
    last: PySlot,
    /// The snapshot that `working` is an unchanged copy of.
    pristine: PySlot,
    working: PySlot,
}

impl Contexts {
    /// A context equal to the current one, and whether others may share it (then copy it).
    #[inline]
    pub fn take(&self, py: Python<'_>) -> PyResult<(Object, bool)> {
        match self.last_if_current(py) {
            // SAFETY: alive, it is in our slot.
            Some(last) => Ok((unsafe { ffi::Py_NewRef(last) }, true)),
            None => self.copy_current(py, Layout::get(py).comparable),
        }
    }

    /// The last snapshot, borrowed, if it is known to be like the current context.
    #[inline]
    pub fn last_if_current(&self, py: Python<'_>) -> Option<Object> {
        let last = self.last.as_ptr(py);
        // SAFETY: both are contexts, and the probe found the map where it is read.
        unsafe {
            let current = Layout::get(py).current(py);
            let same = !current.is_null() && !last.is_null() && values(last) == values(current);
            same.then_some(last)
        }
    }

    fn copy_current(&self, py: Python<'_>, comparable: bool) -> PyResult<(Object, bool)> {
        // SAFETY: the GIL is held; a new reference or null with an exception set.
        let copy = unsafe { object::owned(py, ffi::PyContext_CopyCurrent())? };
        if !comparable {
            return Ok((copy.into_ptr(), false));
        }
        let last = self.last.as_ptr(py);
        // SAFETY: both are contexts, and the probe found the map where it is read.
        unsafe {
            if !last.is_null() && values(last) == values(copy.as_ptr()) {
                return Ok((ffi::Py_NewRef(last), true));
            }
        }
        self.last.set(py, Some(copy.clone().unbind()));
        Ok((copy.into_ptr(), true))
    }

    /// Makes a context that is never entered the last snapshot.
    pub fn expect(&self, py: Python<'_>, pristine: &Bound<'_, PyAny>) {
        if Layout::get(py).comparable && !self.last.holds(pristine) {
            self.last.set(py, Some(pristine.clone().unbind()));
        }
    }

    /// A copy of a snapshot, to be entered and handed back.
    #[inline]
    pub fn lend<'py>(
        &self,
        py: Python<'py>,
        pristine: &Bound<'py, PyAny>,
    ) -> PyResult<Bound<'py, PyAny>> {
        if self.pristine.holds(pristine)
            && let Some(copy) = self.working.take(py)
        {
            return Ok(copy.into_bound(py));
        }
        // SAFETY: a context; a new reference or null with an exception set.
        unsafe { object::owned(py, ffi::PyContext_Copy(pristine.as_ptr())) }
    }

    /// Takes a lent copy back. If it was changed, or is referred to elsewhere, the borrower keeps it.
    #[inline]
    pub fn take_back<'py>(
        &self,
        pristine: &Bound<'py, PyAny>,
        copy: Bound<'py, PyAny>,
    ) -> Option<Bound<'py, PyAny>> {
        let py = copy.py();
        // SAFETY: contexts, and only where they can be compared anything is shared and lent.
        let changed = unsafe { values(copy.as_ptr()) != values(pristine.as_ptr()) };
        // SAFETY: alive.
        if changed || unsafe { ffi::Py_REFCNT(copy.as_ptr()) } > 1 {
            return Some(copy);
        }
        if !self.pristine.holds(pristine) {
            // Dropped in between: destructors may borrow and hand back, too.
            self.working.set(py, None);
            self.pristine.set(py, Some(pristine.clone().unbind()));
        }
        self.working.set(py, Some(copy.unbind()));
        None
    }

    /// Drops the snapshot: its values must not outlive the iteration, nor the last callback that runs in
    /// it.
    pub fn forget(&self, py: Python<'_>) {
        if self.last.is_set(py) {
            self.last.set(py, None);
        }
        let pristine = self.pristine.as_ptr(py);
        // SAFETY: alive, it is in our slot.
        if !pristine.is_null() && unsafe { ffi::Py_REFCNT(pristine) } == 1 {
            self.working.set(py, None);
            self.pristine.set(py, None);
        }
    }

    pub fn traverse(&self, visit: &PyVisit<'_>) -> Result<(), PyTraverseError> {
        [&self.last, &self.pristine, &self.working]
            .into_iter()
            .try_for_each(|slot| slot.traverse(visit))
    }
}

/// Which callbacks of a group run in one context.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum Scope {
    /// Those with the same cause: code that schedules more of them lends its own context.
    #[default]
    Cause,
    /// All of them.
    Whole,
}

/// The context of a group of callbacks: a shared snapshot until one of them changes it.
#[derive(Default)]
pub(crate) struct Ground {
    context: PySlot,
    shared: Cell<bool>,
    scope: Scope,
}

impl Ground {
    /// The current context as it is now.
    pub(crate) fn current(py: Python<'_>, contexts: &Contexts, scope: Scope) -> PyResult<Self> {
        let (context, shared) = contexts.take(py)?;
        // SAFETY: a new reference.
        let context = unsafe { Bound::from_owned_ptr(py, context) };
        Ok(Self { context: PySlot::new(context.unbind()), shared: shared.into(), scope })
    }

    /// Where the scope is one cause: takes the current context, as it is now, for the callbacks from
    /// here on.
    pub(crate) fn follow_caller(&self, py: Python<'_>, contexts: &Contexts) -> PyResult<()> {
        if self.scope == Scope::Cause {
            let Self { context, shared, .. } = Self::current(py, contexts, Scope::Cause)?;
            self.shared.set(shared.get());
            self.context.set(py, context.take(py));
        }
        Ok(())
    }

    /// Takes the context out, if there is one.
    pub(crate) fn take(&self, py: Python<'_>) -> Option<Self> {
        let context = PySlot::new(self.context.take(py)?);
        Some(Self { context, shared: self.shared.get().into(), scope: self.scope })
    }

    pub(crate) fn scope(&self) -> Scope {
        self.scope
    }

    pub(crate) fn slot(&self) -> &PySlot {
        &self.context
    }

    pub(crate) fn forget(&self, py: Python<'_>) {
        self.context.set(py, None);
    }

    /// The context as an object, for code that enters it itself.
    pub(crate) fn own<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyAny>>> {
        let Some(context) = self.context.get(py) else {
            return Ok(None);
        };
        if !self.shared.replace(false) {
            return Ok(Some(context));
        }
        // SAFETY: a context; a new reference or null with an exception set.
        let copy = unsafe { object::owned(py, ffi::PyContext_Copy(context.as_ptr()))? };
        self.context.set(py, Some(copy.clone().unbind()));
        Ok(Some(copy))
    }

    /// Runs `f` in the context; as it is, if there is none any more.
    #[inline]
    pub(crate) fn run<R>(
        &self,
        py: Python<'_>,
        contexts: &Contexts,
        f: impl FnOnce() -> PyResult<R>,
    ) -> PyResult<R> {
        let Some(context) = self.context.get(py) else {
            return f();
        };
        if !self.shared.get() {
            return within_or_beside(&context, f);
        }
        // While it runs the copy is ours: code of the program may get it, or end the group.
        let copy = contexts.lend(py, &context)?;
        self.context.set(py, Some(copy.clone().unbind()));
        self.shared.set(false);
        let result = within(&copy, f);
        if self.context.holds(&copy) {
            self.context.set(py, None);
            let kept = contexts.take_back(&context, copy);
            self.shared.set(kept.is_none());
            self.context.set(py, Some(kept.unwrap_or(context).unbind()));
        }
        result
    }

    /// Where the scope is one cause: runs `f` in a context like this one, whose changes are for `f`
    /// alone. asyncio's transports call `connection_made` and read in contexts of their own.
    pub(crate) fn run_apart<R>(
        &self,
        py: Python<'_>,
        contexts: &Contexts,
        f: impl FnOnce() -> PyResult<R>,
    ) -> PyResult<R> {
        if self.scope == Scope::Whole {
            return self.run(py, contexts, f);
        }
        let Some(context) = self.context.get(py) else {
            return f();
        };
        if !self.shared.get() {
            // SAFETY: a context; a new reference or null with an exception set.
            let copy = unsafe { object::owned(py, ffi::PyContext_Copy(context.as_ptr()))? };
            return within(&copy, f);
        }
        let copy = contexts.lend(py, &context)?;
        let result = within(&copy, f);
        drop(contexts.take_back(&context, copy));
        result
    }
}

/// Runs `f` with a context entered.
#[inline(always)]
pub(crate) fn within<R>(
    context: &Bound<'_, PyAny>,
    f: impl FnOnce() -> PyResult<R>,
) -> PyResult<R> {
    enter(context)?;
    leave(context, f())
}

/// The same in a copy of the context, if code on the stack has entered it: a callback of the group that
/// runs the loop.
#[inline]
fn within_or_beside<R>(context: &Bound<'_, PyAny>, f: impl FnOnce() -> PyResult<R>) -> PyResult<R> {
    if enter(context).is_ok() {
        return leave(context, f());
    }
    // SAFETY: a context; a new reference or null with an exception set.
    let copy = unsafe { object::owned(context.py(), ffi::PyContext_Copy(context.as_ptr()))? };
    within(&copy, f)
}

#[inline]
fn enter(context: &Bound<'_, PyAny>) -> PyResult<()> {
    // SAFETY: a live object, which is checked to be a context.
    let entered = unsafe { ffi::PyContext_Enter(context.as_ptr()) };
    if entered == 0 { Ok(()) } else { Err(object::fetch(context.py())) }
}

/// Leaves a context that was entered, and gives the result of what was done in it.
#[inline(always)]
fn leave<R>(context: &Bound<'_, PyAny>, result: PyResult<R>) -> PyResult<R> {
    // Apart, so that a result without an error, which nearly all are, is not moved with the room that
    // an error would take.
    let value = match result {
        Ok(value) => value,
        Err(error) => return Err(leave_with(context, error)),
    };
    // SAFETY: a live object, which is checked to be the current context.
    if unsafe { ffi::PyContext_Exit(context.as_ptr()) } != 0 {
        return Err(object::fetch(context.py()));
    }
    Ok(value)
}

/// Leaves a context after `error`. The first error counts.
#[cold]
#[inline(never)]
pub(crate) fn leave_with(context: &Bound<'_, PyAny>, error: PyErr) -> PyErr {
    // SAFETY: a live object, which is checked to be the current context.
    if unsafe { ffi::PyContext_Exit(context.as_ptr()) } != 0 {
        drop(object::fetch(context.py()));
    }
    error
}

/// Whether a context is entered already, by code on the stack or in another thread.
pub(crate) fn is_entered(context: &Bound<'_, PyAny>) -> bool {
    // Only entering it tells.
    is_context(context) && within(context, || Ok(())).is_err()
}

/// Whether an object is a context of CPython's, which has no subclasses. A program may pass anything
/// that has a `run` for one.
pub(crate) fn is_context(object: &Bound<'_, PyAny>) -> bool {
    // SAFETY: a live object, of which only the type is looked at.
    unsafe { ffi::PyContext_CheckExact(object.as_ptr()) != 0 }
}

/// # Safety
/// `context` must be a live context object, and `Layout::comparable` true.
#[inline]
unsafe fn values(context: Object) -> Object {
    // SAFETY: the caller's promise.
    unsafe { context.cast::<u8>().add(VALUES).cast::<Object>().read() }
}

/// The layout of this interpreter's objects, as probed.
#[derive(Clone, Copy, Default)]
struct Layout {
    /// A context's map of values is at `VALUES`.
    comparable: bool,
    /// Which word of the thread's state is the current context. None if 0, or nothing comparable.
    current: usize,
}

/// Words of a thread's state that every CPython from 3.10 on has (280 bytes and more).
const THREAD_STATE_WORDS: usize = 34;

impl Layout {
    #[inline]
    fn get(py: Python<'_>) -> Self {
        static PROBED: PyOnceLock<Layout> = PyOnceLock::new();
        *PROBED.get_or_init(py, || Layout {
            comparable: can_compare(py).unwrap_or(false),
            current: find_current(py).unwrap_or(0),
        })
    }

    /// The current context, borrowed; null if there is none, or its place is not known.
    #[inline]
    fn current(self, py: Python<'_>) -> Object {
        if self.current == 0 || !self.comparable {
            return null_mut();
        }
        // SAFETY: the probe found it in this word.
        unsafe { thread_state(py).add(self.current).read() }
    }
}

#[inline]
fn thread_state(_py: Python<'_>) -> *const Object {
    // SAFETY: the GIL is held, so there is one.
    unsafe { ffi::PyThreadState_Get() }.cast()
}

fn can_compare(py: Python<'_>) -> PyResult<bool> {
    let module = py.import("contextvars")?;
    let context = module.getattr("Context")?.call0()?;
    let size = context.get_type().getattr("__basicsize__")?.extract::<usize>()?;
    if size < VALUES + size_of::<Object>() {
        return Ok(false);
    }
    let copy = context.call_method0("copy")?;
    // SAFETY: within the object, as checked; only compared, not followed, until it is known to be
    // the same non-null pointer in a context and its copy.
    let (original, copied) = unsafe { (values(context.as_ptr()), values(copy.as_ptr())) };
    if original != copied || original.is_null() {
        return Ok(false);
    }
    // A change must show in the one that changed and nowhere else.
    let variable = module.getattr("ContextVar")?.call1(("probe",))?;
    let arguments = PyDict::new(py);
    copy.call_method("run", (variable.getattr("set")?, 1), Some(&arguments))?;
    // SAFETY: the same two objects, which are as large as was found above; only compared.
    let (unchanged, changed) = unsafe { (values(context.as_ptr()), values(copy.as_ptr())) };
    Ok(unchanged == original && changed != original && !changed.is_null())
}

/// The one word of the thread's state that is a context exactly while that context is entered.
fn find_current(py: Python<'_>) -> PyResult<usize> {
    let state = thread_state(py);
    // SAFETY: within the thread's state; words are compared, not followed.
    let word = |at: usize| unsafe { state.add(at).read() };
    let mut found: Vec<usize> = (1..THREAD_STATE_WORDS).collect();
    for _ in 0..2 {
        // SAFETY: the GIL is held; a new reference or null with an exception set.
        let context = unsafe { object::owned(py, ffi::PyContext_New())? };
        found.retain(|at| word(*at) != context.as_ptr());
        let mut inside = Vec::new();
        within(&context, || {
            inside.extend(found.iter().filter(|at| word(**at) == context.as_ptr()));
            Ok(())
        })?;
        found = inside;
        found.retain(|at| word(*at) != context.as_ptr());
    }
    Ok(if let [at] = found[..] { at } else { 0 })
}
