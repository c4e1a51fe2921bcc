//! Sub-interpreters, which are refused.
//!
//! The core keeps Python objects in statics: asyncio's classes, its own types, interned strings. Those belong to one interpreter, and another one must not touch them. Nor could the core
//! attach there: before 3.12 `PyGILState_Ensure` does not know which interpreter a thread is in, and
//! waits for the GIL that the thread itself holds. So each entry point (the module's
//! initialisation, `register`, a function of the bridge) checks here before it touches anything else.
//! CPython itself refuses modules like this one from 3.12 on, but not in the interpreters that it
//! calls legacy.

use pyo3::exceptions::PyImportError;
use pyo3::ffi;
use pyo3::prelude::*;

/// Raises `ImportError` in all interpreters but the main one.
pub(crate) fn only_main(_py: Python<'_>) -> PyResult<()> {
    // SAFETY: the GIL is held, so the thread is in an interpreter.
    if unsafe { ffi::PyInterpreterState_Get() != ffi::PyInterpreterState_Main() } {
        return Err(PyImportError::new_err(
            "tokioloop does not support sub-interpreters: use it in the main interpreter",
        ));
    }
    Ok(())
}
