//! What watches a child, and reaps it.
//!
//! The code that reaps a child and the code that signals it must agree on whether it was reaped:
//! otherwise a signal could reach another process that got the same number. So both use a descriptor
//! that stands for the child (a pidfd), in the loop's thread, and the child is reaped under the lock that
//! `Popen.wait()` itself takes.
//!
//! # Who owns what
//!
//! - A watcher that has such a descriptor owns it until the child is reaped, or the watcher is dropped. The
//!   loop's table of users' descriptors holds the watcher as long, unless the loop is closed before.
//! - A watcher without one reaps by the child's number, when a thread has seen the child end.
//! - The descriptor is watched beside those of `add_reader`, the one that tells of signals among them: the
//!   kernel reports a child's end before it sends SIGCHLD, whose handler may be one that reaps every child.
//! - `transport` and `process` are let go of once the transport was told of the end.

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};

use pyo3::exceptions::{PyMemoryError, PyOSError};
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::PyString;
use pyo3::{PyTraverseError, PyVisit};

use crate::driver::fork;
use crate::driver::reactor::Direction;
use crate::driver::sys::{Child, process};
use crate::event_loop::handles::{Call, Handle};
use crate::event_loop::{LoopSlot, NativeLoop, ends_loop, watching};
use crate::ffi::errors::os_error;
use crate::ffi::finalizing;
use crate::ffi::futures::wake_unless_done;
use crate::ffi::gil::{GilCell, GilFlag, PySlot};
use crate::ffi::memory;

/// What a child's end needs of Python. Made with the module: at an end there may be no memory for it.
struct Names {
    os: Py<PyModule>,
    pidfd_open: Py<PyString>,
    pid: Py<PyString>,
    lock: Py<PyString>,
    acquire: Py<PyString>,
    release: Py<PyString>,
    returncode: Py<PyString>,
    call_soon: Py<PyString>,
    ended: Py<PyString>,
    process_exited: Py<PyString>,
    status_taken: Py<PyString>,
    watch_in_thread: Py<PyString>,
}

static NAMES: PyOnceLock<Names> = PyOnceLock::new();

fn names(py: Python<'_>) -> PyResult<&Names> {
    NAMES.get_or_try_init(py, || {
        let name = |text| PyString::intern(py, text).unbind();
        Ok(Names {
            os: py.import("os")?.unbind(),
            pidfd_open: name("pidfd_open"),
            pid: name("pid"),
            lock: name("_waitpid_lock"),
            acquire: name("acquire"),
            release: name("release"),
            returncode: name("returncode"),
            call_soon: name("call_soon"),
            ended: name("ended"),
            process_exited: name("_process_exited"),
            status_taken: name("_status_taken"),
            watch_in_thread: name("_watch_in_thread"),
        })
    })
}

/// Called with the module.
pub(super) fn prepare(py: Python<'_>) -> PyResult<()> {
    names(py).map(drop)
}

/// After so many errors on the way to the transport the end is told of without `Popen`, which may be what
/// fails; and after so many more not at all.
const WITHOUT_POPEN: u8 = 2;
const GIVEN_UP: u8 = 5;

/// Hears of a child's end, reaps it and tells its transport.
#[pyclass(frozen, module = "tokioloop._core")]
pub(crate) struct ChildWatcher {
    /// What stands for the child.
    descriptor: GilCell<Option<OwnedFd>>,
    event_loop: LoopSlot,
    transport: PySlot,
    number: i32,
    /// The child's `subprocess.Popen`.
    process: PySlot,
    /// The exit status of a child that was reaped, which `Popen` may not have yet.
    status: GilFlag<Option<i32>>,
    /// In a forked process the child is another's.
    forks: u32,
    /// Errors on the way to the transport.
    errors: GilFlag<u8>,
    /// A future that is done once the transport knows of the end.
    reaped: PySlot,
}

impl Drop for ChildWatcher {
    fn drop(&mut self) {
        // Before the fields, whose destructors may run Python code.
        finalizing::guard();
    }
}

/// The descriptor that stands for a child; `None` where there are none: the kernel has no pidfds,
/// forbids them or cannot wait through them, or this process has no descriptors left. Or other code has
/// reaped the child already, and another process may have its number.
fn descriptor_of(number: &Bound<'_, PyAny>) -> PyResult<Option<OwnedFd>> {
    let py = number.py();
    let names = names(py)?;
    let Some(open) = names.os.bind(py).getattr_opt(&names.pidfd_open)? else { return Ok(None) };
    let opened = match open.call1((number,)) {
        Ok(opened) => opened.extract::<RawFd>(),
        Err(error) if error.is_instance_of::<PyOSError>(py) => return Ok(None),
        Err(error) => return Err(error),
    };
    let Some(opened) = opened.ok().filter(|opened| *opened >= 0) else { return Ok(None) };
    // SAFETY: not negative, and made for this caller, who owns it.
    let descriptor = unsafe { OwnedFd::from_raw_fd(opened) };
    Ok(process::can_reap(Child::Descriptor(descriptor.as_raw_fd())).is_ok().then_some(descriptor))
}

