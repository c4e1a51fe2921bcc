//! Descriptors that the user owns: `add_reader`, `add_writer`, and sockets that `sock_*` wait on.
//!
//! They live in a selector of their own, which the reactor watches as one source. The
//! reactor is edge-triggered and must be told before a descriptor closes; a selector's users rely
//! on level triggering, close descriptors without a word, and get new ones of the same number.
//! The kernel forgets a closed descriptor by itself here, as it does under asyncio's selector.
//!
//! The table is kept by number, its entries are of files. A watcher is only ever called for the
//! file that it was added for: each one that is added asks the kernel (see `nested`), and if the
//! number is another file's by now, the watchers of the old file are taken out. They wait
//! for ever, as on asyncio's loop.
//!
//! A table and nothing else: `event_loop::watching` works on it and calls those that wait.

mod displaced;
mod nested;
mod watched;

use std::io;
use std::os::fd::RawFd;

use pyo3::prelude::*;
use pyo3::{PyTraverseError, PyVisit};
use rustc_hash::FxHashMap;

use crate::driver::reactor::Direction;
use crate::driver::sys::SelectorEvent;
use crate::driver::sys::selector::{EventMask, Room};
use crate::event_loop::queue::Handle;
use displaced::{Displaced, Note};
pub(super) use nested::NestedSelector;
use watched::Watched;
pub(super) use watched::{Due, DueWatchers, Reported, Watcher};
pub(crate) use watched::{PendingOperation, Retry, Tried};

#[derive(Default)]
pub(crate) struct Descriptors {
    selector: Option<NestedSelector>,
    watched: FxHashMap<RawFd, Watched>,
    /// How many of them the kernel may report to a watcher.
    awaited: usize,
    displaced: Displaced,
    /// The selector may have events that were not collected yet.
    pending: bool,
}

/// What must be cancelled and dropped where that may run Python code.
#[derive(Default)]
pub(super) struct Removed {
    /// The handle whose place was taken.
    replaced: Option<Handle>,
    /// Who waited for the file that had this number before, or for one that is closed.
    displaced: Watched,
    _refused: Option<Watcher>,
}

impl Removed {
    /// The handles of readers and writers that are to be cancelled.
    pub(super) fn handles(&self) -> impl Iterator<Item = &Handle> {
        let Watched { reader, writer, .. } = &self.displaced;
        [&self.replaced, reader, writer].into_iter().flatten()
    }
}

impl Descriptors {
    pub(crate) fn set_pending(&mut self) {
        self.pending = true;
        if let Some(selector) = &self.selector {
            // Before the look: an event after it wakes the reactor again.
            selector.arm();
        }
    }

    /// Whether any descriptor is watched.
    #[inline]
    pub(crate) fn is_watching(&self) -> bool {
        self.awaited > 0
    }

    /// How many entries the selector may have.
    pub(crate) fn entries(&self) -> usize {
        self.watched.len()
    }

    /// How many descriptors are watched.
    pub(crate) fn awaited(&self) -> usize {
        self.awaited
    }

    pub(crate) fn is_pending(&self) -> bool {
        self.pending
    }

