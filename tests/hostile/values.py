"""Values of the wrong kind."""

from __future__ import annotations

import array
import asyncio
import contextvars
import ctypes
import decimal
import fractions
import functools
import gc
import io
import mmap
import os
import socket
import threading
import types
import weakref


class Text(str):
    pass


class Number(int):
    pass


class Real(float):
    pass


class Octets(bytes):
    pass


class Empty:
    pass


async def coroutine():
    return "result"


async def forever():
    await asyncio.get_running_loop().create_future()


def generator():
    yield


def released():
    view = memoryview(bytearray(b"released"))
    view.release()
    return view


def dead_proxy():
    return weakref.proxy(Empty())


def closed_socket():
    sock = socket.socket()
    sock.close()
    return sock


def closed_file():
    file = io.BytesIO()
    file.close()
    return file


def mapped():
    return mmap.mmap(-1, 100)


def cancelled(loop):
    future = loop.create_future()
    future.cancel()
    return future


def done(loop):
    future = loop.create_future()
    future.set_result("done")
    return future


def failed(loop):
    future = loop.create_future()
    future.set_exception(ZeroDivisionError("failed"))
    future.exception()
    return future


def many_arguments(*args, **kwargs):
    return None


# By name; each is called with the loop of the case.
VALUES = {
    "none": lambda loop: None,
    "true": lambda loop: True,
    "zero": lambda loop: 0,
    "one": lambda loop: 1,
    "minus_one": lambda loop: -1,
    "int31": lambda loop: 1 << 31,
    "int63": lambda loop: 1 << 63,
    "int64": lambda loop: 1 << 64,
    "int70": lambda loop: 1 << 70,
    "minus_int70": lambda loop: -(1 << 70),
    "int2000": lambda loop: 1 << 2000,
    "half": lambda loop: 0.5,
    "minus_half": lambda loop: -0.5,
    "nan": lambda loop: float("nan"),
    "inf": lambda loop: float("inf"),
    "minus_inf": lambda loop: float("-inf"),
    "great": lambda loop: 1e308,
    "complex": lambda loop: 1j,
    "fraction": lambda loop: fractions.Fraction(1, 3),
    "decimal": lambda loop: decimal.Decimal("0.1"),
    "decimal_nan": lambda loop: decimal.Decimal("sNaN"),
    "empty_text": lambda loop: "",
    "text": lambda loop: "text",
    "surrogate": lambda loop: "\udc80",
    "null_text": lambda loop: "a\0b",
    "digits": lambda loop: "80",
    "empty_bytes": lambda loop: b"",
    "bytes": lambda loop: b"bytes",
    "bytearray": lambda loop: bytearray(b"bytearray"),
    "view": lambda loop: memoryview(b"view"),
    "strided": lambda loop: memoryview(b"strided")[::2],
    "integers_view": lambda loop: memoryview(bytearray(16)).cast("I"),
    "two_dimensions": lambda loop: memoryview(bytearray(16)).cast("B", (4, 4)),
    "released": lambda loop: released(),
    "array": lambda loop: array.array("I", [1, 2, 3]),
    "mmap": lambda loop: mapped(),
    "ctypes": lambda loop: (ctypes.c_char * 10)(),
    "empty_tuple": lambda loop: (),
    "pair": lambda loop: ("127.0.0.1", 1),
    "bad_pair": lambda loop: (None, "x"),
    "list": lambda loop: [1, "a"],
    "bytes_list": lambda loop: [b"a", b"b"],
    "dict": lambda loop: {"message": "text"},
    "empty_dict": lambda loop: {},
    "set": lambda loop: {1},
    "range": lambda loop: range(3),
    "object": lambda loop: Empty(),
    "type": lambda loop: Empty,
    "function": lambda loop: many_arguments,
    "builtin": lambda loop: len,
    "partial": lambda loop: functools.partial(many_arguments, 1),
    "bound": lambda loop: [].append,
    "coroutine": lambda loop: coroutine(),
    "coroutine_function": lambda loop: coroutine,
    "generator": lambda loop: generator(),
    "future": lambda loop: loop.create_future(),
    "cancelled": cancelled,
    "done": done,
    "failed": failed,
    "handle": lambda loop: loop.call_soon(many_arguments),
    "timer": lambda loop: loop.call_later(1000, many_arguments),
    "asyncio_handle": lambda loop: asyncio.Handle(many_arguments, (), loop),
    "context": lambda loop: contextvars.copy_context(),
    "token": lambda loop: contextvars.ContextVar("var").set(1),
    "exception": lambda loop: ZeroDivisionError("an instance"),
    "exception_type": lambda loop: ZeroDivisionError,
    "interrupt": lambda loop: KeyboardInterrupt(),
    "ellipsis": lambda loop: ...,
    "module": lambda loop: os,
    "loop": lambda loop: loop,
    "loop_type": lambda loop: type(loop),
    "protocol": lambda loop: asyncio.Protocol(),
    "closed_socket": lambda loop: closed_socket(),
    "closed_file": lambda loop: closed_file(),
    "file": lambda loop: io.BytesIO(b"content"),
    "dead_proxy": lambda loop: dead_proxy(),
    "lock": lambda loop: threading.Lock(),
    "namespace": lambda loop: types.SimpleNamespace(),
    "text_subclass": lambda loop: Text("text"),
    "int_subclass": lambda loop: Number(3),
    "float_subclass": lambda loop: Real(0.001),
    "bytes_subclass": lambda loop: Octets(b"octets"),
    "collector": lambda loop: gc,
}
