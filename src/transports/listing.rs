//! Whether a transport is in the loop's list of those that have something to send, and since when.

use std::cell::Cell;

use crate::driver::fork;

/// A transport's mark that it is in the loop's list, with the number of forks at that moment.
///
/// On asyncio what is written has left when the process forks. Here it may still wait for the end of
/// the batch, in the child's copy of the transport as well: then it is the parent that sends it.
#[derive(Default)]
pub(crate) struct Listing(Cell<Option<u32>>);

impl Listing {
    #[inline]
    pub(crate) fn is_listed(&self) -> bool {
        self.0.get().is_some()
    }

    /// Sets the mark; whether it was not set before.
    #[inline]
    #[must_use]
    pub(crate) fn enter(&self) -> bool {
        !self.is_listed() && {
            self.0.set(Some(fork::count()));
            true
        }
    }

    #[inline]
    pub(crate) fn leave(&self) {
        self.0.set(None);
    }

    /// Whether this is the copy of a transport that was listed before the process forked.
    #[inline]
    pub(crate) fn is_parents(&self) -> bool {
        self.0.get().is_some_and(|listed| listed != fork::count())
    }
}
