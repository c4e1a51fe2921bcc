//! Transports: between a descriptor and a protocol.
//!
//! | module | what |
//! |---|---|
//! | [`core`] | what all kinds share: the Python type, the lifecycle, flow control, calling protocols |
//! | [`sockets`] | what transports over sockets share: registration, closing, collection |
//! | [`stream`] | TCP and Unix stream connections |
//! | [`datagram`] | UDP and Unix datagrams |
//! | [`pipes`] | the two ends of pipes, FIFOs and character devices |
//! | [`tls`] | TLS between a protocol and a transport |
//! | [`listener`] | accepting connections |
//! | `loop_methods` | the loop's methods that make these |
//!
//! Uses go one way: `loop_methods` makes every kind, `listener` makes streams and asks `tls` whom its
//! transports serve, `tls` passes bytes to and from streams without Python calls, `stream` and `datagram` build on `sockets`, and every kind builds
//! on `core`, which knows none of them.

pub(crate) mod core;
pub(crate) mod datagram;
pub(crate) mod listener;
mod loop_methods;
pub(crate) mod pipes;
pub(crate) mod sockets;
pub(crate) mod stream;
pub(crate) mod tls;

use pyo3::prelude::*;

use self::core::{class, stream_reader};
use crate::ffi::imports;

/// Puts the transports' classes into the extension module.
pub(crate) fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    // Imported before it is needed: destructors at exit cannot import any more.
    imports::warn(module.py())?;
    stream_reader::remember(module.py())?;
    class::register::<stream::Stream>(module)?;
    module.add_class::<stream::Clients>()?;
    class::register::<datagram::Datagram>(module)?;
    pipes::register(module)?;
    class::register::<tls::Tls>(module)?;
    module.add_class::<listener::Listener>()
}
