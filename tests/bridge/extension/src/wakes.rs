//! Futures that somebody wakes: in the loop's thread, in another, more than once, too late.

use std::future::poll_fn;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Poll, Waker};
use std::thread;

use crate::bridge::{future_into_py, spawn, spawn_blocking, spawn_local};
use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;
use tokio::sync::oneshot;

/// A channel for one value.
#[pyclass(frozen)]
struct Oneshot {
    sender: Mutex<Option<oneshot::Sender<Py<PyAny>>>>,
    receiver: Mutex<Option<oneshot::Receiver<Py<PyAny>>>>,
}

#[pymethods]
impl Oneshot {
    #[new]
    fn new() -> Self {
        let (sender, receiver) = oneshot::channel();
        Self { sender: Mutex::new(Some(sender)), receiver: Mutex::new(Some(receiver)) }
    }

    fn receive<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        let receiver = self.receiver.lock().unwrap().take();
        future_into_py(py, async move {
            match receiver {
                Some(receiver) => {
                    receiver.await.map_err(|_| PyRuntimeError::new_err("nobody will send"))
                }
                None => Err(PyRuntimeError::new_err("received already")),
            }
        })
    }

    /// Sends in this thread.
    fn send(&self, value: Py<PyAny>) -> bool {
        let sender = self.sender.lock().unwrap().take();
        sender.is_some_and(|sender| sender.send(value).is_ok())
    }

    /// Sends in a thread of its own, which never takes the GIL.
    fn send_elsewhere(&self, value: Py<PyAny>) {
        let sender = self.sender.lock().unwrap().take();
        thread::spawn(move || sender.map(|sender| sender.send(value)));
    }

    /// Goes without having sent.
    fn hang_up(&self) {
        drop(self.sender.lock().unwrap().take());
    }
}

/// Wakes as often as it is told, whether or not anybody waits.
#[pyclass(frozen)]
struct Pulse(Arc<Mutex<(usize, Vec<Waker>)>>);

#[pymethods]
impl Pulse {
    #[new]
    fn new() -> Self {
        Self(Arc::default())
    }

    /// Waits until there were `beats`; returns how often it was polled.
    fn wait<'py>(&self, py: Python<'py>, beats: usize) -> PyResult<Bound<'py, PyAny>> {
        let state = Arc::clone(&self.0);
        let mut polls = 0usize;
        future_into_py(py, async move {
            poll_fn(|context| {
                polls += 1;
                let mut state = state.lock().unwrap();
                if state.0 >= beats {
                    return Poll::Ready(());
                }
                state.1.push(context.waker().clone());
                Poll::Pending
            })
            .await;
            Ok(polls)
        })
    }

    /// Keeps the wakers: they may be woken again.
    fn beat(&self) {
        let wakers = {
            let mut state = self.0.lock().unwrap();
            state.0 += 1;
            state.1.clone()
        };
        wakers.iter().for_each(Waker::wake_by_ref);
    }

    fn beat_elsewhere(&self, times: usize) {
        let state = Arc::clone(&self.0);
        thread::spawn(move || {
            let pulse = Self(state);
            for _ in 0..times {
                pulse.beat();
                thread::yield_now();
            }
        });
    }

    fn wakers(&self) -> usize {
        self.0.lock().unwrap().1.len()
    }

    fn forget(&self) {
        let wakers = std::mem::take(&mut self.0.lock().unwrap().1);
        thread::spawn(move || drop(wakers)).join().unwrap();
    }
}

/// Never done, and woken by a thread of its own without a pause, until it is dropped.
#[pyfunction]
fn storm(py: Python<'_>) -> PyResult<Bound<'_, PyAny>> {
    struct Stop(Arc<AtomicBool>);
    impl Drop for Stop {
        fn drop(&mut self) {
            self.0.store(true, Ordering::Relaxed);
        }
    }
    let stopped = Arc::new(AtomicBool::new(false));
    let stop = Stop(Arc::clone(&stopped));
    let mut begun = false;
    future_into_py(py, async move {
        let _stop = stop;
        poll_fn(|context| {
            // All later polls have the same waker. Nothing here is locked, should there be a fork.
            if !begun {
                begun = true;
                let (waker, stopped) = (context.waker().clone(), Arc::clone(&stopped));
                thread::spawn(move || {
                    while !stopped.load(Ordering::Relaxed) {
                        waker.wake_by_ref();
                    }
                });
            }
            Poll::<()>::Pending
        })
        .await;
        Ok(())
    })
}

/// A thread that answers whoever asks, for as long as this object lives.
#[pyclass(frozen)]
struct Responder(std::sync::mpsc::Sender<oneshot::Sender<()>>);

#[pymethods]
impl Responder {
    #[new]
    fn new() -> Self {
        let (sender, questions) = std::sync::mpsc::channel::<oneshot::Sender<()>>();
        thread::spawn(move || {
            questions.iter().for_each(|asked| {
                let _ = asked.send(());
            })
        });
        Self(sender)
    }

    fn ask<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        future_into_py(py, ask(self.0.clone()))
    }

    /// The same by pyo3-async-runtimes itself.
    fn upstream_ask<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        pyo3_async_runtimes::tokio::future_into_py(py, ask(self.0.clone()))
    }
}

