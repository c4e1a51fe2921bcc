//! The ports of this process, by the addresses of their loops.
//!
//! The lock is only taken with the GIL held, and a forked child has a registry of its own.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard};

use pyo3::prelude::*;

use super::loop_ref::LoopRef;
use super::{Port, lock};
use crate::driver::per_process::PerProcess;

struct Entry {
    /// Another loop may have the address by now.
    event_loop: LoopRef,
    port: Arc<Port>,
}

type Ports = HashMap<usize, Entry>;

static PORTS: PerProcess<Mutex<Ports>> = PerProcess::new();

fn ports() -> MutexGuard<'static, Ports> {
    lock(PORTS.get_or_init(Mutex::default))
}

fn address(event_loop: &Bound<'_, PyAny>) -> usize {
    event_loop.as_ptr() as usize
}

pub(super) fn find(event_loop: &Bound<'_, PyAny>) -> PyResult<Option<Arc<Port>>> {
    let py = event_loop.py();
    let known = ports()
        .get(&address(event_loop))
        .map(|it| (it.event_loop.clone_ref(py), Arc::clone(&it.port)));
    let Some((known, port)) = known else { return Ok(None) };
    Ok(known.get(py)?.is_some_and(|it| it.is(event_loop)).then_some(port))
}

/// Registers a new port, unless another thread was faster: then its port is returned.
pub(super) fn insert(
    event_loop: &Bound<'_, PyAny>,
    port: &Arc<Port>,
) -> PyResult<Option<Arc<Port>>> {
    let py = event_loop.py();
    let known = LoopRef::to(event_loop)?;
    sweep(py)?;
    loop {
        if let Some(other) = find(event_loop)? {
            return Ok(Some(other));
        }
        let mut ports = ports();
        let stale = ports.remove(&address(event_loop));
        if stale.is_none() {
            let entry = Entry { event_loop: known, port: Arc::clone(port) };
            ports.insert(address(event_loop), entry);
            return Ok(None);
        }
        drop(ports);
        drop(stale);
    }
}

/// Forgets the loops that are gone whose ports had no reader to be closed by.
fn sweep(py: Python<'_>) -> PyResult<()> {
    let known: Vec<_> = ports().iter().map(|(at, it)| (*at, it.event_loop.clone_ref(py))).collect();
    for (at, event_loop) in known {
        if event_loop.get(py)?.is_none() {
            let gone = ports().remove(&at);
            drop(gone);
        }
    }
    Ok(())
}

pub(super) fn remove(_py: Python<'_>, port: &Port) {
    let closed: Vec<_> =
        ports().extract_if(|_, it| std::ptr::eq(&*it.port, port)).map(|(_, it)| it).collect();
    drop(closed);
}
