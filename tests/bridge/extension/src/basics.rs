//! Futures that are ready, yield, sleep, fail, or never end.

use std::future::pending;
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, ThreadId};
use std::time::Duration;

use crate::bridge::{future_into_py, local_future_into_py, spawn_into_py};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;

/// Says whether, and in which thread, something was dropped.
#[pyclass(frozen)]
pub struct DropFlag {
    dropped: Arc<AtomicBool>,
    polls: Arc<AtomicUsize>,
    thread: Arc<Mutex<Option<ThreadId>>>,
    home: ThreadId,
}

#[pymethods]
impl DropFlag {
    #[new]
    fn new() -> Self {
        Self {
            dropped: Arc::default(),
            polls: Arc::default(),
            thread: Arc::default(),
            home: thread::current().id(),
        }
    }

    #[getter]
    fn dropped(&self) -> bool {
        self.dropped.load(Ordering::SeqCst)
    }

    #[getter]
    fn started(&self) -> usize {
        self.polls.load(Ordering::SeqCst)
    }

    /// Dropped in the thread that made the flag.
    #[getter]
    fn dropped_at_home(&self) -> bool {
        *self.thread.lock().unwrap() == Some(self.home)
    }
}

impl DropFlag {
    pub fn guard(&self) -> Guard {
        Guard {
            dropped: Arc::clone(&self.dropped),
            polls: Arc::clone(&self.polls),
            thread: Arc::clone(&self.thread),
        }
    }
}

pub struct Guard {
    dropped: Arc<AtomicBool>,
    polls: Arc<AtomicUsize>,
    thread: Arc<Mutex<Option<ThreadId>>>,
}

impl Guard {
    pub fn started(&self) {
        self.polls.fetch_add(1, Ordering::SeqCst);
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        *self.thread.lock().unwrap() = Some(thread::current().id());
        self.dropped.store(true, Ordering::SeqCst);
    }
}

