//! Descriptors that the user owns: `add_reader`, `add_writer`, and sockets that `sock_*` wait on.
//!
//! They live in an epoll instance of their own, which the reactor watches as one source. The
//! reactor is edge-triggered and must be told before a descriptor closes; a selector's users rely
//! on level triggering, close descriptors without a word, and get new ones of the same number.
//! The kernel forgets a closed descriptor by itself here, as it does under asyncio's selector.
//!
//! The table is kept by number, its entries are of files. A watcher is only ever called for the
//! file that it was added for: each one that is added asks the kernel (see `epoll`), and if the
//! number is another file's by now, those that waited for the old file are taken out. They wait
//! for ever, as on asyncio's loop.

mod displaced;
mod epoll;
mod watched;

use std::io;
use std::os::fd::RawFd;

use pyo3::prelude::*;
use pyo3::{PyTraverseError, PyVisit};
use rustc_hash::FxHashMap;

use crate::driver::reactor::Direction;
use crate::event_loop::handles::Handle;
use crate::event_loop::{Entry, NativeLoop};
use crate::ffi::errors::os_error;
use displaced::{Displaced, Note};
use epoll::{Epoll, Event, ONCE, READ, Room, WRITE};
use watched::{Due, Watched, Watcher};
pub(crate) use watched::{Tried, Waiter};

#[derive(Default)]
pub(crate) struct Descriptors {
    epoll: Option<Epoll>,
    watched: FxHashMap<RawFd, Watched>,
    /// How many of them the kernel may report to a watcher.
    awaited: usize,
    displaced: Displaced,
    /// The instance may have events that nobody collected yet.
    pending: bool,
}

/// What must be dropped where that may run Python code.
#[derive(Default)]
struct Removed {
    /// The handle whose place was taken.
    replaced: Option<Handle>,
    /// Who waited for the file that had this number before, or for one that is closed.
    displaced: Watched,
    _refused: Option<Watcher>,
}

impl Removed {
    fn settle(self, py: Python<'_>, event_loop: &NativeLoop) -> PyResult<()> {
        if let Some(note) = Note::of(py, &self.displaced) {
            drop(event_loop.descriptors.with(py, |it| it.displaced.remember(py, note)));
        }
        let Watched { reader, writer, .. } = &self.displaced;
        for handle in [&self.replaced, reader, writer].into_iter().flatten() {
            handle.cancel(py)?;
        }
        Ok(())
    }
}

impl Due {
    fn make_ready(
        self,
        py: Python<'_>,
        event_loop: &NativeLoop,
        fd: RawFd,
        direction: Direction,
    ) -> PyResult<()> {
        match self.handle {
            Some(handle) if handle.is_cancelled(py) => {
                remove(py, event_loop, fd, direction)?;
            }
            Some(handle) => event_loop.push(py, Entry::Handle(handle)),
            None => {}
        }
        if let Some((object, resume)) = self.waiter {
            event_loop.push(py, Entry::Native(object, resume));
        }
        Ok(())
    }
}

impl Descriptors {
    pub(crate) fn set_pending(&mut self) {
        self.pending = true;
        if let Some(epoll) = &self.epoll {
            // Before the look: an event after it wakes the reactor again.
            epoll.arm();
        }
    }

    /// Whether any descriptor is watched.
    #[inline]
    pub(crate) fn is_watching(&self) -> bool {
        self.awaited > 0
    }

    pub(crate) fn is_pending(&self) -> bool {
        self.pending
    }

