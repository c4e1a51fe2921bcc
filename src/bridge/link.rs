//! Which loop runs, and how it is reached: one of this crate's own, one that offers a table, or
//! another.
//!
//! A [`Link`] is found by the loop's class and true for as long as the loop lives: an object may get
//! another class, but only one of the same layout. `Own` is said of instances of this crate's
//! `NativeLoop` and nothing else, so who has it may take the loop for one. A `Beside` table was found
//! in a capsule of our name, with our version.

use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3_async_runtimes::tokio as upstream;

use super::foreign;
use super::table::{self, Table};
use crate::event_loop::NativeLoop;
use crate::ffi::gil::{GilFlag, PySlot};
use crate::primitives::ctypes;

/// How a loop is reached.
#[derive(Clone, Copy)]
pub(super) enum Link {
    /// The loop is of this very crate: its runtime is at hand.
    Own,
    /// The loop was compiled apart from this code, and offers a table.
    Beside(&'static Table),
    /// A loop that knows nothing of this.
    Foreign,
}

impl Link {
    pub(super) fn to(event_loop: &Bound<'_, PyAny>) -> PyResult<Self> {
        /// The class that was last looked at, its version then, and what was seen.
        static LAST: PySlot = PySlot::empty();
        static SEEN: GilFlag<(u32, Link)> = GilFlag::new((0, Link::Foreign));
        let py = event_loop.py();
        let class = event_loop.get_type();
        // SAFETY: a live class. CPython gives each state of a class a version of its own, and 0 to
        // those it has not looked into since they changed. Classes may come to share a number:
        // in CPython 3.10 `sys._clear_type_cache()` begins anew.
        let version = unsafe { (*class.as_type_ptr()).tp_version_tag };
        let (last, link) = SEEN.get(py);
        if version != 0 && version == last && LAST.holds(&class) {
            return Ok(link);
        }
        let link = if event_loop.is_instance_of::<NativeLoop>() {
            Self::Own
        } else {
            table::offered(&class)?.map_or(Self::Foreign, Self::Beside)
        };
        SEEN.set(py, (version, link));
        LAST.set(py, Some(class.into_any().unbind()));
        Ok(link)
    }

    pub(super) fn table(self) -> &'static Table {
        match self {
            Self::Own => &table::OWN,
            Self::Beside(table) => table,
            Self::Foreign => &foreign::TABLE,
        }
    }

    /// Calls `body` where tokio's own types find the runtime that serves this loop's futures.
    #[inline]
    pub(super) fn within<R>(
        self,
        event_loop: &Bound<'_, PyAny>,
        body: impl FnOnce() -> R,
    ) -> PyResult<R> {
        if let Self::Own = self {
            // SAFETY: a loop of this crate, as `to` saw, which the caller keeps alive.
            let reactor =
                unsafe { NativeLoop::of(event_loop.as_ptr()) }.shared_reactor(event_loop.py())?;
            let _runtime = reactor.enter();
            return Ok(body());
        }
        let _runtime = upstream::get_runtime().enter();
        Ok(body())
    }
}

/// The loop that runs in this thread.
#[inline]
pub(super) fn running_loop(py: Python<'_>) -> PyResult<Option<Bound<'_, PyAny>>> {
    static ASK: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    let running = match ctypes::types(py)? {
        Some(types) => types.running_loop(py)?,
        None => ASK.import(py, "asyncio", "_get_running_loop")?.call0()?,
    };
    Ok((!running.is_none()).then_some(running))
}
