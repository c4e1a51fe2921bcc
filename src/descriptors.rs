//! Descriptors that the user owns: `add_reader`, `add_writer`, and sockets that `sock_*` wait on.
//!
//! They live in an epoll instance of their own, which the reactor watches as one source. The
//! reactor is edge-triggered and must be told before a descriptor closes; a selector's users rely
//! on level triggering, close descriptors without a word, and get new ones of the same number.
//! The kernel forgets a closed descriptor by itself here, as it does under asyncio's selector.

use std::collections::hash_map::Entry as MapEntry;
use std::collections::{HashMap, VecDeque};
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};

use pyo3::prelude::*;
use pyo3::{PyTraverseError, PyVisit};

use crate::errors::{check, os_error};
use crate::event_loop::{Entry, NativeLoop};
use crate::handles::Handle;
use crate::reactor::{Direction, Registration};
use crate::sources::Source;

const READ: u32 = libc::EPOLLIN as u32;
const WRITE: u32 = libc::EPOLLOUT as u32;
/// For waits of `sock_*`: one event, then silence without another system call.
const ONCE: u32 = libc::EPOLLONESHOT as u32;
const EVENTS_A_LOOK: usize = 256;

#[derive(Default)]
pub struct Descriptors {
    epoll: Option<Epoll>,
    watched: HashMap<RawFd, Watched>,
    /// The instance may have events that nobody collected yet.
    pending: bool,
}

#[derive(Default)]
struct Watched {
    reader: Option<Handle>,
    writer: Option<Handle>,
    receiving: VecDeque<Waiter>,
    sending: VecDeque<Waiter>,
    /// What the kernel was asked for last; 0 once a `ONCE` was delivered.
    armed: u32,
    /// The kernel was told of this descriptor (and may have forgotten it since).
    known: bool,
}

impl Watched {
    fn wanted(&self) -> u32 {
        let mut mask = 0;
        if self.reader.is_some() || !self.receiving.is_empty() {
            mask |= READ;
        }
        if self.writer.is_some() || !self.sending.is_empty() {
            mask |= WRITE;
        }
        if mask != 0 && self.reader.is_none() && self.writer.is_none() {
            mask |= ONCE;
        }
        mask
    }

    fn handle(&mut self, direction: Direction) -> &mut Option<Handle> {
        match direction {
            Direction::Read => &mut self.reader,
            Direction::Write => &mut self.writer,
        }
    }

    fn waiters(&mut self, direction: Direction) -> &mut VecDeque<Waiter> {
        match direction {
            Direction::Read => &mut self.receiving,
            Direction::Write => &mut self.sending,
        }
    }
}

/// Something that tries again when its descriptor is ready.
pub struct Waiter {
    pub object: Py<PyAny>,
    /// `true`: finished, one way or the other.
    pub retry: fn(Python<'_>, &Py<PyAny>) -> PyResult<bool>,
}

struct Epoll {
    registration: Registration,
    fd: OwnedFd,
}

impl Epoll {
    fn control(&self, what: i32, fd: RawFd, events: u32) -> io::Result<()> {
        if self.registration.is_forked() {
            // The parent's, too. A child that runs the loop gets its own, see `move_to`.
            return Ok(());
        }
        let mut event = libc::epoll_event { events, u64: fd as u64 };
        // SAFETY: our own epoll descriptor and a local event.
        check(unsafe { libc::epoll_ctl(self.fd.as_raw_fd(), what, fd, &mut event) } as isize)?;
        Ok(())
    }

    /// Adds or changes, whichever the kernel finds apt: a closed descriptor's number may be back.
    fn watch(&self, fd: RawFd, events: u32, known: bool) -> io::Result<()> {
        let (first, second, mistaken) = if known {
            (libc::EPOLL_CTL_MOD, libc::EPOLL_CTL_ADD, libc::ENOENT)
        } else {
            (libc::EPOLL_CTL_ADD, libc::EPOLL_CTL_MOD, libc::EEXIST)
        };
        match self.control(first, fd, events) {
            Err(error) if error.raw_os_error() == Some(mistaken) => {
                self.control(second, fd, events)
            }
            result => result,
        }
    }
}

impl Descriptors {
    pub fn set_pending(&mut self) {
        self.pending = true;
        if let Some(epoll) = &self.epoll {
            // Before the look: an event after it wakes the reactor again.
            epoll.registration.blocked(Direction::Read);
        }
    }

    /// Whether any descriptor is watched.
    #[inline]
    pub fn is_watching(&self) -> bool {
        !self.watched.is_empty()
    }

    pub fn is_pending(&self) -> bool {
        self.pending
    }

