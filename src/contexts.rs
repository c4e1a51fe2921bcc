//! Contexts for callbacks: a burst from one context shares a snapshot until each is called.
//!
//! asyncio copies the current context for every `call_soon`. A copy is an object that the garbage
//! collector tracks, so a burst of callbacks makes it run again and again. Here consecutive calls
//! from an unchanged context keep one pristine snapshot, and each callback gets a copy of its own
//! when it is called (or when somebody asks for it). Whether the context changed is told by its
//! immutable map of values, whose place in the object is probed once; where the probe fails every
//! call copies, as in asyncio.

use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::PyDict;

use crate::gil::PySlot;
use crate::object::{self, Object};

/// `PyContext`: the head, the previous context, the map of values.
const VALUES: usize = size_of::<ffi::PyObject>() + size_of::<Object>();

/// The last snapshot, kept by the loop for the length of a turn.
#[derive(Default)]
pub struct Snapshots(PySlot);

impl Snapshots {
    /// A context equal to the current one, and whether others may share it (then copy it).
    pub fn take(&self, py: Python<'_>) -> PyResult<(Object, bool)> {
        // SAFETY: the GIL is held; a new reference or null with an exception set.
        let copy = unsafe { object::owned(py, ffi::PyContext_CopyCurrent())? };
        if !can_compare(py) {
            return Ok((copy.into_ptr(), false));
        }
        let last = self.0.as_ptr();
        // SAFETY: both are contexts, and the probe found the map where it is read.
        unsafe {
            if !last.is_null() && values(last) == values(copy.as_ptr()) {
                return Ok((ffi::Py_NewRef(last), true));
            }
        }
        self.0.set(py, Some(copy.clone().unbind()));
        Ok((copy.into_ptr(), true))
    }

    /// Lets go of the snapshot: its values must not outlive the turn.
    pub fn forget(&self, py: Python<'_>) {
        if self.0.is_set(py) {
            self.0.set(py, None);
        }
    }
}

/// # Safety
/// `context` must be a live context object, and `can_compare` true.
unsafe fn values(context: Object) -> Object {
    // SAFETY: the caller's promise.
    unsafe { context.cast::<u8>().add(VALUES).cast::<Object>().read() }
}

/// Whether a context's map of values is where this file thinks; found out once.
fn can_compare(py: Python<'_>) -> bool {
    static PROBED: PyOnceLock<bool> = PyOnceLock::new();
    *PROBED.get_or_init(py, || probe(py).unwrap_or(false))
}

fn probe(py: Python<'_>) -> PyResult<bool> {
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
    // SAFETY: as above.
    let (unchanged, changed) = unsafe { (values(context.as_ptr()), values(copy.as_ptr())) };
    Ok(unchanged == original && changed != original && !changed.is_null())
}
