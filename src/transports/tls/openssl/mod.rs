//! OpenSSL without the `ssl` module in between: the `SSL` of the program's own `ssl.SSLObject`, driven
//! by the functions of the very library that `_ssl` has loaded.
//!
//! | file | what |
//! |---|---|
//! | `library` | the functions, looked up in that library |
//! | `probe` | the proof of where an `SSLObject` keeps its `SSL` |
//! | `wire` | the bytes between the `SSL` and the transport below, as a `BIO` |
//! | `connection` | reading and writing |
//!
//! The `ssl` module stays the owner: the context, its callbacks, sessions and key log are the program's,
//! the handshake and the shutdown are `SSLObject`'s own methods, and every error is raised by it. What
//! comes directly is `SSL_read` and `SSL_write` after the handshake, and the bytes on either side, which
//! are not copied through `MemoryBIO`s.
//!
//! # When it is not taken
//!
//! Where the probe does not find what it expects (a Python that was linked with its own copy of OpenSSL
//! and hides it, another TLS library, a layout that nobody has seen) there is no [`Connection`], and the
//! methods of `_ssl` do all. Where there is one, single calls are still left to those methods:
//!
//! - while anybody else holds the C object, for another thread may be in one of its methods, which give
//!   up the GIL: `Connection::is_ours` counts references;
//! - if the context has a message callback or a key log, lets clients renegotiate, or is another one than
//!   at the end of the handshake: OpenSSL calls code that may run Python's, or give the GIL up;
//! - for whatever is no plain success and no wish for more bytes. The method meets the same state and
//!   the same error queue, and so returns or raises what it would have.

mod connection;
mod library;
mod probe;
mod wire;

pub(super) use connection::{Connection, Outcome, PIECE};
pub(super) use probe::is_exactly;
