//! Received bytes as `bytes`, without a copy where they are many.

use pyo3::prelude::*;
use pyo3::types::PyBytes;

use crate::ffi::memory;

/// Bytes from which on the kernel is asked how much there is, to receive it in place: the copy out of
/// the scratch buffer costs more than the question.
pub(crate) const BULK: usize = 32 * 1024;

/// `bytes` that were received into, cut to the `count` that the kernel has written.
pub(crate) fn cut<'py>(bytes: Bound<'py, PyBytes>, count: usize) -> PyResult<Bound<'py, PyBytes>> {
    if count == bytes.as_bytes().len() {
        return Ok(bytes);
    }
    memory::bytes(bytes.py(), &bytes.as_bytes()[..count])
}
