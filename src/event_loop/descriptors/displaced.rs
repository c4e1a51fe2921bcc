//! File objects that were closed, whose number another file has got and is watched by.
//!
//! On asyncio's loop they are still known by the object, and removing them is no error: a watcher
//! of a file cannot know that other code has closed it, nor which file has its number by now. They
//! are not kept alive here.

use pyo3::prelude::*;
use pyo3::types::{PyWeakrefMethods, PyWeakrefReference};
use pyo3::{PyTraverseError, PyVisit};

use super::watched::Watched;
use crate::driver::reactor::Direction;

#[derive(Default)]
pub(in crate::event_loop) struct Displaced {
    files: Vec<File>,
    /// At how many of them to look for those that are gone.
    full: usize,
}

struct File {
    object: Py<PyWeakrefReference>,
    reader: bool,
    writer: bool,
}

impl File {
    fn flag(&mut self, direction: Direction) -> &mut bool {
        match direction {
            Direction::Read => &mut self.reader,
            Direction::Write => &mut self.writer,
        }
    }
}

/// A displaced file, to be remembered. `None`: it was watched by its number, or is nothing that
/// weak references are made of.
pub(in crate::event_loop) struct Note(File);

impl Note {
    pub(in crate::event_loop) fn of(py: Python<'_>, displaced: &Watched) -> Option<Self> {
        let object = PyWeakrefReference::new(displaced.object.as_ref()?.bind(py)).ok()?.unbind();
        let (reader, writer) = (displaced.reader.is_some(), displaced.writer.is_some());
        Some(Self(File { object, reader, writer }))
    }
}

impl Displaced {
    /// Remembers a file. What is forgotten for it is for the caller to drop.
    #[must_use]
    pub(in crate::event_loop) fn remember(
        &mut self,
        py: Python<'_>,
        note: Note,
    ) -> impl Sized + use<> {
        let mut gone = Vec::new();
        if self.files.len() >= self.full {
            gone = self
                .files
                .extract_if(.., |file| file.object.bind(py).upgrade().is_none())
                .collect();
            self.full = (self.files.len() * 2).max(16);
        }
        self.files.push(note.0);
        gone
    }

    /// Whether `object` was watched when it lost its number, and was not removed since. What is
    /// forgotten is for the caller to drop.
    pub(in crate::event_loop) fn remove(
        &mut self,
        object: &Bound<'_, PyAny>,
        direction: Direction,
    ) -> Option<(bool, impl Sized + use<>)> {
        let is_it =
            |file: &File| file.object.bind(object.py()).upgrade().is_some_and(|it| it.is(object));
        let at = self.files.iter().position(is_it)?;
        let watched = std::mem::take(self.files[at].flag(direction));
        let file = &self.files[at];
        let forgotten = (!file.reader && !file.writer).then(|| self.files.swap_remove(at));
        Some((watched, forgotten))
    }

    pub(in crate::event_loop) fn traverse(
        &self,
        visit: &PyVisit<'_>,
    ) -> Result<(), PyTraverseError> {
        self.files.iter().try_for_each(|file| visit.call(&file.object))
    }
}
