//! Readiness of a descriptor, from the loop that runs.
//!
//! A direction is registered with the loop (`add_reader`, `add_writer`) only while someone waits for it and it is not
//! ready: the loop reports for as long as a descriptor stays ready, and would turn in circles. So the registration
//! goes with the first report, which stays noted until it is cleared.
//!
//! The loop's side is a [`Watcher`], which the loop's port keeps. Only letters and the loop's own calls reach the loop, so
//! an [`AsyncFd`] may be used and dropped in any thread. One that is registered is closed by a letter, because its number
//! must be the loop's until the registration is gone.

use std::io;
use std::mem::take;
use std::os::fd::{AsRawFd, RawFd};
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll, Waker};

use pyo3::intern;
use pyo3::prelude::*;

use super::errors::{io_error, loop_closed};
use super::tether::{Shared, Tether};
use crate::admission::admit;
use crate::errors::ends_loop;
use crate::python::finalizing;
use crate::python::imports::empty_context;
use crate::running::get_running_loop;
use crate::sys::fork::Mutex;

/// What to wait for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Interest {
    /// `loop.add_reader`.
    Readable,
    /// `loop.add_writer`.
    Writable,
}

impl Interest {
    const BOTH: [Self; 2] = [Self::Readable, Self::Writable];
}

/// A descriptor whose readiness comes from the loop that runs: as tokio's `AsyncFd`, on every loop that has
/// `add_reader`.
///
/// * The descriptor must not block.
/// * asyncio knows one reader and one writer a descriptor: registering another (`loop.add_reader`, `loop.sock_recv`,
///   another `AsyncFd`) for the same number takes the place of this one, which then waits for ever.
/// * A descriptor of a transport's is refused where the loop refuses it (`RuntimeError`, inside of the error).
/// * May be used and dropped in any thread. Drop ends the registration; the value in it, which mostly closes its
///   descriptor, is then dropped in the loop's thread, in its next iteration.
/// * When the loop is closed, waits end with [`NotConnected`](io::ErrorKind::NotConnected).
///
/// ```
/// use std::io::Read;
/// use std::os::unix::net::UnixStream;
///
/// use pyo3::prelude::*;
/// use tokioloop_bridge::{AsyncFd, Interest, future_into_py};
///
/// /// Reads from one end of a socket pair what was written to the other.
/// #[pyfunction]
/// fn echoed(py: Python<'_>) -> PyResult<Bound<'_, PyAny>> {
///     let (mut ours, theirs) = UnixStream::pair()?;
///     ours.set_nonblocking(true)?;
///     std::io::Write::write_all(&mut &theirs, b"hello")?;
///     let ours = AsyncFd::new(py, ours)?;
///     future_into_py(py, async move {
///         let mut buffer = [0; 16];
///         let read = |mut socket: &UnixStream| socket.read(&mut buffer);
///         let count = ours.async_io(Interest::Readable, read).await?;
///         Ok(count)
///     })
/// }
/// ```
pub struct AsyncFd<T: AsRawFd + Send + 'static> {
    /// None only while it is dropped.
    inner: Option<T>,
    watch: Arc<Watch>,
}

struct Watch {
    descriptor: RawFd,
    state: Mutex<State>,
    /// Set before anything else sees the watch.
    tether: OnceLock<Tether>,
}

#[derive(Default)]
struct State {
    directions: [Direction; 2],
    /// The loop's side is asked, and has not looked yet.
    asked: bool,
    closed: bool,
}

#[derive(Default)]
struct Direction {
    ready: bool,
    /// The loop is to be asked.
    wanted: bool,
    /// The loop has been asked.
    armed: bool,
    error: Option<io::Error>,
    waiting: Vec<Waker>,
}

fn wake_all(wakers: Vec<Waker>) {
    wakers.into_iter().for_each(Waker::wake);
}

impl Watch {
    fn ready(&self, interest: Interest) {
        let mut state = self.state.lock();
        let direction = &mut state.directions[interest as usize];
        direction.armed = false;
        direction.ready = true;
        let waiting = take(&mut direction.waiting);
        drop(state);
        wake_all(waiting);
    }

    fn fail(&self, interest: Interest, error: io::Error) {
        let mut state = self.state.lock();
        let direction = &mut state.directions[interest as usize];
        direction.armed = false;
        // Dropped without the lock: an error may own Python objects.
        let old = direction.error.replace(error);
        let waiting = take(&mut direction.waiting);
        drop(state);
        drop(old);
        wake_all(waiting);
    }

