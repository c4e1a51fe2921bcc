//! The asynchronous generators that a loop has to close: every `async for` over an asynchronous
//! generator function and every `asynccontextmanager` begins one.

use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PySet, PyWeakrefMethods, PyWeakrefReference};

use crate::event_loop::NativeLoop;
use crate::ffi::finalizing;
use crate::ffi::memory;

/// The asynchronous generators that a loop closes when it ends.
///
/// It has the methods of ``weakref.WeakSet`` that asyncio uses, and runs no Python code
/// when a generator begins or is freed. It holds no generator, and nothing that refers
/// to the loop: the garbage collector need not visit it.
#[pyclass(frozen, module = "tokioloop._core")]
pub(crate) struct AsyncGenerators {
    references: Py<PySet>,
    /// The references' callback, `references.discard`: a generator that is freed leaves at once.
    forget: Py<PyAny>,
}

impl Drop for AsyncGenerators {
    fn drop(&mut self) {
        // Before the fields, whose destructors may run Python code.
        finalizing::guard();
    }
}

#[pymethods]
impl AsyncGenerators {
    #[new]
    fn new(py: Python<'_>) -> PyResult<Self> {
        finalizing::guard();
        let references = PySet::empty(py)?;
        let forget = references.getattr(intern!(py, "discard"))?.unbind();
        Ok(Self { references: references.unbind(), forget })
    }

    /// Add a generator, by a weak reference.
    fn add(&self, generator: &Bound<'_, PyAny>) -> PyResult<()> {
        finalizing::guard();
        let forget = self.forget.bind(generator.py());
        let reference = PyWeakrefReference::new_with(generator, forget)?;
        self.references.bind(generator.py()).add(reference)
    }

    /// Remove a generator.
    fn discard(&self, generator: &Bound<'_, PyAny>) -> PyResult<()> {
        finalizing::guard();
        let reference = PyWeakrefReference::new(generator)?;
        self.references.bind(generator.py()).discard(reference).map(drop)
    }

    /// Remove all generators.
    fn clear(&self, py: Python<'_>) {
        finalizing::guard();
        self.references.bind(py).clear();
    }

    fn __len__(&self, py: Python<'_>) -> usize {
        finalizing::guard();
        self.references.bind(py).len()
    }

    /// Iterates over a copy: generators begin and are freed meanwhile.
    fn __iter__<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        finalizing::guard();
        let mut alive = Vec::new();
        for reference in self.references.bind(py).call_method0(intern!(py, "copy"))?.try_iter()? {
            if let Some(generator) = reference?.cast::<PyWeakrefReference>()?.upgrade() {
                memory::push(&mut alive, generator)?;
            }
        }
        memory::list(py, alive.into_iter())?.as_any().try_iter().map(Bound::into_any)
    }
}

#[pymethods]
impl NativeLoop {
    /// `sys.set_asyncgen_hooks`' `firstiter` while the loop runs.
    fn _asyncgen_firstiter_hook(slf: &Bound<'_, Self>, agen: &Bound<'_, PyAny>) -> PyResult<()> {
        finalizing::guard();
        let py = slf.py();
        if slf.getattr(intern!(py, "_asyncgens_shutdown_called"))?.is_truthy()? {
            // asyncio's own, which warns.
            let base = py.import("asyncio.base_events")?.getattr("BaseEventLoop")?;
            base.call_method1("_asyncgen_firstiter_hook", (slf, agen))?;
            return Ok(());
        }
        let generators = slf.getattr(intern!(py, "_asyncgens"))?;
        match generators.cast::<AsyncGenerators>() {
            Ok(generators) => generators.get().add(agen),
            Err(_) => generators.call_method1(intern!(py, "add"), (agen,)).map(drop),
        }
    }
}
