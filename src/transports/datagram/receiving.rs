//! From the socket to the protocol.
//!
//! One system call takes several datagrams, but what one of them makes the protocol schedule runs
//! before the next is delivered, as on asyncio, which receives one an iteration.

use std::io;

use pyo3::prelude::*;
use pyo3::types::PyBytes;

use super::Datagram;
use crate::driver::reactor::Direction;
use crate::driver::sys::address::SockAddr;
use crate::driver::sys::clock::monotonic_nanos;
use crate::driver::sys::datagram::{AT_ONCE, Batch};
use crate::event_loop::{Entry, NativeLoop};
use crate::ffi::errors::os_error;
use crate::ffi::gil::GilCell;
use crate::ffi::memory;
use crate::net::address::Address;
use crate::transports::core::Lifecycle;
use crate::transports::core::class;

/// The bytes kept of a datagram; asyncio's `max_size`.
pub(super) const LARGEST: usize = 256 * 1024;

/// Where so many came at once more come while they are answered: worth a system call that may find
/// none, before the reactor is polled.
const BUSY: usize = 4;

/// Nanoseconds for which one datagram follows the other before timers and other descriptors are polled,
/// however many came with one system call.
const LONGEST: i64 = 40_000;

/// The distance between datagrams: not a power of two, which would put them all into the same few
/// sets of the processor's caches. (Only pages that were received into take up memory.)
const STRIDE: usize = LARGEST + 4096 + 64;

/// Room that is not in use; for as many as ever received at the same time.
#[expect(clippy::vec_box, reason = "they point into themselves")]
static SPARE: GilCell<Vec<Box<Batch>>> = GilCell::new(Vec::new());

fn new_batch() -> PyResult<Box<Batch>> {
    Ok(Batch::new(memory::zeros(STRIDE * AT_ONCE)?, STRIDE, LARGEST))
}

/// The reactor has an event for the socket.
///
/// # Safety
/// `slf` must be a datagram transport.
pub(super) unsafe fn ready(
    py: Python<'_>,
    event_loop: &NativeLoop,
    slf: &Py<PyAny>,
) -> PyResult<()> {
    let slf = slf.bind(py);
    // SAFETY: the caller's promise.
    let this = unsafe { class::state::<Datagram>(slf) };
    if !this.is_receiving(py) {
        return Ok(());
    }
    this.read_unless_delivering(|| {
        let result = this.read(py, event_loop);
        this.ask_for_more(py, event_loop);
        result
    })
}

impl Datagram {
    fn read(&self, py: Python<'_>, native: &NativeLoop) -> PyResult<()> {
        let until = if self.inbox.borrow().is_empty() { 0 } else { monotonic_nanos() + LONGEST };
        loop {
            // Apart from the match: the borrow must end before the protocol is called.
            let waiting = self.inbox.borrow_mut().pop_front();
            let Some((data, from)) = waiting else {
                break;
            };
            self.deliver(py, native, data.into_bound(py), &from)?;
            if !self.goes_on(py, native) || monotonic_nanos() >= until {
                return Ok(());
            }
        }
        // Ours for as long as the protocol is called: other threads' loops may receive meanwhile.
        let mut batch = match SPARE.with(py, Vec::pop) {
            Some(batch) => batch,
            None => new_batch()?,
        };
        let result = self.receive(py, native, &mut batch);
        SPARE.with(py, |spare| spare.push(batch));
        result
    }

