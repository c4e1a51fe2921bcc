//! Transports: between a descriptor and a protocol.
//!
//! | module | what |
//! |---|---|
//! | [`stream`] | TCP and Unix stream connections |
//! | [`datagram`] | UDP and Unix datagrams |
//! | [`pipes`] | the two ends of pipes, FIFOs and character devices |
//! | [`tls`] | TLS between a protocol and a transport |
//! | [`listener`] | accepting connections |
//! | [`life`] | what streams and datagrams have in common: made, closed, lost |
//! | [`socket_methods`] | and what Python calls of it |
//! | [`base`] | the Python object that every kind is |
//! | [`protocol`] | how a transport speaks to its protocol |
//! | [`feed`] | received bytes straight into an `asyncio.StreamReader` |
//! | [`listing`] | its place among those that have something to send |
//! | [`outgoing`] | what waits to be sent |
//! | [`flow`] | high- and low-water marks |

pub(crate) mod base;
pub(crate) mod datagram;
pub(crate) mod feed;
pub(crate) mod flow;
pub(crate) mod life;
pub(crate) mod listener;
pub(crate) mod listing;
mod loop_methods;
pub(crate) mod outgoing;
pub(crate) mod pipes;
pub(crate) mod protocol;
pub(crate) mod socket_methods;
pub(crate) mod stream;
pub(crate) mod tls;

use pyo3::prelude::*;

use crate::ffi::imports;

/// Puts the transports' classes into the extension module.
pub(crate) fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    // Looked up before it is needed: destructors at exit cannot import any more.
    imports::warn(module.py())?;
    feed::remember(module.py())?;
    base::register::<stream::Stream>(module)?;
    module.add_class::<stream::Clients>()?;
    base::register::<datagram::Datagram>(module)?;
    pipes::register(module)?;
    base::register::<tls::Tls>(module)?;
    module.add_class::<listener::Listener>()
}
