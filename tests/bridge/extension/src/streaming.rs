//! Streams both ways.

use std::future::poll_fn;
use std::pin::pin;

use crate::bridge::{
    TaskLocals, future_into_py, get_current_locals, into_stream, into_stream_v1, into_stream_v2,
    stream_into_py, stream_into_py_with_locals,
};
use futures_core::Stream;
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;

use crate::basics::DropFlag;

/// Collects what an async generator gives, at most so many items.
#[pyfunction]
fn collects<'py>(
    generator: Bound<'py, PyAny>,
    most: usize,
    kind: &str,
) -> PyResult<Bound<'py, PyAny>> {
    let py = generator.py();
    match kind {
        "v1" => gather(py, into_stream_v1(generator)?, most),
        "v2" => {
            let stream = into_stream_v2(generator)?;
            let fallible = async_stream::stream! {
                let mut stream = pin!(stream);
                while let Some(item) = poll_fn(|cx| stream.as_mut().poll_next(cx)).await {
                    yield Ok(item);
                }
            };
            gather(py, fallible, most)
        }
        _ => gather(py, into_stream(generator)?, most),
    }
}

fn gather<S>(py: Python<'_>, stream: S, most: usize) -> PyResult<Bound<'_, PyAny>>
where
    S: Stream<Item = PyResult<Py<PyAny>>> + Send + 'static,
{
    future_into_py(py, async move {
        let mut stream = pin!(stream);
        let mut items = Vec::new();
        while items.len() < most
            && let Some(item) = poll_fn(|cx| stream.as_mut().poll_next(cx)).await
        {
            items.push(item?);
        }
        Ok(items)
    })
}

/// Counts up to `end`, yielding to others before each item; notes how far it came.
#[pyfunction]
fn counts<'py>(
    py: Python<'py>,
    end: usize,
    notes: Py<PyAny>,
    flag: Py<DropFlag>,
) -> PyResult<Bound<'py, PyAny>> {
    let guard = flag.get().guard();
    let stream = async_stream::stream! {
        let _guard = guard;
        for number in 0..end {
            tokio::task::yield_now().await;
            let noted = Python::attach(|py| notes.call_method1(py, "append", (number,)));
            yield noted.map(|_| number);
        }
    };
    stream_into_py(py, stream)
}

/// Gives a variable's value in the context that was given, twice.
#[pyfunction]
fn stream_of_given<'py>(
    py: Python<'py>,
    event_loop: Bound<'py, PyAny>,
    context: Bound<'py, PyAny>,
    variable: Py<PyAny>,
) -> PyResult<Bound<'py, PyAny>> {
    let locals = TaskLocals::new(event_loop).with_context(context);
    let stream = async_stream::stream! {
        for _ in 0..2 {
            tokio::task::yield_now().await;
            yield Python::attach(|py| {
                let context = get_current_locals(py)?.context(py);
                context.call_method1("get", (&variable,)).map(Bound::unbind)
            });
        }
    };
    stream_into_py_with_locals(py, locals, stream)
}

#[pyfunction]
fn stream_fails(py: Python<'_>, panics: bool) -> PyResult<Bound<'_, PyAny>> {
    let stream = async_stream::stream! {
        yield Ok(1);
        if panics {
            panic!("a bug in a stream");
        }
        yield Err(PyValueError::new_err("no second item"));
    };
    stream_into_py(py, stream)
}

pub fn fill(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_function(wrap_pyfunction!(collects, module)?)?;
    module.add_function(wrap_pyfunction!(counts, module)?)?;
    module.add_function(wrap_pyfunction!(stream_of_given, module)?)?;
    module.add_function(wrap_pyfunction!(stream_fails, module)?)
}
