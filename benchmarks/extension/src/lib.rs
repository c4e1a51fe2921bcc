//! What the rows of the group `bridge` await.
//!
//! Every function is there twice: in the submodule `bridge` through `tokioloop::bridge`, in
//! `upstream` through pyo3-async-runtimes, as its documentation says. The module has a loop of its
//! own besides, the one that is "embedded". `bench_library` is what a library has: `bridge` alone,
//! through the crate `tokioloop-bridge`, and limited to CPython's stable ABI.

use pyo3::prelude::*;

mod client;
mod futures;
mod responder;

macro_rules! functions {
    ($way:ident, $future_into_py:path, $spawn_into_py:path) => {
        mod $way {
            use pyo3::prelude::*;

            use crate::client::Client;
            use crate::futures;
            use crate::responder::Responder;

            #[pyfunction]
            fn ready(py: Python<'_>) -> PyResult<Bound<'_, PyAny>> {
                $future_into_py(py, futures::ready())
            }

            #[pyfunction]
            fn spawned(py: Python<'_>) -> PyResult<Bound<'_, PyAny>> {
                $spawn_into_py(py, futures::ready())
            }

            #[pyfunction]
            fn yields(py: Python<'_>) -> PyResult<Bound<'_, PyAny>> {
                $future_into_py(py, futures::yields())
            }

            #[pyfunction]
            fn players(
                py: Python<'_>,
                passes: usize,
            ) -> PyResult<(Bound<'_, PyAny>, Bound<'_, PyAny>)> {
                let (one, other) = futures::players(passes);
                Ok(($future_into_py(py, one)?, $future_into_py(py, other)?))
            }

            #[pyfunction]
            fn ask<'py>(py: Python<'py>, responder: &Responder) -> PyResult<Bound<'py, PyAny>> {
                $future_into_py(py, responder.ask())
            }

            #[pyfunction]
            fn sleep(py: Python<'_>, seconds: f64) -> PyResult<Bound<'_, PyAny>> {
                $future_into_py(py, futures::sleep(seconds))
            }

            #[pyfunction]
            fn get<'py>(
                py: Python<'py>,
                client: &Client,
                url: String,
            ) -> PyResult<Bound<'py, PyAny>> {
                $future_into_py(py, client.get(url))
            }

            pub fn fill(parent: &Bound<'_, PyModule>) -> PyResult<()> {
                let module = PyModule::new(parent.py(), stringify!($way))?;
                module.add_function(wrap_pyfunction!(ready, &module)?)?;
                module.add_function(wrap_pyfunction!(spawned, &module)?)?;
                module.add_function(wrap_pyfunction!(yields, &module)?)?;
                module.add_function(wrap_pyfunction!(players, &module)?)?;
                module.add_function(wrap_pyfunction!(ask, &module)?)?;
                module.add_function(wrap_pyfunction!(sleep, &module)?)?;
                module.add_function(wrap_pyfunction!(get, &module)?)?;
                module.add_class::<Client>()?;
                module.add_class::<Responder>()?;
                parent.add_submodule(&module)
            }
        }
    };
}

#[cfg(feature = "embedded")]
functions!(bridge, tokioloop::bridge::future_into_py, tokioloop::bridge::spawn_into_py);
#[cfg(feature = "embedded")]
functions!(
    upstream,
    pyo3_async_runtimes::tokio::future_into_py,
    pyo3_async_runtimes::tokio::future_into_py
);
#[cfg(not(feature = "embedded"))]
functions!(bridge, tokioloop_bridge::future_into_py, tokioloop_bridge::spawn_into_py);

#[cfg(not(feature = "embedded"))]
#[pymodule]
fn bench_library(module: &Bound<'_, PyModule>) -> PyResult<()> {
    bridge::fill(module)
}

#[cfg(feature = "embedded")]
#[pymodule]
fn bench_extension(module: &Bound<'_, PyModule>) -> PyResult<()> {
    tokioloop::register(module)?;
    bridge::fill(module)?;
    upstream::fill(module)
}