async fn ask(thread: std::sync::mpsc::Sender<oneshot::Sender<()>>) -> PyResult<bool> {
    let (answer, answered) = oneshot::channel();
    thread.send(answer).map_err(|_| PyRuntimeError::new_err("the thread is gone"))?;
    answered.await.map_err(|_| PyRuntimeError::new_err("no answer"))?;
    Ok(true)
}

/// A value by way of a task of the runtime.
#[pyfunction]
fn spawned(py: Python<'_>, value: usize) -> PyResult<Bound<'_, PyAny>> {
    future_into_py(py, async move {
        let task = spawn(async move {
            tokio::task::yield_now().await;
            value
        });
        task.await.map_err(|error| PyRuntimeError::new_err(error.to_string()))
    })
}

#[pyfunction]
fn spawned_by_tokio(py: Python<'_>, value: usize) -> PyResult<Bound<'_, PyAny>> {
    let home = thread::current().id();
    future_into_py(py, async move {
        let task = tokio::spawn(async move {
            tokio::task::yield_now().await;
            (value, thread::current().id() == home)
        });
        task.await.map_err(|error| PyRuntimeError::new_err(error.to_string()))
    })
}

#[pyfunction]
fn spawned_blocking(py: Python<'_>, value: usize) -> PyResult<Bound<'_, PyAny>> {
    let home = thread::current().id();
    future_into_py(py, async move {
        let task = spawn_blocking(move || (value, thread::current().id() == home));
        task.await.map_err(|error| PyRuntimeError::new_err(error.to_string()))
    })
}

#[pyfunction]
fn spawned_local(py: Python<'_>, value: usize) -> PyResult<Bound<'_, PyAny>> {
    let home = thread::current().id();
    let task = spawn_local(async move {
        let value = std::rc::Rc::new(value);
        tokio::task::yield_now().await;
        (*value, thread::current().id() == home)
    })?;
    future_into_py(py, async move {
        task.await.map_err(|error| PyRuntimeError::new_err(error.to_string()))
    })
}

/// Spawned, then left alone; holds the flag's guard until it is dropped.
#[pyfunction]
fn spawned_and_left(flag: Py<crate::basics::DropFlag>, local: bool) -> PyResult<()> {
    let guard = flag.get().guard();
    let future = async move {
        guard.started();
        std::future::pending::<()>().await;
    };
    if local {
        drop(spawn_local(future)?);
    } else {
        drop(spawn(future));
    }
    Ok(())
}

#[pyfunction]
fn panics_spawned(py: Python<'_>, local: bool) -> PyResult<Bound<'_, PyAny>> {
    let future = async { panic!("in a task of its own") };
    let task = if local { spawn_local(future)? } else { spawn(future) };
    future_into_py(py, async move {
        let result: Result<(), _> = task.await;
        Ok(result.is_err_and(|error| error.is_panic()))
    })
}

/// An echo over TCP, both ends on the runtime that serves the future.
#[pyfunction]
fn echoes(py: Python<'_>, text: String) -> PyResult<Bound<'_, PyAny>> {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::{TcpListener, TcpStream};
    future_into_py(py, async move {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let mut client = TcpStream::connect(listener.local_addr()?).await?;
        let (mut server, _) = listener.accept().await?;
        client.write_all(text.as_bytes()).await?;
        let mut buffer = vec![0; text.len()];
        server.read_exact(&mut buffer).await?;
        server.write_all(&buffer).await?;
        client.read_exact(&mut buffer).await?;
        Ok(String::from_utf8_lossy(&buffer).into_owned())
    })
}

/// Runs a Python function in a thread of a multi-thread runtime.
#[pyfunction]
fn call_in_worker(py: Python<'_>, function: Py<PyAny>) -> PyResult<Py<PyAny>> {
    py.detach(|| {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).build()?;
        runtime
            .block_on(runtime.spawn(async move { Python::attach(|py| function.call0(py)) }))
            .map_err(|error| PyRuntimeError::new_err(error.to_string()))?
    })
}

pub fn fill(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_class::<Oneshot>()?;
    module.add_class::<Pulse>()?;
    module.add_class::<Responder>()?;
    module.add_function(wrap_pyfunction!(storm, module)?)?;
    module.add_function(wrap_pyfunction!(spawned, module)?)?;
    module.add_function(wrap_pyfunction!(spawned_by_tokio, module)?)?;
    module.add_function(wrap_pyfunction!(spawned_blocking, module)?)?;
    module.add_function(wrap_pyfunction!(spawned_local, module)?)?;
    module.add_function(wrap_pyfunction!(spawned_and_left, module)?)?;
    module.add_function(wrap_pyfunction!(panics_spawned, module)?)?;
    module.add_function(wrap_pyfunction!(echoes, module)?)?;
    module.add_function(wrap_pyfunction!(call_in_worker, module)?)
}
