//! `add_reader`, `add_writer` and the waits of `sock_*`: what the loop does with its table of
//! descriptors, and with the events that the kernel reports of them.

use std::io;
use std::os::fd::{AsRawFd, RawFd};

use pyo3::prelude::*;
use rustc_hash::FxHashSet;

use super::descriptors::{
    Due, DueWatchers, NestedSelector, PendingOperation, Registered, Removed, Reported, Tried,
    Watcher,
};
use super::queue::{Entry, Handle};
use super::{NativeLoop, Source};
use crate::driver::reactor::Direction;
use crate::driver::sys::selector::{Room, Selector};
use crate::driver::sys::{SelectorEvent, Token};
use crate::ffi::errors::os_error;

/// Cancels and drops what was removed.
fn settle(py: Python<'_>, event_loop: &NativeLoop, removed: Removed) -> PyResult<()> {
    drop(event_loop.descriptors.with(py, |it| it.remember_displaced(py, &removed)));
    removed.handles().try_for_each(|handle| handle.cancel(py))
}

/// Whether the loop calls the watchers of an event.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Called {
    Yes,
    /// An outer run is calling the handle, and no operation waits. The kernel reports the file again
    /// when that run goes on.
    NotNow,
}

/// Has the loop call what is due.
fn make_ready(
    py: Python<'_>,
    event_loop: &NativeLoop,
    due: DueWatchers,
    fd: RawFd,
    direction: Direction,
) -> PyResult<Called> {
    let mut called = Called::Yes;
    match due.handle {
        Some(handle) if handle.is_cancelled(py) => {
            remove(py, event_loop, fd, direction)?;
        }
        Some(handle) if event_loop.is_inner_run(py) && handle.is_context_entered(py) => {
            called = Called::NotNow;
        }
        Some(handle) => event_loop.push(py, Entry::Handle(handle)),
        None => {}
    }
    if let Some((object, resume)) = due.operation {
        event_loop.push(py, Entry::Native(object, resume));
        called = Called::Yes;
    }
    Ok(called)
}

/// All that `add_reader` and `add_writer` registered.
pub(super) fn registered(py: Python<'_>, event_loop: &NativeLoop) -> Vec<Registered> {
    event_loop.descriptors.with(py, |descriptors| descriptors.registered(py))
}

/// The number that `object` was registered by; for one that was closed and has none any more.
pub(super) fn find(event_loop: &NativeLoop, object: &Bound<'_, PyAny>) -> Option<RawFd> {
    event_loop.descriptors.with(object.py(), |descriptors| descriptors.find(object))
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
        .with(py, |descriptors| descriptors.remove_displaced(object, direction));
    Ok(removed.map(|(watched, _forgotten)| watched))
}

/// The mask of `selectors` events that `fd` is watched for by `add_reader` and `add_writer`.
pub(crate) fn mask(py: Python<'_>, event_loop: &NativeLoop, fd: RawFd) -> u32 {
    event_loop.descriptors.with(py, |descriptors| descriptors.mask(fd))
}

fn new_selector(py: Python<'_>, event_loop: &NativeLoop) -> PyResult<NestedSelector> {
    let selector = Selector::new().map_err(|error| os_error(py, &error))?;
    let (key, registration) =
        event_loop.add_source(py, selector.as_raw_fd(), Source::Descriptors)?;
    Ok(NestedSelector::new(selector, key, registration))
}

/// Makes the selector, once.
pub(super) fn open(py: Python<'_>, event_loop: &NativeLoop) -> PyResult<()> {
    if !event_loop.descriptors.with(py, |descriptors| descriptors.is_open()) {
        let selector = new_selector(py, event_loop)?;
        drop(event_loop.descriptors.with(py, |descriptors| descriptors.open(selector)));
    }
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

/// Has `operation` try again when `fd` is ready.
pub(crate) fn wait(
    py: Python<'_>,
    event_loop: &NativeLoop,
    fd: RawFd,
    direction: Direction,
    operation: PendingOperation,
) -> PyResult<()> {
    admit(py, event_loop, fd, direction, Watcher::Operation(operation))
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
    settle(py, event_loop, removed)?;
    result.map_err(|error| os_error(py, &error))
}

/// Puts another handle in the place of one whose file was closed.
pub(super) fn replace(
    py: Python<'_>,
    event_loop: &NativeLoop,
    fd: RawFd,
    direction: Direction,
    handle: Handle,
) -> PyResult<()> {
    let replaced = event_loop
        .descriptors
        .with(py, |descriptors| descriptors.replace_handle(fd, direction, handle));
    match replaced {
        Ok(replaced) => replaced.cancel(py),
        Err(_refused) => Err(os_error(py, &io::Error::from_raw_os_error(libc::EBADF))),
    }
}

/// Stops calling the handle of `fd`; whether there was one.
pub(crate) fn remove(
    py: Python<'_>,
    event_loop: &NativeLoop,
    fd: RawFd,
    direction: Direction,
) -> PyResult<bool> {
    let removed =
        event_loop.descriptors.with(py, |descriptors| descriptors.take_handle(fd, direction));
    match removed {
        Some((Some(handle), _object)) => {
            handle.cancel(py)?;
            Ok(true)
        }
        _ => Ok(false),
    }
}

/// Takes an operation back.
pub(crate) fn forget(
    event_loop: &NativeLoop,
    fd: RawFd,
    direction: Direction,
    operation: &Bound<'_, PyAny>,
) {
    let py = operation.py();
    let taken = event_loop
        .descriptors
        .with(py, |descriptors| descriptors.take_operation(fd, direction, operation));
    drop(taken);
}

/// Asks the kernel, whether the reactor has reported anything or not.
pub(super) fn poll(py: Python<'_>, event_loop: &NativeLoop) -> PyResult<()> {
    event_loop.descriptors.with(py, |descriptors| descriptors.ask_again());
    collect(py, event_loop)
}

fn take_events<'a>(
    py: Python<'_>,
    event_loop: &NativeLoop,
    room: &'a mut Room,
) -> Option<impl Iterator<Item = SelectorEvent> + use<'a>> {
    event_loop.descriptors.with(py, |descriptors| descriptors.poll_pending(room))
}

