"""Errors of the ``sock_*`` calls for wrong arguments: asyncio's, at the same moment.

Each case runs on asyncio's loop and on ours; type, text and moment (the call, or the await) of
what is raised are compared, or what is returned.
"""

from __future__ import annotations

import array
import asyncio
import ctypes
import io
import mmap
import os
import re
import socket
import ssl
import warnings
import weakref

import pytest

pytestmark = pytest.mark.native_only(reason="looks at both loops already")


class Index:
    def __init__(self, value):
        self.value = value

    def __index__(self):
        return self.value

    def __repr__(self):
        return f"Index({self.value})"


class BrokenIndex:
    def __index__(self):
        raise LookupError("no index")

    def __repr__(self):
        return "BrokenIndex()"


class Overriding(socket.socket):
    def recv(self, *args):
        return b"overridden"

    def recv_into(self, *args):
        return 77

    def send(self, data, *args):
        return len(data)


class Lookalike:
    """Has the methods of a socket that asyncio calls, and is none."""

    family = socket.AF_UNIX

    def fileno(self):
        return 0

    def gettimeout(self):
        return 0

    def connect(self, address):
        return None

    def recv(self, size):
        return b"looks alike"

    def recv_into(self, buffer):
        return 5

    def send(self, data):
        return len(data)


def released():
    view = memoryview(bytearray(5))
    view.release()
    return view


READ_ONLY = {
    "bytes": lambda: b"read-only",
    "view of bytes": lambda: memoryview(b"read-only"),
    "text": lambda: "text",
    "None": lambda: None,
    "number": lambda: 5,
    "list": lambda: [1, 2],
    "released view": released,
    "strided view": lambda: memoryview(bytearray(10))[::2],
    "nothing": lambda: b"",
}
WRITABLE = {
    "bytearray": lambda: bytearray(3),
    "empty bytearray": lambda: bytearray(),
    "array": lambda: array.array("i", [1, 2, 3]),
    "ctypes array": lambda: (ctypes.c_char * 5)(),
    "wide view": lambda: memoryview(bytearray(8)).cast("H"),
    "mapped memory": lambda: mmap.mmap(-1, 10),
    "BytesIO": lambda: io.BytesIO(b"aaa").getbuffer(),
}
BYTE_SIZED = ("bytearray", "empty bytearray", "mapped memory", "BytesIO")
SIZES = (0, 3, -1, 1 << 20, 1 << 40, 1 << 62, 1 << 63, 1 << 70, -(1 << 70), 1.5, "5", b"5", None)
MORE_SIZES = (True, [], Index(3), Index(-3), Index(1 << 70), BrokenIndex())
ADDRESSES = (
    ("127.0.0.1",),
    ("127.0.0.1", 9, 0),
    ["127.0.0.1", 9],
    "127.0.0.1",
    None,
    5,
    ("127.0.0.1", "9"),
    ("127.0.0.1", 70_000),
    ("127.0.0.1", -1),
    ("127.0.0.1", None),
    ("127.0.0.1", 1.5),
    ("::1", 9),
    (b"127.0.0.1", 9),
)
WRONG_CALLS = (
    ((), {}),
    ((1,), {}),
    ((1, 2, 3, 4), {}),
    ((1,), {"n": 5, "x": 1}),
    ((), {"sock": 1}),
    ((1, 2), {"sock": 3}),
    ((None, None), {}),
    ((5, 5), {}),
    (("x", "y"), {}),
    ((object(), 5), {}),
)
METHODS = ("sock_recv", "sock_recv_into", "sock_sendall", "sock_connect", "sock_accept")


def with_data(call):
    def case(loop, near, far):
        far.send(b"hello")
        return call(loop, near)

    return case


def on_closed(call):
    def case(loop, near, far):
        near.close()
        return call(loop, near)

    return case


def on_unconnected(kind, call):
    def case(loop, near, far):
        near.close()
        near.__init__(socket.AF_INET, kind)
        near.setblocking(False)
        return call(loop, near)

    return case


def on_kind(kind, call):
    def case(loop, near, far):
        far.send(b"hello")
        return call(loop, kind(fileno=near.detach()))

    return case


def in_debug_mode(call):
    def case(loop, near, far):
        loop.set_debug(True)
        near.setblocking(True)
        return call(loop, near)

    return case


def over_tls(call):
    def case(loop, near, far):
        context = ssl.create_default_context()
        wrapped = context.wrap_socket(socket.socket(), server_hostname="x.test")
        wrapped.setblocking(False)

        async def scenario():
            with wrapped:
                await call(loop, wrapped)

        return scenario()

    return case


def with_a_replaced_method(name, value, call):
    def case(loop, near, far):
        far.send(b"hello")

        async def scenario():
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(socket.socket, name, lambda *args: value, raising=False)
                return await call(loop, near)

        return scenario()

    return case


def receive_from_a_pipe(loop, near, far):
    reading, writing = os.pipe()
    os.close(writing)

    async def scenario():
        with open(reading, "rb") as file:
            await loop.sock_recv(file, 5)

    return scenario()