    /// Has the kernel watch the file that `fd` is now, for one more.
    fn admit(
        &mut self,
        fd: RawFd,
        direction: Direction,
        watcher: Watcher,
    ) -> (io::Result<()>, Removed) {
        let Self { epoll: Some(epoll), watched: all, awaited, .. } = self else {
            return (Ok(()), Removed { _refused: Some(watcher), ..Removed::default() });
        };
        let watched = all.entry(fd).or_default();
        let mut wanted = watched.wanted_with(Some((direction, &watcher)));
        let mut displaced = Watched::default();
        let asked = match watched.token {
            Some(token) => epoll.change(fd, wanted, token).map(|()| token),
            None => Err(io::Error::from_raw_os_error(libc::ENOENT)),
        };
        let token = match asked {
            Err(error) if error.raw_os_error() == Some(libc::ENOENT) => {
                watched.count(awaited, false);
                displaced = std::mem::take(watched);
                wanted = watched.wanted_with(Some((direction, &watcher)));
                epoll.add(fd, wanted)
            }
            asked => asked,
        };
        match token {
            Ok(token) => {
                let replaced = watched.put(direction, watcher);
                watched.armed = wanted;
                watched.token = Some(token);
                watched.count(awaited, true);
                (Ok(()), Removed { replaced, displaced, _refused: None })
            }
            Err(error) => {
                // Closed, or nothing that can be watched: who waited for it before waits in vain.
                watched.count(awaited, false);
                if let Some(closed) = all.remove(&fd)
                    && closed.token.is_some()
                {
                    displaced = closed;
                }
                (Err(error), Removed { replaced: None, displaced, _refused: Some(watcher) })
            }
        }
    }

    pub(crate) fn handles(&self) -> impl Iterator<Item = &Handle> {
        self.watched.values().flat_map(|it| [&it.reader, &it.writer].into_iter().flatten())
    }

    /// Tells the kernel what is wanted of a file, after a watcher went or an event came.
    fn adjust(&mut self, fd: RawFd) {
        let Self { epoll: Some(epoll), watched: all, awaited, .. } = self else { return };
        let Some(watched) = all.get_mut(&fd) else { return };
        let wanted = watched.wanted();
        watched.count(awaited, wanted != 0 && watched.token.is_some());
        match watched.token {
            None if wanted == 0 => drop(all.remove(&fd)),
            None => {}
            // What is armed once may fire into the void; a level would fire for ever.
            Some(token) if wanted == 0 && watched.armed != 0 && watched.armed & ONCE == 0 => {
                epoll.remove(fd, token);
                all.remove(&fd);
            }
            Some(_) if wanted == 0 => {}
            // Nothing to tell: the kernel goes on reporting the same.
            Some(_) if wanted == watched.armed && wanted & ONCE == 0 => {}
            Some(token) => match epoll.change(fd, wanted, token) {
                Ok(()) => watched.armed = wanted,
                Err(_) => {
                    (watched.armed, watched.token) = (0, None);
                    watched.count(awaited, false);
                }
            },
        }
    }

    /// Who waits for the file that an event is of, to receive and to send. `None`: nobody knows it.
    fn due(&mut self, py: Python<'_>, event: Event) -> Option<[Due; 2]> {
        let known = self.watched.get_mut(&event.fd);
        let watched = known.filter(|watched| watched.token == Some(event.token))?;
        let due = [Direction::Read, Direction::Write].map(|direction| watched.due(py, direction));
        if watched.armed & ONCE != 0 {
            // Armed again once the waiters have tried, in the next batch.
            watched.armed = 0;
        } else {
            self.pending = true;
            self.adjust(event.fd);
        }
        Some(due)
    }

    pub(crate) fn traverse(&self, visit: &PyVisit<'_>) -> Result<(), PyTraverseError> {
        for watched in self.watched.values() {
            watched.traverse(visit)?;
        }
        self.displaced.traverse(visit)
    }
}

/// What `add_reader` and `add_writer` registered under one number.
pub(crate) struct Registered {
    pub fd: RawFd,
    /// What it was registered by, if that was not the number.
    pub object: Option<Py<PyAny>>,
    pub reader: Option<Handle>,
    pub writer: Option<Handle>,
}

