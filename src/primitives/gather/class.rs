//! The Python class of gatherings.

use std::ptr::null_mut;

use pyo3::ffi;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::PyType;

use super::gathering::{Gathering, GatheringObject, called};
use crate::ffi::class::{self, Definition, object_getter, slot};
use crate::ffi::definitions::getter;
use crate::primitives::originals::{inner_function, originals};

pub(super) fn new(py: Python<'_>, return_exceptions: bool) -> PyResult<Gathering<'_>> {
    let fields = || GatheringObject {
        head: ffi::PyObject_HEAD_INIT,
        weakrefs: null_mut(),
        vectorcall: Some(called),
        outer: null_mut(),
        children: null_mut(),
        waiter: null_mut(),
        total: 0,
        finished: 0,
        return_exceptions,
        forgets: null_mut(),
    };
    // SAFETY: the class of this layout.
    let gathering = unsafe { class::allocate(py, class(py)?, fields)? };
    gathering.track_new();
    Ok(gathering.into())
}

object_getter!(get_name, GatheringObject, |slf| Ok(intern!(slf.py(), "_done_callback").clone()));

object_getter!(get_qualname, GatheringObject, |slf| {
    // asyncio's other callback is a partial, which has no name of its own.
    Ok(if Gathering::of(slf).forgets().is_some() {
        intern!(slf.py(), "_discard_awaited_by()").clone()
    } else {
        intern!(slf.py(), "gather.<locals>._done_callback").clone()
    })
});

object_getter!(
    /// `repr()` of a child takes from it where the callback is defined.
    get_wrapped,
    GatheringObject,
    |slf| {
        let originals = originals(slf.py())?;
        match &originals.discard_awaited_by {
            Some(function) if Gathering::of(slf).forgets().is_some() => Ok(function.bind(slf.py()).clone()),
            _ => inner_function(slf.py(), &originals.gather, "_done_callback"),
        }
    }
);

fn class(py: Python<'_>) -> PyResult<&Py<PyType>> {
    static CLASS: PyOnceLock<Py<PyType>> = PyOnceLock::new();
    CLASS.get_or_try_init(py, || {
        let definition = Definition {
            getters: &[
                getter(c"__name__", get_name),
                getter(c"__qualname__", get_qualname),
                getter(c"__wrapped__", get_wrapped),
            ],
            slots: &[slot(ffi::Py_tp_call, ffi::PyVectorcall_Call as *mut _)],
            ..Definition::default()
        };
        // SAFETY: functions of these kinds, for the layout of gatherings; `new` alone makes one.
        unsafe {
            class::new_class::<GatheringObject>(py, c"tokioloop._core.Gathering", &definition)
        }
    })
}