def cases():
    for size in SIZES + MORE_SIZES:
        yield f"receive {size!r}", with_data(lambda loop, near, n=size: loop.sock_recv(near, n))
    for size in (0, -1, 1 << 40, "5"):
        yield (
            f"receive {size!r} of nothing",
            lambda loop, near, far, n=size: loop.sock_recv(near, n),
        )
    for name, make in {**READ_ONLY, **WRITABLE}.items():
        receive = lambda loop, near, make=make: loop.sock_recv_into(near, make())  # noqa: E731
        yield f"receive into {name}", with_data(receive)
        if name not in WRITABLE or name == "empty bytearray":
            yield (
                f"receive nothing into {name}",
                lambda loop, near, far, receive=receive: receive(loop, near),
            )
        if name in READ_ONLY or name in BYTE_SIZED:
            yield f"send {name}", lambda loop, near, far, make=make: loop.sock_sendall(near, make())
    everything = {
        "receive": lambda loop, sock: loop.sock_recv(sock, 5),
        "receive nothing": lambda loop, sock: loop.sock_recv(sock, 0),
        "receive much": lambda loop, sock: loop.sock_recv(sock, 1 << 20),
        "receive into": lambda loop, sock: loop.sock_recv_into(sock, bytearray(4)),
        "receive nothing into": lambda loop, sock: loop.sock_recv_into(sock, bytearray()),
        "send": lambda loop, sock: loop.sock_sendall(sock, b"x"),
        "send nothing": lambda loop, sock: loop.sock_sendall(sock, b""),
        "connect": lambda loop, sock: loop.sock_connect(sock, ("127.0.0.1", 9)),
    }
    for name, call in everything.items():
        yield f"{name}, closed", on_closed(call)
        yield f"{name}, in debug mode", in_debug_mode(call)
        yield f"{name}, TLS", over_tls(call)
        if name == "connect":
            continue
        yield f"{name}, overridden", on_kind(Overriding, call)
        yield f"{name}, something else", lambda loop, near, far, call=call: call(loop, Lookalike())
        for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM):
            if kind == socket.SOCK_STREAM or "send" in name:
                yield f"{name}, not connected, {kind.name}", on_unconnected(kind, call)
    for method in ("recv", "fileno"):
        yield (
            f"receive through a replaced {method}",
            with_a_replaced_method(method, b"replaced", everything["receive"]),
        )
    yield "receive from a pipe", receive_from_a_pipe
    for address in ADDRESSES:
        connect = lambda loop, sock, to=address: loop.sock_connect(sock, to)  # noqa: E731
        yield f"connect to {address!r}", on_unconnected(socket.SOCK_STREAM, connect)
    yield (
        "connect a Unix socket to a name",
        lambda loop, near, far: loop.sock_connect(near, "/nothing/there"),
    )
    for method in METHODS:
        for args, keywords in WRONG_CALLS:
            shown = ["object()" if type(value) is object else repr(value) for value in args]
            yield (
                f"{method}({', '.join(shown)}, {keywords})",
                lambda loop, near, far, method=method, args=args, keywords=keywords: getattr(
                    loop, method
                )(*args, **keywords),
            )


def outcome(loop_factory, case):
    loop = loop_factory()
    near, far = socket.socketpair()
    try:
        with near, far:
            near.setblocking(False)
            try:
                awaitable = case(loop, near, far)
            except Exception as error:
                return "call", type(error), text(error)
            try:
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore")
                    return "result", loop.run_until_complete(asyncio.wait_for(awaitable, 2))
            except Exception as error:
                return "await", type(error), text(error)
    finally:
        loop.close()


class Data(bytearray):
    """Bytes that weak references are made of."""


def text(error):
    return re.sub("0x[0-9a-f]+", "0x...", str(error))


CASES = dict(cases())


@pytest.mark.parametrize("name", CASES)
def test_the_outcome_is_the_same_as_on_asyncio(loop_factory, name):
    theirs = outcome(asyncio.SelectorEventLoop, CASES[name])
    assert outcome(loop_factory, CASES[name]) == theirs


def test_data_that_waits_keeps_its_length(loop, loop_factory):
    """As under asyncio's view of it: what was accepted is sent."""
    near, far = socket.socketpair()
    with near, far:
        near.setblocking(False)
        data = bytearray(4 << 20)

        async def scenario():
            sending = loop.create_task(loop.sock_sendall(near, data))
            await asyncio.sleep(0.001)
            with pytest.raises(BufferError):
                data.clear()
            received = 0
            far.setblocking(False)
            while received < len(data):
                received += len(await loop.sock_recv(far, 1 << 20))
            await sending
            data.clear()

        loop.run_until_complete(scenario())


def test_a_finished_call_releases_its_arguments(loop):
    near, far = socket.socketpair()
    with near, far:
        near.setblocking(False)
        data = Data(b"x")
        known = weakref.ref(data)
        call = loop.sock_sendall(near, data)
        del data
        loop.run_until_complete(loop.create_task(call))
        assert known() is None
        with pytest.raises(RuntimeError, match="cannot reuse already awaited coroutine"):
            call.send(None)
        with pytest.raises(RuntimeError, match="cannot reuse already awaited coroutine"):
            call.throw(LookupError)
        call.close()
