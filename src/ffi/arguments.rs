//! Arguments of a vectorcall: a borrowed slice, without a tuple, matched with parameters here.

use std::ptr::null_mut;

use pyo3::Borrowed;
use pyo3::exceptions::{PyMemoryError, PyTypeError};
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::{PyString, PyTuple};

use crate::ffi::gil::PySlot;
use crate::ffi::memory;
use crate::ffi::object::{Object, owned};

/// An argument: the caller keeps it alive for the call.
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
    /// Runs once a step of a task. A caller passes the same tuple of names each time, so the last one
    /// that was seen is kept and recognised by its address.
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

    /// Calls another function with `first` in front of the same arguments.
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
    /// Returns the value of each name, if it has one. The first `required` must have one; positional
    /// values past `names.len()` are left to the caller, which reads them from `positional`.
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
            // A program's `str` may have lone surrogates, which no Rust text has, and any length.
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
        let names = match missing[..] {
            [] => return Ok(bound),
            [one] => format!(": '{}'", names[one]),
            // No function has more than two that it requires.
            [first, second, ..] => format!("s: '{}' and '{}'", names[first], names[second]),
        };
        Err(PyTypeError::new_err(format!(
            "{method}() missing {} required positional argument{names}",
            missing.len(),
        )))
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

/// Arguments one after the other. Their number is the program's choice.
fn joined<'a, 'py>(parts: &[&[Arg<'a, 'py>]]) -> PyResult<Vec<Arg<'a, 'py>>> {
    let mut all = Vec::new();
    let count = parts.iter().map(|part| part.len()).sum();
    all.try_reserve_exact(count).map_err(|_| PyMemoryError::new_err(()))?;
    parts.iter().for_each(|part| all.extend_from_slice(part));
    Ok(all)
}
