//! A runtime of the extension's own, through `generic`.

use std::any::Any;
use std::cell::RefCell;
use std::future::Future;
use std::pin::Pin;
use std::sync::OnceLock;
use std::task::{Context, Poll};

use pyo3::prelude::*;
use pyo3_async_runtimes::TaskLocals;
use pyo3_async_runtimes::generic::{self, ContextExt, JoinError, Runtime};

use super::{MOMENT, next};

/// One thread of tokio's, with locals that it keeps by itself.
struct Own;

fn runtime() -> &'static tokio::runtime::Runtime {
    static RUNTIME: OnceLock<tokio::runtime::Runtime> = OnceLock::new();
    RUNTIME.get_or_init(|| {
        let mut builder = tokio::runtime::Builder::new_multi_thread();
        builder.worker_threads(1).thread_name("own").enable_all().build().expect("a thread")
    })
}

struct Failed(tokio::task::JoinError);

impl JoinError for Failed {
    fn is_panic(&self) -> bool {
        self.0.is_panic()
    }

    fn into_panic(self) -> Box<dyn Any + Send + 'static> {
        self.0.into_panic()
    }
}

struct Handle(tokio::task::JoinHandle<()>);

impl Future for Handle {
    type Output = Result<(), Failed>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        Pin::new(&mut self.0).poll(context).map_err(Failed)
    }
}

impl Runtime for Own {
    type JoinError = Failed;
    type JoinHandle = Handle;

    fn spawn<F>(fut: F) -> Self::JoinHandle
    where
        F: Future<Output = ()> + Send + 'static,
    {
        Handle(runtime().spawn(fut))
    }

    fn spawn_blocking<F>(f: F) -> Self::JoinHandle
    where
        F: FnOnce() + Send + 'static,
    {
        Handle(runtime().spawn_blocking(f))
    }
}

tokio::task_local! {
    static LOCALS: RefCell<TaskLocals>;
}

impl ContextExt for Own {
    fn scope<F, R>(locals: TaskLocals, fut: F) -> Pin<Box<dyn Future<Output = R> + Send>>
    where
        F: Future<Output = R> + Send + 'static,
    {
        Box::pin(LOCALS.scope(RefCell::new(locals), fut))
    }

    fn get_task_locals() -> Option<TaskLocals> {
        LOCALS.try_with(|locals| locals.borrow().clone()).ok()
    }
}

/// A runtime that has been shut down.
struct Gone;

impl Runtime for Gone {
    type JoinError = Failed;
    type JoinHandle = Handle;

    fn spawn<F>(fut: F) -> Self::JoinHandle
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).build();
        let handle = runtime.expect("a thread").handle().clone();
        Handle(handle.spawn(fut))
    }

    fn spawn_blocking<F>(_: F) -> Self::JoinHandle
    where
        F: FnOnce() + Send + 'static,
    {
        unimplemented!("nothing here blocks")
    }
}

impl ContextExt for Gone {
    fn scope<F, R>(_: TaskLocals, fut: F) -> Pin<Box<dyn Future<Output = R> + Send>>
    where
        F: Future<Output = R> + Send + 'static,
    {
        Box::pin(fut)
    }

    fn get_task_locals() -> Option<TaskLocals> {
        None
    }
}

#[pyfunction]
fn gone_answers(py: Python<'_>) -> PyResult<Bound<'_, PyAny>> {
    generic::future_into_py::<Gone, _, _>(py, async { Ok(42) })
}

/// The name of the thread that ran it.
#[pyfunction]
fn own_sleeps(py: Python<'_>) -> PyResult<Bound<'_, PyAny>> {
    generic::future_into_py::<Own, _, _>(py, async {
        tokio::time::sleep(MOMENT).await;
        Ok(std::thread::current().name().map(str::to_owned))
    })
}

#[pyfunction]
fn own_panics(py: Python<'_>) -> PyResult<Bound<'_, PyAny>> {
    generic::future_into_py::<Own, _, _>(py, async {
        tokio::time::sleep(MOMENT).await;
        if true {
            panic!("on purpose");
        }
        Ok(())
    })
}

#[pyfunction]
fn own_awaits(py: Python<'_>, function: Py<PyAny>) -> PyResult<Bound<'_, PyAny>> {
    generic::future_into_py::<Own, _, _>(py, async move {
        Python::attach(|py| generic::into_future::<Own>(function.bind(py).call0()?))?.await
    })
}

#[pyfunction]
fn own_collects<'py>(generator: Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
    let py = generator.py();
    let mut stream = generic::into_stream_v1::<Own>(generator)?;
    generic::future_into_py::<Own, _, _>(py, async move {
        let mut items = Vec::new();
        while let Some(item) = next(&mut stream).await {
            items.push(item?);
        }
        Ok(items)
    })
}

#[pyfunction]
fn own_runs(py: Python<'_>) -> PyResult<u32> {
    generic::run::<Own, _, _>(py, async {
        tokio::time::sleep(MOMENT).await;
        Ok(42)
    })
}

#[pyfunction]
fn own_loop(py: Python<'_>) -> PyResult<Bound<'_, PyAny>> {
    generic::get_current_loop::<Own>(py)
}

pub(crate) fn fill(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_function(wrap_pyfunction!(gone_answers, module)?)?;
    module.add_function(wrap_pyfunction!(own_sleeps, module)?)?;
    module.add_function(wrap_pyfunction!(own_panics, module)?)?;
    module.add_function(wrap_pyfunction!(own_awaits, module)?)?;
    module.add_function(wrap_pyfunction!(own_collects, module)?)?;
    module.add_function(wrap_pyfunction!(own_runs, module)?)?;
    module.add_function(wrap_pyfunction!(own_loop, module)?)
}
