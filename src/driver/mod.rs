//! The driver: tokio's runtime and reactor, the events they collect, and wakes from other threads.
//!
//! | module | owns |
//! |---|---|
//! | `reactor` | a loop's tokio runtime, how it is polled, descriptors registered with it |
//! | `events` | the keys of sources that became ready, as the reactor's wakers report them |
//! | `mailbox` | letters to a loop from any thread, which end its sleep |
//! | `sys` | the platform: the contract, and a folder for each that fulfils it |
//!
//! `reactor` uses `events`, and so does `mailbox`. `sys` uses none of them, and may be used from anywhere
//! in the crate. Forks, and the inbox that a mailbox has, are those of the bridge's crate.
//!
//! This code runs with or without the GIL and knows nothing of Python: it uses no other room of
//! the crate.

pub(crate) mod events;
pub(crate) mod mailbox;
pub(crate) mod reactor;
pub(crate) mod sys;

pub(crate) use tokioloop_bridge::sys::{fork, inbox};
