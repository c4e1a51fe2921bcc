//! hyper on the loop's own reactor: a server whose handlers are Python's, a client that Python awaits, and the server
//! on connections that asyncio has accepted.

use pyo3::prelude::*;

mod client;
mod handler;
mod server;

#[pymodule]
mod webtalk {
    use super::*;

    #[pymodule_export]
    use crate::client::fetch;
    #[pymodule_export]
    use crate::server::{Server, serve, serve_connection};

    /// Adds `Loop`, `new_event_loop`, `EventLoopPolicy` and `run`.
    #[pymodule_init]
    fn init(module: &Bound<'_, PyModule>) -> PyResult<()> {
        tokioloop::register(module)
    }
}
