//! An HTTP client and a rate limiter for asyncio, on tokio.
//!
//! | file | shows |
//! |---|---|
//! | `limiter.rs` | a future that waits on tokio's timers, and whose cancellation costs nobody anything |
//! | `client.rs` | a future around somebody else's library |
//! | `response.rs` | a stream as an async iterator |
//! | `errors.rs` | Rust's errors as Python's exceptions |

use pyo3::prelude::*;

mod client;
mod errors;
mod limiter;
mod response;

#[pymodule]
mod fetchlimit {
    #[pymodule_export]
    use crate::client::Client;
    #[pymodule_export]
    use crate::errors::{FetchError, StatusError};
    #[pymodule_export]
    use crate::limiter::Limiter;
    #[pymodule_export]
    use crate::response::Response;
}
