//! `Handle` and `TimerHandle`: what `call_soon` and `call_later` give out.
//!
//! A handle holds its call: up to three arguments lie inside it, behind a scratch slot that lets a
//! bound method put its `self` in front without copying. Most handles are dropped as soon as they
//! are made, so a call of `call_soon` stays in the ready queue's own memory until some code looks at
//! its handle (`queued`), and freed handles are kept for the next call. `__class__` answers with
//! asyncio's class, so `isinstance` holds.
//!
//! # States
//!
//! A handle is in one of these [`State`]s; every change happens with the GIL held and runs no
//! Python code on the way.
//!
//! - `Ticket`: the call is in the ready queue, tied to this handle (`event_loop::ready`). All that
//!   the handle holds is its loop; callback, context and arguments are null. The queue holds no
//!   reference: the last one that goes leaves the call to the queue, and where weak references know
//!   the handle the queue takes it (and the call becomes the handle's). Ends by `claim`, `give_up`,
//!   or the queue's `pop`; never comes back. While the loop runs the queue keeps the last one, to give
//!   it out again: that one stays a ticket without a place when its call has been taken out.
//! - `Whole`: the handle holds its call, or nothing any more, after `cancel()` or the collector's
//!   `clear`. The loop may hold it (in the ready queue, the heap, the table of descriptors) by a
//!   [`Handle`], which is a reference like any other.
//! - `Shown`: whole, in the loop's hands, and the last one given out while the loop did not run.
//!
//! # Access
//!
//! A thread that holds the GIL and a reference. `callback`, `many` and `inline` change only in `fill`
//! (from null) and `release_call` (to null), which empties each field before it drops what was
//! there: a destructor that comes back finds null. A call that is being made (`run`) borrows them,
//! so `cancel()` only hides them, and leaves their release to the end of the call. A tool may put
//! another `callback` there at any time; hence the call has a reference of its own to the one that it
//! calls. `context` is null in a ticket only. `event_loop` is set for life, so that every method of a live handle finds its loop; only
//! `dealloc` drops it. No `&mut HandleObject` lives across a call that can run Python code.
//!
//! # Garbage collection
//!
//! To the garbage collector a handle in the loop's hands is a part of the loop, while the loop
//! runs: the loop's traversal goes through it (`Handle::traverse`), and a burst of callbacks does
//! not make the collector visit each again and again. A loop that runs is no garbage, so nothing is
//! lost. A loop that does not may be, together with handles that only the rest of the garbage
//! holds, so there each handle that code besides the loop holds is tracked: tickets, and what
//! `give` gives out, at once; all others at the end of `run`. To find out that the caller dropped a
//! handle the loop remembers the one that it gave out last (`Shown`), and looks at it when it gives
//! out the next.
//!
//! # Deallocation
//!
//! The last reference, through the trashcan, because a handle can be the argument of the
//! next one's call, and a chain of them may be long. A ticket has nothing to take apart.

mod attributes;
mod calling;
mod class;
mod making;
mod thread_safe;

pub(crate) use super::queue::Handle;
pub(crate) use class::register;
pub(crate) use making::{Call, source};