/// All that `add_reader` and `add_writer` registered.
pub(crate) fn registered(py: Python<'_>, event_loop: &NativeLoop) -> Vec<Registered> {
    event_loop.descriptors.with(py, |descriptors| {
        let clone = |handle: &Option<Handle>| handle.as_ref().map(|handle| handle.clone_ref(py));
        descriptors
            .watched
            .iter()
            .filter(|(_, watched)| watched.reader.is_some() || watched.writer.is_some())
            .map(|(fd, watched)| Registered {
                fd: *fd,
                object: watched.object.as_ref().map(|object| object.clone_ref(py)),
                reader: clone(&watched.reader),
                writer: clone(&watched.writer),
            })
            .collect()
    })
}

/// The number that `object` was registered by; for one that was closed and has none any more.
pub(crate) fn find(event_loop: &NativeLoop, object: &Bound<'_, PyAny>) -> Option<RawFd> {
    event_loop.descriptors.with(object.py(), |descriptors| {
        let is_it = |watched: &Watched| watched.object.as_ref().is_some_and(|it| it.is(object));
        descriptors.watched.iter().find(|(_, watched)| is_it(watched)).map(|(fd, _)| *fd)
    })
}

/// Stops calling the handle of a file that was closed; whether there was one. `None`: the file is
/// not known.
pub(crate) fn remove_closed(
    event_loop: &NativeLoop,
    object: &Bound<'_, PyAny>,
    direction: Direction,
) -> PyResult<Option<bool>> {
    let py = object.py();
    if let Some(fd) = find(event_loop, object) {
        return remove(py, event_loop, fd, direction).map(Some);
    }
    let removed = event_loop
        .descriptors
        .with(py, |descriptors| descriptors.displaced.remove(object, direction));
    Ok(removed.map(|(watched, _forgotten)| watched))
}

/// The mask of `selectors` events that `fd` is watched for by `add_reader` and `add_writer`.
pub(crate) fn mask(py: Python<'_>, event_loop: &NativeLoop, fd: RawFd) -> u32 {
    event_loop.descriptors.with(py, |descriptors| {
        descriptors.watched.get(&fd).map_or(0, |watched| {
            u32::from(watched.reader.is_some()) | u32::from(watched.writer.is_some()) << 1
        })
    })
}

/// Makes the epoll instance, once.
pub(crate) fn open(py: Python<'_>, event_loop: &NativeLoop) -> PyResult<()> {
    if event_loop.descriptors.with(py, |descriptors| descriptors.epoll.is_some()) {
        return Ok(());
    }
    let epoll = Epoll::new(py, event_loop)?;
    event_loop.descriptors.with(py, |descriptors| descriptors.epoll = Some(epoll));
    Ok(())
}

/// Watches `fd` and calls `handle` while it is ready; a handle that it replaces is cancelled.
pub(crate) fn add(
    py: Python<'_>,
    event_loop: &NativeLoop,
    fd: RawFd,
    direction: Direction,
    handle: Handle,
) -> PyResult<()> {
    admit(py, event_loop, fd, direction, Watcher::Handle(handle, None))
}

/// The same, for a file object, which `find` finds when it is closed.
pub(crate) fn add_object(
    event_loop: &NativeLoop,
    fd: RawFd,
    object: &Bound<'_, PyAny>,
    direction: Direction,
    handle: Handle,
) -> PyResult<()> {
    let watcher = Watcher::Handle(handle, Some(object.clone().unbind()));
    admit(object.py(), event_loop, fd, direction, watcher)
}

/// Has `waiter` try again when `fd` is ready.
pub(crate) fn wait(
    py: Python<'_>,
    event_loop: &NativeLoop,
    fd: RawFd,
    direction: Direction,
    waiter: Waiter,
) -> PyResult<()> {
    admit(py, event_loop, fd, direction, Watcher::Waiter(waiter))
}

