//! Child processes: the loop hears of their ends, and reaps them.
//!
//! | module | owns |
//! |---|---|
//! | `watcher` | the descriptor that stands for a child, until the child is reaped |
//!
//! Children are started, and signalled, by `python/tokioloop/processes.py`.

mod watcher;

use pyo3::prelude::*;

use crate::event_loop::NativeLoop;
use watcher::ChildWatcher;

/// Puts the class into the extension module.
pub(crate) fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    watcher::prepare(module.py())?;
    module.add_class::<ChildWatcher>()
}

#[pymethods]
impl NativeLoop {
    /// What reaps a child and tells its transport. Where it has a descriptor it hears of the end itself.
    fn _watch_child<'py>(
        slf: &Bound<'py, Self>,
        transport: Bound<'py, PyAny>,
        process: Bound<'py, PyAny>,
    ) -> PyResult<Bound<'py, ChildWatcher>> {
        ChildWatcher::start(slf.py(), Self::entered(slf), transport, process)
    }
}
