//! `sock_recv`, `sock_recv_into`, `sock_sendall` and `sock_connect`: tried at once, then when the
//! socket is ready. And what all sockets have: addresses.
//!
//! The rest of asyncio's `sock_*` runs once a connection or a datagram and comes from asyncio,
//! over this loop's `_add_reader` and `_add_writer`.

pub mod address;
mod calls;
mod operation;

use std::ptr::null_mut;

use pyo3::ffi;
use pyo3::prelude::*;

pub use calls::{Buffer, receive, send};
pub use operation::register;

use crate::event_loop::NativeLoop;
use crate::object::{Args, Object, enter};
use calls::Call;
use operation::Operation;

/// asyncio's checks of the socket that an operation is for.
fn check_socket(
    py: Python<'_>,
    event_loop: &NativeLoop,
    socket: &Bound<'_, PyAny>,
) -> PyResult<()> {
    if !event_loop.debug.get(py) && socket.get_type().is(crate::cached::socket_class(py)?) {
        return Ok(());
    }
    crate::cached::helpers(py)?
        .bind(py)
        .call_method1("check_socket", (event_loop.bind(py), socket))?;
    Ok(())
}

macro_rules! socket_method {
    ($function:ident, $name:literal, $second:literal, |$py:ident, $value:ident| $call:expr) => {
        pub unsafe extern "C" fn $function(
            slf: Object,
            args: *const Object,
            count: ffi::Py_ssize_t,
            names: Object,
        ) -> Object {
            enter(null_mut(), |$py| {
                // SAFETY: CPython's own arguments, borrowed for the call.
                let args = unsafe { Args::new(args, count, names) };
                args.at_most($name, 2)?;
                let [socket, value] = args.bind($py, $name, ["sock", $second], 2, 2)?;
                // SAFETY: `bind` saw to it that both are there; `slf` is a loop.
                let (socket, $value, event_loop) = unsafe {
                    (
                        Bound::from_borrowed_ptr($py, socket),
                        Bound::from_borrowed_ptr($py, value),
                        NativeLoop::of(slf),
                    )
                };
                Operation::new($py, event_loop, &socket, $call).map(Operation::into_ptr)
            })
        }
    };
}

/// Native for a socket of Python's own and a literal address; the rest is asyncio's.
pub unsafe extern "C" fn sock_connect(
    slf: Object,
    args: *const Object,
    count: ffi::Py_ssize_t,
    names: Object,
) -> Object {
    enter(null_mut(), |py| {
        // SAFETY: CPython's own arguments, borrowed for the call.
        let args = unsafe { Args::new(args, count, names) };
        args.at_most("sock_connect", 2)?;
        let [socket, address] = args.bind(py, "sock_connect", ["sock", "address"], 2, 2)?;
        // SAFETY: `bind` saw to it that both are there; `slf` is a loop.
        let (socket, address, event_loop) = unsafe {
            (
                Bound::from_borrowed_ptr(py, socket),
                Bound::from_borrowed_ptr(py, address),
                NativeLoop::of(slf),
            )
        };
        if let Some(call) = calls::connect(&socket, &address)? {
            return Operation::new(py, event_loop, &socket, call).map(Operation::into_ptr);
        }
        let theirs =
            crate::cached::selector_loop(py)?.getattr(pyo3::intern!(py, "sock_connect"))?;
        theirs.call1((event_loop.bind(py), socket, address)).map(Bound::into_ptr)
    })
}

socket_method!(sock_recv, "sock_recv", "n", |py, value| Call::Recv(value.unbind()));
socket_method!(sock_recv_into, "sock_recv_into", "buf", |py, value| {
    Call::RecvInto(value.unbind())
});
socket_method!(sock_sendall, "sock_sendall", "data", |py, value| {
    Call::SendAll { data: value.unbind(), sent: 0 }
});
