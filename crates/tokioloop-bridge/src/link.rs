//! How a loop is reached: one inside of this extension, one that offers a table, or another.
//!
//! A [`Link`] is found by the loop's class and true for as long as the loop lives: an object may get
//! another class, but only one of the same layout. A `Beside` table was found in a capsule of our name,
//! with our version.

use pyo3::prelude::*;
use tokio::runtime::Handle;

use crate::foreign;
use crate::host::{Host, host};
use crate::python::gil::{GilFlag, PySlot};
use crate::running;
use crate::runtime::get_runtime;
use crate::table::{self, BridgeApi};

/// How a loop is reached.
#[derive(Clone, Copy)]
pub(crate) enum Link {
    /// The loop is of the crate that this one is linked with: its runtime is at hand.
    Own(&'static Host),
    /// The loop was compiled apart from this code, and offers a table.
    Beside(&'static BridgeApi),
    /// A loop that knows nothing of this.
    Foreign,
}

impl Link {
    /// The link to loops of this one's class, which is remembered: a class has its table from the
    /// beginning, and tables are never unloaded.
    pub(crate) fn to(event_loop: &Bound<'_, PyAny>) -> PyResult<Self> {
        static CLASS: PySlot = PySlot::empty();
        static LINK: GilFlag<Link> = GilFlag::new(Link::Foreign);
        let (py, class) = (event_loop.py(), event_loop.get_type());
        if CLASS.holds(&class) {
            return Ok(LINK.get(py));
        }
        let link = Self::find(event_loop)?;
        if !matches!(link, Self::Foreign) {
            running::ask(py, link.api());
        }
        LINK.set(py, link);
        CLASS.set(py, Some(class.into_any().unbind()));
        Ok(link)
    }

    fn find(event_loop: &Bound<'_, PyAny>) -> PyResult<Self> {
        if let Some(host) = host()
            && (host.owns)(event_loop)
        {
            return Ok(Self::Own(host));
        }
        Ok(table::offered(&event_loop.get_type())?.map_or(Self::Foreign, Self::Beside))
    }

    pub(crate) fn api(self) -> &'static BridgeApi {
        match self {
            Self::Own(host) => host.table,
            Self::Beside(api) => api,
            Self::Foreign => &foreign::API,
        }
    }

    /// The runtime that serves this loop's futures.
    pub(crate) fn runtime(self, event_loop: &Bound<'_, PyAny>) -> PyResult<Handle> {
        match self {
            // SAFETY: the link was found for this loop: `find` asked the host.
            Self::Own(host) => unsafe { (host.runtime)(event_loop) },
            _ => Ok(get_runtime().handle().clone()),
        }
    }

    /// Calls `body` where tokio's own types find the runtime that serves this loop's futures.
    #[inline]
    pub(crate) fn within<R>(
        self,
        event_loop: &Bound<'_, PyAny>,
        body: impl FnOnce() -> R,
    ) -> PyResult<R> {
        if let Self::Own(host) = self {
            // SAFETY: the link was found for this loop: `find` asked the host.
            let runtime = unsafe { (host.runtime)(event_loop)? };
            let _entered = runtime.enter();
            return Ok(body());
        }
        let _entered = get_runtime().enter();
        Ok(body())
    }
}
