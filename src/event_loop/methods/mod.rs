//! What Python calls on the loop, of the loop's own.
//!
//! `scheduling` runs for every callback and is made of plain C functions; `descriptors` runs once a
//! descriptor and is left to PyO3. What is built on the loop (transports, `sock_*`, primitives) adds
//! its methods to the class from where it lives.

mod attributes;
mod descriptors;
mod scheduling;

pub(in crate::event_loop) use scheduling::install;