#[pyfunction]
fn ready(py: Python<'_>, value: Py<PyAny>) -> PyResult<Bound<'_, PyAny>> {
    future_into_py(py, async move { Ok(value) })
}

/// The same by pyo3-async-runtimes itself.
#[pyfunction]
fn upstream_ready(py: Python<'_>, value: Py<PyAny>) -> PyResult<Bound<'_, PyAny>> {
    pyo3_async_runtimes::tokio::future_into_py(py, async move { Ok(value) })
}

#[pyfunction]
fn yields(py: Python<'_>, times: usize) -> PyResult<Bound<'_, PyAny>> {
    future_into_py(py, async move {
        for _ in 0..times {
            tokio::task::yield_now().await;
        }
        Ok(times)
    })
}

#[pyfunction]
fn sleeps(py: Python<'_>, seconds: f64) -> PyResult<Bound<'_, PyAny>> {
    future_into_py(py, async move {
        tokio::time::sleep(Duration::from_secs_f64(seconds)).await;
        Ok("rested")
    })
}

/// Started by the call alone.
#[pyfunction]
fn starts(py: Python<'_>, seconds: f64, flag: Py<DropFlag>) -> PyResult<Bound<'_, PyAny>> {
    let guard = flag.get().guard();
    spawn_into_py(py, async move {
        guard.started();
        tokio::time::sleep(Duration::from_secs_f64(seconds)).await;
        Ok("done")
    })
}

#[pyfunction]
fn never(py: Python<'_>, flag: Py<DropFlag>) -> PyResult<Bound<'_, PyAny>> {
    let guard = flag.get().guard();
    future_into_py(py, async move {
        guard.started();
        pending::<PyResult<()>>().await
    })
}

/// Owns an object for ever.
#[pyfunction]
fn keeps(py: Python<'_>, object: Py<PyAny>) -> PyResult<Bound<'_, PyAny>> {
    future_into_py(py, async move {
        pending::<()>().await;
        Ok(object)
    })
}

/// Sleeps for long: unlike `never` somebody could wake it.
#[pyfunction]
fn sleeps_with(py: Python<'_>, seconds: f64, flag: Py<DropFlag>) -> PyResult<Bound<'_, PyAny>> {
    let guard = flag.get().guard();
    future_into_py(py, async move {
        guard.started();
        tokio::time::sleep(Duration::from_secs_f64(seconds)).await;
        Ok("rested")
    })
}

#[pyfunction]
fn local_never(py: Python<'_>, flag: Py<DropFlag>) -> PyResult<Bound<'_, PyAny>> {
    let guard = Rc::new(flag.get().guard());
    local_future_into_py(py, async move {
        guard.started();
        pending::<PyResult<()>>().await
    })
}

#[pyfunction]
fn local_yields(py: Python<'_>, times: usize) -> PyResult<Bound<'_, PyAny>> {
    let count = Rc::new(std::cell::Cell::new(0));
    local_future_into_py(py, async move {
        for _ in 0..times {
            tokio::task::yield_now().await;
            count.set(count.get() + 1);
        }
        Ok(count.get())
    })
}

#[pyfunction]
fn raises(py: Python<'_>, after: usize) -> PyResult<Bound<'_, PyAny>> {
    future_into_py(py, async move {
        for _ in 0..after {
            tokio::task::yield_now().await;
        }
        Err::<(), _>(PyValueError::new_err("raised in Rust"))
    })
}

#[pyfunction]
fn panics(py: Python<'_>, after: usize) -> PyResult<Bound<'_, PyAny>> {
    future_into_py(py, async move {
        for _ in 0..after {
            tokio::task::yield_now().await;
        }
        if after < usize::MAX {
            panic!("a bug of the extension's");
        }
        Ok(())
    })
}

/// No future at all: an exception that stands for a panic.
#[pyfunction]
fn panics_at_once() {
    panic!("a bug of the extension's");
}

struct PanicsWhenDropped;

impl Drop for PanicsWhenDropped {
    fn drop(&mut self) {
        panic!("a bug in a destructor");
    }
}

#[pyfunction]
fn panics_when_dropped(py: Python<'_>) -> PyResult<Bound<'_, PyAny>> {
    let bomb = PanicsWhenDropped;
    future_into_py(py, async move {
        let _bomb = bomb;
        pending::<PyResult<()>>().await
    })
}

/// The name of the thread that polls, after a wake from another one.
#[pyfunction]
fn polled_at_home(py: Python<'_>) -> PyResult<Bound<'_, PyAny>> {
    let home = thread::current().id();
    future_into_py(py, async move {
        let first = thread::current().id() == home;
        tokio::time::sleep(Duration::from_millis(1)).await;
        Ok((first, thread::current().id() == home))
    })
}

pub fn fill(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_class::<DropFlag>()?;
    module.add_function(wrap_pyfunction!(ready, module)?)?;
    module.add_function(wrap_pyfunction!(upstream_ready, module)?)?;
    module.add_function(wrap_pyfunction!(yields, module)?)?;
    module.add_function(wrap_pyfunction!(sleeps, module)?)?;
    module.add_function(wrap_pyfunction!(keeps, module)?)?;
    module.add_function(wrap_pyfunction!(sleeps_with, module)?)?;
    module.add_function(wrap_pyfunction!(never, module)?)?;
    module.add_function(wrap_pyfunction!(starts, module)?)?;
    module.add_function(wrap_pyfunction!(local_never, module)?)?;
    module.add_function(wrap_pyfunction!(local_yields, module)?)?;
    module.add_function(wrap_pyfunction!(raises, module)?)?;
    module.add_function(wrap_pyfunction!(panics, module)?)?;
    module.add_function(wrap_pyfunction!(panics_at_once, module)?)?;
    module.add_function(wrap_pyfunction!(panics_when_dropped, module)?)?;
    module.add_function(wrap_pyfunction!(polled_at_home, module)?)?;
    module.add("RustPanic", module.py().get_type::<crate::bridge::RustPanic>())
}
