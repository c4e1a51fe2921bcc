//! Another thread, which wakes who asks it.

use std::future::Future;
use std::sync::mpsc;
use std::thread;

use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;
use tokio::sync::oneshot;

/// A thread that sleeps until it is asked, and answers; it lives as long as this object.
#[pyclass(frozen)]
pub struct Responder(mpsc::Sender<oneshot::Sender<()>>);

#[pymethods]
impl Responder {
    #[new]
    fn new() -> Self {
        let (sender, questions) = mpsc::channel::<oneshot::Sender<()>>();
        thread::spawn(move || {
            for question in questions {
                // Who asked may have gone.
                let _ = question.send(());
            }
        });
        Self(sender)
    }
}

impl Responder {
    pub fn ask(&self) -> impl Future<Output = PyResult<()>> + use<> {
        let thread = self.0.clone();
        async move {
            let (question, answer) = oneshot::channel();
            let gone = || PyRuntimeError::new_err("the thread has ended");
            thread.send(question).map_err(|_| gone())?;
            answer.await.map_err(|_| gone())
        }
    }
}
