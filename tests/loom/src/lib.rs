//! loom's models of what wakers and the loop do to each other on any threads.
//!
//! The sources are the loop's own, built for loom, which runs each model in all orders of its
//! threads' steps (up to so many preemptions), weak memory included. A wake that is lost shows as a
//! deadlock of the sleeping loop.

#[path = "../../../src/driver/events.rs"]
pub mod events;
#[path = "../../../src/driver/fork.rs"]
mod fork;
#[path = "../../../src/driver/wakes.rs"]
pub mod wakes;

#[cfg(test)]
mod models;
