//! Bytes that wait to be sent: chunks as they were given, removed as the kernel takes them.

use std::collections::VecDeque;
use std::io::{self, IoSlice};
use std::os::fd::RawFd;

use pyo3::prelude::*;
use pyo3::types::{PyByteArray, PyBytes, PyMemoryView};

use crate::driver::sys::socket::{send, send_vectored};
use crate::ffi::gil::GilCell;
use crate::ffi::memory;

const VECTORS: usize = 64;

/// The buffer of one connection: nothing but a pointer until there is something to send.
#[derive(Default)]
pub(crate) struct WriteBuffer(Option<Box<Queue>>);

/// Empty queues, with the memory they have grown to.
#[expect(clippy::vec_box, reason = "they come and go boxed")]
static SPARE: GilCell<Vec<Box<Queue>>> = GilCell::new(Vec::new());
const MOST_SPARE: usize = 64;

#[derive(Default)]
struct Queue {
    /// Immutable, so kept as they were given: exactly `bytes`, never empty.
    chunks: VecDeque<Py<PyBytes>>,
    /// Bytes of the first chunk that have left already.
    sent: usize,
    size: usize,
}

/// A chunk from some byte on.
pub(crate) struct Rest {
    data: Py<PyBytes>,
    sent: usize,
}

impl Rest {
    pub(crate) fn as_slice(&self, py: Python<'_>) -> &[u8] {
        &self.data.as_bytes(py)[self.sent..]
    }
}

impl WriteBuffer {
    #[inline]
    pub(crate) fn size(&self) -> usize {
        self.0.as_ref().map_or(0, |queue| queue.size)
    }

    #[inline]
    pub(crate) fn is_empty(&self) -> bool {
        self.size() == 0
    }

    #[inline]
    pub(crate) fn push(&mut self, data: &Bound<'_, PyBytes>) -> PyResult<()> {
        self.push_from(data, 0)
    }

    /// All of `data` but its first `sent` bytes; the queue must be empty if there are such. If that
    /// fails the queue is as before.
    pub(crate) fn push_from(&mut self, data: &Bound<'_, PyBytes>, sent: usize) -> PyResult<()> {
        let queue = self.queue(data.py());
        debug_assert!(sent == 0 || queue.chunks.is_empty());
        let more = data.as_bytes().len() - sent;
        debug_assert!(more > 0);
        let size = queue.size.checked_add(more).ok_or_else(memory::exhausted)?;
        memory::reserve(&mut queue.chunks, 1)?;
        queue.size = size;
        queue.sent += sent;
        queue.chunks.push_back(data.clone().unbind());
        Ok(())
    }

    /// All of them, or none if that fails.
    pub(crate) fn push_all(&mut self, py: Python<'_>, all: &[Bound<'_, PyBytes>]) -> PyResult<()> {
        let mut sizes = all.iter().map(|data| data.as_bytes().len());
        let queue = self.queue(py);
        sizes.try_fold(queue.size, usize::checked_add).ok_or_else(memory::exhausted)?;
        memory::reserve(&mut queue.chunks, all.len())?;
        all.iter().try_for_each(|data| self.push(data))
    }

    #[inline]
    fn queue(&mut self, py: Python<'_>) -> &mut Queue {
        self.0.get_or_insert_with(|| SPARE.with(py, Vec::pop).unwrap_or_default())
    }

    /// What is left of the first chunk, held.
    pub(crate) fn first(&self, py: Python<'_>) -> Option<Rest> {
        let queue = self.0.as_ref()?;
        let data = queue.chunks.front()?.clone_ref(py);
        Some(Rest { data, sent: queue.sent })
    }

    /// One `send` or `sendmsg` of as much as the vectors hold: the bytes offered, the bytes taken.
    pub(crate) fn send(&self, py: Python<'_>, fd: RawFd) -> io::Result<(usize, usize)> {
        self.0.as_ref().map_or(Ok((0, 0)), |queue| queue.send(py, fd))
    }

    /// Forgets `taken` bytes. Runs no Python code: `bytes` have no destructor of a program's.
    pub(crate) fn advance(&mut self, py: Python<'_>, taken: usize) {
        if let Some(queue) = &mut self.0 {
            queue.advance(py, taken);
        }
    }

    /// Gives an empty queue's memory to the next transport that has something to send.
    #[inline]
    pub(crate) fn relax(&mut self, py: Python<'_>) {
        if self.is_empty()
            && let Some(queue) = self.0.take()
        {
            SPARE.with(py, |spare| {
                if spare.len() < MOST_SPARE && queue.chunks.capacity() <= VECTORS {
                    spare.push(queue);
                }
            });
        }
    }

    pub(crate) fn clear(&mut self) {
        self.0 = None;
    }
}

/// Whether an object is what asyncio's transports take as data.
pub(crate) fn is_bytes_like(data: &Bound<'_, PyAny>) -> bool {
    data.is_instance_of::<PyBytes>()
        || data.is_instance_of::<PyByteArray>()
        || data.is_instance_of::<PyMemoryView>()
}

impl Queue {
    fn send(&self, py: Python<'_>, fd: RawFd) -> io::Result<(usize, usize)> {
        if let [only] = self.chunks.as_slices().0
            && self.chunks.len() == 1
        {
            let rest = &only.as_bytes(py)[self.sent..];
            return Ok((rest.len(), send(fd, rest)?));
        }
        let mut vectors = [IoSlice::new(&[]); VECTORS];
        let mut offered = 0;
        let mut count = 0;
        for (vector, chunk) in vectors.iter_mut().zip(&self.chunks) {
            let rest = &chunk.as_bytes(py)[if count == 0 { self.sent } else { 0 }..];
            *vector = IoSlice::new(rest);
            offered += rest.len();
            count += 1;
        }
        Ok((offered, send_vectored(fd, &vectors[..count])?))
    }

    fn advance(&mut self, py: Python<'_>, taken: usize) {
        self.size -= taken;
        let mut passed = self.sent + taken;
        while let Some(first) = self.chunks.front() {
            let length = first.as_bytes(py).len();
            if passed < length {
                break;
            }
            passed -= length;
            drop(self.chunks.pop_front().map(|chunk| chunk.into_bound(py)));
        }
        self.sent = passed;
    }
}
