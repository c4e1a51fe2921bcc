"""Rows about sockets, descriptors and connections."""

from __future__ import annotations

import asyncio
import collections.abc
import inspect
import json
import os
import signal
import socket

import pytest

from compatibility.rows import row
from support.recording import Recorder, blocking_pair, transport_pair
from support.reused_numbers import pair_with

pytestmark = pytest.mark.native_only(reason="looks at both loops already")


@row("Type of stream transports")
def test_type_of_stream_transports(both):
    async def look(loop):
        transport, protocol, far = await transport_pair(loop)
        assert isinstance(transport, asyncio.Transport)
        transport.abort()
        await protocol.lost()
        far.close()
        return type(transport).__name__

    assert both(look) == ["_SelectorSocketTransport", "SocketTransport"]


@row("Private attributes of transports")
def test_private_attributes(both):
    names = ("_loop", "_protocol", "_sock", "_sock_fd", "_buffer", "_conn_lost", "_closing", "_eof")

    async def look(loop):
        transport, protocol, far = await transport_pair(loop)
        found = [name for name in names if hasattr(transport, name)]
        transport.abort()
        await protocol.lost()
        far.close()
        return found

    theirs, ours = both(look)
    assert theirs == list(names)
    assert not {"_buffer", "_conn_lost"} & set(ours), ours


@row("The object that `sock_recv` and its kin give")
def test_the_result_of_sock_recv(both):
    async def look(loop):
        near, far = blocking_pair()
        with near, far:
            far.send(b"x")
            receiving = loop.sock_recv(near, 10)
            kind = inspect.iscoroutine(receiving)
            assert asyncio.iscoroutine(receiving)
            assert isinstance(receiving, collections.abc.Coroutine)
            assert await receiving == b"x"
            return kind

    assert both(look) == [True, False]


@row("Two `sock_recv` at once on one socket")
def test_two_sock_recv(both):
    async def look(loop):
        near, far = blocking_pair()
        with near, far:
            first = asyncio.ensure_future(loop.sock_recv(near, 1))
            await asyncio.sleep(0.001)
            second = asyncio.ensure_future(loop.sock_recv(near, 1))
            await asyncio.sleep(0.001)
            far.sendall(b"12")
            await asyncio.wait([first, second], timeout=0.1)
            done = [task.result() if task.done() else None for task in (first, second)]
            first.cancel()
            await asyncio.wait([first, second])
            return done

    theirs, ours = both(look)
    assert theirs == [None, b"1"]
    assert ours == [b"1", b"2"]


@row("A blocking socket given to `sock_recv` and its kin outside of debug mode")
def test_a_blocking_socket(both):
    async def look(loop):
        near, far = blocking_pair()
        with near, far:
            # So that a loop that is blocked comes back.
            near.settimeout(0.05)
            loop.call_later(0.1, far.send, b"x")
            try:
                return await loop.sock_recv(near, 10)
            except TimeoutError as error:
                return type(error)

    assert both(look) == [TimeoutError, b"x"]


@row("The wake-up descriptor that was there before `add_signal_handler`")
def test_a_foreign_wake_up_descriptor(both):
    def look(loop):
        near, far = socket.socketpair()
        with near, far:
            near.settimeout(0)
            far.setblocking(False)
            before = signal.set_wakeup_fd(far.fileno())
            try:
                loop.add_signal_handler(signal.SIGUSR1, lambda: None)
                os.kill(os.getpid(), signal.SIGUSR1)
                loop.run_until_complete(asyncio.sleep(0.01))
                loop.remove_signal_handler(signal.SIGUSR1)
                comes_back = signal.set_wakeup_fd(before) == far.fileno()
            finally:
                signal.set_wakeup_fd(before)
            try:
                return comes_back, near.recv(10)
            except BlockingIOError:
                return comes_back, b""

    assert both(look) == [(False, b""), (True, bytes([signal.SIGUSR1]))]


