//! Whether a transport is in the loop's list of those to flush, and since when.

use std::cell::Cell;

use pyo3::prelude::*;

use crate::driver::fork;
use crate::event_loop::{Callback, NativeLoop};

/// A transport's mark that it is in the loop's list, with the number of forks at that moment.
///
/// On asyncio what is written has left when the process forks. Here it may still wait for the end of
/// the batch, in the child's copy of the transport as well: then the parent sends it.
#[derive(Default)]
pub(crate) struct PendingFlush(Cell<Option<u32>>);

impl PendingFlush {
    #[inline]
    pub(crate) fn is_set(&self) -> bool {
        self.0.get().is_some()
    }

    /// Has the loop call `flush` at the end of the batch, unless it does already.
    ///
    /// # Safety
    /// `flush` must be for transports of the kind that `transport` is of.
    #[inline]
    pub(crate) unsafe fn schedule(
        &self,
        native: &NativeLoop,
        transport: &Bound<'_, PyAny>,
        flush: Callback,
    ) {
        if self.is_set() {
            return;
        }
        let py = transport.py();
        self.0.set(Some(fork::count()));
        let transport = transport.clone().unbind();
        // SAFETY: the caller's promise.
        unsafe { native.flush_later(py, transport, flush) };
    }

    #[inline]
    pub(crate) fn clear(&self) {
        self.0.set(None);
    }

    /// Whether this is the copy of a transport that was in the list before the process forked.
    #[inline]
    pub(crate) fn is_parents(&self) -> bool {
        self.0.get().is_some_and(|listed| listed != fork::count())
    }
}
