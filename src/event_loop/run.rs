//! `run_forever`'s engine room: turns, and looks at the reactor between them.
//!
//! Callbacks run outside of tokio's `block_on`, which is entered for each look. So a callback may
//! do what asyncio allows it: fork and run another loop in the child, or drive another loop here.

use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;

use super::NativeLoop;
use crate::handles::Handle;
use crate::reactor::Look;

/// What follows a turn.
pub(super) enum Next {
    Stop,
    Look(Look),
}

impl NativeLoop {
    /// Runs until `stop()`, or until a callback or a signal handler raises what ends the loop.
    pub(super) fn run(&self, py: Python<'_>) -> PyResult<()> {
        if tokio::runtime::Handle::try_current().is_ok() {
            return Err(PyRuntimeError::new_err(
                "Cannot run the event loop while a tokio runtime is running in this thread",
            ));
        }
        let outer = self.in_run.get(py);
        self.in_run.set(py, true);
        // asyncio looks at its descriptors before the first batch.
        let mut look = Look::Glance;
        let result = loop {
            match self.look_and_turn(py, look) {
                Ok(Next::Look(next)) => look = next,
                Ok(Next::Stop) => break Ok(()),
                Err(error) => break Err(error),
            }
        };
        // From here on the loop may become garbage.
        self.in_run.set(py, outer);
        self.ready.with(py, |ready| ready.track_shared());
        self.timers.with(py, |timers| timers.handles().for_each(Handle::track_if_shared));
        self.descriptors.with(py, |watched| watched.handles().for_each(Handle::track_if_shared));
        result
    }

    /// A turn by hand: sleeps until something is ready if nothing is.
    pub(super) fn run_once(&self, py: Python<'_>) -> PyResult<()> {
        let ready = self.ready.with(py, |ready| ready.len()) > 0;
        let look = if ready || !self.prepare_to_park(py)? || !self.park_mailbox(py) {
            Look::Glance
        } else {
            self.wait(py)
        };
        self.idle.set(py, matches!(look, Look::Wait { .. }));
        self.look_and_turn(py, look).map(drop)
    }

    fn look_and_turn(&self, py: Python<'_>, look: Look) -> PyResult<Next> {
        // Asked for each time: a callback may have forked, and this be the child.
        let reactor = self.reactor(py)?;
        // The GIL is held through a whole turn and released only here.
        py.detach(|| reactor.look(look));
        self.idle.set(py, false);
        self.unpark_mailbox(py);
        self.turn(py)
    }
}
