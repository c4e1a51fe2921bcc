"""Descriptors when a step of making their transport fails: closed once, and no other is.

Each scenario makes a transport fail half-way, then opens files until they have the number again,
lets everything that is left of the transport go, and looks whether the files are still open.
"""

from __future__ import annotations

import asyncio
import socket

import pytest

from support.recording import Recorder, blocking_pair
from transports.bystanders import (
    BROKEN,
    Bystanders,
    async_made,
    settle,
)

pytestmark = pytest.mark.filterwarnings("ignore::ResourceWarning")


@pytest.fixture(params=sorted(BROKEN))
def broken(request):
    return BROKEN[request.param]


# -- connections, datagrams, pipes, children ---------------------------------------------------


def test_a_connection_whose_protocol_is_broken(loop, broken):
    factory, error = broken
    near, far = blocking_pair()

    async def scenario():
        with pytest.raises(error):
            await asyncio.wait_for(loop.create_connection(factory, sock=near), 20)
        await settle()
        assert near.fileno() == -1
        with Bystanders() as files:
            await settle()
            assert files.unharmed()

    with far:
        loop.run_until_complete(scenario())
        assert far.recv(1) == b""


def test_a_datagram_endpoint_whose_protocol_is_broken(loop, broken):
    factory, error = broken
    sock = socket.socket(type=socket.SOCK_DGRAM)
    sock.bind(("127.0.0.1", 0))

    async def scenario():
        with pytest.raises(error):
            await asyncio.wait_for(loop.create_datagram_endpoint(factory, sock=sock), 20)
        await settle()
        assert sock.fileno() == -1
        with Bystanders() as files:
            await settle()
            assert files.unharmed()

    loop.run_until_complete(scenario())


@pytest.mark.parametrize("end", ["read", "write"])
def test_a_pipe_whose_protocol_is_broken(loop, pipe, broken, end):
    factory, error = broken
    file = pipe[end == "write"]
    connect = loop.connect_write_pipe if end == "write" else loop.connect_read_pipe

    async def scenario():
        with pytest.raises(error):
            await asyncio.wait_for(connect(factory, file), 20)
        await settle()
        assert file.closed
        with Bystanders() as files:
            await settle()
            assert files.unharmed()

    loop.run_until_complete(scenario())


@pytest.mark.native_only(reason="asyncio hangs unless the child ends at the right moment")
@pytest.mark.parametrize("command", [["true"], ["sleep", "60"]], ids=lambda command: command[0])
def test_a_child_whose_protocol_is_broken(loop, broken, command):
    factory, error = broken

    async def scenario():
        with pytest.raises(error):
            await asyncio.wait_for(loop.subprocess_exec(factory, *command), 20)
        await settle()

    loop.set_exception_handler(lambda *_: None)
    loop.run_until_complete(scenario())


@pytest.mark.parametrize("kind", ["connection", "datagram", "read", "write"])
def test_an_object_that_cannot_be_called_is_reported_when_it_is(loop, pipe, kind):
    class NotCallable(Recorder):
        connection_made = None

    near, far = blocking_pair()
    reports = []
    loop.set_exception_handler(lambda _loop, context: reports.append(context))

    async def scenario():
        made = {
            "connection": lambda: loop.create_connection(NotCallable, sock=near),
            "datagram": lambda: loop.create_datagram_endpoint(
                NotCallable, local_addr=("127.0.0.1", 0)
            ),
            "read": lambda: loop.connect_read_pipe(NotCallable, pipe[0]),
            "write": lambda: loop.connect_write_pipe(NotCallable, pipe[1]),
        }[kind]
        transport, protocol = await asyncio.wait_for(made(), 20)
        assert len(reports) == 1
        assert isinstance(reports[0]["exception"], TypeError)
        assert reports[0]["message"].startswith("Exception in callback None(")
        transport.close()
        await protocol.lost()

    with near, far:
        loop.run_until_complete(scenario())


@pytest.mark.parametrize("kind", ["connection", "datagram", "read", "write"])
def test_debug_mode_refuses_a_coroutine_function(loop, pipe, kind):
    near, far = blocking_pair()
    loop.set_debug(True)

    async def scenario():
        made = {
            "connection": lambda: loop.create_connection(async_made, sock=near),
            "datagram": lambda: loop.create_datagram_endpoint(
                async_made, local_addr=("127.0.0.1", 0)
            ),
            "read": lambda: loop.connect_read_pipe(async_made, pipe[0]),
            "write": lambda: loop.connect_write_pipe(async_made, pipe[1]),
        }[kind]
        with pytest.raises(TypeError, match="coroutines cannot be used with call_soon"):
            await asyncio.wait_for(made(), 20)
        await settle()

    with near, far:
        loop.run_until_complete(scenario())


@pytest.mark.parametrize("kind", ["connection", "read", "write"])
def test_connection_made_that_ends_the_loop_is_over_when_it_runs_again(loop, pipe, kind):
    class Ends(Recorder):
        def connection_made(self, transport):
            super().connection_made(transport)
            raise SystemExit("enough")

    near, far = blocking_pair()
    made = {
        "connection": lambda: loop.create_connection(Ends, sock=near),
        "read": lambda: loop.connect_read_pipe(Ends, pipe[0]),
        "write": lambda: loop.connect_write_pipe(Ends, pipe[1]),
    }[kind]
    task = loop.create_task(made())
    with near, far:
        with pytest.raises(SystemExit):
            loop.run_until_complete(task)
        transport, protocol = loop.run_until_complete(asyncio.wait_for(task, 20))
        if kind == "connection":
            far.sendall(b"x")
            loop.run_until_complete(protocol.got(1))
        transport.close()
        loop.run_until_complete(protocol.lost())


@pytest.mark.parametrize("ending", [SystemExit, KeyboardInterrupt])
def test_data_received_that_ends_the_loop_leaves_the_connection_reading(loop, ending):
    class Ends(Recorder):
        def data_received(self, data):
            super().data_received(data)
            if len(self.received) == 1:
                raise ending("enough")

    near, far = blocking_pair()
    with far:
        transport, protocol = loop.run_until_complete(loop.create_connection(Ends, sock=near))
        far.sendall(b"1")
        with pytest.raises(ending):
            loop.run_until_complete(asyncio.sleep(20))
        far.sendall(b"2")
        loop.run_until_complete(protocol.got(2))
        transport.close()
        loop.run_until_complete(protocol.lost())


# -- what the transport has, others' code makes or closes --------------------------------------


def test_a_socket_that_the_factory_closes(loop):
    near, far = blocking_pair()

    def factory():
        near.close()
        return Recorder()

    async def scenario():
        with pytest.raises(OSError, match="Bad file descriptor"):
            await asyncio.wait_for(loop.create_connection(factory, sock=near), 20)
        with Bystanders() as files:
            await settle()
            assert files.unharmed()

    with far:
        loop.run_until_complete(scenario())


def test_a_pipe_that_the_factory_closes(loop, pipe):
    def factory():
        pipe[0].close()
        return Recorder()

    async def scenario():
        with pytest.raises(ValueError, match="closed file"):
            await asyncio.wait_for(loop.connect_read_pipe(factory, pipe[0]), 20)
        with Bystanders() as files:
            await settle()
            assert files.unharmed()

    loop.run_until_complete(scenario())
