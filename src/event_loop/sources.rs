//! The table of what a loop registered with the reactor: which object gets an event.
//!
//! A table and nothing else: it calls none of its objects. `L` is the loop.

use std::os::fd::RawFd;
use std::sync::Arc;

use pyo3::prelude::*;
use pyo3::{PyTraverseError, PyVisit};
use rustc_hash::FxHashMap;

use crate::driver::reactor::{Key, Reactor, Registration};
use crate::event_loop::timers::alarm::Alarm;
use crate::ffi::object::Object;

/// What the loop does with a kind of object that has a registration.
///
/// Each function may be called with an object of the kind only: one that is in the table together
/// with it.
pub struct SourceVTable<L> {
    /// The reactor has an event for it.
    pub ready: unsafe fn(Python<'_>, &L, &Py<PyAny>) -> PyResult<()>,
    /// After a fork: it needs a registration with the child's own reactor.
    pub move_to: unsafe fn(Python<'_>, &L, &Py<PyAny>, &Arc<Reactor>) -> PyResult<()>,
    /// The runtime goes: it must let go of its registration.
    pub detach: unsafe fn(Python<'_>, &Py<PyAny>),
}

pub enum Source<L: 'static> {
    /// Kept alive by the loop, as asyncio's selector keeps what it calls.
    Object(Py<PyAny>, &'static SourceVTable<L>),
    /// One that waits for nothing: borrowed, it takes itself out when it dies.
    Quiet(Object, &'static SourceVTable<L>),
    Descriptors,
    Alarm,
}

impl<L> Source<L> {
    fn is_own(&self) -> bool {
        matches!(self, Self::Descriptors | Self::Alarm)
    }
}

/// Which part of the loop gets a key's event.
#[derive(Clone, Copy)]
pub(super) enum Event {
    Object,
    Descriptors,
    Alarm,
}

/// A key is the number of a place in the table and, above these bits, how often the place was given up:
/// an event may still be on its way to what had the place before.
const PLACE_BITS: u32 = 26;
const PLACE: Key = (1 << PLACE_BITS) - 1;

pub struct Sources<L: 'static> {
    slots: Vec<Option<Source<L>>>,
    /// How often each place was given up, as far as a key has bits for it.
    generations: Vec<u8>,
    /// The next keys of places that nothing has.
    free: Vec<Key>,
    /// Which transport uses a descriptor, for asyncio's "is used by transport" check.
    by_fd: FxHashMap<RawFd, Key>,
    /// The registration comes first: it is dropped before the alarm's descriptor is closed.
    pub(in crate::event_loop) alarm: Option<(Registration, Alarm)>,
    /// How many slots belong to the loop itself: the alarm's and the descriptors'.
    own: usize,
    /// Of files that were closed too early; see `dispatch::deregister`.
    pub(in crate::event_loop) orphans: Vec<Registration>,
}

impl<L> Default for Sources<L> {
    fn default() -> Self {
        Self {
            slots: Vec::new(),
            generations: Vec::new(),
            free: Vec::new(),
            by_fd: FxHashMap::default(),
            alarm: None,
            own: 0,
            orphans: Vec::new(),
        }
    }
}

impl<L> Sources<L> {
    /// Whether there is any transport, listener or the like, whose descriptor may become ready.
    #[inline]
    pub fn has_objects(&self) -> bool {
        self.slots.len() > self.free.len() + self.own
    }

    /// How many transports, listeners or the like read, listen or have something to send.
    pub(in crate::event_loop) fn waiting(&self) -> usize {
        self.slots.iter().flatten().filter(|it| matches!(it, Source::Object(..))).count()
    }

    /// The place of a key, if that is not an older one.
    #[inline]
    fn place(&self, key: Key) -> Option<usize> {
        let place = (key & PLACE) as usize;
        let generation = (key >> PLACE_BITS) as u8;
        (self.generations.get(place) == Some(&generation)).then_some(place)
    }

    fn keys(&self) -> impl Iterator<Item = Key> {
        let generations = self.generations.iter().zip(0..);
        generations.map(|(generation, place)| place | Key::from(*generation) << PLACE_BITS)
    }

    pub fn insert(&mut self, source: Source<L>) -> Key {
        self.own += usize::from(source.is_own());
        if let Some(key) = self.free.pop() {
            self.slots[(key & PLACE) as usize] = Some(source);
            return key;
        }
        let key = self.slots.len() as Key;
        assert!(key < PLACE, "more descriptors than any kernel has");
        self.slots.push(Some(source));
        self.generations.push(0);
        key
    }

    /// Frees a key. The source comes back to be dropped outside the borrow.
    pub fn remove(&mut self, key: Key) -> Option<Source<L>> {
        let place = self.place(key)?;
        let source = self.slots[place].take()?;
        self.own -= usize::from(source.is_own());
        let next = key.wrapping_add(1 << PLACE_BITS);
        self.generations[place] = (next >> PLACE_BITS) as u8;
        self.free.push(next);
        Some(source)
    }

    /// Puts another source in the place of an old one, which comes back.
    pub fn replace(&mut self, key: Key, source: Source<L>) -> Option<Source<L>> {
        let place = self.place(key)?;
        self.own += usize::from(source.is_own());
        let replaced = self.slots[place].replace(source);
        self.own -= usize::from(replaced.as_ref().is_some_and(Source::is_own));
        replaced
    }

    pub(super) fn event(&self, key: Key) -> Option<Event> {
        Some(match self.slots[self.place(key)?].as_ref()? {
            Source::Object(..) | Source::Quiet(..) => Event::Object,
            Source::Descriptors => Event::Descriptors,
            Source::Alarm => Event::Alarm,
        })
    }

    /// A strong reference to the Python object that a key stands for, and what to do with it.
    pub(in crate::event_loop) fn object(
        &self,
        py: Python<'_>,
        key: Key,
    ) -> Option<(Py<PyAny>, &'static SourceVTable<L>)> {
        match self.slots[self.place(key)?].as_ref()? {
            Source::Object(object, kind) => Some((object.clone_ref(py), kind)),
            Source::Quiet(object, kind) => {
                // SAFETY: alive: its destructor removes it from this table first.
                Some((unsafe { Bound::from_borrowed_ptr(py, *object).unbind() }, kind))
            }
            Source::Descriptors | Source::Alarm => None,
        }
    }

    /// The Python objects that keys stand for.
    pub fn everybody(&self, py: Python<'_>) -> Vec<Py<PyAny>> {
        self.objects(py).into_iter().map(|(object, _)| object).collect()
    }

    pub(in crate::event_loop) fn objects(
        &self,
        py: Python<'_>,
    ) -> Vec<(Py<PyAny>, &'static SourceVTable<L>)> {
        self.keys().filter_map(|key| self.object(py, key)).collect()
    }

    /// Before the objects are registered anew: the loop's own sources come back with new keys, when
    /// they are needed.
    pub(in crate::event_loop) fn forget_own(&mut self) {
        let own = |sources: &Self, key: &Key| {
            matches!(sources.event(*key), Some(Event::Alarm | Event::Descriptors))
        };
        let keys: Vec<_> = self.keys().filter(|key| own(self, key)).collect();
        for key in keys {
            self.remove(key);
        }
        self.alarm = None;
    }

    pub fn claim_fd(&mut self, fd: RawFd, key: Key) {
        self.by_fd.insert(fd, key);
    }

    pub fn release_fd(&mut self, fd: RawFd, key: Key) {
        if self.by_fd.get(&fd) == Some(&key) {
            self.by_fd.remove(&fd);
        }
    }

    /// Forgets which transport uses `fd`; whether there was one.
    pub fn disown_fd(&mut self, fd: RawFd) -> bool {
        self.by_fd.remove(&fd).is_some()
    }

    pub fn owner_of(&self, py: Python<'_>, fd: RawFd) -> Option<Py<PyAny>> {
        Some(self.object(py, *self.by_fd.get(&fd)?)?.0)
    }

    pub fn traverse(&self, visit: &PyVisit<'_>) -> Result<(), PyTraverseError> {
        for source in self.slots.iter().flatten() {
            match source {
                Source::Object(object, _) => visit.call(object)?,
                Source::Quiet(..) | Source::Descriptors | Source::Alarm => {}
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_that_was_given_up_stands_for_nothing() {
        let mut sources = Sources::<()>::default();
        let old = sources.insert(Source::Alarm);
        let other = sources.insert(Source::Descriptors);
        assert!(sources.remove(old).is_some());
        let new = sources.insert(Source::Descriptors);
        assert_ne!(new, old);
        assert!(sources.event(old).is_none());
        assert!(matches!(sources.event(new), Some(Event::Descriptors)));
        assert!(sources.replace(old, Source::Alarm).is_none());
        assert!(sources.remove(old).is_none());
        assert!(sources.replace(new, Source::Alarm).is_some());
        assert!(matches!(sources.event(new), Some(Event::Alarm)));
        assert!(matches!(sources.event(other), Some(Event::Descriptors)));
        assert!(sources.event(7).is_none());
    }

    #[test]
    fn a_place_is_used_again_and_again() {
        let mut sources = Sources::<()>::default();
        let mut keys = Vec::new();
        for _ in 0..64 {
            keys.push(sources.insert(Source::Alarm));
            assert!(sources.remove(keys[keys.len() - 1]).is_some());
        }
        keys.sort_unstable();
        keys.dedup();
        assert_eq!((keys.len(), sources.slots.len()), (64, 1));
        let again = sources.insert(Source::Alarm);
        assert!(keys.contains(&again));
        sources.forget_own();
        assert!(sources.event(again).is_none());
        assert!(!sources.has_objects());
    }
}