fn admit(
    py: Python<'_>,
    event_loop: &NativeLoop,
    fd: RawFd,
    direction: Direction,
    watcher: Watcher,
) -> PyResult<()> {
    open(py, event_loop)?;
    let (result, removed) =
        event_loop.descriptors.with(py, |descriptors| descriptors.admit(fd, direction, watcher));
    removed.settle(py, event_loop)?;
    result.map_err(|error| os_error(py, &error))
}

/// Puts another handle in the place of one whose file was closed.
pub(crate) fn replace(
    py: Python<'_>,
    event_loop: &NativeLoop,
    fd: RawFd,
    direction: Direction,
    handle: Handle,
) -> PyResult<()> {
    let (replaced, refused) = event_loop.descriptors.with(py, |descriptors| {
        match descriptors.watched.get_mut(&fd).map(|watched| watched.handle(direction)) {
            Some(place @ Some(_)) => (place.replace(handle), None),
            _ => (None, Some(handle)),
        }
    });
    if refused.is_some() {
        return Err(os_error(py, &io::Error::from_raw_os_error(libc::EBADF)));
    }
    replaced.map_or(Ok(()), |replaced| replaced.cancel(py).map(drop))
}

/// Stops calling the handle of `fd`; whether there was one.
pub(crate) fn remove(
    py: Python<'_>,
    event_loop: &NativeLoop,
    fd: RawFd,
    direction: Direction,
) -> PyResult<bool> {
    let removed = event_loop.descriptors.with(py, |descriptors| {
        let removed = descriptors.watched.get_mut(&fd)?.take(direction);
        descriptors.adjust(fd);
        Some(removed)
    });
    match removed {
        Some((Some(handle), _object)) => {
            handle.cancel(py)?;
            Ok(true)
        }
        _ => Ok(false),
    }
}

/// Takes a waiter back.
pub(crate) fn forget(
    event_loop: &NativeLoop,
    fd: RawFd,
    direction: Direction,
    waiter: &Bound<'_, PyAny>,
) {
    let py = waiter.py();
    let forgotten = event_loop.descriptors.with(py, |descriptors| {
        let waiters = descriptors.watched.get_mut(&fd)?.waiters(direction);
        let at = waiters.iter().position(|waiting| waiting.object.is(waiter))?;
        let forgotten = waiters.remove(at);
        descriptors.adjust(fd);
        forgotten
    });
    drop(forgotten);
}

/// Asks the kernel, whether the reactor has reported anything or not.
pub(crate) fn poll(py: Python<'_>, event_loop: &NativeLoop) -> PyResult<()> {
    event_loop.descriptors.with(py, |descriptors| descriptors.pending = true);
    collect(py, event_loop)
}

/// Turns what the kernel reports into ready entries and finished waits.
pub(crate) fn collect(py: Python<'_>, event_loop: &NativeLoop) -> PyResult<()> {
    if !event_loop.descriptors.with(py, |descriptors| descriptors.pending) {
        return Ok(());
    }
    let mut room = Room::new();
    let events = event_loop.descriptors.with(py, |descriptors| {
        // A level that nobody drained shows up again without waking the reactor: look once more
        // before parking, until a look finds nothing.
        descriptors.pending = false;
        descriptors.epoll.as_ref().map(|epoll| epoll.ready(&mut room))
    });
    let (mut count, mut orphans) = (0, false);
    for event in events.into_iter().flatten() {
        count += 1;
        match event_loop.descriptors.with(py, |descriptors| descriptors.due(py, event)) {
            None => orphans = true,
            // As `selectors` reads epoll: a hang-up or an error wakes both sides.
            Some([receiving, sending]) => {
                if event.mask & !WRITE != 0 {
                    receiving.make_ready(py, event_loop, event.fd, Direction::Read)?;
                }
                if event.mask & !READ != 0 {
                    sending.make_ready(py, event_loop, event.fd, Direction::Write)?;
                }
            }
        }
    }
    if count == Room::EVENTS {
        event_loop.descriptors.with(py, |descriptors| descriptors.pending = true);
    }
    if orphans {
        renew(py, event_loop);
    }
    Ok(())
}