impl ChildWatcher {
    /// Begins to watch a child. Without a descriptor `ended` has to be called when it is dead.
    pub(super) fn start<'py>(
        py: Python<'py>,
        event_loop: &NativeLoop,
        transport: Bound<'py, PyAny>,
        process: Bound<'py, PyAny>,
    ) -> PyResult<Bound<'py, Self>> {
        let number = process.getattr(&names(py)?.pid)?;
        let descriptor = descriptor_of(&number)?;
        let watcher = Bound::new(
            py,
            Self {
                descriptor: GilCell::new(None),
                event_loop: LoopSlot::new(py, event_loop),
                transport: PySlot::new(transport.unbind()),
                number: number.extract()?,
                process: PySlot::new(process.unbind()),
                status: GilFlag::new(None),
                forks: fork::count(),
                errors: GilFlag::new(0),
                reaped: PySlot::empty(),
            },
        )?;
        if let Some(descriptor) = descriptor {
            Self::watch(&watcher, event_loop, descriptor)?;
        }
        Ok(watcher)
    }

    /// Has the loop watch the child through a descriptor, unless the kernel's limits forbid it.
    fn watch(slf: &Bound<'_, Self>, event_loop: &NativeLoop, descriptor: OwnedFd) -> PyResult<()> {
        let (py, this) = (slf.py(), slf.get());
        let ended = slf.getattr(&names(py)?.ended)?;
        let call = Call { callback: ended.as_borrowed(), args: &[], context: None };
        let handle = Handle::new(py, event_loop, &call)?;
        match watching::add(py, event_loop, descriptor.as_raw_fd(), Direction::Read, handle) {
            Ok(()) => this.descriptor.with(py, |slot| *slot = Some(descriptor)),
            Err(error) if error.is_instance_of::<PyOSError>(py) => {}
            Err(error) => return Err(error),
        }
        Ok(())
    }

    /// The end is there to be heard of in the next iteration, if there is a descriptor.
    fn failed(&self, py: Python<'_>, event_loop: &NativeLoop, error: PyErr) -> PyResult<()> {
        let transport = self.transport.get(py);
        if !ends_loop(py, &error) && !error.is_instance_of::<PyMemoryError>(py) {
            self.errors.set(py, self.errors.get(py) + 1);
        }
        if self.errors.get(py) >= GIVEN_UP {
            self.stop(py, event_loop)?;
        }
        let about = transport.as_ref().map(|transport| ("transport", transport));
        event_loop.report(py, "Exception at the end of a child process", error, about.as_slice())
    }

    /// Reaps the child and tells the transport.
    fn end(&self, py: Python<'_>, event_loop: &NativeLoop) -> PyResult<()> {
        let Some(transport) = self.transport.get(py) else { return Ok(()) };
        let names = names(py)?;
        let Some(status) = self.reap_child(py)? else {
            // A debugger traces the child and gets its status first. The descriptor does not show when it
            // has done so; a wait does.
            transport.call_method0(&names.watch_in_thread)?;
            return self.stop(py, event_loop);
        };
        // After the data that its pipes have in this iteration.
        let told = transport.getattr(&names.process_exited)?;
        event_loop.bind(py).call_method1(&names.call_soon, (told, status))?;
        self.transport.set(py, None);
        self.process.set(py, None);
        let stopped = self.stop(py, event_loop);
        let woken = match self.reaped.take(py) {
            Some(reaped) => wake_unless_done(reaped.bind(py), None),
            None => Ok(()),
        };
        stopped.and(woken)
    }

    /// The exit status of a child that has ended, which `Popen` has from here on; `None` if it cannot be
    /// had yet.
    fn reap_child<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyAny>>> {
        let Some(process) = self.process.get(py) else { return Ok(None) };
        if self.forks != fork::count() {
            // Nor is there the thread that may have had the lock.
            return self.status_taken(py).map(Some);
        }
        if self.errors.get(py) >= WITHOUT_POPEN {
            return self.take_status(py);
        }
        // A thread that is in `Popen.wait()` holds the lock until the child is dead, which it is, and sets
        // `returncode` before it releases it.
        self.look(&process, true)
    }

    /// Reaps the child if it is dead, under the lock of `Popen`, and gives its exit status.
    fn look<'py>(
        &self,
        process: &Bound<'py, PyAny>,
        blocking: bool,
    ) -> PyResult<Option<Bound<'py, PyAny>>> {
        let names = names(process.py())?;
        let lock = process.getattr(&names.lock)?;
        if !lock.call_method1(&names.acquire, (blocking,))?.is_truthy()? {
            return Ok(None);
        }
        let status = self.reap_for(process);
        let released = lock.call_method0(&names.release);
        status.and_then(|status| released.map(|_none| status))
    }

    fn reap_for<'py>(&self, process: &Bound<'py, PyAny>) -> PyResult<Option<Bound<'py, PyAny>>> {
        let py = process.py();
        let names = names(py)?;
        let known = process.getattr(&names.returncode)?;
        if !known.is_none() {
            return Ok(Some(known));
        }
        let status = self.take_status(py)?;
        if let Some(status) = &status {
            process.setattr(&names.returncode, status)?;
        }
        Ok(status)
    }

    fn take_status<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyAny>>> {
        match self.ask_kernel(py) {
            Ok(None) => Ok(None),
            // There may be no memory for the number now. It is not asked for twice.
            Ok(Some(status)) => {
                self.status.set(py, Some(status));
                memory::integer(py, status).map(Some)
            }
            Err(error) if error.raw_os_error() == Some(libc::ECHILD) => {
                self.status_taken(py).map(Some)
            }
            Err(error) => Err(os_error(py, &error)),
        }
    }

    /// What is told of a child that other code has reaped.
    fn status_taken<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        match self.transport.get(py) {
            Some(transport) => transport.call_method0(&names(py)?.status_taken),
            None => Ok(py.None().into_bound(py)),
        }
    }

    /// The exit status of a dead child.
    fn ask_kernel(&self, py: Python<'_>) -> io::Result<Option<i32>> {
        if let Some(status) = self.status.get(py) {
            return Ok(Some(status));
        }
        process::reap(match self.pidfd(py) {
            Some(descriptor) => Child::Descriptor(descriptor),
            None => Child::Number(self.number),
        })
    }

    fn pidfd(&self, py: Python<'_>) -> Option<RawFd> {
        self.descriptor.with(py, |descriptor| descriptor.as_ref().map(AsRawFd::as_raw_fd))
    }

    /// Closes the descriptor.
    fn stop(&self, py: Python<'_>, event_loop: &NativeLoop) -> PyResult<()> {
        let Some(descriptor) = self.descriptor.take(py) else { return Ok(()) };
        let removed = watching::remove(py, event_loop, descriptor.as_raw_fd(), Direction::Read);
        drop(descriptor);
        removed.map(drop)
    }
}

