"""Servers: create_server, create_unix_server, and the Server object in full."""

from __future__ import annotations

import asyncio
import errno
import gc
import os
import re
import socket
import struct
import threading

import pytest

from support.recording import Recorder, listener
from transports.serving import Echo, answered, ended, since_3_13


def test_a_server_answers(loop):
    async def scenario():
        server = await loop.create_server(Echo, "127.0.0.1", 0)
        assert server.is_serving()
        assert server.get_loop() is loop
        [sock] = server.sockets
        assert isinstance(sock, asyncio.trsock.TransportSocket)
        assert await answered(sock.getsockname())
        await ended(server)

    loop.run_until_complete(scenario())


def test_each_connection_gets_a_protocol_of_its_own(loop):
    made = []

    def factory():
        made.append(Echo())
        return made[-1]

    async def scenario():
        server = await loop.create_server(factory, "127.0.0.1", 0)
        address = server.sockets[0].getsockname()
        assert all(await asyncio.gather(*(answered(address) for _ in range(20))))
        for protocol in made:
            await protocol.lost()
        await ended(server)

    loop.run_until_complete(scenario())
    assert len(made) == 20
    assert len({id(protocol.transport) for protocol in made}) == 20
    for protocol in made:
        assert protocol.story == [
            "connection_made",
            "data_received",
            "eof_received",
            "connection_lost",
        ]


def test_connection_made_knows_both_addresses(loop):
    seen = loop.create_future()

    class Looks(asyncio.Protocol):
        def connection_made(self, transport):
            seen.set_result(
                (transport.get_extra_info("sockname"), transport.get_extra_info("peername"))
            )
            transport.close()

    async def scenario():
        server = await loop.create_server(Looks, "127.0.0.1", 0)
        address = server.sockets[0].getsockname()
        with socket.create_connection(address) as client:
            assert await seen == (address, client.getsockname())
        await ended(server)

    loop.run_until_complete(scenario())


def test_a_server_listens_on_many_hosts(loop):
    async def scenario():
        server = await loop.create_server(Echo, ["127.0.0.1", "127.0.0.2", "::1"], 0)
        names = [sock.getsockname() for sock in server.sockets]
        assert {name[0] for name in names} == {"127.0.0.1", "127.0.0.2", "::1"}
        for name in names:
            family = socket.AF_INET6 if ":" in name[0] else socket.AF_INET
            assert await answered(name, family)
        await ended(server)

    loop.run_until_complete(scenario())


@pytest.mark.parametrize("host", [None, ""], ids=repr)
def test_a_server_without_a_host_listens_everywhere_in_both_families(loop, host):
    async def scenario():
        server = await loop.create_server(Echo, host, 0)
        found = {}
        for sock in server.sockets:
            found[sock.family] = sock
        assert set(found) == {socket.AF_INET, socket.AF_INET6}
        assert found[socket.AF_INET].getsockname()[0] == "0.0.0.0"
        assert found[socket.AF_INET6].getsockname()[0] == "::"
        assert found[socket.AF_INET6].getsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY) == 1
        assert await answered(("127.0.0.1", found[socket.AF_INET].getsockname()[1]))
        assert await answered(("::1", found[socket.AF_INET6].getsockname()[1]), socket.AF_INET6)
        await ended(server)

    loop.run_until_complete(scenario())


def test_one_host_named_twice_is_one_socket(loop):
    async def scenario():
        server = await loop.create_server(Echo, ["127.0.0.1", "127.0.0.1"], 0)
        assert len(server.sockets) == 1
        await ended(server)

    loop.run_until_complete(scenario())


def test_a_port_in_use_is_named(loop):
    with listener() as taken:
        address = taken.getsockname()
        with pytest.raises(OSError, match="error while attempting to bind on address") as caught:
            loop.run_until_complete(loop.create_server(Echo, *address))
    assert caught.value.errno == errno.EADDRINUSE
    assert str(address) in str(caught.value)
    assert "address already in use" in str(caught.value)


def test_when_one_host_fails_nothing_is_left_listening(loop):
    with listener() as taken:
        port = taken.getsockname()[1]
        with pytest.raises(OSError, match="already in use"):
            loop.run_until_complete(loop.create_server(Echo, ["127.0.0.2", "127.0.0.1"], port))
        with socket.socket() as probe:
            probe.bind(("127.0.0.2", port))


def test_a_host_without_addresses_is_an_error(loop, monkeypatch):
    async def getaddrinfo(*_args, **_options):
        return []

    monkeypatch.setattr(loop, "getaddrinfo", getaddrinfo, raising=False)
    with pytest.raises(OSError, match=re.escape("getaddrinfo('server.test') returned empty list")):
        loop.run_until_complete(loop.create_server(Echo, "server.test", 0))