    /// Has the kernel watch the file that `fd` is now, for one more.
    pub(super) fn admit(
        &mut self,
        fd: RawFd,
        direction: Direction,
        watcher: Watcher,
    ) -> (io::Result<()>, Removed) {
        let Self { selector: Some(selector), watched: all, awaited, .. } = self else {
            return (Ok(()), Removed { _refused: Some(watcher), ..Removed::default() });
        };
        let watched = all.entry(fd).or_default();
        let mut wanted = watched.wanted_with(Some((direction, &watcher)));
        let mut displaced = Watched::default();
        // A number that nobody waits under any more was another file's: one call less.
        let known = watched.token.filter(|_| !(watcher.is_of_new_file() && watched.is_idle()));
        let asked = match known {
            Some(token) => selector.change(fd, wanted, token).map(|()| token),
            None => Err(io::Error::from_raw_os_error(libc::ENOENT)),
        };
        let token = match asked {
            Err(error) if error.raw_os_error() == Some(libc::ENOENT) => {
                watched.count(awaited, false);
                displaced = std::mem::take(watched);
                wanted = watched.wanted_with(Some((direction, &watcher)));
                selector.add(fd, wanted)
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
    pub(super) fn adjust(&mut self, fd: RawFd) {
        let Self { selector: Some(selector), watched: all, awaited, .. } = self else { return };
        let Some(watched) = all.get_mut(&fd) else { return };
        let wanted = watched.wanted();
        watched.count(awaited, wanted != EventMask::NONE && watched.token.is_some());
        match watched.token {
            None if wanted == EventMask::NONE => drop(all.remove(&fd)),
            None => {}
            // What is armed once may fire into the void; a level would fire for ever.
            Some(_)
                if wanted == EventMask::NONE
                    && watched.armed != EventMask::NONE
                    && !watched.armed.is_once() =>
            {
                selector.remove(fd);
                all.remove(&fd);
            }
            Some(_) if wanted == EventMask::NONE => {}
            // Nothing to tell: the kernel goes on reporting the same.
            Some(_) if wanted == watched.armed && !wanted.is_once() => {}
            Some(token) => match selector.change(fd, wanted, token) {
                Ok(()) => watched.armed = wanted,
                Err(_) => {
                    (watched.armed, watched.token) = (EventMask::NONE, None);
                    watched.count(awaited, false);
                }
            },
        }
    }

    /// The watchers that an event is for. `None`: the table does not have its file.
    pub(super) fn due(&mut self, py: Python<'_>, event: SelectorEvent) -> Option<Due> {
        let known = self.watched.get_mut(&event.fd);
        let watched = known.filter(|watched| watched.token == Some(event.token))?;
        let mut of = |direction, happened: bool| happened.then(|| watched.due(py, direction));
        let watchers = [of(Direction::Read, event.reading), of(Direction::Write, event.writing)];
        let reported = if watched.armed.is_once() {
            // Armed again once the operations have tried, in the next batch.
            watched.armed = EventMask::NONE;
            Reported::Once
        } else {
            self.adjust(event.fd);
            Reported::WhileReady
        };
        Some(Due { watchers, reported })
    }

    /// Remembers which file another one of the same number has displaced. What comes back is to be
    /// dropped outside of the borrow.
    #[must_use]
    pub(super) fn remember_displaced(
        &mut self,
        py: Python<'_>,
        removed: &Removed,
    ) -> impl Sized + use<> {
        Note::of(py, &removed.displaced).map(|note| self.displaced.remember(py, note))
    }

    /// Whether `object` was watched when it lost its number, and was not removed since. What is
    /// forgotten is to be dropped outside of the borrow.
    pub(super) fn remove_displaced(
        &mut self,
        object: &Bound<'_, PyAny>,
        direction: Direction,
    ) -> Option<(bool, impl Sized + use<>)> {
        self.displaced.remove(object, direction)
    }

    /// Gives the table its selector; the one before comes back.
    pub(super) fn open(&mut self, selector: NestedSelector) -> Option<NestedSelector> {
        self.selector.replace(selector)
    }

    pub(super) fn is_open(&self) -> bool {
        self.selector.is_some()
    }

    /// Has the next `poll_pending` ask the kernel.
    pub(super) fn ask_again(&mut self) {
        self.pending = true;
    }

    /// Polls the selector, if it may have events.
    pub(super) fn poll_pending<'a>(
        &mut self,
        room: &'a mut Room,
    ) -> Option<impl Iterator<Item = SelectorEvent> + use<'a>> {
        // A level that was not drained is reported again without waking the reactor: poll once more
        // before the loop blocks, until a poll finds nothing.
        if !std::mem::take(&mut self.pending) {
            return None;
        }
        Some(self.selector.as_ref()?.ready(room))
    }

    /// All that `add_reader` and `add_writer` registered.
    pub(super) fn registered(&self, py: Python<'_>) -> Vec<Registered> {
        let clone = |handle: &Option<Handle>| handle.as_ref().map(|handle| handle.clone_ref(py));
        self.watched
            .iter()
            .filter(|(_, watched)| watched.reader.is_some() || watched.writer.is_some())
            .map(|(fd, watched)| Registered {
                fd: *fd,
                object: watched.object.as_ref().map(|object| object.clone_ref(py)),
                reader: clone(&watched.reader),
                writer: clone(&watched.writer),
            })
            .collect()
    }

    /// The number that `object` was registered by.
    pub(super) fn find(&self, object: &Bound<'_, PyAny>) -> Option<RawFd> {
        let is_it = |watched: &Watched| watched.object.as_ref().is_some_and(|it| it.is(object));
        self.watched.iter().find(|(_, watched)| is_it(watched)).map(|(fd, _)| *fd)
    }

    /// The mask of `selectors` events that `fd` is watched for by `add_reader` and `add_writer`.
    pub(super) fn mask(&self, fd: RawFd) -> u32 {
        self.watched.get(&fd).map_or(0, |watched| {
            u32::from(watched.reader.is_some()) | u32::from(watched.writer.is_some()) << 1
        })
    }

    /// Puts another handle in the place of one; the old one comes back, or the new one if there was
    /// none.
    pub(super) fn replace_handle(
        &mut self,
        fd: RawFd,
        direction: Direction,
        handle: Handle,
    ) -> Result<Handle, Handle> {
        match self.watched.get_mut(&fd).map(|watched| watched.handle(direction)) {
            Some(Some(place)) => Ok(std::mem::replace(place, handle)),
            _ => Err(handle),
        }
    }

    /// Takes the handle of `fd` out, and the object that it was added by with the last one.
    pub(super) fn take_handle(
        &mut self,
        fd: RawFd,
        direction: Direction,
    ) -> Option<(Option<Handle>, Option<Py<PyAny>>)> {
        let removed = self.watched.get_mut(&fd)?.take(direction);
        self.adjust(fd);
        Some(removed)
    }

    /// Takes an operation out that shall not try again.
    pub(super) fn take_operation(
        &mut self,
        fd: RawFd,
        direction: Direction,
        operation: &Bound<'_, PyAny>,
    ) -> Option<PendingOperation> {
        let operations = self.watched.get_mut(&fd)?.operations(direction);
        let at = operations.iter().position(|waiting| waiting.object.is(operation))?;
        let taken = operations.remove(at);
        self.adjust(fd);
        taken
    }

    /// How an operation tries again, if it is in the table still.
    pub(super) fn retry_of(
        &mut self,
        fd: RawFd,
        direction: Direction,
        object: &Py<PyAny>,
    ) -> Option<Retry> {
        let operations = self.watched.get_mut(&fd)?.operations(direction);
        Some(operations.iter().find(|waiting| waiting.object.is(object))?.retry)
    }

    /// Takes an operation out that has finished, and gives the object of the next one.
    pub(super) fn finish(
        &mut self,
        py: Python<'_>,
        fd: RawFd,
        direction: Direction,
        object: &Py<PyAny>,
    ) -> (Option<PendingOperation>, Option<Py<PyAny>>) {
        let Some(watched) = self.watched.get_mut(&fd) else { return (None, None) };
        let operations = watched.operations(direction);
        let at = operations.iter().position(|waiting| waiting.object.is(object));
        let finished = at.and_then(|at| operations.remove(at));
        (finished, operations.front().map(|waiting| waiting.object.clone_ref(py)))
    }

    /// Moves to another selector, which gets no entries but those that watchers wait for. The old one
    /// comes back.
    pub(super) fn renew(&mut self, fresh: NestedSelector) -> Option<NestedSelector> {
        self.pending = true;
        let old = self.selector.replace(fresh)?;
        let Self { selector: Some(fresh), watched: all, awaited, .. } = self else {
            return Some(old);
        };
        for (fd, watched) in all {
            let (wanted, known) = (watched.wanted(), watched.token.take());
            watched.armed = EventMask::NONE;
            // The old selector knows whether the number is still this file's.
            if wanted != EventMask::NONE
                && known.is_some_and(|token| old.change(*fd, wanted, token).is_ok())
                && let Ok(token) = fresh.add(*fd, wanted)
            {
                (watched.armed, watched.token) = (wanted, Some(token));
            }
            watched.count(awaited, watched.token.is_some());
        }
        Some(old)
    }

    /// In a forked child: the entries are the parent's. The selector comes back.
    pub(super) fn forget_entries(&mut self) -> Option<NestedSelector> {
        for watched in self.watched.values_mut() {
            (watched.armed, watched.token) = (EventMask::NONE, None);
        }
        self.pending = false;
        self.selector.take()
    }

    /// Makes new entries for everything that is watched, after `forget_entries` and `open`.
    pub(super) fn make_entries(&mut self) {
        let Self { selector: Some(selector), watched: all, awaited, .. } = self else { return };
        for (fd, watched) in all {
            let wanted = watched.wanted();
            // A file that the child closed is not an error; no event of it will come again.
            if wanted != EventMask::NONE
                && let Ok(token) = selector.add(*fd, wanted)
            {
                (watched.armed, watched.token) = (wanted, Some(token));
            }
            watched.count(awaited, watched.token.is_some());
        }
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