/// Has the loop call what waits for an event. Whether anything is known of its entry.
fn tell(py: Python<'_>, event_loop: &NativeLoop, event: SelectorEvent) -> PyResult<bool> {
    let due = event_loop.descriptors.with(py, |descriptors| descriptors.due(py, event));
    let Some(Due { watchers, reported }) = due else { return Ok(false) };
    for (due, direction) in watchers.into_iter().zip([Direction::Read, Direction::Write]) {
        if let Some(due) = due
            && make_ready(py, event_loop, due, event.fd, direction)? == Called::Yes
            && reported == Reported::WhileReady
        {
            event_loop.descriptors.with(py, |descriptors| descriptors.ask_again());
        }
    }
    Ok(true)
}

/// Turns what the kernel reports into ready entries and finished waits.
pub(super) fn collect(py: Python<'_>, event_loop: &NativeLoop) -> PyResult<()> {
    if !event_loop.descriptors.with(py, |descriptors| descriptors.is_pending()) {
        return Ok(());
    }
    let mut room = Room::new();
    let mut orphans = false;
    for event in take_events(py, event_loop, &mut room).into_iter().flatten() {
        orphans |= !tell(py, event_loop, event)?;
    }
    if room.is_full() {
        // There may be more, which are this iteration's as well; and those that last come again.
        let told: FxHashSet<Token> = room.events().map(|event| event.token).collect();
        let entries = event_loop.descriptors.with(py, |descriptors| {
            descriptors.ask_again();
            descriptors.entries()
        });
        let mut room = Room::of(entries);
        for event in take_events(py, event_loop, &mut room).into_iter().flatten() {
            if !told.contains(&event.token) {
                orphans |= !tell(py, event_loop, event)?;
            }
        }
        event_loop.descriptors.with(py, |descriptors| descriptors.ask_again());
    }
    if orphans {
        renew(py, event_loop);
    }
    Ok(())
}

/// The callback of an operation: it tries again, and so do those behind it until one is blocked.
pub(crate) fn resume(
    py: Python<'_>,
    event_loop: &NativeLoop,
    fd: RawFd,
    direction: Direction,
    operation: &Py<PyAny>,
) -> PyResult<()> {
    let mut next = Some(operation.clone_ref(py));
    let mut result = Ok(());
    while let Some(object) = next {
        // It may have taken itself out, and the number be another file's.
        let retry = event_loop
            .descriptors
            .with(py, |descriptors| descriptors.retry_of(fd, direction, &object));
        let Some(retry) = retry else { break };
        // SAFETY: the two came in one `PendingOperation`.
        match unsafe { retry(py, &object) } {
            Ok(Tried::Blocked) => break,
            Ok(Tried::Over) => {}
            Err(error) => result = Err(error),
        }
        let (finished, behind) = event_loop
            .descriptors
            .with(py, |descriptors| descriptors.finish(py, fd, direction, &object));
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
    // Without a descriptor to spare the loop keeps the old instance, and wakes more often.
    let Ok(fresh) = new_selector(py, event_loop) else { return };
    let old = event_loop.descriptors.with(py, |descriptors| descriptors.renew(fresh));
    if let Some(old) = old {
        drop(event_loop.sources.with(py, |sources| sources.remove(old.key)));
    }
}

/// After a fork: a selector of the child's own, with everything watched as before.
pub(super) fn move_to_child(py: Python<'_>, event_loop: &NativeLoop) -> PyResult<()> {
    let had = event_loop.descriptors.with(py, |descriptors| descriptors.forget_entries());
    if had.is_none() {
        return Ok(());
    }
    drop(had);
    open(py, event_loop)?;
    event_loop.descriptors.with(py, |descriptors| descriptors.make_entries());
    Ok(())
}