#[pymethods]
impl ChildWatcher {
    /// Reap the child and tell its transport.
    ///
    /// Call it in the loop's thread and the child's context, once the child is dead. asyncio's
    /// transports are told by a callback of ``loop.call_soon``, and have the exit status as
    /// ``Popen.returncode`` before.
    fn ended(slf: &Bound<'_, Self>) -> PyResult<()> {
        finalizing::guard();
        let (py, this) = (slf.py(), slf.get());
        match this.event_loop.get(py) {
            Some(event_loop) => {
                this.end(py, &event_loop).or_else(|error| this.failed(py, &event_loop, error))
            }
            None => Ok(()),
        }
    }

    /// Reap the child if it is dead, unless another thread is waiting for it.
    fn reap(&self, py: Python<'_>) -> PyResult<()> {
        finalizing::guard();
        match self.process.get(py) {
            Some(process) if self.forks == fork::count() => self.look(&process, false).map(drop),
            _ => Ok(()),
        }
    }

    /// Return the pidfd, -1 if there is none, or not any more.
    fn fileno(&self, py: Python<'_>) -> RawFd {
        finalizing::guard();
        self.pidfd(py).unwrap_or(-1)
    }

    /// Have a future set once the transport was told of the end.
    ///
    /// Return False if it was told already.
    fn notify(&self, py: Python<'_>, reaped: Bound<'_, PyAny>) -> bool {
        finalizing::guard();
        let coming = self.transport.is_set(py);
        if coming {
            self.reaped.set(py, Some(reaped.unbind()));
        }
        coming
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        self.event_loop.slot().traverse(&visit)?;
        self.transport.traverse(&visit)?;
        self.process.traverse(&visit)?;
        self.reaped.traverse(&visit)
    }

    fn __clear__(slf: &Bound<'_, Self>) {
        finalizing::guard();
        let (py, this) = (slf.py(), slf.get());
        this.event_loop.slot().set(py, None);
        this.transport.set(py, None);
        this.process.set(py, None);
        this.reaped.set(py, None);
    }
}
