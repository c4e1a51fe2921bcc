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
//! # Locks
//!
//! Two, and neither is held while Python code or a letter runs, or while anything is dropped. `inbox` is
//! taken by all threads. `shelf` is only taken with the GIL held: the collector depends on that, for
//! it must find the shelf unlocked. A forked child touches neither (another thread of its parent's may
//! have held the inbox's): a parent's port is dead in the child.

mod loop_ref;
mod reader;
mod registry;
mod shelf;
mod wake;

use std::mem::take;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use pyo3::exceptions::{PyKeyboardInterrupt, PyRuntimeError, PySystemExit};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::PyDict;

use self::reader::{Reader, Registrar};
use self::shelf::Shelf;
pub(crate) use self::shelf::{Kept, Key};
use self::wake::{Wake, register, runs_elsewhere};
use crate::bridge::errors::rust_panic;
use crate::bridge::running::running_loop;
use crate::driver::fork;

/// What the loop's thread is to do. A letter that fails leaves its exception set (`PyErr::restore`).
pub(crate) type Letter = Box<dyn FnOnce(Python<'_>) + Send>;

/// A loop, as seen from other threads.
pub(crate) struct Port {
    /// `fork::count` of the process that made it.
    forks: u32,
    inbox: Mutex<Inbox>,
    shelf: Mutex<Shelf>,
}

#[derive(Default)]
struct Inbox {
    letters: Vec<Letter>,
    /// The loop has been woken since it last emptied the inbox.
    signalled: bool,
    /// None once the port is closed.
    wake: Option<Arc<Wake>>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
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
            inbox: Mutex::new(Inbox { wake: Some(Arc::new(wake)), ..Inbox::default() }),
            shelf: Mutex::new(Shelf::default()),
        });
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
        let mut inbox = lock(&self.inbox);
        let Some(wake) = &inbox.wake else {
            drop(inbox);
            return drop_quietly(letter);
        };
        let wake = (!inbox.signalled).then(|| Arc::clone(wake));
        inbox.signalled = true;
        inbox.letters.push(letter);
        drop(inbox);
        if let Some(wake) = wake {
            wake.wake(self);
        }
    }

    /// Keeps an object until it is taken, or the port closes; an error if it has closed.
    pub(crate) fn keep(&self, py: Python<'_>, kept: Kept) -> PyResult<Key> {
        if !self.is_inherited() {
            return lock(&self.shelf).put(kept).map_err(|kept| {
                kept.drop(py);
                PyRuntimeError::new_err("Event loop is closed")
            });
        }
        kept.drop(py);
        Err(PyRuntimeError::new_err("the event loop belongs to the parent process"))
    }

    /// A kept object, if it is still there.
    pub(crate) fn take(&self, _py: Python<'_>, key: Key) -> Option<Kept> {
        if self.is_inherited() { None } else { lock(&self.shelf).take(key) }
    }

    /// Whether a fork lies between the process that made the port and this one.
    fn is_inherited(&self) -> bool {
        self.forks != fork::count()
    }

    /// Runs the letters that have arrived, in their order. Only `KeyboardInterrupt` and `SystemExit` are
    /// returned, the first of them; other exceptions are reported.
    fn deliver(&self, py: Python<'_>) -> PyResult<()> {
        let wake = lock(&self.inbox).wake.clone();
        let Some(wake) = wake else { return Ok(()) };
        // The bytes go first: of a byte that is written after this the letter may be taken below
        // already, and the loop is woken for nothing. The other way round a wake-up would be lost.
        wake.clear();
        let letters = {
            let mut inbox = lock(&self.inbox);
            inbox.signalled = false;
            take(&mut inbox.letters)
        };
        let mut interrupt = None;
        for letter in letters {
            let run = || {
                letter(py);
                PyErr::take(py)
            };
            let error = match catch_unwind(AssertUnwindSafe(run)) {
                Ok(None) => continue,
                Ok(Some(error)) => error,
                Err(payload) => rust_panic(&*payload),
            };
            if error.is_instance_of::<PyKeyboardInterrupt>(py)
                || error.is_instance_of::<PySystemExit>(py)
            {
                interrupt.get_or_insert(error);
            } else {
                report(py, error);
            }
        }
        interrupt.map_or(Ok(()), Err)
    }

    /// Drops all that the port has and gets; once it is closed this does nothing.
    fn close(&self, py: Python<'_>) {
        if self.is_inherited() {
            return;
        }
        let inbox = take(&mut *lock(&self.inbox));
        let kept = lock(&self.shelf).close();
        registry::remove(py, self);
        inbox.letters.into_iter().for_each(drop_quietly);
        kept.into_iter().for_each(|it| it.drop(py));
        drop(inbox.wake);
    }
}

/// Tells the loop that runs here of an exception that no caller gets.
fn report(py: Python<'_>, error: PyErr) {
    let tell = || -> PyResult<bool> {
        let Some(event_loop) = running_loop(py)? else { return Ok(false) };
        let details = PyDict::new(py);
        details.set_item("message", "Exception while a Rust future's result was delivered")?;
        details.set_item("exception", error.value(py))?;
        event_loop.call_method1(intern!(py, "call_exception_handler"), (details,))?;
        Ok(true)
    };
    match catch_unwind(AssertUnwindSafe(tell)) {
        Ok(Ok(true)) => {}
        _ => error.write_unraisable(py, None),
    }
}
