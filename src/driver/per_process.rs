//! Values of which each process has its own.
//!
//! A forked child has none of its parent's threads, and a lock that another thread of the parent held
//! at the fork stays locked for ever. What the parent made is left behind in the child, neither dropped
//! nor looked at, and made anew when it is wanted.

use std::ptr::null_mut;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicPtr, Ordering};

use super::fork;

/// A value that is made at first use, once in each process.
pub(crate) struct PerProcess<T: 'static>(AtomicPtr<Slot<T>>);

struct Slot<T> {
    forks: u32,
    /// Its lock is of this process, as the slot is.
    value: OnceLock<T>,
}

impl<T: Send + Sync + 'static> PerProcess<T> {
    pub(crate) const fn new() -> Self {
        Self(AtomicPtr::new(null_mut()))
    }

    pub(crate) fn get_or_init(&self, make: impl FnOnce() -> T) -> &'static T {
        self.slot().get_or_init(make)
    }

    /// This process's place for the value. A slot is never freed: there is one for each process on the
    /// way from the first one down to this one that ever asked.
    fn slot(&self) -> &'static OnceLock<T> {
        let forks = fork::count();
        let mut known = self.0.load(Ordering::Acquire);
        loop {
            // SAFETY: null, or a slot that was leaked below.
            if let Some(slot) = unsafe { known.as_ref() }
                && slot.forks == forks
            {
                return &slot.value;
            }
            let made = Box::into_raw(Box::new(Slot { forks, value: OnceLock::new() }));
            match self.0.compare_exchange(known, made, Ordering::AcqRel, Ordering::Acquire) {
                // SAFETY: just leaked.
                Ok(_) => return unsafe { &(*made).value },
                Err(other) => {
                    known = other;
                    // SAFETY: made above, and not published.
                    drop(unsafe { Box::from_raw(made) });
                }
            }
        }
    }
}