@pytest.mark.parametrize(
    ("given", "expected"), [({}, 1), ({"reuse_address": True}, 1), ({"reuse_address": False}, 0)]
)
def test_addresses_are_reused_unless_forbidden(loop, given, expected):
    async def scenario():
        server = await loop.create_server(Echo, "127.0.0.1", 0, **given)
        assert server.sockets[0].getsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR) == expected
        await ended(server)

    loop.run_until_complete(scenario())


def test_two_servers_share_a_port_when_both_ask(loop):
    async def scenario():
        one = await loop.create_server(Echo, "127.0.0.1", 0, reuse_port=True)
        address = one.sockets[0].getsockname()
        two = await loop.create_server(Echo, *address, reuse_port=True)
        assert two.sockets[0].getsockname() == address
        assert await answered(address)
        await ended(one)
        assert await answered(address)
        await ended(two)

    loop.run_until_complete(scenario())


@since_3_13
@pytest.mark.parametrize("asked", [True, False])
def test_keep_alive_reaches_the_sockets(loop, asked):
    async def scenario():
        server = await loop.create_server(Echo, "127.0.0.1", 0, keep_alive=asked)
        sock = server.sockets[0]
        assert bool(sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)) is asked
        await ended(server)

    loop.run_until_complete(scenario())


@pytest.mark.parametrize("backlog", [1, 7, 100])
def test_the_backlog_reaches_the_kernel(loop, backlog):
    async def scenario():
        server = await loop.create_server(Echo, "127.0.0.1", 0, backlog=backlog)
        # For a listening socket the field of acknowledged segments holds the backlog.
        info = server.sockets[0].getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 104)
        assert struct.unpack_from("I", info, 28) == (backlog,)
        await ended(server)

    loop.run_until_complete(scenario())


def test_accepted_sockets_are_non_blocking_and_not_inherited(loop):
    protocol = Recorder()

    async def scenario():
        server = await loop.create_server(lambda: protocol, "127.0.0.1", 0)
        with socket.create_connection(server.sockets[0].getsockname()):
            await protocol.called("connection_made")
            sock = protocol.transport.get_extra_info("socket")
            assert sock.gettimeout() == 0
            assert os.get_inheritable(sock.fileno()) is False
            assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY) != 0
        await protocol.lost()
        await ended(server)

    loop.run_until_complete(scenario())


def test_a_server_can_be_started_later(loop):
    async def scenario():
        server = await loop.create_server(Echo, "127.0.0.1", 0, start_serving=False)
        assert not server.is_serving()
        address = server.sockets[0].getsockname()
        with pytest.raises(ConnectionRefusedError):
            await answered(address)
        await server.start_serving()
        assert server.is_serving()
        await server.start_serving()  # a second time changes nothing
        assert await answered(address)
        await ended(server)

    loop.run_until_complete(scenario())


def test_serve_forever_serves_until_it_is_cancelled(loop):
    async def scenario():
        server = await loop.create_server(Echo, "127.0.0.1", 0, start_serving=False)
        address = server.sockets[0].getsockname()
        task = loop.create_task(server.serve_forever())
        await asyncio.sleep(0)
        assert server.is_serving()
        assert await answered(address)
        with pytest.raises(RuntimeError, match="is already being awaited on serve_forever"):
            await server.serve_forever()
        await asyncio.sleep(0.01)  # until the connection has ended too
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert not server.is_serving()
        assert list(server.sockets) == []
        with pytest.raises(RuntimeError, match="is closed"):
            await server.serve_forever()

    loop.run_until_complete(scenario())


def test_close_ends_serve_forever(loop):
    async def scenario():
        server = await loop.create_server(Echo, "127.0.0.1", 0)
        task = loop.create_task(server.serve_forever())
        await asyncio.sleep(0)
        server.close()
        with pytest.raises(asyncio.CancelledError):
            await task

    loop.run_until_complete(scenario())


def test_a_closed_server_refuses_connections(loop):
    async def scenario():
        server = await loop.create_server(Echo, "127.0.0.1", 0)
        address = server.sockets[0].getsockname()
        server.close()
        server.close()  # a second time changes nothing
        assert not server.is_serving()
        assert list(server.sockets) == []
        await server.wait_closed()
        await server.wait_closed()
        with pytest.raises(ConnectionRefusedError):
            await answered(address)

    loop.run_until_complete(scenario())


def test_a_server_is_closed_by_its_context(loop):
    async def scenario():
        async with await loop.create_server(Echo, "127.0.0.1", 0) as server:
            address = server.sockets[0].getsockname()
            assert await answered(address)
            await asyncio.sleep(0.01)
        assert not server.is_serving()
        with pytest.raises(ConnectionRefusedError):
            await answered(address)

    loop.run_until_complete(scenario())


