//! The methods of the loop's own that Python calls.
//!
//! `scheduling` runs for every callback and is made of plain C functions; `descriptors` runs once a
//! descriptor and is left to PyO3. The rooms above the loop (transports, `sock_*`, primitives)
//! add their own methods to its class.

mod attributes;
mod descriptors;
mod scheduling;

pub(in crate::event_loop) use scheduling::install;
