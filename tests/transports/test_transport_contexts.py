"""The contexts in which transports call their protocols.

A callback runs in the context of the code that caused it: that made the transport, resumed it,
wrote more than there was room for, or closed it. From CPython 3.15 on the stream transport of a
socket has one context for all callbacks: the one that it was made in.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import os
import socket
import sys

import pytest

from support.recording import in_thread, read_all
from transports.serving import Echo, answered, ended

variable = contextvars.ContextVar("variable", default="nobody")

# More than the kernel buffers for both ends of a connection together.
TOO_MUCH = 8 << 20


class Remembers(asyncio.Protocol, asyncio.DatagramProtocol):
    """Writes down in which context it is called."""

    def __init__(self):
        self.loop = asyncio.get_running_loop()
        self.seen = []
        self.ended = self.loop.create_future()
        self.came = self.loop.create_future()

    def _note(self, name):
        self.seen.append((name, variable.get()))

    def connection_made(self, transport):
        self._note("connection_made")

    def data_received(self, data):
        self._note("data_received")
        if not self.came.done():
            self.came.set_result(data)

    def datagram_received(self, data, addr):
        self.data_received(data)

    def eof_received(self):
        self._note("eof_received")

    def pause_writing(self):
        self._note("pause_writing")

    def resume_writing(self):
        self._note("resume_writing")

    def connection_lost(self, exc):
        self._note("connection_lost")
        self.ended.set_result(exc)


async def stream(loop, factory):
    near, far = socket.socketpair()
    near.setblocking(False)
    transport, protocol = await loop.create_connection(factory, sock=near)
    return transport, protocol, far


async def datagram(loop, factory):
    near, far = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    near.setblocking(False)
    transport, protocol = await loop.create_datagram_endpoint(factory, sock=near)
    return transport, protocol, far


def files():
    read, write = os.pipe()
    return os.fdopen(read, "rb", 0), os.fdopen(write, "wb", 0)


async def read_pipe(loop, factory):
    near, far = files()
    transport, protocol = await loop.connect_read_pipe(factory, near)
    return transport, protocol, far


async def write_pipe(loop, factory):
    far, near = files()
    transport, protocol = await loop.connect_write_pipe(factory, near)
    return transport, protocol, far


def cause(make, code):
    """In whose context a callback runs that ``code`` has caused."""
    return "maker" if make is stream and sys.version_info >= (3, 15) else code


ENDS = [
    (stream, "close"),
    (stream, "abort"),
    (datagram, "close"),
    (datagram, "abort"),
    (read_pipe, "close"),
    (write_pipe, "close"),
    (write_pipe, "abort"),
    (write_pipe, "write_eof"),
]
READERS = [stream, datagram, read_pipe]
#: asyncio's datagram transports can pause since 3.11.
PAUSING = READERS if sys.version_info >= (3, 11) else [stream, read_pipe]


def calling(who, method):
    """Calls a method in a context whose variable is changed afterwards."""

    def call():
        variable.set(who)
        method()
        variable.set(f"{who}, later")

    contextvars.copy_context().run(call)


def only(protocol, name):
    return [who for called, who in protocol.seen if called == name]


@pytest.mark.parametrize(("make", "end"), ENDS)
def test_connection_lost_runs_in_the_context_of_the_closing_code(loop, make, end):
    async def main():
        variable.set("maker")
        transport, protocol, far = await make(loop, Remembers)
        with far:
            order = []
            loop.call_soon(order.append, "before")
            calling("closer", getattr(transport, end))
            loop.call_soon(lambda: order.append(("after", protocol.ended.done())))
            assert await protocol.ended is None
        assert order == ["before", ("after", True)]
        assert protocol.seen == [
            ("connection_made", "maker"),
            ("connection_lost", cause(make, "closer")),
        ]

    loop.run_until_complete(main())


@pytest.mark.parametrize("make", [stream, write_pipe])
def test_resume_writing_runs_in_the_context_of_the_write_that_waited(loop, make):
    """And ``connection_lost`` comes at once when the last byte has left."""

    async def main():
        variable.set("maker")
        transport, protocol, far = await make(loop, Remembers)
        between = []
        resumed = protocol.resume_writing

        def resume_writing():
            resumed()
            loop.call_soon(lambda: between.append(protocol.ended.done()))

        protocol.resume_writing = resume_writing
        with far:
            calling("writer", lambda: transport.write(bytes(TOO_MUCH)))
            calling("closer", transport.close)
            received = await in_thread(read_all if make is stream else type(far).read, far)
            assert len(received) == TOO_MUCH
            assert await protocol.ended is None
            await asyncio.sleep(0)
        writer = cause(make, "writer")
        assert between == [True]
        assert only(protocol, "pause_writing") == ["writer"]
        assert only(protocol, "resume_writing") == [writer]
        assert protocol.seen[-1] == ("connection_lost", writer)

    loop.run_until_complete(main())


@pytest.mark.parametrize("make", PAUSING)
def test_data_after_a_pause_comes_in_the_context_of_the_resuming_code(loop, make):
    async def main():
        variable.set("maker")
        transport, protocol, far = await make(loop, Remembers)
        with far:
            transport.pause_reading()
            calling("resumer", transport.resume_reading)
            far.write(b"data") if make is read_pipe else far.send(b"data")
            assert await protocol.came == b"data"
            if make is datagram:
                transport.abort()
        await protocol.ended
        resumer = cause(make, "resumer")
        assert only(protocol, "data_received") == [resumer]
        if make is not datagram:
            assert protocol.seen[-2:] == [("eof_received", resumer), ("connection_lost", resumer)]

    loop.run_until_complete(main())


@pytest.mark.parametrize("make", READERS)
def test_a_variable_set_by_connection_made_is_its_own(loop, make):
    class Sets(Remembers):
        def connection_made(self, transport):
            super().connection_made(transport)
            variable.set("connection_made's")

        def data_received(self, data):
            super().data_received(data)
            variable.set("data_received's")

    async def main():
        variable.set("maker")
        transport, protocol, far = await make(loop, Sets)
        with far:
            for data in (b"one", b"two"):
                far.write(data) if make is read_pipe else far.send(data)
                await protocol.came
                protocol.came = loop.create_future()
            if make is datagram:
                transport.abort()
        await protocol.ended
        first = "maker" if cause(make, "own") == "own" else "connection_made's"
        assert only(protocol, "data_received") == [first, "data_received's"]
        if make is not datagram:
            assert protocol.seen[-1] == ("connection_lost", "data_received's")

    loop.run_until_complete(main())


def test_errors_of_a_protocol_are_reported_in_its_context(loop):
    class Raises(Remembers):
        def data_received(self, data):
            variable.set("data_received's")
            raise ZeroDivisionError

    async def main():
        reported = []
        loop.set_exception_handler(lambda _loop, context: reported.append(variable.get()))
        variable.set("maker")
        _transport, protocol, far = await stream(loop, Raises)
        variable.set("main's")
        with far:
            far.send(b"data")
            assert type(await protocol.ended) is ZeroDivisionError
        assert reported == ["data_received's"]
        assert protocol.seen[-1] == ("connection_lost", "data_received's")

    loop.run_until_complete(main())


@pytest.mark.skipif(sys.version_info < (3, 15), reason="before 3.15 each starts a context anew")
def test_connections_get_the_context_the_server_was_made_in(loop):
    variable = contextvars.ContextVar("variable", default="outside")
    seen = []

    class Looks(Echo):
        def data_received(self, data):
            seen.append(variable.get())
            variable.set("one connection's own")
            super().data_received(data)

    async def scenario():
        variable.set("made")
        server = await loop.create_server(Looks, "127.0.0.1", 0, start_serving=False)
        variable.set("started")
        await server.start_serving()
        for _ in range(2):
            assert await answered(server.sockets[0].getsockname())
        await ended(server)

    loop.run_until_complete(scenario())
    assert seen == ["made", "made"]


# CPython's issue 140947, by public means.
def test_a_task_that_resumes_reading_lends_its_context_before_3_15(loop):
    variable = contextvars.ContextVar("variable", default="outside")
    seen = []

    class Pausing(asyncio.Protocol):
        def connection_made(self, transport):
            self.transport = transport

        def data_received(self, data):
            seen.append(("data_received", variable.get()))
            self.transport.pause_reading()
            self.task = loop.create_task(self.resume())

        async def resume(self):
            variable.set("the task's")
            self.transport.resume_reading()

        def connection_lost(self, exc):
            seen.append(("connection_lost", variable.get()))
            ended.set_result(None)

    async def scenario():
        nonlocal ended
        ended = loop.create_future()
        variable.set("the server's")
        server = await loop.create_server(Pausing, "127.0.0.1", 0)
        with contextlib.closing(server):
            _reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
            writer.write(b"anything")
            writer.close()
            await writer.wait_closed()
            await asyncio.wait_for(ended, 10)

    ended = None
    loop.run_until_complete(scenario())
    after = "the task's" if sys.version_info < (3, 15) else "the server's"
    assert seen == [("data_received", "the server's"), ("connection_lost", after)]
