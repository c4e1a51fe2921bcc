//! An extension that brings its own event loop: what its futures wait for is served by the loop's
//! reactor, in the loop's thread.

use pyo3::prelude::*;

mod lines;
mod ticks;

#[pymodule]
mod linetalk {
    use super::*;

    #[pymodule_export]
    use crate::lines::{Connection, connect};
    #[pymodule_export]
    use crate::ticks::ticks;

    /// Adds `Loop`, `new_event_loop`, `EventLoopPolicy` and `run`.
    #[pymodule_init]
    fn init(module: &Bound<'_, PyModule>) -> PyResult<()> {
        tokioloop::register(module)
    }
}
