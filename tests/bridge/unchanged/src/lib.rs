//! What pyo3-async-runtimes has, used as its documentation says.

use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::time::Duration;

use futures_core::Stream;
use pyo3::prelude::*;
use pyo3::types::PyList;
use pyo3_async_runtimes::tokio as conversions;
use pyo3_async_runtimes::{TaskLocals, get_running_loop};

mod own_runtime;

const MOMENT: Duration = Duration::from_millis(1);

async fn next<S: Stream + Unpin>(stream: &mut S) -> Option<S::Item> {
    poll_fn(|context| Pin::new(&mut *stream).poll_next(context)).await
}

#[pyfunction]
fn sleeps(py: Python<'_>) -> PyResult<Bound<'_, PyAny>> {
    conversions::future_into_py(py, async {
        tokio::time::sleep(MOMENT).await;
        Ok("rested")
    })
}

#[pyfunction]
fn panics(py: Python<'_>) -> PyResult<Bound<'_, PyAny>> {
    conversions::future_into_py(py, async {
        tokio::time::sleep(MOMENT).await;
        if true {
            panic!("on purpose");
        }
        Ok(())
    })
}

#[pyfunction]
fn sleeps_with_locals(py: Python<'_>) -> PyResult<Bound<'_, PyAny>> {
    let locals = TaskLocals::with_running_loop(py)?.copy_context(py)?;
    conversions::future_into_py_with_locals(py, locals, async {
        tokio::time::sleep(MOMENT).await;
        Ok("rested")
    })
}

/// Awaits what a function returns.
#[pyfunction]
fn awaits(py: Python<'_>, function: Py<PyAny>) -> PyResult<Bound<'_, PyAny>> {
    conversions::future_into_py(py, async move {
        let awaited =
            Python::attach(|py| conversions::into_future(function.bind(py).call0()?))?.await?;
        Ok(awaited)
    })
}

/// The same from a task beside, which has the locals by `scope`.
#[pyfunction]
fn awaits_beside(py: Python<'_>, function: Py<PyAny>) -> PyResult<Bound<'_, PyAny>> {
    let locals = conversions::get_current_locals(py)?;
    let scoped = conversions::scope(locals.clone(), async move {
        Python::attach(|py| conversions::into_future(function.bind(py).call0()?))?.await
    });
    let task = conversions::get_runtime().spawn(scoped);
    conversions::future_into_py(py, async move {
        task.await.map_err(|error| pyo3::exceptions::PyRuntimeError::new_err(error.to_string()))?
    })
}

/// The loop, found in three ways.
#[pyfunction]
fn loops(py: Python<'_>) -> PyResult<Bound<'_, PyAny>> {
    let locals = conversions::get_current_locals(py)?;
    let found = [get_running_loop(py)?, conversions::get_current_loop(py)?, locals.event_loop(py)];
    Ok(PyList::new(py, found)?.into_any())
}

/// Runs a loop until a future is done, from Python code that runs none.
#[pyfunction]
fn runs(py: Python<'_>) -> PyResult<u32> {
    conversions::run(py, async {
        tokio::time::sleep(MOMENT).await;
        Ok(42)
    })
}

#[pyfunction]
fn runs_on(event_loop: Bound<'_, PyAny>) -> PyResult<u32> {
    conversions::run_until_complete(event_loop, async {
        tokio::time::sleep(MOMENT).await;
        Ok(42)
    })
}

/// The items of an async generator, until it raises.
#[pyfunction]
fn collects<'py>(generator: Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
    let py = generator.py();
    let mut stream = conversions::into_stream_v1(generator)?;
    conversions::future_into_py(py, async move {
        let mut items = Vec::new();
        while let Some(item) = next(&mut stream).await {
            items.push(item?);
        }
        Ok(items)
    })
}

#[pyfunction]
fn collects_items<'py>(generator: Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
    let py = generator.py();
    let stream = conversions::into_stream_v2(generator)?;
    conversions::future_into_py(py, async move {
        let (mut stream, mut items) = (pin!(stream), Vec::new());
        while let Some(item) = next(&mut stream).await {
            items.push(item);
        }
        Ok(items)
    })
}

#[pymodule]
fn unchanged(module: &Bound<'_, PyModule>) -> PyResult<()> {
    let panic = module.py().get_type::<pyo3_async_runtimes::err::RustPanic>();
    module.add("RustPanic", panic)?;
    module.add_function(wrap_pyfunction!(sleeps, module)?)?;
    module.add_function(wrap_pyfunction!(panics, module)?)?;
    module.add_function(wrap_pyfunction!(sleeps_with_locals, module)?)?;
    module.add_function(wrap_pyfunction!(awaits, module)?)?;
    module.add_function(wrap_pyfunction!(awaits_beside, module)?)?;
    module.add_function(wrap_pyfunction!(loops, module)?)?;
    module.add_function(wrap_pyfunction!(runs, module)?)?;
    module.add_function(wrap_pyfunction!(runs_on, module)?)?;
    module.add_function(wrap_pyfunction!(collects, module)?)?;
    module.add_function(wrap_pyfunction!(collects_items, module)?)?;
    own_runtime::fill(module)
}
