//! The ready queue: what runs in the next batch, first in, first out.
//!
//! A call of `call_soon` lies in the queue itself ([`Entry::Call`]), and its handle is a ticket: it
//! knows the number of its place, and the place borrows the handle (see `event_loop::handles`). What keeps that
//! sound:
//!
//! - **Both sides of the tie are written together**, by `push_call` and `handles`, inside of the
//!   queue, and an entry is tied only while it is in the queue. [`Ready::pop`] is the only way out
//!   and unties: what it gives holds no borrowed handle. So a handle that dies always finds its
//!   entry (`give_up`), whichever thread or destructor lets go of it, at whichever moment.
//! - **The last ticket may be given out again** (`last_ticket`) once the queue's reference to it is the only
//!   one: then it is untied, on both sides, before it is tied anew, or when its call is taken out. A ticket
//!   that becomes a handle like any other is the queue's no more.
//! - **The queue is never taken, replaced or cleared as a whole.** It has no `Default`, so that
//!   `GilCell::take` does not compile. Closing a loop pops entry by entry. Tickets count from the
//!   loop's first entry and are never given twice. Where memory is short the queue is in two pieces,
//!   and tickets count through both: moving its entries aside changes none.
//! - **What an inner run puts aside has been taken out, and is tied to no handle** (`aside`). Tickets do
//!   not count it, neither while it is held nor when it is first in the queue again.
//! - **Nothing here runs Python code**, because the loop's `GilCell` is borrowed meanwhile. Entries
//!   come out to be run or dropped, and spare handles go in ready made. To drop an entry runs
//!   destructors, which may schedule, cancel and drop handles, close the loop, or hand the GIL to a
//!   thread that does.
//! - When the loop itself is freed no ticket is left: each would keep the loop. Only then all
//!   entries are taken at once.

use std::collections::VecDeque;

use pyo3::prelude::*;
use pyo3::{PyTraverseError, PyVisit};

use super::handle::Handle;
use super::queued::{Queued, Ticket};
use crate::driver::reactor::Key;