    /// Registers what is wanted.
    fn serve(self: &Arc<Self>, py: Python<'_>) -> PyResult<()> {
        for interest in Interest::BOTH {
            let mut state = self.state.lock();
            state.asked = false;
            let direction = &mut state.directions[interest as usize];
            let wanted = take(&mut direction.wanted) && !direction.armed;
            direction.armed |= wanted;
            drop(state);
            if !wanted {
                continue;
            }
            if let Err(error) = self.register(py, interest) {
                let fatal = ends_loop(py, &error).then(|| error.clone_ref(py));
                self.fail(interest, io_error(py, error));
                fatal.map_or(Ok(()), Err)?;
            }
        }
        Ok(())
    }

    fn register(self: &Arc<Self>, py: Python<'_>, interest: Interest) -> PyResult<()> {
        let event_loop = get_running_loop(py)?;
        let add = match interest {
            Interest::Readable => event_loop.getattr(intern!(py, "add_reader"))?,
            Interest::Writable => event_loop.getattr(intern!(py, "add_writer"))?,
        };
        let report = Bound::new(py, Report { watch: Arc::clone(self), interest })?;
        // The context that is current would be kept for the call, which needs none.
        let context = empty_context(py)?;
        context.call_method1(intern!(py, "run"), (add, self.descriptor, report)).map(drop)
    }

    fn unregister(&self, py: Python<'_>, interest: Interest) -> PyResult<()> {
        let event_loop = get_running_loop(py)?;
        let removed = match interest {
            Interest::Readable => {
                event_loop.call_method1(intern!(py, "remove_reader"), (self.descriptor,))
            }
            Interest::Writable => {
                event_loop.call_method1(intern!(py, "remove_writer"), (self.descriptor,))
            }
        };
        removed.map(drop)
    }

    /// Ends the registrations, in the loop's thread.
    fn end(&self, py: Python<'_>) -> PyResult<()> {
        let mut result = Ok(());
        for interest in Interest::BOTH {
            let armed = take(&mut self.state.lock().directions[interest as usize].armed);
            if armed {
                result = result.and(self.unregister(py, interest));
            }
        }
        if let Some(tether) = self.tether.get() {
            tether.release(py);
        }
        result
    }
}

impl Shared for Watch {
    fn orphaned(&self) {
        let mut state = self.state.lock();
        state.closed = true;
        let [read, write] = &mut state.directions;
        let waiting = [take(&mut read.waiting), take(&mut write.waiting)];
        drop(state);
        waiting.into_iter().for_each(wake_all);
    }
}

/// What the loop's port keeps.
#[pyclass(frozen, module = "tokioloop_bridge")]
struct Watcher(Arc<Watch>);

/// What the loop calls when the descriptor is ready.
#[pyclass(frozen, module = "tokioloop_bridge")]
struct Report {
    watch: Arc<Watch>,
    interest: Interest,
}

#[pymethods]
impl Report {
    fn __call__(&self, py: Python<'_>) -> PyResult<()> {
        finalizing::guard();
        let removed = self.watch.unregister(py, self.interest);
        self.watch.ready(self.interest);
        removed
    }
}

