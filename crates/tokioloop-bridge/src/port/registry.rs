//! The ports of this process, by the addresses of their loops.
//!
//! A forked child finds its parent's here, and takes none of them.

use std::collections::BTreeMap;
use std::sync::Arc;

use pyo3::prelude::*;

use super::Port;
use super::loop_ref::LoopRef;
use crate::python::gil::GilCell;

struct Entry {
    /// Another loop may have the address by now.
    event_loop: LoopRef,
    port: Arc<Port>,
}

static PORTS: GilCell<BTreeMap<usize, Entry>> = GilCell::new(BTreeMap::new());

fn address(event_loop: &Bound<'_, PyAny>) -> usize {
    event_loop.as_ptr() as usize
}

pub(super) fn find(event_loop: &Bound<'_, PyAny>) -> PyResult<Option<Arc<Port>>> {
    let py = event_loop.py();
    let known = PORTS.with(py, |ports| {
        let entry = ports.get(&address(event_loop)).filter(|it| !it.port.is_inherited());
        entry.map(|it| (it.event_loop.clone_ref(py), Arc::clone(&it.port)))
    });
    let Some((known, port)) = known else { return Ok(None) };
    Ok(known.get(py)?.is_some_and(|it| it.is(event_loop)).then_some(port))
}

/// Registers a new port, unless another thread was faster: then its port is returned.
pub(super) fn insert(
    event_loop: &Bound<'_, PyAny>,
    port: &Arc<Port>,
) -> PyResult<Option<Arc<Port>>> {
    let py = event_loop.py();
    let entry = Entry { event_loop: LoopRef::to(event_loop)?, port: Arc::clone(port) };
    sweep(py)?;
    if let Some(other) = find(event_loop)? {
        return Ok(Some(other));
    }
    // Nothing since the look has run Python code, or let go of the GIL.
    let stale = PORTS.with(py, |ports| ports.insert(address(event_loop), entry));
    drop(stale);
    Ok(None)
}

/// Forgets the loops that are gone whose ports had no reader to be closed by.
fn sweep(py: Python<'_>) -> PyResult<()> {
    let known: Vec<_> = PORTS.with(py, |ports| {
        ports.iter().map(|(at, it)| (*at, it.event_loop.clone_ref(py))).collect()
    });
    for (at, event_loop) in known {
        if event_loop.get(py)?.is_none() {
            let gone = PORTS.with(py, |ports| ports.remove(&at));
            drop(gone);
        }
    }
    Ok(())
}

pub(super) fn remove(py: Python<'_>, port: &Port) {
    let closed = PORTS.with(py, |ports| {
        let at = ports.iter().find(|(_, it)| std::ptr::eq(&*it.port, port)).map(|(at, _)| *at);
        at.and_then(|at| ports.remove(&at))
    });
    drop(closed);
}
