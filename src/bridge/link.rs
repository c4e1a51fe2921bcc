//! How a loop is reached: one of this crate's own, one that offers a table, or another.
//!
//! A [`Link`] is found by the loop's class and true for as long as the loop lives: an object may get
//! another class, but only one of the same layout. `Own` is the link to instances of
//! this crate's `NativeLoop` and to nothing else, so with it a loop may be taken for one. A `Beside` table was found
//! in a capsule of our name, with our version.

use pyo3::prelude::*;
use pyo3_async_runtimes::tokio as upstream;

use super::api::{self, BridgeApi};
use super::{foreign, own};
use crate::event_loop::NativeLoop;
use crate::ffi::class_cache::ClassCache;

/// How a loop is reached.
#[derive(Clone, Copy)]
pub(super) enum Link {
    /// The loop is of this very crate: its runtime is at hand.
    Own,
    /// The loop was compiled apart from this code, and offers a table.
    Beside(&'static BridgeApi),
    /// A loop that knows nothing of this.
    Foreign,
}

impl Link {
    pub(super) fn to(event_loop: &Bound<'_, PyAny>) -> PyResult<Self> {
        static CHECKED: ClassCache<Link> = ClassCache::new(Link::Foreign);
        CHECKED.get_or_find(event_loop, || {
            if event_loop.is_instance_of::<NativeLoop>() {
                return Ok(Self::Own);
            }
            Ok(api::offered(&event_loop.get_type())?.map_or(Self::Foreign, Self::Beside))
        })
    }

    pub(super) fn api(self) -> &'static BridgeApi {
        match self {
            Self::Own => &own::API,
            Self::Beside(api) => api,
            Self::Foreign => &foreign::API,
        }
    }

    /// Calls `body` where tokio's own types find the runtime that serves this loop's futures.
    #[inline]
    pub(super) fn within<R>(
        self,
        event_loop: &Bound<'_, PyAny>,
        body: impl FnOnce() -> R,
    ) -> PyResult<R> {
        if let Self::Own = self {
            // SAFETY: a loop of this crate, as `to` found, which the caller keeps alive.
            let reactor =
                unsafe { NativeLoop::of(event_loop.as_ptr()) }.shared_reactor(event_loop.py())?;
            let _runtime = reactor.enter();
            return Ok(body());
        }
        let _runtime = upstream::get_runtime().enter();
        Ok(body())
    }
}