impl<T: AsRawFd + Send + 'static> AsyncFd<T> {
    /// Notes the descriptor for the loop that runs in this thread, which is asked at the first wait.
    ///
    /// Raises `RuntimeError` if no loop runs in this thread.
    pub fn new(py: Python<'_>, inner: T) -> PyResult<Self> {
        admit(py)?;
        let event_loop = get_running_loop(py)?;
        let watch = Arc::new(Watch {
            descriptor: inner.as_raw_fd(),
            state: Mutex::new(State::default()),
            tether: OnceLock::new(),
        });
        let watcher = Bound::new(py, Watcher(Arc::clone(&watch)))?;
        let serve = |object: &Bound<'_, PyAny>| match object.cast::<Watcher>() {
            Ok(watcher) => watcher.get().0.serve(object.py()),
            Err(_) => Ok(()),
        };
        let shared = Arc::clone(&watch) as Arc<dyn Shared>;
        let tether = Tether::new(&event_loop, watcher.as_any(), serve, shared)?;
        let _ = watch.tether.set(tether);
        Ok(Self { inner: Some(inner), watch })
    }

    /// The value that was given.
    ///
    /// # Panics
    /// Never: it is there until this is dropped.
    pub fn get_ref(&self) -> &T {
        self.inner.as_ref().expect("there until it is dropped")
    }

    /// Ready when the descriptor is, or has been since that was last cleared; or with what the loop raised.
    pub fn poll_ready(
        &self,
        context: &mut Context<'_>,
        interest: Interest,
    ) -> Poll<io::Result<AsyncFdReadyGuard<'_, T>>> {
        let waker = context.waker().clone();
        let mut state = self.watch.state.lock();
        let closed = state.closed;
        let direction = &mut state.directions[interest as usize];
        if let Some(error) = direction.error.take() {
            return Poll::Ready(Err(error));
        }
        if direction.ready {
            return Poll::Ready(Ok(AsyncFdReadyGuard { descriptor: self, interest }));
        }
        if closed {
            return Poll::Ready(Err(loop_closed()));
        }
        let known = direction.waiting.iter_mut().find(|it| it.will_wake(&waker));
        if known.is_none() {
            direction.waiting.push(waker);
        }
        direction.wanted |= !direction.armed;
        let ask = direction.wanted && !state.asked;
        state.asked |= ask;
        drop(state);
        if ask && let Some(tether) = self.watch.tether.get() {
            tether.ask_or_serve().map_err(io::Error::other)?;
        }
        Poll::Pending
    }

    /// Waits until the descriptor is ready.
    pub async fn ready(&self, interest: Interest) -> io::Result<AsyncFdReadyGuard<'_, T>> {
        std::future::poll_fn(|context| self.poll_ready(context, interest)).await
    }

    /// Waits until the descriptor can be read from.
    pub async fn readable(&self) -> io::Result<AsyncFdReadyGuard<'_, T>> {
        self.ready(Interest::Readable).await
    }

    /// Waits until the descriptor can be written to.
    pub async fn writable(&self) -> io::Result<AsyncFdReadyGuard<'_, T>> {
        self.ready(Interest::Writable).await
    }

    /// Calls `io` each time the descriptor is ready, until it does not fail with
    /// [`WouldBlock`](io::ErrorKind::WouldBlock).
    pub async fn async_io<R>(
        &self,
        interest: Interest,
        mut io: impl FnMut(&T) -> io::Result<R>,
    ) -> io::Result<R> {
        loop {
            let mut guard = self.ready(interest).await?;
            if let Ok(result) = guard.try_io(|it| io(it.get_ref())) {
                return result;
            }
        }
    }

    /// Calls `io` now. If it fails with [`WouldBlock`](io::ErrorKind::WouldBlock) the descriptor counts as not ready.
    pub fn try_io<R>(
        &self,
        interest: Interest,
        io: impl FnOnce(&T) -> io::Result<R>,
    ) -> io::Result<R> {
        let mut guard = AsyncFdReadyGuard { descriptor: self, interest };
        guard
            .try_io(|it| io(it.get_ref()))
            .unwrap_or_else(|_| Err(io::ErrorKind::WouldBlock.into()))
    }
}

impl<T: AsRawFd + Send + 'static> AsRawFd for AsyncFd<T> {
    fn as_raw_fd(&self) -> RawFd {
        self.watch.descriptor
    }
}

impl<T: AsRawFd + Send + 'static> Drop for AsyncFd<T> {
    fn drop(&mut self) {
        let inner = self.inner.take();
        let mut state = self.watch.state.lock();
        let [read, write] = &mut state.directions;
        // From now on nothing is registered that is not yet.
        read.wanted = false;
        write.wanted = false;
        let armed = read.armed || write.armed;
        let waiting = [take(&mut read.waiting), take(&mut write.waiting)];
        drop(state);
        drop(waiting);
        let (registered, unregistered) = if armed { (inner, None) } else { (None, inner) };
        drop(unregistered);
        let watch = Arc::clone(&self.watch);
        if let Some(tether) = self.watch.tether.get() {
            tether.post(move |py| {
                let ended = watch.end(py);
                drop(registered);
                ended
            });
        }
    }
}

/// A descriptor that was found to be ready. Whoever then finds that it is not says so by
/// [`clear_ready`](Self::clear_ready), or lets [`try_io`](Self::try_io) find out: else the next wait is over at once.
pub struct AsyncFdReadyGuard<'a, T: AsRawFd + Send + 'static> {
    descriptor: &'a AsyncFd<T>,
    interest: Interest,
}

/// The operation would have blocked, and the descriptor counts as not ready.
#[derive(Debug)]
pub struct TryIoError(());

impl std::fmt::Display for TryIoError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("the descriptor is not ready")
    }
}

impl std::error::Error for TryIoError {}

impl<'a, T: AsRawFd + Send + 'static> AsyncFdReadyGuard<'a, T> {
    /// From now on the descriptor counts as not ready.
    pub fn clear_ready(&mut self) {
        let mut state = self.descriptor.watch.state.lock();
        state.directions[self.interest as usize].ready = false;
    }

    /// The descriptor stays ready: what happens without this call, too.
    pub fn retain_ready(&mut self) {}

    /// The descriptor.
    pub fn get_ref(&self) -> &'a AsyncFd<T> {
        self.descriptor
    }

    /// Calls `io`; `Err` if that failed with [`WouldBlock`](io::ErrorKind::WouldBlock), which clears the readiness.
    pub fn try_io<R>(
        &mut self,
        io: impl FnOnce(&AsyncFd<T>) -> io::Result<R>,
    ) -> Result<io::Result<R>, TryIoError> {
        match io(self.descriptor) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                self.clear_ready();
                Err(TryIoError(()))
            }
            result => Ok(result),
        }
    }
}