    /// Takes what the kernel has, up to `AT_ONCE` datagrams, and delivers them.
    fn receive(&self, py: Python<'_>, native: &NativeLoop, batch: &mut Batch) -> PyResult<()> {
        let received = self.file.open(py).and_then(|fd| batch.receive(fd));
        let emptied = match &received {
            Ok(count) => *count < BUSY,
            // The program has put another file in the socket's place: no error of the network's, and the
            // reactor would report the readiness of the old file for ever.
            Err(error) if matches!(error.raw_os_error(), Some(libc::ENOTSOCK | libc::ENOTCONN)) => {
                true
            }
            Err(error) => error.kind() == io::ErrorKind::WouldBlock,
        };
        if emptied && let Some(registration) = &*self.registration.borrow() {
            registration.drained();
        }
        let count = match received {
            Ok(count) => count,
            Err(error) => {
                return match error.kind() {
                    io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted => Ok(()),
                    _ => self.error_received(py, native, &error),
                };
            }
        };
        let mut result = Ok(());
        let until = if count > 1 { monotonic_nanos() + LONGEST } else { 0 };
        for at in 0..count {
            // (Taken also if it is dropped: the batch must be as it was.)
            let (data, from) = batch.take(at);
            let data = match memory::bytes(py, data) {
                Ok(data) => data,
                // As if the network had lost this one.
                Err(error) => {
                    result = result.and(Err(error));
                    continue;
                }
            };
            if at == 0 || (result.is_ok() && self.goes_on(py, native) && monotonic_nanos() < until)
            {
                // Set where there is an error: to move a result takes a good part of the time that the core
                // has for a datagram.
                if let Err(error) = self.deliver(py, native, data, from) {
                    result = Err(error);
                }
            } else if self.lifecycle() == Lifecycle::Open && self.file.open(py).is_ok() {
                self.inbox.borrow_mut().push_back((data.unbind(), *from));
            }
        }
        result
    }

    /// Calls the protocol with a datagram.
    fn deliver<'py>(
        &self,
        py: Python<'py>,
        native: &NativeLoop,
        data: Bound<'py, PyBytes>,
        from: &SockAddr,
    ) -> PyResult<()> {
        let Some(protocol) = self.protocol.get(py) else {
            return Ok(());
        };
        let from = self.peer(py, from)?.into_bound(py);
        let data = data.into_any();
        let name = pyo3::intern!(py, "datagram_received");
        let arguments = [&data, &from];
        self.notify_protocol(native, &protocol, name, &arguments)
    }

    /// Whether the protocol wants datagrams, and the socket is open: asyncio gets no more events of a
    /// socket that the program has closed.
    fn is_receiving(&self, py: Python<'_>) -> bool {
        self.lifecycle() == Lifecycle::Open
            && !self.reading_paused.get()
            && self.file.open(py).is_ok()
    }

    /// Whether the next datagram may follow at once.
    fn goes_on(&self, py: Python<'_>, native: &NativeLoop) -> bool {
        self.is_receiving(py) && !native.others_wait(py)
    }

    /// Has the reactor notify the transport of the next datagrams.
    pub(super) fn ask_for_more(&self, py: Python<'_>, native: &NativeLoop) {
        if !self.is_receiving(py) {
            return;
        }
        let ready = match &*self.registration.borrow() {
            Some(registration) => {
                registration.arm(Direction::Read) || !self.inbox.borrow().is_empty()
            }
            None => false,
        };
        if ready {
            native.push(py, Entry::Io(self.key));
        }
    }

    /// The sender's address in Python's form; the same object for the same sender.
    fn peer(&self, py: Python<'_>, from: &SockAddr) -> PyResult<Py<PyAny>> {
        let known = self.peers.borrow_mut().find(py, from.as_bytes());
        if let Some(known) = known {
            return Ok(known);
        }
        let object = Address::new(py, from)?.to_object(py)?;
        let replaced = self.peers.borrow_mut().keep(from.as_bytes(), object.clone_ref(py));
        drop(replaced);
        Ok(object)
    }

    /// The kernel had an error instead of a datagram, such as a peer's refusal.
    #[cold]
    fn error_received(
        &self,
        py: Python<'_>,
        native: &NativeLoop,
        error: &io::Error,
    ) -> PyResult<()> {
        let Some(protocol) = self.protocol.get(py) else {
            return Ok(());
        };
        let error = os_error(py, error).into_value(py).into_bound(py).into_any();
        let name = pyo3::intern!(py, "error_received");
        self.notify_protocol(native, &protocol, name, &[&error])
    }
}
