//! How Rust code in any thread reaches an object that belongs to the loop's thread.
//!
//! The loop's [`Port`] keeps the object, and the Rust side has a [`Tether`]: the port and a key, and no
//! Python object. To have something done it posts a letter, or has it done at once where it runs in the
//! loop's thread with the GIL. What is to be done, the object finds in the state that the two share.
//!
//! The port lets go of the object when the loop is closed, and the Rust side is told, so that nothing waits for a
//! loop that is no more.

use std::sync::Arc;

use pyo3::prelude::*;
use pyo3::{PyTraverseError, PyVisit};

use crate::port::{Kept, Key, Port};
use crate::python::finalizing;
use crate::python::gil::PySlot;
use crate::running::running_loop;

/// Does what the Rust side asks for. An error is only what must not be lost: `KeyboardInterrupt` and
/// `SystemExit`.
pub(super) type Serve = fn(&Bound<'_, PyAny>) -> PyResult<()>;

/// The state that both sides share.
pub(super) trait Shared: Send + Sync {
    /// The loop's side is gone, which it also is after an end that both know of.
    fn orphaned(&self);
}

/// The loop's side, as Rust code refers to it.
pub(super) struct Tether {
    port: Arc<Port>,
    key: Key,
    /// The loop's address; only compared while the object is kept, so the loop is there.
    event_loop: usize,
}

impl Tether {
    /// Has the loop's port keep the object. `shared` is told when it no longer does.
    pub(super) fn new(
        event_loop: &Bound<'_, PyAny>,
        object: &Bound<'_, PyAny>,
        serve: Serve,
        shared: Arc<dyn Shared>,
    ) -> PyResult<Self> {
        let py = event_loop.py();
        let port = Port::of(event_loop)?;
        let knot = Knot { object: PySlot::new(object.clone().unbind()), serve, shared };
        let object = Bound::new(py, knot)?.into_any().unbind();
        let key = port.keep(py, Kept { object, locals: None })?;
        Ok(Self { port, key, event_loop: event_loop.as_ptr() as usize })
    }

    /// Has the object served in the loop's thread, soon. From any thread; runs no Python code.
    pub(super) fn ask(&self) {
        let (port, key) = (Arc::clone(&self.port), self.key);
        self.post(move |py| port.get(py, key).map_or(Ok(()), |knot| serve(&knot)));
    }

    /// The same, but at once if this is the loop's thread and has the GIL. Runs Python code then.
    pub(super) fn ask_or_serve(&self) -> PyResult<()> {
        if finalizing::is_attached()
            && let Some(served) = Python::try_attach(|py| self.serve_here(py)).flatten()
        {
            return served;
        }
        self.ask();
        Ok(())
    }

    /// None if this is not the loop's thread.
    fn serve_here(&self, py: Python<'_>) -> Option<PyResult<()>> {
        let knot = self.port.get(py, self.key)?;
        match running_loop(py) {
            Ok(Some(running)) if running.as_ptr() as usize == self.event_loop => Some(serve(&knot)),
            // Not here, or it cannot be said: a letter always arrives.
            _ => None,
        }
    }

    /// Has something done in the loop's thread, or dropped where the loop is closed.
    pub(super) fn post(&self, letter: impl FnOnce(Python<'_>) -> PyResult<()> + Send + 'static) {
        self.port.post(Box::new(move |py| {
            if let Err(error) = letter(py) {
                error.restore(py);
            }
        }));
    }

    /// Lets go of the object, in the loop's thread.
    pub(super) fn release(&self, py: Python<'_>) {
        let kept = self.port.take(py, self.key);
        drop(kept);
    }
}

fn serve(knot: &Bound<'_, PyAny>) -> PyResult<()> {
    let py = knot.py();
    let Ok(knot) = knot.cast::<Knot>() else { return Ok(()) };
    let object = knot.get().object.get(py);
    object.map_or(Ok(()), |object| (knot.get().serve)(&object))
}

/// What the port keeps.
#[pyclass(frozen, module = "tokioloop_bridge")]
struct Knot {
    object: PySlot,
    serve: Serve,
    shared: Arc<dyn Shared>,
}

#[pymethods]
impl Knot {
    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        self.object.traverse(&visit)
    }

    fn __clear__(&self, py: Python<'_>) {
        finalizing::guard();
        self.object.set(py, None);
    }
}

impl Drop for Knot {
    fn drop(&mut self) {
        // Before the fields, whose destructors may run Python code.
        finalizing::guard();
        self.shared.orphaned();
    }
}
