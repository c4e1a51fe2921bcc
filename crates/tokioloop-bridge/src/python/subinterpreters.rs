//! Sub-interpreters, which are refused.
//!
//! Python objects are kept in statics: asyncio's functions, classes, interned strings. Those belong to
//! one interpreter, and another one must not touch them. Nor could a thread attach there: before 3.12
//! `PyGILState_Ensure` does not know which interpreter it is in, and waits for the GIL that the thread
//! itself holds. So each entry point (a module's initialisation, a function of the bridge) checks here
//! before it touches anything else. CPython itself refuses such modules from 3.12 on, but not in the
//! interpreters that it calls legacy.

use pyo3::exceptions::PyImportError;
use pyo3::ffi;
use pyo3::prelude::*;

/// Raises `ImportError` in all interpreters but the main one: the one whose number is 0.
pub fn only_main(_py: Python<'_>) -> PyResult<()> {
    // SAFETY: the GIL is held, so the thread is in an interpreter.
    if unsafe { ffi::PyInterpreterState_GetID(ffi::PyInterpreterState_Get()) } != 0 {
        return Err(PyImportError::new_err(
            "tokioloop does not support sub-interpreters: use it in the main interpreter",
        ));
    }
    Ok(())
}
