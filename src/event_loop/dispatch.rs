//! The loop's registrations with the reactor: events are delivered to their objects, the alarm is
//! armed, and a fork or the end of the loop takes registrations along.

use std::os::fd::AsRawFd;
use std::sync::Arc;

use pyo3::prelude::*;

use super::NativeLoop;
use super::sources::Source;
use super::watching;
use crate::driver::reactor::{Direction, Key, Reactor, Registration};
use crate::driver::sys::descriptor::is_open;
use crate::event_loop::timers::alarm::Alarm;
use crate::ffi::errors::os_error;
use crate::ffi::finalizing;
use crate::ffi::socket_fd::Descriptor;

/// Delivers an event to the object that the key stands for.
#[inline]
pub(super) fn deliver(py: Python<'_>, event_loop: &NativeLoop, key: Key) -> PyResult<()> {
    match event_loop.sources.with(py, |sources| sources.object(py, key)) {
        Some((object, kind)) => {
            // SAFETY: the two were in the table together.
            let result = unsafe { (kind.ready)(py, event_loop, &object) };
            drop(object.into_bound(py));
            result
        }
        None => Ok(()),
    }
}

/// Makes the alarm that timers need, if there is none yet.
pub(super) fn prepare_alarm(py: Python<'_>, event_loop: &NativeLoop) -> PyResult<()> {
    if event_loop.sources.with(py, |sources| sources.alarm.is_none()) {
        let alarm = Alarm::new().map_err(|error| os_error(py, &error))?;
        let (_, registration) = event_loop.add_source(py, alarm.as_raw_fd(), Source::Alarm)?;
        registration.arm(Direction::Read);
        event_loop.sources.with(py, |sources| sources.alarm = Some((registration, alarm)));
    }
    Ok(())
}

/// Makes sure that a loop which blocks wakes within `seconds`.
pub(super) fn arm_alarm(py: Python<'_>, event_loop: &NativeLoop, seconds: f64) -> PyResult<()> {
    // First: a callback may have forked, and this be the child. Its own reactor has an alarm of its
    // own; the one that is here until then is the parent's too.
    event_loop.reactor(py)?;
    prepare_alarm(py, event_loop)?;
    let armed = event_loop.sources.with(py, |sources| match &mut sources.alarm {
        Some((_, alarm)) => alarm.wake_within(seconds),
        None => Ok(()),
    });
    armed.map_err(|error| os_error(py, &error))
}

pub(super) fn alarm_fired(py: Python<'_>, event_loop: &NativeLoop) {
    event_loop.sources.with(py, |sources| {
        if let Some((registration, alarm)) = &mut sources.alarm {
            alarm.fired();
            registration.blocked(Direction::Read);
        }
    });
}

/// After a fork: registers everything anew, with the child's own reactor.
pub(super) fn move_to(
    py: Python<'_>,
    event_loop: &NativeLoop,
    reactor: &Arc<Reactor>,
) -> PyResult<()> {
    let objects = event_loop.sources.with(py, |sources| {
        sources.forget_own();
        sources.objects(py)
    });
    for (object, kind) in objects {
        // SAFETY: the two were in the table together.
        unsafe { (kind.move_to)(py, event_loop, &object, reactor)? };
    }
    watching::move_to_child(py, event_loop)
}

/// Deregisters a file. The program may have closed it before: then the kernel has dropped the
/// registration already, and the reactor would deregister by the number, which another registered file
/// may have by now. So such a registration is kept to the end of the runtime. (It cannot be leaked: it
/// keeps the runtime's own descriptors open.)
pub(crate) fn deregister(
    py: Python<'_>,
    event_loop: &NativeLoop,
    registration: Option<Registration>,
    file: &Descriptor,
) {
    match registration {
        Some(registration) if file.open(py).is_err() && is_open(file.number()) => {
            event_loop.sources.with(py, |sources| sources.orphans.push(registration));
        }
        registration => drop(registration),
    }
}

/// Before the runtime is dropped: drops every registration, and leaves the objects as they are.
pub(super) fn detach_all(py: Python<'_>, event_loop: &NativeLoop) {
    let (own, objects) = event_loop.sources.with(py, |sources| {
        ((sources.alarm.take(), std::mem::take(&mut sources.orphans)), sources.objects(py))
    });
    drop(own);
    for (object, kind) in objects {
        // SAFETY: the two were in the table together.
        unsafe { (kind.detach)(py, &object) };
    }
}

impl NativeLoop {
    /// Registers a descriptor and what its events are for.
    pub fn add_source(
        &self,
        py: Python<'_>,
        fd: i32,
        source: Source<NativeLoop>,
    ) -> PyResult<(Key, Registration)> {
        let reactor = self.reactor(py)?;
        let key = self.sources.with(py, |sources| sources.insert(source));
        match reactor.register(fd, key) {
            Ok(registration) => Ok((key, registration)),
            Err(error) => {
                drop(self.sources.with(py, |sources| sources.remove(key)));
                Err(os_error(py, &error))
            }
        }
    }

    /// The runtime, made at first need and made anew in a forked child.
    pub fn reactor(&self, py: Python<'_>) -> PyResult<Arc<Reactor>> {
        if let Some(reactor) = self.wakeups.reactor(py)
            && !reactor.is_forked()
        {
            return Ok(reactor);
        }
        self.check_closed(py)?;
        let reactor =
            Arc::new(Reactor::new(finalizing::guard).map_err(|error| os_error(py, &error))?);
        self.wake_targets.attach(&reactor);
        let inherited = self.wakeups.replace_reactor(py, Arc::clone(&reactor));
        if inherited.is_some() {
            drop(inherited);
            move_to(py, self, &reactor)?;
        }
        // A loop that has run out of descriptors needs timers, to go on later. If there is none
        // left now, the first timer tries again.
        drop(prepare_alarm(py, self));
        Ok(reactor)
    }

    /// The runtime, for Rust futures that use it: from now on it is also polled for them.
    pub fn shared_reactor(&self, py: Python<'_>) -> PyResult<Arc<Reactor>> {
        self.wakeups.share_runtime(py);
        self.reactor(py)
    }
}
