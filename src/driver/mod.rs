//! The driver: tokio's runtime and reactor, the events it collects, and wakes from other threads.
//!
//! Knows nothing of Python objects: what is here runs without the GIL.

pub(crate) mod events;
pub(crate) mod fork;
pub(crate) mod reactor;
pub(crate) mod sys;
pub(crate) mod wakes;
