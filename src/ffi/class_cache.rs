//! An answer about an object's class, found once for each state of the class.

use pyo3::prelude::*;

use crate::ffi::gil::{GilFlag, PySlot};

/// The answer for the class that was asked about last.
pub(crate) struct ClassCache<T: Copy> {
    class: PySlot,
    /// The class's version tag when the answer was found, and the answer.
    found: GilFlag<(u32, T)>,
}

impl<T: Copy> ClassCache<T> {
    /// `unset` is never given out.
    pub(crate) const fn new(unset: T) -> Self {
        Self { class: PySlot::empty(), found: GilFlag::new((0, unset)) }
    }

    /// The answer for the class of `object`.
    #[inline(always)]
    pub(crate) fn get_or_find(
        &self,
        object: &Bound<'_, PyAny>,
        find: impl FnOnce() -> PyResult<T>,
    ) -> PyResult<T> {
        let py = object.py();
        let class = object.get_type_ptr();
        // SAFETY: the type of a live object. CPython gives each state of a class a version of its own,
        // and 0 to a class that it has not looked up since it changed. Classes may come to share a
        // number: in CPython 3.10 `sys._clear_type_cache()` begins anew. Hence the look at the class.
        let version = unsafe { (*class).tp_version_tag };
        let (known, answer) = self.found.get(py);
        if version != 0 && version == known && self.class.as_ptr(py) == class.cast() {
            return Ok(answer);
        }
        self.find(object, version, find)
    }

    #[inline(never)]
    fn find(
        &self,
        object: &Bound<'_, PyAny>,
        version: u32,
        find: impl FnOnce() -> PyResult<T>,
    ) -> PyResult<T> {
        let py = object.py();
        let class: Py<PyAny> = object.get_type().into_any().unbind();
        let answer = find()?;
        self.found.set(py, (version, answer));
        self.class.set(py, Some(class));
        Ok(answer)
    }
}
