//! `sock_recv`, `sock_recv_into`, `sock_sendall` and `sock_connect`: tried at once, and then
//! whenever the socket is ready. And the addresses of all sockets.
//!
//! | module | owns |
//! |---|---|
//! | `operation` | a `sock_*` call as a coroutine, and how it waits |
//! | `calls` | the attempts of such a call, and its progress |
//! | `attempt` | the making of a connection to a literal address |
//! | `address` | addresses, between the kernel's form and Python's |
//! | `literals` | `getaddrinfo` of numeric hosts, without a thread |
//! | `buffer` | the buffers of Python objects |
//!
//! The rest of asyncio's `sock_*` methods run once a connection or a datagram. They are asyncio's
//! own, over this loop's `_add_reader` and `_add_writer`.

pub(crate) mod address;
mod attempt;
mod buffer;
mod calls;
mod literals;
mod operation;

use std::ffi::CStr;

use pyo3::ffi;
use pyo3::prelude::*;

pub(crate) use attempt::{ConnectionAttempt, Registered};
pub(crate) use buffer::Buffer;

use crate::event_loop::NativeLoop;
use crate::ffi::arguments::{Args, Matching};
use crate::ffi::class_cache::ClassCache;
use crate::ffi::coroutine_function;
use crate::ffi::trampoline::vectorcall;
use calls::{SocketCall, SocketMethod};
use operation::Operation;

/// Makes the coroutine of a `sock_*` call. Nothing is done before its first step, as on asyncio;
/// only arguments that do not fit are refused at once, by asyncio's own function.
fn call<'py>(
    py: Python<'py>,
    method: SocketMethod,
    args: &Args<'_, 'py>,
    parameter: &str,
) -> PyResult<Bound<'py, PyAny>> {
    let given = match args.positional {
        [this, socket, argument] if !args.has_keywords() => Some([*this, *socket, *argument]),
        [_, _, _, _, ..] => None,
        _ => match args.bind(method.name(), ["self", "sock", parameter], 3, 3) {
            Ok([Some(this), Some(socket), Some(argument)]) => Some([this, socket, argument]),
            _ => None,
        },
    };
    if let Some([this, socket, argument]) = given
        && is_loop(&this)?
    {
        let call = SocketCall::new(method, &argument);
        // SAFETY: a loop, as was just checked, which the caller keeps alive.
        let event_loop = unsafe { NativeLoop::of(this.as_ptr()) };
        return Operation::fresh(event_loop, &socket, call).map(|made| made.into_any());
    }
    refuse(py, method, args)
}

#[inline]
fn is_loop(object: &Bound<'_, PyAny>) -> PyResult<bool> {
    static CHECKED: ClassCache<bool> = ClassCache::new(false);
    CHECKED.get_or_find(object, || Ok(object.is_instance_of::<NativeLoop>()))
}

/// Has asyncio's own function refuse its arguments.
#[cold]
fn refuse<'py>(
    py: Python<'py>,
    method: SocketMethod,
    args: &Args<'_, 'py>,
) -> PyResult<Bound<'py, PyAny>> {
    args.forward(&crate::ffi::imports::selector_loop(py)?.getattr(method.name())?)
}

macro_rules! socket_method {
    ($function:ident, $method:expr, $second:literal) => {
        vectorcall!($function, |py, _slf, args| call(py, $method, &args, $second));
    };
}

socket_method!(sock_recv, SocketMethod::Recv, "n");
socket_method!(sock_recv_into, SocketMethod::RecvInto, "buf");
socket_method!(sock_sendall, SocketMethod::SendAll, "data");
socket_method!(sock_connect, SocketMethod::Connect, "address");

/// Name, function and docstring of each method.
const METHODS: [(&CStr, ffi::vectorcallfunc, &CStr); 4] = [
    (
        c"sock_recv",
        sock_recv,
        c"\
        Receive up to ``n`` bytes from a non-blocking socket. Coroutine.\n\
        \n\
        Return ``bytes``, which are empty at the end of the stream. As\n\
        ``asyncio.loop.sock_recv``. The system call is tried at once when the coroutine is\n\
        awaited, then whenever the socket is ready.\n\
        \n\
        Raises ``OSError`` if the kernel reports an error, ``ValueError`` if ``n`` is\n\
        negative, ``TypeError`` for an ``ssl.SSLSocket``, ``RuntimeError`` if a transport\n\
        uses the descriptor, and in debug mode ``ValueError`` for a blocking socket.",
    ),
    (
        c"sock_recv_into",
        sock_recv_into,
        c"\
        Receive from a non-blocking socket into the buffer ``buf``. Coroutine.\n\
        \n\
        Return the number of bytes, 0 at the end of the stream. As\n\
        ``asyncio.loop.sock_recv_into``.\n\
        \n\
        Raises what :meth:`sock_recv` raises, and ``BufferError`` or ``TypeError`` if\n\
        ``buf`` is not a writable, contiguous buffer.",
    ),
    (
        c"sock_sendall",
        sock_sendall,
        c"\
        Send all of ``data`` to a non-blocking socket. Coroutine.\n\
        \n\
        As ``asyncio.loop.sock_sendall``. After an error or a cancellation it is unknown how\n\
        many bytes were sent.\n\
        \n\
        Raises what :meth:`sock_recv` raises, and ``BufferError`` or ``TypeError`` if\n\
        ``data`` is not a contiguous buffer.",
    ),
    (
        c"sock_connect",
        sock_connect,
        c"\
        Connect a non-blocking socket to a remote address. Coroutine.\n\
        \n\
        As ``asyncio.loop.sock_connect``: a host name is resolved first, a literal address\n\
        is not. The coroutine is a :class:`SocketOperation` if the address is literal and\n\
        ``sock`` is a TCP or UDP ``socket.socket``.\n\
        \n\
        Raises ``OSError`` if the connection cannot be made, ``TypeError`` for an\n\
        ``ssl.SSLSocket``, and in debug mode ``ValueError`` for a blocking socket.",
    ),
];

/// Adds the methods to the loop's class, and the rest to the extension module.
pub(crate) fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    // Now: a program that replaces it may do so before the first connection.
    crate::ffi::imports::socket_class(module.py())?;
    operation::register(module)?;
    module.add_class::<ConnectionAttempt>()?;
    module.add_function(wrap_pyfunction!(literals::literal_addrinfo, module)?)?;
    module.add_function(wrap_pyfunction!(literals::looks_numeric, module)?)?;
    let class = module.py().get_type::<NativeLoop>();
    for (name, function, doc) in METHODS {
        // SAFETY: functions that take any arguments, and check which loop they are called with.
        let method = unsafe { coroutine_function::make(module.py(), name, doc, function)? };
        class.setattr(name.to_string_lossy().as_ref(), method)?;
    }
    Ok(())
}
