//! The watchers of a file: readers and writers that are called while it is ready, and
//! pending operations.

use std::collections::VecDeque;

use pyo3::prelude::*;
use pyo3::{PyTraverseError, PyVisit};

use crate::driver::reactor::Direction;
use crate::driver::sys::Token;
use crate::driver::sys::selector::EventMask;
use crate::event_loop::queue::{Callback, Handle};

/// The watchers of one file.
#[derive(Default)]
pub(super) struct Watched {
    /// What the reader or the writer was added by, if that was not the number.
    pub object: Option<Py<PyAny>>,
    pub reader: Option<Handle>,
    pub writer: Option<Handle>,
    pub receiving: VecDeque<PendingOperation>,
    pub sending: VecDeque<PendingOperation>,
    /// What the kernel was asked for last; `NONE` once a `ONCE` was delivered.
    pub armed: EventMask,
    /// The kernel's entry of the file; `None` once it has none, because the file was closed.
    pub token: Option<Token>,
    /// It counts as one that the kernel may report to a watcher.
    counted: bool,
}

/// Something that tries again when its descriptor is ready.
pub(crate) struct PendingOperation {
    pub object: Py<PyAny>,
    pub retry: Retry,
    /// Its entry in the ready queue, which has to call `watching::resume`.
    pub resume: Callback,
    /// The file is most likely one that nobody has waited for before.
    pub on_new_file: bool,
}

/// Tries again. It may only be called with the object that came in the same `PendingOperation`.
pub(crate) type Retry = unsafe fn(Python<'_>, &Py<PyAny>) -> PyResult<Tried>;

/// What another try of an operation came to.
pub(crate) enum Tried {
    /// It waits on.
    Blocked,
    /// It is finished, one way or the other.
    Over,
}

/// One more watcher of a file.
pub(in crate::event_loop) enum Watcher {
    /// Called while the file is ready. With the object that it was added by.
    Handle(Handle, Option<Py<PyAny>>),
    /// Tries again, once the file is ready.
    Operation(PendingOperation),
}

/// How often the kernel reports a file that stays ready.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(in crate::event_loop) enum Reported {
    Once,
    /// Each time it is asked.
    WhileReady,
}

/// The watchers that an event is for.
pub(in crate::event_loop) struct Due {
    /// Those that receive and those that send, if the event is for them.
    pub watchers: [Option<DueWatchers>; 2],
    pub reported: Reported,
}

/// The watchers that an event in one direction is for.
pub(in crate::event_loop) struct DueWatchers {
    pub handle: Option<Handle>,
    /// The first that waits, with its entry in the ready queue.
    pub operation: Option<(Py<PyAny>, Callback)>,
}

impl Watcher {
    /// Whether the file is most likely one that the kernel has no entry of.
    pub(super) fn is_of_new_file(&self) -> bool {
        matches!(self, Self::Operation(operation) if operation.on_new_file)
    }
}

impl Watched {
    /// Whether nobody waits.
    pub(super) fn is_idle(&self) -> bool {
        self.reader.is_none()
            && self.writer.is_none()
            && self.receiving.is_empty()
            && self.sending.is_empty()
    }

    pub(super) fn due(&mut self, py: Python<'_>, direction: Direction) -> DueWatchers {
        let first = self.operations(direction).front();
        DueWatchers {
            operation: first.map(|first| (first.object.clone_ref(py), first.resume)),
            handle: self.handle(direction).as_ref().map(|handle| handle.clone_ref(py)),
        }
    }

    /// What the kernel is to report, with one more watcher.
    pub(super) fn wanted_with(&self, more: Option<(Direction, &Watcher)>) -> EventMask {
        let mut mask = EventMask::NONE;
        let mut lasting = self.reader.is_some() || self.writer.is_some();
        if self.reader.is_some() || !self.receiving.is_empty() {
            mask |= EventMask::READ;
        }
        if self.writer.is_some() || !self.sending.is_empty() {
            mask |= EventMask::WRITE;
        }
        if let Some((direction, watcher)) = more {
            mask |= match direction {
                Direction::Read => EventMask::READ,
                Direction::Write => EventMask::WRITE,
            };
            lasting |= matches!(watcher, Watcher::Handle(..));
        }
        if mask != EventMask::NONE && !lasting {
            mask |= EventMask::ONCE;
        }
        mask
    }

    /// Counts the files that the kernel may report to a watcher.
    pub(super) fn count(&mut self, awaited: &mut usize, counts: bool) {
        if std::mem::replace(&mut self.counted, counts) != counts {
            *awaited = if counts { *awaited + 1 } else { *awaited - 1 };
        }
    }

    pub(super) fn wanted(&self) -> EventMask {
        self.wanted_with(None)
    }

    pub(super) fn handle(&mut self, direction: Direction) -> &mut Option<Handle> {
        match direction {
            Direction::Read => &mut self.reader,
            Direction::Write => &mut self.writer,
        }
    }

    pub(super) fn operations(&mut self, direction: Direction) -> &mut VecDeque<PendingOperation> {
        match direction {
            Direction::Read => &mut self.receiving,
            Direction::Write => &mut self.sending,
        }
    }

    /// Takes a watcher in; the handle whose place it took.
    pub(super) fn put(&mut self, direction: Direction, watcher: Watcher) -> Option<Handle> {
        match watcher {
            Watcher::Handle(handle, object) => {
                if self.reader.is_none() && self.writer.is_none() {
                    // As asyncio's selector, which keeps the first.
                    self.object = object;
                }
                self.handle(direction).replace(handle)
            }
            Watcher::Operation(operation) => {
                self.operations(direction).push_back(operation);
                None
            }
        }
    }

    /// Takes a handle out, and the object with the last one.
    pub(super) fn take(&mut self, direction: Direction) -> (Option<Handle>, Option<Py<PyAny>>) {
        let handle = self.handle(direction).take();
        let last = self.reader.is_none() && self.writer.is_none();
        (handle, if last { self.object.take() } else { None })
    }

    pub(super) fn traverse(&self, visit: &PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.object)?;
        for handle in [&self.reader, &self.writer].into_iter().flatten() {
            handle.traverse(visit)?;
        }
        for operation in self.receiving.iter().chain(&self.sending) {
            visit.call(&operation.object)?;
        }
        Ok(())
    }
}
