//! CPython's C API used by hand: objects and their classes, contexts, the state that the GIL guards,
//! memory that can run out, and the ends of threads and interpreters.
//!
//! Knows nothing of event loops. The rest of the crate uses Python through PyO3.

pub(crate) mod arguments;
pub(crate) mod audit;
pub(crate) mod class_cache;
pub(crate) mod contexts;
pub(crate) mod coroutine;
pub(crate) mod coroutine_function;
pub(crate) mod errors;
pub(crate) mod free_list;
pub(crate) mod function_state;
pub(crate) mod futures;
pub(crate) mod imports;
pub(crate) mod memory;
pub(crate) mod socket_fd;
pub(crate) mod trampoline;
pub(crate) mod trashcan;
pub(crate) mod tuples;

pub(crate) use tokioloop_bridge::python::{
    attachment, class, definitions, finalizing, gil, object, subinterpreters,
};

#[cfg(test)]
mod guarded_calls;