    /// Tells the kernel what a descriptor's watchers want now.
    fn update(&mut self, fd: RawFd) -> io::Result<()> {
        let (Some(epoll), MapEntry::Occupied(mut entry)) = (&self.epoll, self.watched.entry(fd))
        else {
            return Ok(());
        };
        let watched = entry.get_mut();
        let wanted = watched.wanted();
        if wanted == 0 {
            // What is armed once may fire into the void; a level would fire for ever.
            if watched.armed != 0 && watched.armed & ONCE == 0 {
                let _ = epoll.control(libc::EPOLL_CTL_DEL, fd, 0);
                entry.remove();
            }
            return Ok(());
        }
        if wanted != watched.armed || wanted & ONCE != 0 {
            epoll.watch(fd, wanted, watched.known)?;
            watched.armed = wanted;
            watched.known = true;
        }
        Ok(())
    }

    pub fn handles(&self) -> impl Iterator<Item = &Handle> {
        self.watched.values().flat_map(|it| [&it.reader, &it.writer].into_iter().flatten())
    }

    fn traverse_waiters(
        waiters: &VecDeque<Waiter>,
        visit: &PyVisit<'_>,
    ) -> Result<(), PyTraverseError> {
        for waiter in waiters {
            visit.call(&waiter.object)?;
        }
        Ok(())
    }

