//! `sock_recv`, `sock_recv_into`, `sock_sendall` and `sock_connect`: tried at once, and then
//! whenever the socket is ready. And the addresses of all sockets.
//!
//! | module | owns |
//! |---|---|
//! | `operation` | a `sock_*` call as a coroutine, and how it waits |
//! | `calls` | the attempts of such a call, and its progress |
//! | `address` | addresses, between the kernel's form and Python's |
//! | `literals` | `getaddrinfo` of numeric hosts, without a thread |
//! | `buffer` | the buffers of Python objects |
//!
//! The rest of asyncio's `sock_*` methods run once a connection or a datagram. They are asyncio's
//! own, over this loop's `_add_reader` and `_add_writer`.

pub(crate) mod address;
mod buffer;
mod calls;
mod literals;
mod operation;

use std::ptr::null_mut;

use pyo3::ffi;
use pyo3::prelude::*;

pub(crate) use buffer::Buffer;

use crate::event_loop::NativeLoop;
use crate::ffi::arguments::Args;
use crate::ffi::definitions::{Definitions, METHODS_END, add_methods, fast_method};
use crate::ffi::object::Object;
use crate::ffi::trampoline::enter;
use calls::{SocketCall, SocketMethod};
use operation::Operation;

/// Makes the coroutine of a `sock_*` call. Nothing is done before its first step, as on asyncio;
/// only arguments that do not fit are refused at once, by asyncio's own function.
///
/// # Safety
/// `slf` must be a loop, and the rest what CPython passed to its method.
unsafe fn call(
    method: SocketMethod,
    slf: Object,
    args: *const Object,
    count: ffi::Py_ssize_t,
    names: Object,
    parameters: [&str; 2],
) -> Object {
    // SAFETY: CPython calls this, and holds the GIL.
    let held = unsafe { Python::assume_attached() };
    enter(held, null_mut(), |py| {
        // SAFETY: the caller's promise; all are alive for the call.
        let (event_loop, args) =
            unsafe { (NativeLoop::of(slf), Args::new(py, args, count, names)) };
        if args.positional.len() > 2 {
            return refuse(py, method, event_loop, &args);
        }
        let Ok([Some(socket), Some(argument)]) = args.bind(method.name(), parameters, 2, 2) else {
            return refuse(py, method, event_loop, &args);
        };
        let call = SocketCall::new(method, &argument);
        Operation::new(event_loop, &socket, call).map(|made| made.into_any().into_ptr())
    })
}

/// Has asyncio's own function refuse its arguments.
#[cold]
fn refuse<'py>(
    py: Python<'py>,
    method: SocketMethod,
    event_loop: &NativeLoop,
    args: &Args<'_, 'py>,
) -> PyResult<Object> {
    let theirs = crate::ffi::imports::selector_loop(py)?.getattr(method.name())?;
    let method = py.import("types")?.getattr("MethodType")?.call1((theirs, event_loop.bind(py)))?;
    args.forward(&method).map(Bound::into_ptr)
}

macro_rules! socket_method {
    ($function:ident, $method:expr, $second:literal) => {
        pub(crate) unsafe extern "C" fn $function(
            slf: Object,
            args: *const Object,
            count: ffi::Py_ssize_t,
            names: Object,
        ) -> Object {
            // SAFETY: CPython calls this as a method of loops.
            unsafe { call($method, slf, args, count, names, ["sock", $second]) }
        }
    };
}

socket_method!(sock_recv, SocketMethod::Recv, "n");
socket_method!(sock_recv_into, SocketMethod::RecvInto, "buf");
socket_method!(sock_sendall, SocketMethod::SendAll, "data");
socket_method!(sock_connect, SocketMethod::Connect, "address");

static METHODS: Definitions<[ffi::PyMethodDef; 5]> = Definitions([
    fast_method(
        c"sock_recv",
        sock_recv,
        c"sock_recv($self, sock, n)\n--\n\n\
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
    fast_method(
        c"sock_recv_into",
        sock_recv_into,
        c"sock_recv_into($self, sock, buf)\n--\n\n\
        Receive from a non-blocking socket into the buffer ``buf``. Coroutine.\n\
        \n\
        Return the number of bytes, 0 at the end of the stream. As\n\
        ``asyncio.loop.sock_recv_into``.\n\
        \n\
        Raises what :meth:`sock_recv` raises, and ``BufferError`` or ``TypeError`` if\n\
        ``buf`` is not a writable, contiguous buffer.",
    ),
    fast_method(
        c"sock_sendall",
        sock_sendall,
        c"sock_sendall($self, sock, data)\n--\n\n\
        Send all of ``data`` to a non-blocking socket. Coroutine.\n\
        \n\
        As ``asyncio.loop.sock_sendall``. After an error or a cancellation it is unknown how\n\
        many bytes were sent.\n\
        \n\
        Raises what :meth:`sock_recv` raises, and ``BufferError`` or ``TypeError`` if\n\
        ``data`` is not a contiguous buffer.",
    ),
    fast_method(
        c"sock_connect",
        sock_connect,
        c"sock_connect($self, sock, address)\n--\n\n\
        Connect a non-blocking socket to a remote address. Coroutine.\n\
        \n\
        As ``asyncio.loop.sock_connect``: a host name is resolved first, a literal address\n\
        is not. The coroutine is a :class:`SocketOperation` if the address is literal and\n\
        ``sock`` is a TCP or UDP ``socket.socket``.\n\
        \n\
        Raises ``OSError`` if the connection cannot be made, ``TypeError`` for an\n\
        ``ssl.SSLSocket``, and in debug mode ``ValueError`` for a blocking socket.",
    ),
    METHODS_END,
]);

/// Adds the methods to the loop's class, and the rest to the extension module.
pub(crate) fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    operation::register(module)?;
    module.add_function(wrap_pyfunction!(literals::literal_addrinfo, module)?)?;
    module.add_function(wrap_pyfunction!(literals::looks_numeric, module)?)?;
    // SAFETY: functions of the kinds that the table says, for the class of loops.
    unsafe { add_methods(&module.py().get_type::<NativeLoop>(), &METHODS.0) }
}
