//! An asyncio event loop for CPython whose engine is tokio.
//!
//! For Rust code there are [`bridge`], where Rust futures and Python awaitables await each other on
//! the loop's thread, and [`register`], which gives an extension module an event loop of its own.
//! `docs/rust.md` is their guide: which to use when, moving from pyo3-async-runtimes, the rules of
//! threads and of cancellation; `examples/rust-extension` and `examples/rust-embedded` are projects.
//!
//! The Python package `tokioloop` is the face; this crate is its core, `tokioloop._core`:
//!
//! | module | owns |
//! |---|---|
//! | `embedding` | the loop inside of another extension module |
//! | [`bridge`] | Rust futures and Python awaitables that await each other |
//! | `processes` | child processes are watched and reaped |
//! | `transports` | stream, datagram, pipe and TLS transports; accepting connections |
//! | `streams` | `StreamReader` and `StreamWriter` |
//! | `primitives` | `create_task`, `sleep`, `gather`, `run_coroutine_threadsafe` |
//! | `net` | `sock_recv`, `sock_recv_into`, `sock_sendall`, `sock_connect`; addresses |
//! | `event_loop` | the loop: ready queue, timers, iterations, handles, descriptors that the user owns |
//! | `ffi` | CPython's C API: objects, contexts, coroutines, the ends of threads |
//! | `driver` | the tokio runtime, registrations with it, wakes from other threads, forks, the platform |
//!
//! Arrows point down that list. The loop knows nothing of the modules above it, `ffi` uses only
//! `driver::sys`, and `driver` uses no other module. All of it stands on the crate `tokioloop-bridge`, which
//! knows no loop: it has the bridge itself, and what the two have in common: classes written by hand, the
//! ends of threads, forks.

#[cfg(Py_GIL_DISABLED)]
compile_error!("tokioloop guards its state with the GIL: build it for a CPython that has one");

pub mod bridge;
mod driver;
mod embedding;
mod event_loop;
mod ffi;
mod net;
mod primitives;
mod processes;
mod streams;
mod transports;

use pyo3::prelude::*;
use pyo3::types::IntoPyDict;

pub use embedding::register;

/// The guide's code is compiled as the other documentation's is.
#[cfg(doctest)]
#[doc = include_str!("../docs/rust.md")]
mod guide {}

/// The extension module `tokioloop._core`.
#[pymodule]
pub fn _core(module: &Bound<'_, PyModule>) -> PyResult<()> {
    ffi::subinterpreters::only_main(module.py())?;
    let name = module.name()?.to_string();
    ffi::imports::set_package(name.rsplit_once('.').map_or("tokioloop", |it| it.0))?;
    fill(module)
}

/// Puts everything into a core module, which may be another extension's own.
fn fill(module: &Bound<'_, PyModule>) -> PyResult<()> {
    event_loop::register(module)?;
    transports::register(module)?;
    processes::register(module)?;
    net::register(module)?;
    primitives::register(module)?;
    streams::register(module)?;
    bridge::offer(module.py())?;
    module.add("__build__", BUILD.into_py_dict(module.py())?)?;
    module.add("__version__", env!("CARGO_PKG_VERSION"))
}

/// What this core was built with.
const BUILD: [(&str, &str); 5] = [
    ("profile", env!("TOKIOLOOP_PROFILE")),
    ("target", env!("TOKIOLOOP_TARGET")),
    ("rustc", env!("TOKIOLOOP_RUSTC")),
    ("tokio", env!("TOKIOLOOP_TOKIO")),
    ("pyo3", env!("TOKIOLOOP_PYO3")),
];
