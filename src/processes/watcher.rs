//! What watches a child, and reaps it.
//!
//! The code that reaps a child and the code that signals it must agree on whether it was reaped:
//! otherwise a signal could reach another process that got the same number. So both use a descriptor
//! that stands for the child (a pidfd), in the loop's thread, and the child is reaped under the lock that
//! `Popen.wait()` itself takes.
//!
//! # Who owns what
//!
//! - A watcher that has such a descriptor owns it, with its registration and its key, until the child is
//!   reaped or the loop is closed. The loop's table holds the watcher as long.
//! - A watcher without one reaps by the child's number, when a thread has seen the child end.
//! - `transport` and `process` are let go of once the transport was told of the end.

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::sync::Arc;

use pyo3::exceptions::PyOSError;
use pyo3::prelude::*;
use pyo3::{PyTraverseError, PyVisit, ffi, intern};

use crate::driver::reactor::{Direction, Key, Reactor, Registration};
use crate::driver::sys::{Child, process};
use crate::event_loop::{Entry, LoopSlot, NativeLoop, Source, SourceVTable};
use crate::ffi::contexts::within;
use crate::ffi::errors::os_error;
use crate::ffi::finalizing;
use crate::ffi::futures::wake_unless_done;
use crate::ffi::gil::{GilCell, GilFlag, PySlot};
use crate::ffi::memory;
use crate::ffi::object;

/// A descriptor that stands for a child. The registration is dropped first.
struct Watched {
    registration: Registration,
    descriptor: OwnedFd,
    /// Of the loop's table.
    key: Key,
}

/// Hears of a child's end, reaps it and tells its transport.
#[pyclass(frozen, module = "tokioloop._core")]
pub(crate) struct ChildWatcher {
    watched: GilCell<Option<Watched>>,
    event_loop: LoopSlot,
    transport: PySlot,
    number: i32,
    /// The child's `subprocess.Popen`.
    process: PySlot,
    /// The exit status of a child that was reaped, which `Popen` may not have yet.
    status: GilFlag<Option<i32>>,
    /// The protocol hears of the end in the context that the child was started in.
    context: PySlot,
    /// A future that is done once the transport knows of the end.
    reaped: PySlot,
}

impl Drop for ChildWatcher {
    fn drop(&mut self) {
        // Before the fields, whose destructors may run Python code.
        finalizing::guard();
    }
}

/// What the loop calls for watchers.
static VTABLE: SourceVTable = SourceVTable {
    ready: |py, event_loop, slf| slf.cast_bound::<ChildWatcher>(py)?.get().ready(py, event_loop),
    move_to: |py, event_loop, slf, reactor| {
        slf.cast_bound::<ChildWatcher>(py)?.get().move_to(py, event_loop, reactor)
    },
    detach: |py, slf| {
        if let Ok(watcher) = slf.cast_bound::<ChildWatcher>(py) {
            drop(watcher.get().watched.take(py));
        }
    },
};

