//! How threads of tokio's reach an asyncio loop that knows nothing of this crate.
//!
//! # The trap
//!
//! `loop.call_soon_threadsafe` is Python code: a thread that calls it waits for the GIL, for as long as
//! the loop likes, and may be ended inside of it when the interpreter exits (see [`finalizing`]).
//! So threads of tokio's run no Python at all. They put *letters* into the inbox of the loop's [`Port`], and
//! wake the loop with a byte in a socket, which the loop watches by `add_reader`. The loop delivers the
//! letters in its own thread.
//!
//! # Who owns what
//!
//! The registration at the loop owns the [`Reader`], and the reader's end is the port's: when the loop
//! is closed, or collected, the port closes (a port without a socket when the loop drops its reader, or
//! at the first letter after that). It then drops, with the GIL held, the letters that wait and the
//! Python objects that were given to it to keep, and the socket. Tasks own the port's memory, an `Arc`,
//! and keys to the kept objects, but no object.
//!
//! Kept objects lead back to the loop: a future knows its loop. The reader shows them to CPython's
//! collector, so a loop that is dropped without being closed is collected nevertheless.
//!
//! # Who may touch what
//!
//! Any thread posts to `inbox` and reads `wake`, behind locks that no forked child finds locked. The shelf
//! and the registry of ports are the GIL's. Nothing is held while Python code or a letter runs, or while
//! anything is dropped. A forked child has its parent's sockets in common with it: a parent's port is
//! dead there, and neither read from nor written to.

mod loop_ref;
mod reader;
mod registry;
mod shelf;
mod wake;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use pyo3::exceptions::PyRuntimeError;
use pyo3::intern;
use pyo3::prelude::*;

use self::reader::{Reader, Registrar};
use self::shelf::Shelf;
pub(crate) use self::shelf::{Kept, Key};
use self::wake::{Wake, register, runs_elsewhere};
use crate::errors::{ends_loop, rust_panic, tell};
use crate::python::gil::GilCell;
use crate::running::running_loop;
use crate::sys::fork::{self, Mutex};
use crate::sys::inbox::{Inbox, Park, Posted};

