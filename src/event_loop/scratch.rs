//! The buffer that reads go through, one a loop.

use std::io;

use pyo3::prelude::*;

use crate::ffi::gil::GilCell;
use crate::ffi::memory;

/// The size of the buffer; asyncio's `max_size`.
pub(super) const SIZE: usize = 256 * 1024;

/// What has to do where there is no memory for that: less is received at once. A record of TLS is read
/// as a whole, and has to fit.
const SMALL: usize = 32 * 1024;

pub(super) struct Scratch(GilCell<Vec<u8>>);

impl Scratch {
    pub(super) const fn new() -> Self {
        Self(GilCell::new(Vec::new()))
    }

    /// Gives the memory back.
    pub(super) fn release(&self, py: Python<'_>) {
        drop(self.0.take(py));
    }

    /// Lends the buffer to `f`, which may keep it and leave an empty one, and `put` it back later. It is
    /// taken out meanwhile: should `f` come to run Python code that reads as well, that gets one of its
    /// own. `OutOfMemory` if there is none that could be lent.
    pub(super) fn lend<R>(
        &self,
        py: Python<'_>,
        f: impl FnOnce(&mut Vec<u8>) -> R,
    ) -> io::Result<R> {
        let mut scratch = self.0.take(py);
        if scratch.len() < SIZE {
            // The old one first: it may be what there is no room for besides.
            drop(scratch);
            scratch = memory::zeros(SIZE)
                .or_else(|_exhausted| memory::zeros(SMALL))
                .map_err(|_exhausted| io::Error::from(io::ErrorKind::OutOfMemory))?;
        }
        let result = f(&mut scratch);
        self.put(py, scratch);
        Ok(result)
    }

    pub(super) fn put(&self, py: Python<'_>, scratch: Vec<u8>) {
        drop(self.0.with(py, |slot| std::mem::replace(slot, scratch)));
    }
}
