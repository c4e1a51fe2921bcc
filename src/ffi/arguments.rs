//! Arguments of a vectorcall, matched with parameters.

use std::ptr::null_mut;

use pyo3::exceptions::{PyMemoryError, PyTypeError};
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::PyString;
pub(crate) use tokioloop_bridge::python::arguments::{Arg, Args};

use crate::ffi::gil::PySlot;
use crate::ffi::memory;
use crate::ffi::object::owned;

/// The names of a call whose only keyword was `context`.
static SEEN: PySlot = PySlot::empty();

/// How a function reads its arguments.
pub(crate) trait Matching<'a, 'py> {
    /// The value of `context`, if it is the only keyword.
    ///
    /// Runs once a step of a task. A caller passes the same tuple of names each time, so the last one
    /// that was seen is kept and recognised by its address.
    fn only_context(&self) -> Option<Arg<'a, 'py>>;

    /// The same where those names are known already, without looking at them. Cannot panic.
    fn context_as_before(&self) -> Option<Arg<'a, 'py>>;

    /// Calls another function with the same arguments.
    fn forward(&self, function: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>>;

    /// Calls another function with `first` in front of the same arguments.
    fn forward_behind(
        &self,
        first: &[Arg<'_, 'py>],
        function: &Bound<'py, PyAny>,
    ) -> PyResult<Bound<'py, PyAny>>;

    /// Matches keywords against `names` (the method's parameters, positional ones included).
    ///
    /// Returns the value of each name, if it has one. The first `required` must have one; positional
    /// values past `names.len()` are left to the caller, which reads them from `positional`.
    fn bind<const N: usize>(
        &self,
        method: &str,
        names: [&str; N],
        positional: usize,
        required: usize,
    ) -> PyResult<[Option<Arg<'a, 'py>>; N]>;

    /// Refuses positional values past the `most` that a method takes.
    fn at_most(&self, method: &str, most: usize) -> PyResult<()>;
}

impl<'a, 'py> Matching<'a, 'py> for Args<'a, 'py> {
    #[inline]
    fn only_context(&self) -> Option<Arg<'a, 'py>> {
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

    #[inline(always)]
    fn context_as_before(&self) -> Option<Arg<'a, 'py>> {
        let names = self.names?;
        // The tuple that was seen has one item.
        (names.as_ptr() == SEEN.as_ptr(self.py)).then(|| self.keywords.first().copied()).flatten()
    }

    fn forward(&self, function: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
        self.forward_behind(&[], function)
    }

    fn forward_behind(
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
                self.names.map_or(null_mut(), |names| names.as_ptr()),
            );
            owned(function.py(), result)
        }
    }

    fn bind<const N: usize>(
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

    fn at_most(&self, method: &str, most: usize) -> PyResult<()> {
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
