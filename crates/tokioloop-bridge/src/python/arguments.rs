//! Arguments of a vectorcall: borrowed slices, without a tuple.

use pyo3::Borrowed;
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::{PyString, PyTuple};

use crate::python::object::Object;

/// An argument: the caller keeps it alive for the call.
pub type Arg<'a, 'py> = Borrowed<'a, 'py, PyAny>;

/// The arguments of a vectorcall, borrowed from the caller.
#[derive(Clone, Copy)]
pub struct Args<'a, 'py> {
    pub positional: &'a [Arg<'a, 'py>],
    pub keywords: &'a [Arg<'a, 'py>],
    /// The names of `keywords`, one for each.
    pub names: Option<Borrowed<'a, 'py, PyTuple>>,
    pub py: Python<'py>,
}

impl<'a, 'py> Args<'a, 'py> {
    /// # Safety
    /// The three must be what CPython passed to a `METH_FASTCALL | METH_KEYWORDS` function (or to
    /// a vectorcall, with the flag taken off the count), and `'a` end before that returns.
    #[inline]
    pub unsafe fn new(
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
    pub fn named(&self) -> impl Iterator<Item = (Arg<'a, 'py>, Arg<'a, 'py>)> {
        let names = self.names.into_iter().flat_map(|names| {
            // SAFETY: the places are within the tuple, which lives as long as the arguments.
            (0..names.len()).map(move |at| unsafe {
                Borrowed::from_ptr(names.py(), ffi::PyTuple_GetItem(names.as_ptr(), at as isize))
            })
        });
        names.zip(self.keywords.iter().copied())
    }

    /// The value of a keyword, if it is the only one.
    pub fn only(&self, name: &Bound<'py, PyString>) -> Option<Arg<'a, 'py>> {
        let [value] = self.keywords else { return None };
        let (found, _) = self.named().next()?;
        // SAFETY: both are `str`.
        let same =
            found.is(name) || unsafe { ffi::PyUnicode_Compare(found.as_ptr(), name.as_ptr()) == 0 };
        same.then_some(*value)
    }

    #[inline]
    pub fn has_keywords(&self) -> bool {
        !self.keywords.is_empty()
    }
}
