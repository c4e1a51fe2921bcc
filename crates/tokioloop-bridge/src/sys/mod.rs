//! What is done without Python: threads that meet, forks, and the platform.
//!
//! Everything else in the crate is the same everywhere. On Linux a thread that ends by `pthread_exit` is
//! unwound; elsewhere it is not, and [`finalizing::guard`] does nothing. Windows has no forks, and its
//! loops watch no descriptor of ours.

pub(crate) mod finalizing;
pub mod fork;
pub mod inbox;
#[cfg(target_os = "linux")]
mod thread_exit;
pub(crate) mod wake_pair;
pub mod wake_state;
