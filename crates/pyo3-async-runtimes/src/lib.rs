//! [tokioloop_bridge] under the name and with the modules of pyo3-async-runtimes, for
//! `[patch.crates-io]`: extensions that use pyo3-async-runtimes get tokioloop's bridge without a change
//! of their sources. See the README beside this folder.

#[cfg(feature = "async-std-runtime")]
compile_error!(
    "tokioloop's pyo3-async-runtimes has no `async-std-runtime`: \
     use `tokio-runtime`, or remove the patch of pyo3-async-runtimes from Cargo.toml"
);

#[cfg(all(feature = "attributes", feature = "testing"))]
pub use inventory;
pub use tokioloop_bridge::{TaskLocals, generic, get_running_loop, into_future_with_locals};

/// The exceptions of this crate.
pub mod err {
    pub use tokioloop_bridge::RustPanic;
}

#[cfg(feature = "testing")]
pub mod testing;

#[cfg(feature = "tokio-runtime")]
pub mod tokio;