/// What the loop's thread is to do. A letter that fails leaves its exception set (`PyErr::restore`).
pub(crate) type Letter = Box<dyn FnOnce(Python<'_>) + Send>;

/// A loop, as seen from other threads.
pub(crate) struct Port {
    /// `fork::count` of the process that made it.
    forks: u32,
    inbox: Inbox<Letter>,
    /// None once the port is closed.
    wake: Mutex<Option<Arc<Wake>>>,
    shelf: GilCell<Shelf>,
}

/// Drops a value whose destructor may panic.
fn drop_quietly<T>(value: T) {
    let _ = catch_unwind(AssertUnwindSafe(|| drop(value)));
}

impl Port {
    /// The port of a loop; the same one each time. May be called in any thread.
    pub(crate) fn of(event_loop: &Bound<'_, PyAny>) -> PyResult<Arc<Self>> {
        if let Some(known) = registry::find(event_loop)? {
            return Ok(known);
        }
        let py = event_loop.py();
        let wake = Wake::choose(event_loop)?;
        let by_reader = wake.descriptor().is_some();
        let port = Arc::new(Self {
            forks: fork::count(),
            inbox: Inbox::default(),
            wake: Mutex::new(Some(Arc::new(wake))),
            shelf: GilCell::new(Shelf::default()),
        });
        port.park();
        if let Some(other) = registry::insert(event_loop, &port)? {
            return Ok(other);
        }
        if by_reader {
            let reader = Bound::new(py, Reader::registered(&port))?;
            // A loop that runs elsewhere watches the socket as soon as it has run the registrar;
            // what is posted until then waits in the inbox, and the wake-up in the socket.
            if runs_elsewhere(event_loop)? {
                let registrar = Registrar::new(reader);
                event_loop.call_method1(intern!(py, "call_soon_threadsafe"), (registrar,))?;
            } else {
                register(event_loop, &reader)?;
            }
        }
        Ok(port)
    }

    /// Leaves a letter for the loop's thread. From any thread, without the GIL. A closed port drops it.
    pub(crate) fn post(self: &Arc<Self>, letter: Letter) {
        if self.is_inherited() {
            return drop_quietly(letter);
        }
        // A closed inbox drops the letter, whose destructor may panic.
        let posted = catch_unwind(AssertUnwindSafe(|| self.inbox.post(letter)));
        if let Ok(Posted::OwnerSleeps) = posted {
            self.wake();
        }
    }

    /// Ends the loop's sleep, in any thread.
    fn wake(self: &Arc<Self>) {
        let wake = self.wake.lock().clone();
        if let Some(wake) = wake {
            wake.wake(self);
        }
    }

    /// From now on the poster of the next letter wakes the loop. Letters that have come already do it here.
    fn park(self: &Arc<Self>) {
        if self.inbox.park() == Park::Mail {
            self.wake();
        }
    }

    /// Keeps an object until it is taken, or the port closes; an error if it has closed.
    pub(crate) fn keep(&self, py: Python<'_>, kept: Kept) -> PyResult<Key> {
        if !self.is_inherited() {
            return self.shelf.with(py, |shelf| shelf.put(kept)).map_err(|kept| {
                kept.drop(py);
                PyRuntimeError::new_err("Event loop is closed")
            });
        }
        kept.drop(py);
        Err(PyRuntimeError::new_err("the event loop belongs to the parent process"))
    }

    /// A new reference to a kept object, which stays where it is.
    pub(crate) fn get<'py>(&self, py: Python<'py>, key: Key) -> Option<Bound<'py, PyAny>> {
        if self.is_inherited() {
            return None;
        }
        self.shelf.with(py, |shelf| shelf.get(key).map(|kept| kept.object.bind(py).clone()))
    }

    /// Takes a kept object, if it is still there.
    pub(crate) fn take(&self, py: Python<'_>, key: Key) -> Option<Kept> {
        if self.is_inherited() { None } else { self.shelf.with(py, |shelf| shelf.take(key)) }
    }

    /// Whether a fork lies between the process that made the port and this one.
    fn is_inherited(&self) -> bool {
        self.forks != fork::count()
    }

    /// Runs the letters that have arrived, in their order. Only `KeyboardInterrupt` and `SystemExit` are
    /// returned, the first of them; other exceptions are reported.
    fn deliver(self: &Arc<Self>, py: Python<'_>) -> PyResult<()> {
        let wake = self.wake.lock().clone();
        let Some(wake) = wake else { return Ok(()) };
        wake.clear();
        let mut letters = Vec::new();
        self.inbox.take(&mut letters);
        let mut interrupt = None;
        for letter in letters {
            let run = || {
                letter(py);
                PyErr::take(py)
            };
            let error = match catch_unwind(AssertUnwindSafe(run)) {
                Ok(None) => continue,
                Ok(Some(error)) => error,
                Err(payload) => rust_panic(py, &*payload),
            };
            if ends_loop(py, &error) {
                interrupt.get_or_insert(error);
            } else {
                report(py, error);
            }
        }
        self.park();
        interrupt.map_or(Ok(()), Err)
    }

    /// Drops all that the port has and gets; once it is closed this does nothing.
    fn close(&self, py: Python<'_>) {
        if self.is_inherited() {
            return;
        }
        let wake = self.wake.lock().take();
        let mut letters = Vec::new();
        self.inbox.take(&mut letters);
        letters.into_iter().for_each(drop_quietly);
        let _ = catch_unwind(AssertUnwindSafe(|| self.inbox.close()));
        let kept = self.shelf.with(py, Shelf::close);
        registry::remove(py, self);
        kept.into_iter().for_each(|it| it.drop(py));
        drop(wake);
    }
}

/// Tells the loop that runs here of an exception that no caller gets.
fn report(py: Python<'_>, error: PyErr) {
    let told = catch_unwind(AssertUnwindSafe(|| -> PyResult<bool> {
        let Some(event_loop) = running_loop(py)? else { return Ok(false) };
        tell(&event_loop, "Exception while a Rust future's result was delivered", &error)?;
        Ok(true)
    }));
    if !matches!(told, Ok(Ok(true))) {
        error.write_unraisable(py, None);
    }
}