/// The turn of a waiter has come: it tries again, and so do those behind it until one is blocked.
pub(crate) fn resume(
    py: Python<'_>,
    event_loop: &NativeLoop,
    fd: RawFd,
    direction: Direction,
    waiter: &Py<PyAny>,
) -> PyResult<()> {
    let mut next = Some(waiter.clone_ref(py));
    let mut result = Ok(());
    while let Some(object) = next {
        // It may have taken itself out, and the number be another file's.
        let retry = event_loop.descriptors.with(py, |descriptors| {
            let waiters = descriptors.watched.get_mut(&fd)?.waiters(direction);
            Some(waiters.iter().find(|waiting| waiting.object.is(&object))?.retry)
        });
        let Some(retry) = retry else { break };
        // SAFETY: the two came in one waiter.
        match unsafe { retry(py, &object) } {
            Ok(Tried::Blocked) => break,
            Ok(Tried::Over) => {}
            Err(error) => result = Err(error),
        }
        let (finished, behind) = event_loop.descriptors.with(py, |descriptors| {
            let Some(watched) = descriptors.watched.get_mut(&fd) else { return (None, None) };
            let waiters = watched.waiters(direction);
            let at = waiters.iter().position(|waiting| waiting.object.is(&object));
            let finished = at.and_then(|at| waiters.remove(at));
            (finished, waiters.front().map(|waiting| waiting.object.clone_ref(py)))
        });
        drop(finished);
        next = if result.is_ok() { behind } else { None };
    }
    event_loop.descriptors.with(py, |descriptors| descriptors.adjust(fd));
    result
}

/// Moves to another instance, which has no entries but those that watchers wait for.
///
/// A file whose number was closed here lives on if it is open elsewhere, too: in a child process,
/// under another number. The kernel goes on reporting it, and no call takes its entry back.
fn renew(py: Python<'_>, event_loop: &NativeLoop) {
    // Without a descriptor to spare the loop goes on with the old instance: it only turns more.
    let Ok(fresh) = Epoll::new(py, event_loop) else { return };
    let old = event_loop.descriptors.with(py, |descriptors| {
        descriptors.pending = true;
        let old = descriptors.epoll.replace(fresh)?;
        let Descriptors { epoll: Some(fresh), watched: all, awaited, .. } = descriptors else {
            return Some(old);
        };
        for (fd, watched) in all {
            let (wanted, known) = (watched.wanted(), watched.token.take());
            watched.armed = 0;
            // The old instance knows whether the number is still this file's.
            if wanted != 0
                && known.is_some_and(|token| old.change(*fd, wanted, token).is_ok())
                && let Ok(token) = fresh.add(*fd, wanted)
            {
                (watched.armed, watched.token) = (wanted, Some(token));
            }
            watched.count(awaited, watched.token.is_some());
        }
        Some(old)
    });
    if let Some(old) = old {
        drop(event_loop.sources.with(py, |sources| sources.remove(old.key)));
    }
}

/// After a fork: an epoll instance of the child's own, with everything watched as before.
pub(crate) fn move_to(py: Python<'_>, event_loop: &NativeLoop) -> PyResult<()> {
    let had = event_loop.descriptors.with(py, |descriptors| {
        for watched in descriptors.watched.values_mut() {
            (watched.armed, watched.token) = (0, None);
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
        let Descriptors { epoll: Some(epoll), watched: all, awaited, .. } = descriptors else {
            return;
        };
        for (fd, watched) in all {
            let wanted = watched.wanted();
            // One that the child closed is not an error; nobody will hear of it again.
            if wanted != 0
                && let Ok(token) = epoll.add(*fd, wanted)
            {
                (watched.armed, watched.token) = (wanted, Some(token));
            }
            watched.count(awaited, watched.token.is_some());
        }
    });
    Ok(())
}
