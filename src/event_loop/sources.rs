//! The loop's table of what it registered with the reactor: who gets an event.

use std::os::fd::{AsRawFd, RawFd};
use std::sync::Arc;

use pyo3::prelude::*;
use pyo3::{PyTraverseError, PyVisit};
use rustc_hash::FxHashMap;

use crate::driver::reactor::{Direction, Key, Reactor, Registration};
use crate::event_loop::NativeLoop;
use crate::event_loop::descriptors;
use crate::event_loop::timers::alarm::Alarm;
use crate::ffi::errors::os_error;
use crate::ffi::object::Object;
use crate::ffi::socket_fd::Descriptor;

/// What the loop does with a kind of object that has a registration.
///
/// Each function may be called with an object of the kind only: one that is in the table together
/// with it.
pub struct Kind {
    /// The reactor has an event for it.
    pub ready: unsafe fn(Python<'_>, &NativeLoop, &Py<PyAny>) -> PyResult<()>,
    /// After a fork: it needs a registration with the child's own reactor.
    pub move_to: unsafe fn(Python<'_>, &NativeLoop, &Py<PyAny>, &Arc<Reactor>) -> PyResult<()>,
    /// The runtime goes: it must let go of its registration.
    pub detach: unsafe fn(Python<'_>, &Py<PyAny>),
}

pub enum Source {
    /// Kept alive by the loop, as asyncio's selector keeps what it calls.
    Object(Py<PyAny>, &'static Kind),
    /// One that waits for nothing: borrowed, it takes itself out when it dies.
    Quiet(Object, &'static Kind),
    Descriptors,
    Alarm,
}

impl Source {
    fn is_own(&self) -> bool {
        matches!(self, Self::Descriptors | Self::Alarm)
    }
}

/// Who gets a key's event.
#[derive(Clone, Copy)]
pub enum Event {
    Object,
    Descriptors,
    Alarm,
}

#[derive(Default)]
pub struct Sources {
    slots: Vec<Option<Source>>,
    free: Vec<Key>,
    /// Which transport uses a descriptor, for asyncio's "is used by transport" check.
    by_fd: FxHashMap<RawFd, Key>,
    alarm: Option<(Alarm, Registration)>,
    /// How many slots belong to the loop itself: the alarm's and the descriptors'.
    own: usize,
    /// Of files that were closed too early; see `part`.
    orphans: Vec<Registration>,
}

impl Sources {
    /// Whether there is any transport, listener or the like, whose descriptor may become ready.
    #[inline]
    pub fn has_objects(&self) -> bool {
        self.slots.len() > self.free.len() + self.own
    }

    pub fn insert(&mut self, source: Source) -> Key {
        self.own += usize::from(source.is_own());
        if let Some(key) = self.free.pop() {
            self.slots[key as usize] = Some(source);
            return key;
        }
        self.slots.push(Some(source));
        (self.slots.len() - 1) as Key
    }

    /// Frees a key. The source comes back to be dropped outside the borrow.
    pub fn remove(&mut self, key: Key) -> Option<Source> {
        let source = self.slots.get_mut(key as usize)?.take();
        if let Some(source) = &source {
            self.own -= usize::from(source.is_own());
            self.free.push(key);
        }
        source
    }

    /// Puts another source in the place of an old one, which comes back.
    pub fn replace(&mut self, key: Key, source: Source) -> Option<Source> {
        self.own += usize::from(source.is_own());
        let replaced = self.slots.get_mut(key as usize)?.replace(source);
        self.own -= usize::from(replaced.as_ref().is_some_and(Source::is_own));
        replaced
    }

    pub fn event(&self, key: Key) -> Option<Event> {
        Some(match self.slots.get(key as usize)?.as_ref()? {
            Source::Object(..) | Source::Quiet(..) => Event::Object,
            Source::Descriptors => Event::Descriptors,
            Source::Alarm => Event::Alarm,
        })
    }

    /// A strong reference to the Python object that a key stands for, and what to do with it.
    fn object(&self, py: Python<'_>, key: Key) -> Option<(Py<PyAny>, &'static Kind)> {
        match self.slots.get(key as usize)?.as_ref()? {
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

    fn objects(&self, py: Python<'_>) -> Vec<(Py<PyAny>, &'static Kind)> {
        (0..self.slots.len() as Key).filter_map(|key| self.object(py, key)).collect()
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

/// Hands an event to whom the key stands for.
#[inline]
pub(crate) fn dispatch(py: Python<'_>, event_loop: &NativeLoop, key: Key) -> PyResult<()> {
    match event_loop.sources.with(py, |sources| sources.object(py, key)) {
        // SAFETY: the two were in the table together.
        Some((object, kind)) => unsafe { (kind.ready)(py, event_loop, &object) },
        None => Ok(()),
    }
}

/// Makes the alarm that timers need, if there is none yet.
pub(crate) fn prepare_alarm(py: Python<'_>, event_loop: &NativeLoop) -> PyResult<()> {
    if event_loop.sources.with(py, |sources| sources.alarm.is_none()) {
        let alarm = Alarm::new().map_err(|error| os_error(py, &error))?;
        let (_, registration) = event_loop.add_source(py, alarm.as_raw_fd(), Source::Alarm)?;
        registration.arm(Direction::Read);
        event_loop.sources.with(py, |sources| sources.alarm = Some((alarm, registration)));
    }
    Ok(())
}

/// Makes sure that a parked loop wakes within `seconds`.
pub(crate) fn arm_alarm(py: Python<'_>, event_loop: &NativeLoop, seconds: f64) -> PyResult<()> {
    // First: a callback may have forked, and this be the child. Its own reactor has an alarm of its
    // own; the one that is here until then is the parent's too.
    event_loop.reactor(py)?;
    prepare_alarm(py, event_loop)?;
    let armed = event_loop.sources.with(py, |sources| match &mut sources.alarm {
        Some((alarm, _)) => alarm.wake_within(seconds),
        None => Ok(()),
    });
    armed.map_err(|error| os_error(py, &error))
}

pub(crate) fn alarm_fired(py: Python<'_>, event_loop: &NativeLoop) {
    event_loop.sources.with(py, |sources| {
        if let Some((alarm, registration)) = &mut sources.alarm {
            alarm.fired();
            registration.blocked(Direction::Read);
        }
    });
}

/// After a fork: registers everything anew, with the child's own reactor.
pub(crate) fn move_to(
    py: Python<'_>,
    event_loop: &NativeLoop,
    reactor: &Arc<Reactor>,
) -> PyResult<()> {
    let objects = event_loop.sources.with(py, |sources| {
        // The loop's own come back with new keys, when they are needed.
        for slot in 0..sources.slots.len() as Key {
            if matches!(sources.event(slot), Some(Event::Alarm | Event::Descriptors)) {
                sources.remove(slot);
            }
        }
        sources.alarm = None;
        sources.objects(py)
    });
    for (object, kind) in objects {
        // SAFETY: the two were in the table together.
        unsafe { (kind.move_to)(py, event_loop, &object, reactor)? };
    }
    descriptors::move_to(py, event_loop)
}

/// Takes a registration back. Its file may have been closed before, behind the loop's back: then the
/// kernel has taken it back already, and the reactor would have it do so again by the number, which
/// another file may have that is registered as well. So it waits for the end of the runtime. (It
/// cannot be forgotten: it keeps the runtime's own descriptors open.)
pub(crate) fn take_back(
    py: Python<'_>,
    event_loop: &NativeLoop,
    registration: Option<Registration>,
    file: &Descriptor,
) {
    // SAFETY: no pointers; a number that is not in use is an error.
    let in_use = || unsafe { libc::fcntl(file.number(), libc::F_GETFD) } >= 0;
    match registration {
        Some(registration) if file.open(py).is_err() && in_use() => {
            event_loop.sources.with(py, |sources| sources.orphans.push(registration));
        }
        registration => drop(registration),
    }
}

/// Before the runtime goes: takes every registration back, leaving the objects as they are.
pub(crate) fn detach_all(py: Python<'_>, event_loop: &NativeLoop) {
    let (own, objects) = event_loop.sources.with(py, |sources| {
        ((sources.alarm.take(), std::mem::take(&mut sources.orphans)), sources.objects(py))
    });
    drop(own);
    for (object, kind) in objects {
        // SAFETY: the two were in the table together.
        unsafe { (kind.detach)(py, &object) };
    }
}