@row("A descriptor closed without `remove_reader`, its number used again")
def test_a_reused_number(both):
    def look(loop):
        near, far = socket.socketpair()
        loop.add_reader(near, print)
        number = near.fileno()
        near.close()
        far.close()
        near, far = pair_with(number)
        with near, far:
            far.send(b"x")
            called = []
            loop.add_reader(near, called.append, "reader")
            try:
                loop.add_writer(near, called.append, "writer")
            except FileNotFoundError as error:
                called.append(type(error))
            loop.call_later(0.01, loop.stop)
            loop.run_forever()
            loop.remove_reader(near)
            loop.remove_writer(near)
            return set(called)

    theirs, ours = both(look)
    assert theirs == {FileNotFoundError}
    assert ours == {"reader", "writer"}


@row("`eof_received` after reading is paused and resumed on a half-closed connection")
def test_the_end_again(both):
    async def look(loop):
        transport, protocol, far = await transport_pair(loop, Recorder(keep_open_at_eof=True))
        far.shutdown(socket.SHUT_WR)
        await protocol.called("eof_received")
        transport.pause_reading()
        transport.resume_reading()
        await asyncio.sleep(0.01)
        transport.abort()
        await protocol.lost()
        far.close()
        return protocol.calls.count("eof_received")

    assert both(look) == [2, 1]


EXHAUSTED = """
import asyncio, json, os, resource, socket

async def main():
    loop = asyncio.get_running_loop()
    reports = []
    loop.set_exception_handler(lambda loop, context: reports.append(context["message"]))
    server = await loop.create_server(asyncio.Protocol, "127.0.0.1", 0, backlog=7)
    await asyncio.sleep(0.001)
    client = socket.socket()
    fillers = [os.dup(0) for _ in range(3)]
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (fillers[-1] + 1, hard))
    client.connect(server.sockets[0].getsockname())
    while not reports:
        await asyncio.sleep(0.001)
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    client.close()
    server.close()
    print(json.dumps(reports))

run(main())
"""


@row("`accept` out of descriptors")
def test_reports_of_accept(both_programs):
    theirs, ours = (json.loads(done.stdout) for done in both_programs(EXHAUSTED))
    message = "socket.accept() out of system resource"
    assert set(theirs) == set(ours) == {message}
    assert len(ours) == 1
    # Once for each connection that the backlog would have room for; not in CPython's newest.
    assert len(theirs) in (1, 7, 8)


@row("A `backlog` of less than 1, before its correction for 0")
def test_a_server_without_a_backlog(both):
    async def look(loop):
        protocol = Recorder()
        server = await loop.create_server(lambda: protocol, "127.0.0.1", 0, backlog=-1)
        with socket.create_connection(server.sockets[0].getsockname()):
            try:
                await asyncio.wait_for(protocol.called("connection_made"), 0.2)
            except asyncio.TimeoutError:
                return "waits"
            finally:
                server.close()
            protocol.transport.abort()
            await protocol.lost()
            return "accepted"

    theirs, ours = both(look)
    assert (theirs, ours) == ("waits", "accepted")


@row("A protocol factory that raises for an accepted connection")
@pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning")
def test_a_factory_that_raises(both):
    class Kept(Exception):
        """Its traceback keeps the frame, and the frame the socket."""

    kept = []

    def factory():
        kept.append(Kept())
        raise kept[-1]

    async def look(loop):
        server = await loop.create_server(factory, "127.0.0.1", 0)
        with socket.create_connection(server.sockets[0].getsockname()) as client:
            client.setblocking(False)
            await asyncio.sleep(0.05)
            try:
                closed = client.recv(1) == b""
            except BlockingIOError:
                closed = False
        server.close()
        kept.clear()
        await asyncio.sleep(0.01)
        return closed

    assert both(look) == [False, True]


@row("An accepted connection")
def test_accepting_without_a_task(both):
    async def look(loop):
        tasks = []

        def factory(loop, coroutine, **options):
            tasks.append(coroutine.__name__)
            return asyncio.Task(coroutine, loop=loop, **options)

        made = loop.create_future()
        server = await loop.create_server(lambda: Accepted(made), "127.0.0.1", 0)
        loop.set_task_factory(factory)
        with socket.create_connection(server.sockets[0].getsockname()):
            transport = await made
            transport.abort()
        server.close()
        await asyncio.sleep(0)
        return tasks

    assert both(look) == [["_accept_connection2"], []]


class Accepted(asyncio.Protocol):
    def __init__(self, made):
        self.made = made

    def connection_made(self, transport):
        self.made.set_result(transport)