/// A callback of the core's own, with the object that it is called with.
///
/// # Safety
///
/// It is called with the object that it was queued, listed or armed with: it may rely on its type.
pub(crate) type Callback = unsafe fn(Python<'_>, &Py<PyAny>) -> PyResult<()>;

pub enum Entry {
    /// A call whose handle no code has looked at. Out of the queue: a call without a handle.
    Call(Queued),
    Handle(Handle),
    /// A source is ready (or may be: handlers check).
    Io(Key),
    Native(Py<PyAny>, Callback),
}

impl Entry {
    pub(in crate::event_loop) fn traverse(
        &self,
        visit: &PyVisit<'_>,
    ) -> Result<(), PyTraverseError> {
        match self {
            Self::Call(call) => call.traverse(visit),
            Self::Handle(handle) => handle.traverse(visit),
            Self::Native(object, _) => visit.call(object),
            Self::Io(_) => Ok(()),
        }
    }
}

/// Room for this many entries takes little memory.
const LITTLE: usize = 256;

pub(in crate::event_loop) struct Ready {
    /// What came before there was no memory for twice the room, which is in one piece. Nearly always
    /// empty; else these are first.
    earlier: VecDeque<Entry>,
    entries: VecDeque<Entry>,
    /// The ticket of the entry that was taken out last.
    served: Ticket,
    /// What inner runs have put aside (see `event_loop::nesting`). The last `held` wait for the end of
    /// such a run; those in front of them were released, and come before everything else.
    aside: VecDeque<Entry>,
    held: usize,
    /// How many entries of `aside` were taken out again.
    retaken: Ticket,
    /// The ticket that was given out last, while the loop runs: most are dropped at once, and the next
    /// call can have it. Nearly always the only reference.
    last_ticket: Option<Handle>,
}

impl Ready {
    pub(in crate::event_loop) fn new() -> Self {
        Self {
            earlier: VecDeque::new(),
            entries: VecDeque::new(),
            served: 0,
            aside: VecDeque::new(),
            held: 0,
            retaken: 0,
            last_ticket: None,
        }
    }

    /// Takes something of the loop's own, which cannot be refused.
    #[inline]
    pub(in crate::event_loop) fn push(&mut self, entry: Entry) {
        if !self.make_room() {
            self.begin_anew();
        }
        self.entries.push_back(entry);
    }

    /// Where there is no memory for twice the room (a program scheduled that many calls) there is
    /// some for a queue of its own for what comes now. If not even that much is left, `push_back`
    /// ends the process.
    #[cold]
    fn begin_anew(&mut self) {
        let mut fresh = VecDeque::new();
        if self.earlier.is_empty() && fresh.try_reserve_exact(LITTLE).is_ok() {
            self.earlier = std::mem::replace(&mut self.entries, fresh);
        } else {
            drop(self.entries.try_reserve_exact(LITTLE));
        }
    }

    /// Makes room for one more entry; whether there is memory for it.
    #[inline]
    pub(in crate::event_loop) fn make_room(&mut self) -> bool {
        self.entries.len() < self.entries.capacity() || self.entries.try_reserve(1).is_ok()
    }

    /// Takes a call, which `fill` writes in its place without running Python code, and ties it to its
    /// handle; whether there is memory for it.
    #[inline(always)]
    pub(in crate::event_loop) fn push_call(
        &mut self,
        py: Python<'_>,
        handle: &Handle,
        fill: impl FnOnce(&mut Queued),
    ) -> bool {
        if !self.make_room() {
            return false;
        }
        let before = self.earlier.len() + self.entries.len();
        self.entries.push_back(Entry::Call(Queued::EMPTY));
        if let Some(Entry::Call(call)) = self.entries.back_mut() {
            fill(call);
            call.tie(py, handle, self.served + before as Ticket + 1);
        }
        true
    }

    /// The same behind the ticket that was given out last, if nobody else has it, and there is room.
    #[inline(always)]
    pub(in crate::event_loop) fn push_call_again(
        &mut self,
        py: Python<'_>,
        fill: impl FnOnce(&mut Queued),
    ) -> Option<Handle> {
        if self.entries.len() == self.entries.capacity() {
            return None;
        }
        let handle = self.last_ticket.as_ref().filter(|handle| handle.is_unused(py))?.clone_ref(py);
        let place = handle.untied(py);
        if place != 0 {
            self.give_up(place);
        }
        self.push_call(py, &handle, fill).then_some(handle)
    }

    /// Keeps a ticket to give it out again; gives back the one that it kept until now.
    #[must_use]
    pub(in crate::event_loop) fn keep_ticket(&mut self, handle: Handle) -> Option<Handle> {
        self.last_ticket.replace(handle)
    }

    /// Lets go of the ticket that it keeps: the loop runs no more.
    #[must_use]
    pub(in crate::event_loop) fn take_ticket(&mut self) -> Option<Handle> {
        self.last_ticket.take()
    }

    /// Takes the first entry out. A call whose handle is still referred to becomes the handle's.
    #[inline(always)]
    pub(in crate::event_loop) fn pop(&mut self, py: Python<'_>) -> Option<Entry> {
        if self.released() > 0 || !self.earlier.is_empty() {
            return self.pop_earlier(py);
        }
        settle(py, self.entries.front_mut()?, &mut self.last_ticket);
        self.served += 1;
        self.entries.pop_front()
    }

    /// The first entry of those that are not in the queue itself.
    #[cold]
    fn pop_earlier(&mut self, py: Python<'_>) -> Option<Entry> {
        if self.released() > 0 {
            self.retaken += 1;
            return self.aside.pop_front();
        }
        settle(py, self.earlier.front_mut()?, &mut self.last_ticket);
        self.served += 1;
        let entry = self.earlier.pop_front();
        if self.earlier.is_empty() {
            self.earlier = VecDeque::new();
        }
        entry
    }

    /// Makes room to put one more entry aside; whether there is memory for it.
    pub(in crate::event_loop) fn make_room_aside(&mut self) -> bool {
        self.aside.try_reserve(1).is_ok()
    }

    /// Holds an entry that was taken out last until `release`. It comes back if there is no room, which
    /// the caller has made before it took the entry out.
    pub(in crate::event_loop) fn hold(&mut self, entry: Entry) -> Option<Entry> {
        if self.aside.len() == self.aside.capacity() {
            return Some(entry);
        }
        self.aside.push_back(entry);
        self.held += 1;
        None
    }

    /// Makes all that is held the first in the queue again, in its order.
    pub(in crate::event_loop) fn release(&mut self) {
        // What was released before, and has not been taken out since, was behind it in the queue.
        self.aside.rotate_right(self.held);
        self.held = 0;
    }

    fn released(&self) -> usize {
        self.aside.len() - self.held
    }

    /// What a loop leaves that is freed, when no ticket is left.
    pub(in crate::event_loop) fn take_at_the_end(&mut self) -> [VecDeque<Entry>; 3] {
        [&mut self.aside, &mut self.earlier, &mut self.entries].map(std::mem::take)
    }

    /// How many entries can be taken out.
    #[inline]
    pub(in crate::event_loop) fn len(&self) -> usize {
        self.released() + self.earlier.len() + self.entries.len()
    }

    /// How many entries were taken out so far, to see whether any was since.
    pub(in crate::event_loop) fn served(&self) -> Ticket {
        self.served + self.retaken
    }

    fn iter(&self) -> impl Iterator<Item = &Entry> {
        self.aside.range(..self.released()).chain(&self.earlier).chain(&self.entries)
    }

    #[inline]
    fn at(&mut self, ticket: Ticket) -> Option<&mut Entry> {
        self.at_with_ticket(ticket).0
    }

    #[inline]
    fn at_with_ticket(&mut self, ticket: Ticket) -> (Option<&mut Entry>, &mut Option<Handle>) {
        let place = ticket.wrapping_sub(self.served + 1) as usize;
        let entry = match place.checked_sub(self.earlier.len()) {
            Some(place) => self.entries.get_mut(place),
            None => self.earlier.get_mut(place),
        };
        (entry, &mut self.last_ticket)
    }

    /// Has the handle of the call at this place take it over.
    pub(in crate::event_loop) fn claim(&mut self, py: Python<'_>, ticket: Ticket) {
        if let (Some(entry), last_ticket) = self.at_with_ticket(ticket) {
            settle(py, entry, last_ticket);
        }
    }

    /// The handle of the call at this place dies.
    #[inline]
    pub(in crate::event_loop) fn give_up(&mut self, ticket: Ticket) {
        if let Some(Entry::Call(call)) = self.at(ticket) {
            call.forget_handle();
        }
    }

    /// How many calls have no handle any more.
    pub(in crate::event_loop) fn without_handle(&self) -> usize {
        self.iter().filter(|entry| matches!(entry, Entry::Call(call) if !call.has_handle())).count()
    }

    /// Adds the handles of what is to be called to `found`, as many as it has room for; `spare`
    /// ones for calls without. A call that came since the spare ones were made may be left out.
    pub(in crate::event_loop) fn handles(
        &mut self,
        py: Python<'_>,
        spare: &[Handle],
        found: &mut Vec<Handle>,
    ) {
        let mut spare = spare.iter();
        let released = self.released();
        for entry in self.aside.range_mut(..released) {
            if let Entry::Call(call) = entry
                && let Some(handle) = spare.next()
            {
                call.fill(handle);
                *entry = Entry::Handle(handle.clone_ref(py));
            }
        }
        let entries = self.earlier.iter_mut().chain(&mut self.entries);
        for (entry, ticket) in entries.zip(self.served + 1..) {
            if let Entry::Call(call) = entry
                && !call.has_handle()
                && let Some(handle) = spare.next()
            {
                call.tie(py, handle, ticket);
            }
        }
        let handle = |entry: &Entry| match entry {
            Entry::Call(call) => call.handle(py),
            Entry::Handle(handle) => Some(handle.clone_ref(py)),
            Entry::Io(_) | Entry::Native(..) => None,
        };
        let room = found.capacity() - found.len();
        found.extend(self.iter().filter_map(handle).take(room));
    }

    /// Makes handles that code besides the loop holds objects of their own to the collector.
    pub(in crate::event_loop) fn track_shared(&self) {
        for entry in self.iter() {
            match entry {
                Entry::Call(call) => call.track_handle(),
                Entry::Handle(handle) => handle.track_if_shared(),
                Entry::Io(_) | Entry::Native(..) => {}
            }
        }
    }

    /// Gives back the memory of a burst.
    pub(in crate::event_loop) fn trim(&mut self) {
        if self.entries.is_empty() && self.entries.capacity() > 16_384 {
            self.entries.shrink_to(1024);
        }
        if self.aside.is_empty() && self.aside.capacity() > LITTLE {
            self.aside = VecDeque::new();
        }
    }

    pub(in crate::event_loop) fn traverse(
        &self,
        visit: &PyVisit<'_>,
    ) -> Result<(), PyTraverseError> {
        let held = self.aside.range(self.released()..);
        held.chain(self.iter()).try_for_each(|entry| entry.traverse(visit))
    }
}

/// Makes a call with a handle the handle's, unless only the queue has that.
#[inline(always)]
fn settle(py: Python<'_>, entry: &mut Entry, last_ticket: &mut Option<Handle>) {
    let Entry::Call(call) = entry else { return };
    if !call.has_handle() {
        return;
    }
    if let Some(handle) = last_ticket
        && call.is_tied_to(handle)
        && handle.is_unused(py)
    {
        handle.untied(py);
        call.forget_handle();
        return;
    }
    hand_over(py, entry, last_ticket);
}

/// The call becomes the handle's, which is no ticket any more.
#[inline(never)]
fn hand_over(py: Python<'_>, entry: &mut Entry, last_ticket: &mut Option<Handle>) {
    let Entry::Call(call) = entry else { return };
    let kept = last_ticket.take_if(|handle| call.is_tied_to(handle));
    if let Some(handle) = call.untie(py) {
        // What is overwritten holds nothing any more.
        *entry = Entry::Handle(handle);
    }
    // Not the last reference: the entry has one. So nothing of Python's runs.
    drop(kept);
}
