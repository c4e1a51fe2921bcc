//! A reference to a loop that does not keep it alive.

use pyo3::exceptions::PyTypeError;
use pyo3::prelude::*;
use pyo3::types::PyWeakrefReference;

/// Weak, unless the loop's class has no weak references: then it lasts until the port closes.
pub(super) enum LoopRef {
    Weak(Py<PyAny>),
    Strong(Py<PyAny>),
}

impl LoopRef {
    pub(super) fn to(event_loop: &Bound<'_, PyAny>) -> PyResult<Self> {
        match PyWeakrefReference::new(event_loop) {
            Ok(weak) => Ok(Self::Weak(weak.into_any().unbind())),
            Err(error) if error.is_instance_of::<PyTypeError>(event_loop.py()) => {
                Ok(Self::Strong(event_loop.clone().unbind()))
            }
            Err(error) => Err(error),
        }
    }

    pub(super) fn clone_ref(&self, py: Python<'_>) -> Self {
        match self {
            Self::Weak(weak) => Self::Weak(weak.clone_ref(py)),
            Self::Strong(event_loop) => Self::Strong(event_loop.clone_ref(py)),
        }
    }

    /// The loop, if it is still there.
    pub(super) fn get<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyAny>>> {
        match self {
            Self::Weak(weak) => Ok(Some(weak.bind(py).call0()?).filter(|it| !it.is_none())),
            Self::Strong(event_loop) => Ok(Some(event_loop.bind(py).clone())),
        }
    }
}
