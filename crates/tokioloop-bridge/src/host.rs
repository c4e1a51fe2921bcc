//! The loop inside of the same extension, if there is one: its crate builds on this one.

use std::sync::OnceLock;

use pyo3::prelude::*;
use tokio::runtime::Handle;

use crate::table::BridgeApi;

/// What such a loop's crate offers besides the table.
pub struct Host {
    pub table: &'static BridgeApi,
    /// Whether an object is a loop of the crate's.
    pub owns: fn(&Bound<'_, PyAny>) -> bool,
    /// The loop's own runtime.
    ///
    /// # Safety
    /// The loop must be one of those that `owns` says true of.
    pub runtime: unsafe fn(&Bound<'_, PyAny>) -> PyResult<Handle>,
}

static HOST: OnceLock<Host> = OnceLock::new();

/// Makes the host known, once a process; later ones are ignored.
pub fn offer(host: Host) {
    let _ = HOST.set(host);
}

pub(crate) fn host() -> Option<&'static Host> {
    HOST.get()
}
