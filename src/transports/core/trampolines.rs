//! Macros that write the functions CPython calls for a transport's methods and attributes.
//!
//! Each takes the name of the function, the kind of transport, with `for` the generic parameters of
//! a function that several kinds share, and a body that looks like a closure:
//! `transport_plain!(close, T, for [T: Transport], |py, slf, this| this.close(slf))`.

use std::marker::PhantomData;
use std::ptr::null_mut;

use pyo3::IntoPyObjectExt;
use pyo3::prelude::*;
use pyo3::types::PyDict;

use super::class::{Transport, state};
use crate::ffi::object::Object;
use crate::ffi::trampoline::enter;

/// A call of a method, or the use of an attribute, of a kind's class.
pub(crate) struct MethodCall<T>(Object, PhantomData<T>);

impl<T: Transport> MethodCall<T> {
    /// # Safety
    /// CPython must have called a function of the tables of `T`'s class, with `slf`, and that must be
    /// running as long as the value exists.
    #[inline]
    pub(crate) unsafe fn of(slf: Object) -> Self {
        Self(slf, PhantomData)
    }

    /// Runs the body: what it gives is the result of the call, what it raises is raised.
    #[inline]
    pub(crate) fn run(
        self,
        body: impl for<'py> FnOnce(Python<'py>, &Bound<'py, PyAny>, &T) -> PyResult<Object>,
    ) -> Object {
        // SAFETY: CPython has made this call, as `of` was promised, and holds the GIL.
        let held = unsafe { Python::assume_attached() };
        enter(held, null_mut(), |py| {
            // SAFETY: CPython keeps it alive for the call.
            let slf = unsafe { Bound::from_borrowed_ptr(py, self.0) };
            // SAFETY: a function of this kind's class, of which CPython has checked the type.
            body(py, &slf, unsafe { state::<T>(&slf) })
        })
    }
}

/// What a method gives back. (To PyO3 `()` is an empty tuple; here it is `None`.)
pub(crate) trait Answer: Sized {
    fn answer(self, py: Python<'_>) -> PyResult<Py<PyAny>>;

    #[inline]
    fn into_object(self, py: Python<'_>) -> PyResult<Object> {
        Ok(self.answer(py)?.into_ptr())
    }
}

impl Answer for () {
    fn answer(self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        Ok(py.None())
    }
}

macro_rules! answers {
    ($($kind:ty),* $(,)?) => {
        $(impl Answer for $kind {
            fn answer(self, py: Python<'_>) -> PyResult<Py<PyAny>> {
                self.into_py_any(py)
            }
        })*
    };
}

answers!(
    bool,
    i32,
    u32,
    usize,
    (usize, usize),
    Py<PyAny>,
    Bound<'_, PyAny>,
    Bound<'_, PyDict>,
    Option<Py<PyAny>>,
    Option<Bound<'_, PyAny>>,
);

/// A method without arguments.
macro_rules! transport_plain {
    ($name:ident, $kind:ty $(, for [$($generics:tt)*])?,
     |$py:ident, $slf:ident, $this:ident| $body:expr) => {
        unsafe extern "C" fn $name$(<$($generics)*>)?(
            slf: $crate::ffi::object::Object,
            _: $crate::ffi::object::Object,
        ) -> $crate::ffi::object::Object {
            use $crate::transports::core::trampolines::{Answer, MethodCall};
            // SAFETY: only in tables of this kind's class, from which CPython calls it.
            unsafe { MethodCall::<$kind>::of(slf) }
                .run(|$py, $slf, $this| $body.and_then(|result| Answer::into_object(result, $py)))
        }
    };
}

/// A read-only attribute.
macro_rules! transport_field {
    ($name:ident, $kind:ty $(, for [$($generics:tt)*])?,
     |$py:ident, $slf:ident, $this:ident| $body:expr) => {
        unsafe extern "C" fn $name$(<$($generics)*>)?(
            slf: $crate::ffi::object::Object,
            _closure: *mut std::ffi::c_void,
        ) -> $crate::ffi::object::Object {
            use $crate::transports::core::trampolines::{Answer, MethodCall};
            // SAFETY: only in tables of this kind's class, from which CPython calls it.
            unsafe { MethodCall::<$kind>::of(slf) }
                .run(|$py, $slf, $this| $body.and_then(|result| Answer::into_object(result, $py)))
        }
    };
}

/// A method with arguments, which may be named: the function that takes CPython's vector of them.
macro_rules! transport_fast {
    ($name:ident, $kind:ty $(, for [$($generics:tt)*])?,
     |$py:ident, $slf:ident, $this:ident, $args:ident| $body:block) => {
        unsafe extern "C" fn $name$(<$($generics)*>)?(
            slf: $crate::ffi::object::Object,
            args: *const $crate::ffi::object::Object,
            count: pyo3::ffi::Py_ssize_t,
            names: $crate::ffi::object::Object,
        ) -> $crate::ffi::object::Object {
            use $crate::transports::core::trampolines::MethodCall;
            // SAFETY: only in tables of this kind's class, from which CPython calls it.
            unsafe { MethodCall::<$kind>::of(slf) }.run(|$py, $slf, $this| {
                // SAFETY: CPython's own arguments, alive for the call.
                let $args = unsafe { $crate::ffi::arguments::Args::new($py, args, count, names) };
                $body
            })
        }
    };
}

/// A method with one argument; its result is dropped.
macro_rules! transport_unary {
    ($name:ident, $kind:ty $(, for [$($generics:tt)*])?, $parameter:literal,
     |$py:ident, $slf:ident, $this:ident, $value:ident| $body:expr) => {
        $crate::transports::core::trampolines::transport_fast!(
            $name, $kind $(, for [$($generics)*])?, |py, $slf, $this, args| {
                let (name, parameter) = (stringify!($name), $parameter);
                let value = match args.positional {
                    [value] if !args.has_keywords() => Some(*value),
                    _ => {
                        use $crate::ffi::arguments::Matching;
                        args.at_most(name, 1)?;
                        let [value] = args.bind(name, [parameter], 1, 1)?;
                        value
                    }
                };
                // Set, or `bind` has raised. Held, as a caller in C need not do it.
                let Some(value) = value.map(pyo3::Borrowed::to_owned) else {
                    return Err(pyo3::exceptions::PyTypeError::new_err(parameter));
                };
                let ($py, $value) = (py, &value);
                $body?;
                Ok(py.None().into_ptr())
            }
        );
    };
}

/// A method with two arguments, of which the first `$required` are; they arrive as `Option<Bound>`.
macro_rules! transport_binary {
    ($name:ident, $kind:ty $(, for [$($generics:tt)*])?, [$first:literal, $second:literal],
     $required:literal,
     |$py:ident, $slf:ident, $this:ident, $one:ident, $two:ident| $body:expr) => {
        $crate::transports::core::trampolines::transport_fast!(
            $name, $kind $(, for [$($generics)*])?, |py, $slf, $this, args| {
                let (name, parameters) = (stringify!($name), [$first, $second]);
                use $crate::ffi::arguments::Matching;
                args.at_most(name, 2)?;
                let [$one, $two] = args
                    .bind(name, parameters, 2, $required)?
                    .map(|value| value.map(pyo3::Borrowed::to_owned));
                let $py = py;
                let result = $body?;
                $crate::transports::core::trampolines::Answer::into_object(result, py)
            }
        );
    };
}

pub(crate) use {
    transport_binary, transport_fast, transport_field, transport_plain, transport_unary,
};
