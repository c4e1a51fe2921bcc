//! `sock_recv`, `sock_recv_into`, `sock_sendall` and `sock_connect`: tried at once, then when the
//! socket is ready. And what all sockets have: addresses.
//!
//! The rest of asyncio's `sock_*` runs once a connection or a datagram and comes from asyncio,
//! over this loop's `_add_reader` and `_add_writer`.

pub(crate) mod address;
mod calls;
mod literals;
mod operation;

use std::ptr::null_mut;

use pyo3::ffi;
use pyo3::prelude::*;

pub(crate) use calls::{Buffer, receive, send};

use crate::event_loop::NativeLoop;
use crate::ffi::arguments::Args;
use crate::ffi::definitions::{Definitions, METHODS_END, add_methods, fast_method};
use crate::ffi::object::Object;
use crate::ffi::trampoline::enter;
use calls::{Call, Kind};
use operation::Operation;

/// Makes the coroutine of a `sock_*` call. Nothing is done before its first step, as on asyncio;
/// only arguments that do not fit are told at once, by asyncio's own function.
///
/// # Safety
/// `slf` must be a loop, and the rest what CPython passed to its method.
unsafe fn call(
    kind: Kind,
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
            return refuse(py, kind, event_loop, &args);
        }
        let Ok([Some(socket), Some(argument)]) = args.bind(kind.name(), parameters, 2, 2) else {
            return refuse(py, kind, event_loop, &args);
        };
        let call = Call::new(kind, &argument);
        Operation::new(event_loop, &socket, call).map(|made| made.into_any().into_ptr())
    })
}

/// Lets asyncio's function say what is wrong with its arguments.
#[cold]
fn refuse<'py>(
    py: Python<'py>,
    kind: Kind,
    event_loop: &NativeLoop,
    args: &Args<'_, 'py>,
) -> PyResult<Object> {
    let theirs = crate::ffi::imports::selector_loop(py)?.getattr(kind.name())?;
    let method = py.import("types")?.getattr("MethodType")?.call1((theirs, event_loop.bind(py)))?;
    args.forward(&method).map(Bound::into_ptr)
}

macro_rules! socket_method {
    ($function:ident, $kind:expr, $second:literal) => {
        pub(crate) unsafe extern "C" fn $function(
            slf: Object,
            args: *const Object,
            count: ffi::Py_ssize_t,
            names: Object,
        ) -> Object {
            // SAFETY: CPython calls this as a method of loops.
            unsafe { call($kind, slf, args, count, names, ["sock", $second]) }
        }
    };
}

socket_method!(sock_recv, Kind::Recv, "n");
socket_method!(sock_recv_into, Kind::RecvInto, "buf");
socket_method!(sock_sendall, Kind::SendAll, "data");
socket_method!(sock_connect, Kind::Connect, "address");

static METHODS: Definitions<[ffi::PyMethodDef; 5]> = Definitions([
    fast_method(c"sock_recv", sock_recv, c"sock_recv($self, sock, n)\n--\n\nReceive up to n bytes. Coroutine."),
    fast_method(c"sock_recv_into", sock_recv_into, c"sock_recv_into($self, sock, buf)\n--\n\nReceive into a writable buffer; gives the number of bytes. Coroutine."),
    fast_method(c"sock_sendall", sock_sendall, c"sock_sendall($self, sock, data)\n--\n\nSend all of data. Coroutine."),
    fast_method(c"sock_connect", sock_connect, c"sock_connect($self, sock, address)\n--\n\nConnect sock to a remote address. Coroutine."),
    METHODS_END,
]);

/// Gives the loop's class its methods, and puts the rest into the extension module.
pub(crate) fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    operation::register(module)?;
    module.add_function(wrap_pyfunction!(literals::literal_addrinfo, module)?)?;
    module.add_function(wrap_pyfunction!(literals::looks_numeric, module)?)?;
    // SAFETY: functions of the kinds that the table says, for the class of loops.
    unsafe { add_methods(&module.py().get_type::<NativeLoop>(), &METHODS.0) }
}
