//! What waits to be sent: chunks as they were given, taken off as the kernel takes them.

use std::collections::VecDeque;
use std::io;
use std::os::fd::RawFd;
use std::sync::Arc;

use pyo3::prelude::*;
use pyo3::types::PyBytes;

use crate::errors::check;
use crate::gil::GilCell;
use crate::sockets::send;

const VECTORS: usize = 64;

pub enum Data {
    /// Immutable, so kept as it is.
    Bytes(Py<PyBytes>),
    Copied(Arc<[u8]>),
}

/// The queue of one connection: nothing but a pointer until there is something to send.
#[derive(Default)]
pub struct Outgoing(Option<Box<Queue>>);

/// Empty queues, with the memory they have grown to.
#[expect(clippy::vec_box, reason = "they come and go boxed")]
static SPARE: GilCell<Vec<Box<Queue>>> = GilCell::new(Vec::new());
const MOST_SPARE: usize = 64;

#[derive(Default)]
struct Queue {
    chunks: VecDeque<Data>,
    /// Bytes of the first chunk that have left already.
    sent: usize,
    size: usize,
}

/// A chunk from some byte on.
pub struct Rest {
    data: Data,
    sent: usize,
}

impl Rest {
    pub fn as_slice(&self) -> &[u8] {
        &self.data.as_slice()[self.sent..]
    }
}

impl Data {
    pub fn as_slice(&self) -> &[u8] {
        match self {
            // SAFETY: callers hold the GIL, as for everything in a transport.
            Self::Bytes(bytes) => bytes.as_bytes(unsafe { Python::assume_attached() }),
            Self::Copied(bytes) => bytes,
        }
    }
}

impl Outgoing {
    #[inline]
    pub fn size(&self) -> usize {
        self.0.as_ref().map_or(0, |queue| queue.size)
    }

    #[inline]
    pub fn is_empty(&self) -> bool {
        self.size() == 0
    }

    #[inline]
    pub fn push(&mut self, py: Python<'_>, data: Data) {
        self.push_from(py, data, 0);
    }

    /// All of `data` but its first `sent` bytes; the queue must be empty if there are such.
    pub fn push_from(&mut self, py: Python<'_>, data: Data, sent: usize) {
        let spare = || SPARE.with(py, Vec::pop).unwrap_or_default();
        let queue = self.0.get_or_insert_with(spare);
        debug_assert!(sent == 0 || queue.chunks.is_empty());
        queue.size += data.as_slice().len() - sent;
        queue.sent += sent;
        queue.chunks.push_back(data);
    }

    /// What is left of the first chunk, held.
    pub fn first(&self, py: Python<'_>) -> Option<Rest> {
        let queue = self.0.as_ref()?;
        let data = match queue.chunks.front()? {
            Data::Bytes(bytes) => Data::Bytes(bytes.clone_ref(py)),
            Data::Copied(bytes) => Data::Copied(bytes.clone()),
        };
        Some(Rest { data, sent: queue.sent })
    }

    /// One `send` or `sendmsg` of as much as the vectors hold: what was offered, what was taken.
    pub fn send(&self, fd: RawFd) -> io::Result<(usize, usize)> {
        self.0.as_ref().map_or(Ok((0, 0)), |queue| queue.send(fd))
    }

    /// Forgets `taken` bytes; spent chunks come back, to be dropped outside the borrow.
    pub fn advance(&mut self, taken: usize) -> Option<Data> {
        self.0.as_mut()?.advance(taken)
    }

    /// Gives an empty queue's memory to the next who has something to send.
    #[inline]
    pub fn relax(&mut self, py: Python<'_>) {
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

    /// Empties it; what was in it comes back, to be dropped outside the borrow.
    pub fn clear(&mut self) -> Self {
        std::mem::take(self)
    }
}

impl Queue {
    fn send(&self, fd: RawFd) -> io::Result<(usize, usize)> {
        if let [only] = self.chunks.as_slices().0
            && self.chunks.len() == 1
        {
            let rest = &only.as_slice()[self.sent..];
            return Ok((rest.len(), send(fd, rest.as_ptr(), rest.len())?));
        }
        let mut vectors = [libc::iovec { iov_base: std::ptr::null_mut(), iov_len: 0 }; VECTORS];
        let mut offered = 0;
        let mut count = 0;
        for (vector, chunk) in vectors.iter_mut().zip(&self.chunks) {
            let rest = &chunk.as_slice()[if count == 0 { self.sent } else { 0 }..];
            vector.iov_base = rest.as_ptr().cast_mut().cast();
            vector.iov_len = rest.len();
            offered += rest.len();
            count += 1;
        }
        // SAFETY: all zeros is a valid `msghdr`; the vectors point into chunks we hold.
        let taken = unsafe {
            let mut message: libc::msghdr = std::mem::zeroed();
            message.msg_iov = vectors.as_mut_ptr();
            message.msg_iovlen = count as _;
            check(libc::sendmsg(fd, &message, libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL))?
        };
        Ok((offered, taken))
    }

    fn advance(&mut self, taken: usize) -> Option<Data> {
        self.size -= taken;
        let mut passed = self.sent + taken;
        let mut last = None;
        while let Some(first) = self.chunks.front() {
            let length = first.as_slice().len();
            if passed < length {
                break;
            }
            passed -= length;
            // `bytes` have no destructor of their own: nothing runs when all but the last go.
            last = self.chunks.pop_front();
        }
        self.sent = passed;
        last
    }
}