def test_the_repr_names_the_sockets(loop):
    async def scenario():
        server = await loop.create_server(Echo, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        assert repr(server).startswith("<Server sockets=")
        assert f"'127.0.0.1', {port}" in repr(server)
        assert repr(server).endswith(">")
        await ended(server)

    loop.run_until_complete(scenario())


def test_a_given_socket_is_listened_on(loop):
    sock = socket.socket()
    sock.bind(("127.0.0.1", 0))

    async def scenario():
        server = await loop.create_server(Echo, sock=sock)
        assert sock.gettimeout() == 0
        assert await answered(sock.getsockname())
        await ended(server)
        assert sock.fileno() == -1

    loop.run_until_complete(scenario())


def test_arguments_that_contradict_each_other_are_refused(loop):
    def refused(exception, message, *args, **options):
        with pytest.raises(exception, match=message):
            loop.run_until_complete(loop.create_server(Echo, *args, **options))

    refused(ValueError, "Neither host/port nor sock were specified")
    refused(TypeError, "ssl argument must be an SSLContext or None", "127.0.0.1", 0, ssl=True)
    refused(
        ValueError,
        "ssl_handshake_timeout is only meaningful with ssl",
        "127.0.0.1",
        0,
        ssl_handshake_timeout=1,
    )
    with (
        socket.socket() as sock,
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as datagrams,
    ):
        refused(ValueError, "can not be specified at the same time", "127.0.0.1", 0, sock=sock)
        refused(ValueError, "A Stream Socket was expected", sock=datagrams)


# The standard library leaves the accepted socket to the garbage collector here.
@pytest.mark.filterwarnings("ignore::ResourceWarning")
def test_an_exception_of_the_factory_does_not_stop_the_server(loop):
    loop.set_debug(True)  # only then is it reported
    contexts = []
    loop.set_exception_handler(lambda _loop, context: contexts.append(context))
    answers = iter([LookupError("no protocol today"), None])

    def factory():
        if trouble := next(answers):
            raise trouble
        return Echo()

    async def scenario():
        server = await loop.create_server(factory, "127.0.0.1", 0)
        address = server.sockets[0].getsockname()
        with socket.create_connection(address):
            while not contexts:
                await asyncio.sleep(0.001)
            assert await answered(address)
        await ended(server)

    loop.run_until_complete(scenario())
    [context] = contexts
    assert isinstance(context["exception"], LookupError)
    assert "Error on transport creation for incoming connection" in context["message"]
    assert "protocol" not in context
    contexts.clear()
    del context


@pytest.mark.filterwarnings("ignore::ResourceWarning")  # the transport is nobody's
@pytest.mark.parametrize("secure", [False, True], ids=["tcp", "tls"])
def test_a_transport_that_cannot_be_made_is_reported_with_the_protocol(loop, certificates, secure):
    loop.set_debug(True)  # only then is it reported
    contexts, made = [], []
    loop.set_exception_handler(lambda _loop, context: contexts.append(context))

    async def scenario():
        def factory():
            server.close()
            made.append(Recorder())
            return made[-1]

        context = certificates.server_context() if secure else None
        server = await loop.create_server(factory, "127.0.0.1", 0, ssl=context)
        with socket.create_connection(server.sockets[0].getsockname()):
            while not contexts:
                await asyncio.sleep(0.001)
        await server.wait_closed()

    loop.run_until_complete(scenario())
    [context] = contexts
    assert context["message"] == "Error on transport creation for incoming connection"
    assert isinstance(context["exception"], AssertionError)
    assert context["protocol"] is made[0]
    assert "transport" not in context
    contexts.clear()
    del context
    gc.collect()


def test_many_clients_in_a_short_time(loop):
    served = []

    class Greets(asyncio.Protocol):
        def connection_made(self, transport):
            served.append(1)
            transport.write(b"hello")
            transport.close()

    async def scenario():
        server = await loop.create_server(Greets, "127.0.0.1", 0, backlog=200)
        address = server.sockets[0].getsockname()
        received = []

        def visit():
            for _ in range(50):
                with socket.create_connection(address) as client:
                    received.append(client.recv(10))

        threads = [threading.Thread(target=visit) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            await loop.run_in_executor(None, thread.join)
        assert received == [b"hello"] * 200
        await ended(server)

    loop.run_until_complete(scenario())
    assert len(served) == 200


def test_a_server_calls_a_make_socket_transport_of_a_program(loop):
    class Mine(type(loop)):
        made = 0

        def _make_socket_transport(self, *args, **options):
            self.made += 1
            return super()._make_socket_transport(*args, **options)

    async def main():
        server = await mine.create_server(Echo, "127.0.0.1", 0)
        for _ in range(3):
            assert await answered(server.sockets[0].getsockname())
        await ended(server)

    mine = Mine()
    try:
        mine.run_until_complete(main())
        assert mine.made == 3
    finally:
        mine.close()


@pytest.mark.native_only(reason="some releases of asyncio accept none, again and again")
@pytest.mark.parametrize("backlog", [0, -1, -(1 << 31)])
def test_a_server_without_a_backlog_accepts(loop, backlog):
    async def scenario():
        server = await loop.create_server(Echo, "127.0.0.1", 0, backlog=backlog)
        assert await answered(server.sockets[0].getsockname())
        await ended(server)

    loop.run_until_complete(scenario())
