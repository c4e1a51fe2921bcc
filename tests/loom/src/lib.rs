//! loom's models of wakers and the loop that meet on any threads.
//!
//! The sources are the loop's own, built for loom, which runs each model in all orders of its
//! threads' steps (up to so many preemptions), weak memory included. A wake that is lost shows as a
//! deadlock of the sleeping loop.

#![cfg_attr(not(test), allow(dead_code, reason = "only the models use all of the sources"))]

#[path = "../../../src/driver/events.rs"]
pub mod events;
#[path = "../../../crates/tokioloop-bridge/src/sys/fork.rs"]
mod fork;
#[path = "../../../crates/tokioloop-bridge/src/sys/inbox.rs"]
pub mod inbox;
#[path = "../../../src/driver/mailbox.rs"]
pub mod mailbox;
#[path = "../../../crates/tokioloop-bridge/src/sys/wake_state.rs"]
pub mod wake_state;

#[cfg(test)]
mod models;
