//! The awaitable: a Rust future as a coroutine, polled where it is awaited.
//!
//! A step polls the future, in the awaiting task's context and inside of the loop's runtime. Ready,
//! it returns without a trip through the loop. Pending, it yields its yielded future, an object that
//! the loop calls once a waker woke it. Woken by its own poll, it yields `None`, and asyncio steps the
//! task again.
//!
//! While a waker can wake it the awaitable refers to itself: a task that only a waker knows of is not
//! garbage. (To the collector the reference is one from outside until the last waker is gone; then
//! it is a cycle like others.)
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
//! `dealloc` disown it before any other code can look. The loop borrows the yielded future from `park`
//! to `release`.
//!
//! # What frees it
//!
//! The last reference, through the trashcan: a future may own another awaitable. `held` says that one
//! of the references is its own; `let_go` gives that up when it is woken or stepped, and `end` as the
//! last thing it does.

// Each module uses only modules named before it: state, yielded, steps, class.
mod class;
mod state;
mod steps;
mod yielded;

pub(super) use class::new as new_awaitable;
