//! What every kind of transport shares. The core knows none of the kinds: a kind embeds a [`Core`]
//! and implements the traits of what it can do.
//!
//! | module | subject | trait |
//! |---|---|---|
//! | [`state`] | the state, [`Core`]; where in its lifecycle a transport is | |
//! | [`class`] | the Python type: layout, garbage collection, the finalizer | [`class::Transport`] |
//! | [`trampolines`] | macros that write the functions CPython calls | |
//! | [`methods`] | tables of methods and attributes that kinds share | [`methods::TransportMethods`] |
//! | [`lifecycle`] | made, begun, closing, lost | [`lifecycle::Endpoint`] |
//! | [`context`] | the contexts that the protocol is called in | |
//! | [`protocol`] | calling the protocol; how it takes received bytes | |
//! | [`stream_reader`] | received bytes straight into an `asyncio.StreamReader` | |
//! | [`received`] | received bytes as `bytes` | |
//! | [`flow_control`] | water marks; pausing and resuming | [`flow_control::Writing`], `Reading` |
//! | [`write_buffer`] | bytes that wait to be sent | |
//! | [`pending_flush`] | a transport's place in the loop's list of those to flush | |
//! | [`extra_info`] | what `get_extra_info` answers | [`extra_info::ExtraInfo`] |
//! | [`waiter`] | the futures that wait for a transport | |
//! | [`report`] | errors, asyncio's logger | [`report::ForceClose`] |
//!
//! # Who owns what
//!
//! A [`Core`] owns no descriptor, only references. Those to the loop, the protocol and the context are
//! set until `connection_lost` has run. A method that needs one of them takes a reference first and
//! works with that, even if the slot changes meanwhile.

pub(crate) mod class;
pub(crate) mod context;
pub(crate) mod extra_info;
pub(crate) mod flow_control;
pub(crate) mod lifecycle;
pub(crate) mod methods;
pub(crate) mod pending_flush;
pub(crate) mod protocol;
pub(crate) mod received;
pub(crate) mod report;
mod state;
pub(crate) mod stream_reader;
pub(crate) mod trampolines;
pub(crate) mod waiter;
pub(crate) mod write_buffer;

pub(crate) use state::{Core, CoreConfig, Lifecycle, Sink, slot};