    pub fn traverse(&self, visit: &PyVisit<'_>) -> Result<(), PyTraverseError> {
        for watched in self.watched.values() {
            for handle in [&watched.reader, &watched.writer].into_iter().flatten() {
                handle.traverse(visit)?;
            }
            Self::traverse_waiters(&watched.receiving, visit)?;
            Self::traverse_waiters(&watched.sending, visit)?;
        }
        Ok(())
    }
}

/// The mask of `selectors` events that `fd` is watched for by `add_reader` and `add_writer`.
pub fn mask(py: Python<'_>, event_loop: &NativeLoop, fd: RawFd) -> u32 {
    event_loop.descriptors.with(py, |descriptors| {
        descriptors.watched.get(&fd).map_or(0, |watched| {
            u32::from(watched.reader.is_some()) | u32::from(watched.writer.is_some()) << 1
        })
    })
}

/// Makes the epoll instance, once.
pub fn open(py: Python<'_>, event_loop: &NativeLoop) -> PyResult<()> {
    if event_loop.descriptors.with(py, |descriptors| descriptors.epoll.is_some()) {
        return Ok(());
    }
    // SAFETY: no pointers; the result is checked.
    let fd = check(unsafe { libc::epoll_create1(libc::EPOLL_CLOEXEC) } as isize)
        .map_err(|error| os_error(&error))?;
    // SAFETY: a fresh descriptor that nobody else owns.
    let fd = unsafe { OwnedFd::from_raw_fd(fd as RawFd) };
    let (_, registration) = event_loop.add_source(py, fd.as_raw_fd(), Source::Descriptors)?;
    registration.arm(Direction::Read);
    event_loop
        .descriptors
        .with(py, |descriptors| descriptors.epoll = Some(Epoll { registration, fd }));
    Ok(())
}

/// Watches `fd` and calls `handle` while it is ready; a handle that it replaces is cancelled.
pub fn add(
    py: Python<'_>,
    event_loop: &NativeLoop,
    fd: RawFd,
    direction: Direction,
    handle: Handle,
) -> PyResult<()> {
    open(py, event_loop)?;
    let (result, replaced) = event_loop.descriptors.with(py, |descriptors| {
        let watched = descriptors.watched.entry(fd).or_default();
        let replaced = watched.handle(direction).replace(handle);
        let result = descriptors.update(fd);
        let undone = result.is_err().then(|| descriptors.watched.remove(&fd));
        (result, (replaced, undone))
    });
    if let Some(replaced) = &replaced.0 {
        replaced.cancel(py)?;
    }
    result.map_err(|error| os_error(&error))
}

/// Stops calling the handle of `fd`; whether there was one.
pub fn remove(
    py: Python<'_>,
    event_loop: &NativeLoop,
    fd: RawFd,
    direction: Direction,
) -> PyResult<bool> {
    let removed = event_loop.descriptors.with(py, |descriptors| {
        let removed = descriptors.watched.get_mut(&fd)?.handle(direction).take();
        // The descriptor may be closed already: then there is nothing to tell the kernel.
        let _ = descriptors.update(fd);
        removed
    });
    match removed {
        Some(handle) => {
            handle.cancel(py)?;
            Ok(true)
        }
        None => Ok(false),
    }
}

/// Has `waiter` try again when `fd` is ready.
pub fn wait(
    py: Python<'_>,
    event_loop: &NativeLoop,
    fd: RawFd,
    direction: Direction,
    waiter: Waiter,
) -> PyResult<()> {
    open(py, event_loop)?;
    let result = event_loop.descriptors.with(py, |descriptors| {
        let watched = descriptors.watched.entry(fd).or_default();
        watched.waiters(direction).push_back(waiter);
        descriptors.update(fd)
    });
    result.map_err(|error| os_error(&error))
}

/// Takes a waiter back.
pub fn forget(
    py: Python<'_>,
    event_loop: &NativeLoop,
    fd: RawFd,
    direction: Direction,
    waiter: &Py<PyAny>,
) {
    let forgotten = event_loop.descriptors.with(py, |descriptors| {
        let waiters = descriptors.watched.get_mut(&fd)?.waiters(direction);
        let at = waiters.iter().position(|waiting| waiting.object.is(waiter))?;
        let forgotten = waiters.remove(at);
        let _ = descriptors.update(fd);
        forgotten
    });
    drop(forgotten);
}

/// Asks the kernel, whether the reactor has reported anything or not.
pub fn poll(py: Python<'_>, event_loop: &NativeLoop) -> PyResult<()> {
    event_loop.descriptors.with(py, |descriptors| descriptors.pending = true);
    collect(py, event_loop)
}

/// Turns what the kernel reports into ready entries and finished waits.
pub fn collect(py: Python<'_>, event_loop: &NativeLoop) -> PyResult<()> {
    if !event_loop.descriptors.with(py, |descriptors| descriptors.pending) {
        return Ok(());
    }
    let mut events = [libc::epoll_event { events: 0, u64: 0 }; EVENTS_A_LOOK];
    let count = event_loop.descriptors.with(py, |descriptors| {
        let Some(epoll) = &descriptors.epoll else {
            return 0;
        };
        // SAFETY: room for as many events as we say; the time-out of 0 never waits.
        let count = unsafe {
            libc::epoll_wait(epoll.fd.as_raw_fd(), events.as_mut_ptr(), EVENTS_A_LOOK as i32, 0)
        };
        usize::try_from(count).unwrap_or(0)
    });
    // A level that nobody drained shows up again without waking the reactor: look once more
    // before parking, until a look finds nothing.
    event_loop.descriptors.with(py, |descriptors| descriptors.pending = count == EVENTS_A_LOOK);
    for event in &events[..count] {
        let (fd, mask) = (event.u64 as RawFd, event.events);
        // As `selectors` reads epoll: a hang-up or an error wakes both sides.
        if mask & !WRITE != 0 {
            ready(py, event_loop, fd, Direction::Read)?;
        }
        if mask & !READ != 0 {
            ready(py, event_loop, fd, Direction::Write)?;
        }
        let (result, orphan) = event_loop.descriptors.with(py, |descriptors| {
            let Some(watched) = descriptors.watched.get_mut(&fd) else {
                return (Ok(()), true);
            };
            if watched.armed & ONCE == 0 {
                descriptors.pending = true;
            } else {
                watched.armed = 0;
            }
            (descriptors.update(fd), false)
        });
        if orphan {
            // A description kept open elsewhere under a number that was closed here.
            event_loop.descriptors.with(py, |descriptors| {
                if let Some(epoll) = &descriptors.epoll {
                    let _ = epoll.control(libc::EPOLL_CTL_DEL, fd, 0);
                }
            });
        }
        result.map_err(|error| os_error(&error))?;
    }
    Ok(())
}

fn ready(py: Python<'_>, event_loop: &NativeLoop, fd: RawFd, direction: Direction) -> PyResult<()> {
    let handle = event_loop.descriptors.with(py, |descriptors| {
        let handle = descriptors.watched.get_mut(&fd)?.handle(direction).as_ref()?;
        Some(handle.clone_ref(py))
    });
    if let Some(handle) = handle {
        if handle.is_cancelled(py) {
            remove(py, event_loop, fd, direction)?;
        } else {
            event_loop.push(py, Entry::Handle(handle));
        }
    }
    loop {
        let first = event_loop.descriptors.with(py, |descriptors| {
            let first = descriptors.watched.get_mut(&fd)?.waiters(direction).front()?;
            Some((first.object.clone_ref(py), first.retry))
        });
        let Some((object, retry)) = first else { return Ok(()) };
        if !retry(py, &object)? {
            return Ok(());
        }
        // Finished or given up. It may have taken itself out meanwhile.
        let finished = event_loop.descriptors.with(py, |descriptors| {
            let waiters = descriptors.watched.get_mut(&fd)?.waiters(direction);
            let at = waiters.iter().position(|waiting| waiting.object.is(&object))?;
            waiters.remove(at)
        });
        drop(finished);
    }
}

/// After a fork: an epoll instance of the child's own, with everything watched as before.
pub fn move_to(py: Python<'_>, event_loop: &NativeLoop) -> PyResult<()> {
    let had = event_loop.descriptors.with(py, |descriptors| {
        for watched in descriptors.watched.values_mut() {
            watched.armed = 0;
            watched.known = false;
        }
        descriptors.pending = false;
        descriptors.epoll.take()
    });
    if had.is_none() {
        return Ok(());
    }
    drop(had);
    open(py, event_loop)?;
    event_loop.descriptors.with(py, |descriptors| {
        for fd in descriptors.watched.keys().copied().collect::<Vec<_>>() {
            // One that the child closed is not an error; nobody will hear of it again.
            let _ = descriptors.update(fd);
        }
    });
    Ok(())
}
