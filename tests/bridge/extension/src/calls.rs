//! Python called and awaited inside of Rust futures; locals.

use crate::bridge::{
    TaskLocals, future_into_py, future_into_py_with_locals, get_current_locals, get_current_loop,
    into_future, into_future_with_locals, local_future_into_py_with_locals, scope,
};
use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;

/// Awaits what a Python function returns.
#[pyfunction]
fn awaits(py: Python<'_>, function: Py<PyAny>) -> PyResult<Bound<'_, PyAny>> {
    future_into_py(py, async move {
        let future = Python::attach(|py| into_future(function.bind(py).call0()?))?;
        future.await
    })
}

/// The same so many times.
#[pyfunction]
fn awaits_many(py: Python<'_>, function: Py<PyAny>, times: usize) -> PyResult<Bound<'_, PyAny>> {
    future_into_py(py, async move {
        for _ in 0..times {
            let future = Python::attach(|py| into_future(function.bind(py).call0()?))?;
            future.await?;
        }
        Ok(times)
    })
}

/// Calls a Python function without arguments inside of the future, after so many yields.
#[pyfunction]
fn calls(py: Python<'_>, function: Py<PyAny>, after: usize) -> PyResult<Bound<'_, PyAny>> {
    future_into_py(py, async move {
        for _ in 0..after {
            tokio::task::yield_now().await;
        }
        Python::attach(|py| function.call0(py))
    })
}

/// Reads a context variable in the current locals' context, before and after a sleep.
#[pyfunction]
fn reads(py: Python<'_>, variable: Py<PyAny>) -> PyResult<Bound<'_, PyAny>> {
    let read = move || {
        Python::attach(|py| {
            let context = get_current_locals(py)?.context(py);
            context.call_method1("get", (&variable,)).map(Bound::unbind)
        })
    };
    future_into_py(py, async move {
        let first = read()?;
        tokio::time::sleep(std::time::Duration::from_millis(1)).await;
        Ok((first, read()?))
    })
}

#[pyfunction]
fn current_loop(py: Python<'_>) -> PyResult<Bound<'_, PyAny>> {
    future_into_py(py, async {
        tokio::task::yield_now().await;
        Python::attach(|py| get_current_loop(py).map(Bound::unbind))
    })
}

/// Reads a variable in the context that was given.
#[pyfunction]
fn reads_given<'py>(
    py: Python<'py>,
    event_loop: Bound<'py, PyAny>,
    context: Bound<'py, PyAny>,
    variable: Py<PyAny>,
    local: bool,
) -> PyResult<Bound<'py, PyAny>> {
    let locals = TaskLocals::new(event_loop).with_context(context);
    let future = async move {
        tokio::task::yield_now().await;
        Python::attach(|py| {
            let context = get_current_locals(py)?.context(py);
            context.call_method1("get", (&variable,)).map(Bound::unbind)
        })
    };
    if local {
        local_future_into_py_with_locals(py, locals, future)
    } else {
        future_into_py_with_locals(py, locals, future)
    }
}

/// Awaits, in a context that was given, what a function returns.
#[pyfunction]
fn awaits_given<'py>(
    py: Python<'py>,
    event_loop: Bound<'py, PyAny>,
    context: Bound<'py, PyAny>,
    function: Py<PyAny>,
) -> PyResult<Bound<'py, PyAny>> {
    let locals = TaskLocals::new(event_loop).with_context(context);
    future_into_py(py, async move {
        let inner = locals.clone();
        scope(locals, async move {
            let future =
                Python::attach(|py| into_future_with_locals(&inner, function.bind(py).call0()?))?;
            future.await
        })
        .await
    })
}

/// Awaits a coroutine in a thread of its own, and waits for that thread without the GIL.
#[pyfunction]
fn awaits_elsewhere<'py>(
    py: Python<'py>,
    event_loop: Bound<'py, PyAny>,
    coroutine: Py<PyAny>,
) -> PyResult<Bound<'py, PyAny>> {
    let locals = TaskLocals::new(event_loop);
    future_into_py(py, async move {
        let handle = pyo3_async_runtimes::tokio::get_runtime().spawn(async move {
            let future =
                Python::attach(|py| into_future_with_locals(&locals, coroutine.into_bound(py)))?;
            future.await
        });
        handle.await.map_err(|error| PyRuntimeError::new_err(error.to_string()))?
    })
}

/// Gives an awaitable up at once.
#[pyfunction]
fn drops_awaitable(py: Python<'_>, coroutine: Py<PyAny>) -> PyResult<Bound<'_, PyAny>> {
    future_into_py(py, async move {
        drop(Python::attach(|py| into_future(coroutine.into_bound(py)))?);
        Ok(())
    })
}

/// A capsule as a loop of another version would offer it.
#[pyfunction]
fn capsule_of_version(py: Python<'_>, abi: u32) -> PyResult<Bound<'_, PyAny>> {
    #[repr(C)]
    struct Head {
        abi: u32,
        size: u32,
        version: *const std::ffi::c_char,
    }
    let head = Box::leak(Box::new(Head { abi, size: 16, version: c"99.0.0".as_ptr() }));
    // SAFETY: leaked, and a static name; a new reference or null with an exception set.
    unsafe {
        let head = std::ptr::from_mut(head).cast();
        let made = pyo3::ffi::PyCapsule_New(head, c"tokioloop.bridge".as_ptr(), None);
        Bound::from_owned_ptr_or_err(py, made)
    }
}

pub fn fill(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_function(wrap_pyfunction!(awaits, module)?)?;
    module.add_function(wrap_pyfunction!(awaits_many, module)?)?;
    module.add_function(wrap_pyfunction!(calls, module)?)?;
    module.add_function(wrap_pyfunction!(reads, module)?)?;
    module.add_function(wrap_pyfunction!(current_loop, module)?)?;
    module.add_function(wrap_pyfunction!(reads_given, module)?)?;
    module.add_function(wrap_pyfunction!(awaits_given, module)?)?;
    module.add_function(wrap_pyfunction!(awaits_elsewhere, module)?)?;
    module.add_function(wrap_pyfunction!(drops_awaitable, module)?)?;
    module.add_function(wrap_pyfunction!(capsule_of_version, module)?)
}