/// The descriptor that stands for a child; `None` where there are none: the kernel has no pidfds,
/// forbids them or cannot wait through them, or this process has no descriptors left. Or other code has
/// reaped the child already, and another process may have its number.
fn descriptor_of(number: &Bound<'_, PyAny>) -> PyResult<Option<OwnedFd>> {
    let py = number.py();
    let os = py.import(intern!(py, "os"))?;
    let Some(open) = os.getattr_opt(intern!(py, "pidfd_open"))? else { return Ok(None) };
    let opened = match open.call1((number,)) {
        Ok(opened) => opened.extract::<RawFd>()?,
        Err(error) if error.is_instance_of::<PyOSError>(py) => return Ok(None),
        Err(error) => return Err(error),
    };
    if opened < 0 {
        return Ok(None);
    }
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
        // SAFETY: the GIL is held; a new reference or null with an exception set.
        let context = unsafe { object::owned(py, ffi::PyContext_CopyCurrent())? };
        let number = process.getattr(intern!(py, "pid"))?;
        let descriptor = descriptor_of(&number)?;
        let watcher = Bound::new(
            py,
            Self {
                watched: GilCell::new(None),
                event_loop: LoopSlot::new(py, event_loop),
                transport: PySlot::new(transport.unbind()),
                number: number.extract()?,
                process: PySlot::new(process.unbind()),
                status: GilFlag::new(None),
                context: PySlot::new(context.unbind()),
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
        let reactor = event_loop.reactor(py)?;
        let source = Source::Object(slf.clone().into_any().unbind(), &VTABLE);
        let key = event_loop.sources().with(py, |sources| sources.insert(source));
        if let Ok(registration) = reactor.register_for_reading(descriptor.as_raw_fd(), key) {
            let watched = Watched { registration, descriptor, key };
            this.watched.with(py, |slot| *slot = Some(watched));
            this.arm(py, event_loop);
        } else {
            drop(event_loop.sources().with(py, |sources| sources.remove(key)));
        }
        Ok(())
    }

    fn arm(&self, py: Python<'_>, event_loop: &NativeLoop) {
        let dead = self.watched.with(py, |watched| {
            watched.as_ref().and_then(|it| it.registration.arm(Direction::Read).then_some(it.key))
        });
        if let Some(key) = dead {
            event_loop.push(py, Entry::Io(key));
        }
    }

    /// The descriptor reports the child's end.
    fn ready(&self, py: Python<'_>, event_loop: &NativeLoop) -> PyResult<()> {
        self.end(py, event_loop).or_else(|error| {
            // The event comes once: the end is there to be heard of in the next iteration.
            self.arm(py, event_loop);
            let transport = self.transport.get(py);
            let about = transport.as_ref().map(|transport| ("transport", transport));
            event_loop.report(
                py,
                "Exception at the end of a child process",
                error,
                about.as_slice(),
            )
        })
    }

    /// Reaps the child and tells the transport, in the child's context.
    fn end(&self, py: Python<'_>, event_loop: &NativeLoop) -> PyResult<()> {
        let (Some(transport), Some(context)) = (self.transport.get(py), self.context.get(py))
        else {
            return Ok(());
        };
        within(&context, || {
            let Some(status) = self.reap_child(py, true)? else {
                // A debugger traces the child and gets its status first. The descriptor does not show
                // when it has done so; a wait does.
                transport.call_method0(intern!(py, "_watch_in_thread"))?;
                self.stop(py, event_loop);
                return Ok(());
            };
            // After the data that its pipes have in this iteration.
            let told = transport.getattr(intern!(py, "_process_exited"))?;
            event_loop.bind(py).call_method1(intern!(py, "call_soon"), (told, status))?;
            self.stop(py, event_loop);
            self.transport.set(py, None);
            self.process.set(py, None);
            match self.reaped.take(py) {
                Some(reaped) => wake_unless_done(reaped.bind(py), None),
                None => Ok(()),
            }
        })
    }

    /// The exit status of a dead child, which `Popen` has from here on; `None` if it is alive.
    ///
    /// A thread in `Popen.wait()` holds the lock until the child is dead, and sets `returncode` before
    /// it releases it. For a child that may be alive, do not block on it.
    fn reap_child<'py>(
        &self,
        py: Python<'py>,
        blocking: bool,
    ) -> PyResult<Option<Bound<'py, PyAny>>> {
        let Some(process) = self.process.get(py) else { return Ok(None) };
        let lock = process.getattr(intern!(py, "_waitpid_lock"))?;
        if !lock.call_method1(intern!(py, "acquire"), (blocking,))?.is_truthy()? {
            return Ok(None);
        }
        let status = self.reap_locked(&process);
        let released = lock.call_method0(intern!(py, "release"));
        status.and_then(|status| released.map(|_none| status))
    }

    fn reap_locked<'py>(&self, process: &Bound<'py, PyAny>) -> PyResult<Option<Bound<'py, PyAny>>> {
        let py = process.py();
        let known = process.getattr(intern!(py, "returncode"))?;
        if !known.is_none() {
            return Ok(Some(known));
        }
        let status = match self.ask_kernel(py) {
            Ok(None) => return Ok(None),
            // There may be no memory for the number now. It is not asked for twice.
            Ok(Some(status)) => {
                self.status.set(py, Some(status));
                memory::integer(py, status)?
            }
            Err(error) if error.raw_os_error() == Some(libc::ECHILD) => {
                let Some(transport) = self.transport.get(py) else { return Ok(None) };
                transport.call_method0(intern!(py, "_status_taken"))?
            }
            Err(error) => return Err(os_error(py, &error)),
        };
        process.setattr(intern!(py, "returncode"), &status)?;
        Ok(Some(status))
    }

    /// The exit status of a dead child.
    fn ask_kernel(&self, py: Python<'_>) -> io::Result<Option<i32>> {
        if let Some(status) = self.status.get(py) {
            return Ok(Some(status));
        }
        process::reap(match self.descriptor(py) {
            Some(descriptor) => Child::Descriptor(descriptor),
            None => Child::Number(self.number),
        })
    }

    fn descriptor(&self, py: Python<'_>) -> Option<RawFd> {
        self.watched.with(py, |watched| watched.as_ref().map(|it| it.descriptor.as_raw_fd()))
    }

    /// Closes the descriptor.
    fn stop(&self, py: Python<'_>, event_loop: &NativeLoop) {
        if let Some(watched) = self.watched.take(py) {
            let source = event_loop.sources().with(py, |sources| sources.remove(watched.key));
            drop(watched);
            drop(source);
        }
    }

    /// After a fork: a registration with the child's own reactor.
    fn move_to(
        &self,
        py: Python<'_>,
        event_loop: &NativeLoop,
        reactor: &Arc<Reactor>,
    ) -> PyResult<()> {
        let Some(Watched { registration, descriptor, key }) = self.watched.take(py) else {
            return Ok(());
        };
        // The parent's.
        drop(registration);
        let registered = reactor.register_for_reading(descriptor.as_raw_fd(), key);
        let registration = registered.map_err(|error: io::Error| os_error(py, &error))?;
        let watched = Watched { registration, descriptor, key };
        self.watched.with(py, |slot| *slot = Some(watched));
        self.arm(py, event_loop);
        Ok(())
    }
}

