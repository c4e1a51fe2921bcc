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
//! | `methods` | what Python calls on the loop |
//! | `event_loop` | the loop: ready queue, turns, running |
//! | `handles` | `Handle` and `TimerHandle` |
//! | `contexts` | the contexts that callbacks run in |
//! | `coroutine` | how Python steps coroutines of the core's own |
//! | `timers` | the timer heap, the clock, the alarm |
//! | `reactor` | the tokio runtime and registrations with it |
//! | `sources` | who gets a registration's events |
//! | `descriptors` | descriptors that the user owns |
//! | `sockets` | `sock_recv`, `sock_recv_into`, `sock_sendall`, `sock_connect` |
//! | `transports` | stream and datagram transports |
//! | `listener` | accepting connections |
//! | `memory` | memory that can run out |
//! | `names` | literal addresses |
//! | `events` | what happened while nobody looked; the end of the loop's sleep |
//! | `wakes`, `targets` | what wakers touch on any thread; whom they wake on the loop |
//! | [`bridge`] | Rust futures and Python awaitables that await each other |
//! | `embedding` | the loop inside of another extension module |
//! | `forks` | how many there were; a lock that no fork catches locked |
//! | `finalizing` | threads that CPython ends while the interpreter goes down |
//! | `interpreters` | sub-interpreters, which are refused |
//! | `primitives` | `create_task`, `sleep`, `gather`, `run_coroutine_threadsafe` |

#[cfg(Py_GIL_DISABLED)]
compile_error!("tokioloop guards its state with the GIL: build it for a CPython that has one");

pub mod bridge;
mod cached;
mod contexts;
mod coroutine;
mod descriptors;
mod dismantle;
mod embedding;
mod errors;
mod event_loop;
mod events;
mod finalizing;
mod forks;
mod gil;
mod handles;
mod interpreters;
mod listener;
mod memory;
mod methods;
mod names;
mod object;
mod primitives;
mod reactor;
mod sockets;
mod sources;
mod targets;
mod timers;
mod transports;
mod wakes;

use pyo3::prelude::*;

pub use embedding::register;

/// The guide's code is compiled as the other documentation's is.
#[cfg(doctest)]
#[doc = include_str!("../docs/rust.md")]
mod guide {}

/// The extension module `tokioloop._core`.
#[pymodule]
pub fn _core(module: &Bound<'_, PyModule>) -> PyResult<()> {
    interpreters::only_main(module.py())?;
    let name = module.name()?.to_string();
    cached::set_package(name.rsplit_once('.').map_or("tokioloop", |it| it.0))?;
    fill(module)
}

/// Puts everything into a core module, which may be another extension's own.
fn fill(module: &Bound<'_, PyModule>) -> PyResult<()> {
    methods::register(module)?;
    handles::register(module)?;
    transports::register(module)?;
    sockets::register(module)?;
    primitives::register(module)?;
    module.add_class::<listener::Listener>()?;
    module.add_function(wrap_pyfunction!(names::literal_addrinfo, module)?)?;
    module.add_function(wrap_pyfunction!(names::looks_numeric, module)?)?;
    module.add("__version__", env!("CARGO_PKG_VERSION"))
}
