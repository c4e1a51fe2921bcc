//! What `get_extra_info` answers.

use pyo3::prelude::*;
use pyo3::types::PyDict;

use super::class::Transport;
use super::state::Core;
use std::ffi::CStr;

/// A kind with a `get_extra_info` of its own. (The others inherit asyncio's, which reads `_extra`.)
pub(crate) trait ExtraInfo: Transport {
    const GET_EXTRA_INFO_DOC: &'static CStr;

    /// `get_extra_info(name, default)`
    fn extra_info<'py>(
        &self,
        py: Python<'py>,
        name: &Bound<'py, PyAny>,
        default: Option<Bound<'py, PyAny>>,
    ) -> PyResult<Option<Bound<'py, PyAny>>>;
}

impl Core {
    /// asyncio's `_extra`: a dict, if there is one.
    pub(crate) fn extra<'py>(&self, py: Python<'py>) -> Option<Bound<'py, PyAny>> {
        self.rare.get()?.extra.get(py)
    }

    pub(crate) fn set_extra(&self, extra: Bound<'_, PyAny>) {
        self.rare().extra.set(extra.py(), Some(extra.unbind()));
    }

    /// What `_extra` has under a name.
    pub(crate) fn extra_item<'py>(
        &self,
        name: &Bound<'py, PyAny>,
    ) -> PyResult<Option<Bound<'py, PyAny>>> {
        match self.extra(name.py()) {
            Some(extra) => extra.cast::<PyDict>()?.get_item(name),
            None => Ok(None),
        }
    }
}