#[pymethods]
impl ChildWatcher {
    /// Reap the child and tell its transport.
    ///
    /// Call it in the loop's thread, once the child is dead. asyncio's transports are told by a
    /// callback of ``loop.call_soon``, and have the exit status as ``Popen.returncode`` before.
    fn ended(slf: &Bound<'_, Self>) -> PyResult<()> {
        finalizing::guard();
        let (py, this) = (slf.py(), slf.get());
        match this.event_loop.get(py) {
            Some(event_loop) => this.end(py, &event_loop),
            None => Ok(()),
        }
    }

    /// Reap the child if it is dead, unless another thread is waiting for it.
    fn reap(&self, py: Python<'_>) -> PyResult<()> {
        finalizing::guard();
        self.reap_child(py, false).map(drop)
    }

    /// Return the pidfd, -1 if there is none, or not any more.
    fn fileno(&self, py: Python<'_>) -> RawFd {
        finalizing::guard();
        self.descriptor(py).unwrap_or(-1)
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
        self.context.traverse(&visit)?;
        self.reaped.traverse(&visit)
    }

    fn __clear__(slf: &Bound<'_, Self>) {
        finalizing::guard();
        let (py, this) = (slf.py(), slf.get());
        this.event_loop.slot().set(py, None);
        this.transport.set(py, None);
        this.process.set(py, None);
        this.context.set(py, None);
        this.reaped.set(py, None);
    }
}
