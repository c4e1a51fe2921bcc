//! The awaitable: a Rust future as a coroutine, polled where it is awaited.
//!
//! A step polls the future, in the awaiting task's context and inside of the loop's runtime. Ready,
//! it returns without a trip through the loop. Pending, it yields its yielded future, an object that
//! the loop calls once a waker woke it. Woken by its own poll, it yields `None`, and asyncio steps the
//! task again.
//!
//! While a waker can wake it the yielded future is kept by the target: so a task that only a waker knows of
//! is not garbage, for the yielded future has its wake-up function. To the collector that reference is
//! one from outside, and after the wake one of the loop's. Once the last waker is gone it counts as the
//! yielded future's own: then they are a cycle like others. A waker that the future itself owns is one
//! from outside as well.
//!
//! # States
//!
//! See [`Phase`](state::Phase). `Fresh` holds nothing but its future. The first step makes it
//! `Running`, and binds it to the running loop: `link`, `event_loop` and `target` are set together,
//! once, and the latter two are dropped together.
//! A poll takes the future out and has the phase `Running`, so that code which comes back here is
//! refused; `Suspended` has it back in its place. `Done` and `Orphaned` hold nothing.
//!
//! # Who may touch what
//!
//! Wakers, on any thread and without the GIL, know the target and nothing else. All fields of the
//! object belong to the holder of the GIL and a reference. They are reached through a raw pointer,
//! one at a time: no `&mut` to the object exists, because a poll, the destructor of a future and each
//! dropped reference may run code that comes back. `take_apart` empties each field before it drops
//! what the field held.
//!
//! The yielded future is made once, borrows the awaitable, and may outlive it: `take_apart` and
//! `dealloc` disown it before any other code can look. The target keeps the yielded future from `park`
//! until the loop calls it, or another one steps the awaitable (`unpark`), or it ends (`release`).
//!
//! # What frees it
//!
//! The last reference. A future may own another awaitable, and that the next: what may lead to one is
//! dropped after the other, not inside (`python::nested_drops`).

// Each module uses only modules named before it: state, yielded, steps, class.
mod class;
mod state;
mod steps;
mod yielded;

pub(super) use class::new as new_awaitable;
pub(super) use state::FutureType;
