//! The loop's table of what it registered with the reactor: who gets an event.

use std::collections::HashMap;
use std::os::fd::{AsRawFd, RawFd};
use std::sync::Arc;

use pyo3::prelude::*;
use pyo3::{PyTraverseError, PyVisit};

use crate::descriptors;
use crate::errors::os_error;
use crate::event_loop::NativeLoop;
use crate::listener::Listener;
use crate::object::Object;
use crate::reactor::{Direction, Key, Reactor, Registration};
use crate::timers::alarm::Alarm;
use crate::transports;

pub enum Source {
    /// An open transport, kept alive by the loop as asyncio's selector keeps it.
    Stream(Py<PyAny>),
    /// A transport that neither reads nor writes: borrowed, it takes itself out when it dies.
    QuietStream(Object),
    Listener(Py<Listener>),
    Descriptors,
    Alarm,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Stream,
    Listener,
    Descriptors,
    Alarm,
}

#[derive(Default)]
pub struct Sources {
    slots: Vec<Option<Source>>,
    free: Vec<Key>,
    /// Which transport uses a descriptor, for asyncio's "is used by transport" check.
    by_fd: HashMap<RawFd, Key>,
    alarm: Option<(Alarm, Registration)>,
}

impl Sources {
    pub fn insert(&mut self, source: Source) -> Key {
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
        if source.is_some() {
            self.free.push(key);
        }
        source
    }

    /// Puts another source in the place of an old one, which comes back.
    pub fn replace(&mut self, key: Key, source: Source) -> Option<Source> {
        self.slots.get_mut(key as usize)?.replace(source)
    }

    pub fn kind(&self, key: Key) -> Option<Kind> {
        Some(match self.slots.get(key as usize)?.as_ref()? {
            Source::Stream(_) | Source::QuietStream(_) => Kind::Stream,
            Source::Listener(_) => Kind::Listener,
            Source::Descriptors => Kind::Descriptors,
            Source::Alarm => Kind::Alarm,
        })
    }

    /// A strong reference to the Python object that a key stands for.
    fn object(&self, py: Python<'_>, key: Key) -> Option<Py<PyAny>> {
        match self.slots.get(key as usize)?.as_ref()? {
            Source::Stream(transport) => Some(transport.clone_ref(py)),
            // SAFETY: alive: its destructor removes it from this table first.
            Source::QuietStream(transport) => {
                Some(unsafe { Bound::from_borrowed_ptr(py, *transport).unbind() })
            }
            Source::Listener(listener) => Some(listener.clone_ref(py).into_any()),
            Source::Descriptors | Source::Alarm => None,
        }
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
        self.object(py, *self.by_fd.get(&fd)?)
    }

    pub fn traverse(&self, visit: &PyVisit<'_>) -> Result<(), PyTraverseError> {
        for source in self.slots.iter().flatten() {
            match source {
                Source::Stream(transport) => visit.call(transport)?,
                Source::Listener(listener) => visit.call(listener)?,
                Source::QuietStream(_) | Source::Descriptors | Source::Alarm => {}
            }
        }
        Ok(())
    }
}

/// Hands an event to whom the key stands for.
#[inline]
pub fn dispatch(py: Python<'_>, event_loop: &NativeLoop, key: Key) -> PyResult<()> {
    enum Target {
        Stream(Py<PyAny>),
        Listener(Py<Listener>),
    }
    let target = event_loop.sources.with(py, |sources| {
        Some(match sources.slots.get(key as usize)?.as_ref()? {
            Source::Stream(transport) => Target::Stream(transport.clone_ref(py)),
            // SAFETY: alive, see `Sources::object`.
            Source::QuietStream(transport) => {
                Target::Stream(unsafe { Bound::from_borrowed_ptr(py, *transport).unbind() })
            }
            Source::Listener(listener) => Target::Listener(listener.clone_ref(py)),
            Source::Descriptors | Source::Alarm => return None,
        })
    });
    match target {
        Some(Target::Stream(transport)) => transports::ready(py, &transport),
        Some(Target::Listener(listener)) => listener.get().accept(py, event_loop),
        None => Ok(()),
    }
}

/// Makes sure that a parked loop wakes within `seconds`.
pub fn arm_alarm(py: Python<'_>, event_loop: &NativeLoop, seconds: f64) -> PyResult<()> {
    if event_loop.sources.with(py, |sources| sources.alarm.is_none()) {
        let alarm = Alarm::new().map_err(|error| os_error(&error))?;
        let (_, registration) = event_loop.add_source(py, alarm.as_raw_fd(), Source::Alarm)?;
        registration.arm(Direction::Read);
        event_loop.sources.with(py, |sources| sources.alarm = Some((alarm, registration)));
    }
    event_loop.sources.with(py, |sources| match &mut sources.alarm {
        Some((alarm, _)) => alarm.wake_within(seconds).map_err(|error| os_error(&error)),
        None => Ok(()),
    })
}

pub fn alarm_fired(py: Python<'_>, event_loop: &NativeLoop) {
    event_loop.sources.with(py, |sources| {
        if let Some((alarm, registration)) = &mut sources.alarm {
            alarm.fired();
            registration.blocked(Direction::Read);
        }
    });
}

/// After a fork: registers everything anew, with the child's own reactor.
pub fn move_to(py: Python<'_>, event_loop: &NativeLoop, reactor: &Arc<Reactor>) -> PyResult<()> {
    let everything = event_loop.sources.with(py, |sources| {
        sources.alarm = None;
        (0..sources.slots.len() as Key)
            .filter_map(|key| Some((key, sources.kind(key)?, sources.object(py, key))))
            .collect::<Vec<_>>()
    });
    for (key, kind, object) in everything {
        match (kind, object) {
            (Kind::Stream, Some(transport)) => {
                transports::move_to(py, &transport, reactor, key)?;
            }
            (Kind::Listener, Some(listener)) => {
                listener.cast_bound::<Listener>(py)?.get().move_to(py, reactor, key)?;
            }
            _ => drop(event_loop.sources.with(py, |sources| sources.remove(key))),
        }
    }
    descriptors::move_to(py, event_loop)
}

/// Before the runtime goes: takes every registration back, leaving the objects as they are.
pub fn detach_all(py: Python<'_>, event_loop: &NativeLoop) {
    let (alarm, objects) = event_loop.sources.with(py, |sources| {
        let objects = (0..sources.slots.len() as Key)
            .filter_map(|key| Some((sources.kind(key)?, sources.object(py, key)?)))
            .collect::<Vec<_>>();
        (sources.alarm.take(), objects)
    });
    drop(alarm);
    for (kind, object) in objects {
        if kind == Kind::Stream {
            transports::detach(py, &object);
        } else if let Ok(listener) = object.cast_bound::<Listener>(py) {
            listener.get().detach(py);
        }
    }
}
