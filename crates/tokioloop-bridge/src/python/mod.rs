//! CPython's C API, as far as its stable part goes: objects, classes, the ends of threads.
//!
//! One source serves extensions with and without `abi3`, so nothing here may use more than the stable
//! ABI of CPython 3.10; what differs between versions is asked at run time.

pub mod arguments;
pub mod attachment;
pub mod class;
pub mod coroutine;
pub mod definitions;
pub mod finalizing;
pub mod free_threading;
pub mod gil;
pub(crate) mod imports;
pub mod nested_drops;
pub mod object;
pub mod subinterpreters;
pub mod trampoline;
