"""Servers: create_server, create_unix_server, and the Server object in full."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import errno
import gc
import os
import re
import socket
import struct
import sys
import threading

import pytest
from support.recording import Recorder, listener

since_3_12 = pytest.mark.skipif(
    sys.version_info < (3, 12), reason="wait_closed waits for connections since Python 3.12"
)
since_3_13 = pytest.mark.skipif(
    sys.version_info < (3, 13), reason="this part of Server came with Python 3.13"
)


class Echo(Recorder):
    def data_received(self, data):
        super().data_received(data)
        self.transport.write(data)


def ask(address, family=socket.AF_INET, question=b"question"):
    """Connect from a thread, and say what the server answers."""
    with socket.socket(family) as client:
        client.settimeout(20)
        client.connect(address)
        client.sendall(question)
        answer = b""
        while len(answer) < len(question) and (chunk := client.recv(100)):
            answer += chunk
        return answer


async def answered(address, family=socket.AF_INET):
    loop = asyncio.get_running_loop()
    return await loop.run_in_executor(None, ask, address, family) == b"question"


async def ended(server):
    server.close()
    await server.wait_closed()
    # Connections whose client is gone may still be about to notice.
    await asyncio.sleep(0.01)


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
    contexts.clear()
    del context


def test_connections_survive_the_server_that_accepted_them(loop):
    protocol = Echo()

    async def scenario():
        server = await loop.create_server(lambda: protocol, "127.0.0.1", 0)
        with socket.create_connection(server.sockets[0].getsockname()) as client:
            await protocol.called("connection_made")
            server.close()
            client.sendall(b"still there?")
            await protocol.got(12)
            assert await loop.run_in_executor(None, client.recv, 100) == b"still there?"
        await protocol.lost()
        await server.wait_closed()

    loop.run_until_complete(scenario())


@since_3_12
def test_wait_closed_waits_for_the_last_connection(loop):
    protocol = Echo()

    async def scenario():
        server = await loop.create_server(lambda: protocol, "127.0.0.1", 0)
        with socket.create_connection(server.sockets[0].getsockname()):
            await protocol.called("connection_made")
            server.close()
            task = loop.create_task(server.wait_closed())
            await asyncio.sleep(0.02)
            assert not task.done()
        await asyncio.wait_for(task, 20)
        assert protocol.losses == 1

    loop.run_until_complete(scenario())


@since_3_13
def test_close_clients_closes_what_was_accepted(loop):
    protocol = Recorder()

    async def scenario():
        server = await loop.create_server(lambda: protocol, "127.0.0.1", 0)
        with socket.create_connection(server.sockets[0].getsockname()) as client:
            await protocol.called("connection_made")
            protocol.transport.write(b"x" * 1_000_000)
            server.close()
            server.close_clients()
            received = bytearray()

            def read():
                while chunk := client.recv(1 << 16):
                    received.extend(chunk)

            await loop.run_in_executor(None, read)
            # Closing is polite: what was written is delivered first.
            assert len(received) == 1_000_000
            await asyncio.wait_for(server.wait_closed(), 20)
        assert await protocol.lost() is None

    loop.run_until_complete(scenario())


@since_3_13
def test_abort_clients_drops_what_was_accepted(loop):
    protocol = Recorder()

    async def scenario():
        server = await loop.create_server(lambda: protocol, "127.0.0.1", 0)
        with socket.create_connection(server.sockets[0].getsockname()):
            await protocol.called("connection_made")
            protocol.transport.write(bytes(16 << 20))
            server.close()
            server.abort_clients()
            # Although the peer reads nothing of what was written.
            await asyncio.wait_for(server.wait_closed(), 20)
        assert await protocol.lost() is None

    loop.run_until_complete(scenario())


@since_3_13
def test_a_server_knows_its_own_clients_and_no_others(loop):
    """Also those that read nothing, which the loop itself does not keep alive."""
    protocols = {"one": [], "two": []}

    def factory(name):
        protocol = Recorder()
        protocols[name].append(protocol)
        return protocol

    def transports(name):
        return {protocol.transport for protocol in protocols[name]}

    async def scenario():
        servers = {
            name: await loop.create_server(lambda name=name: factory(name), "127.0.0.1", 0)
            for name in protocols
        }
        clients = [
            socket.create_connection(servers[name].sockets[0].getsockname())
            for name in ("one", "one", "two", "one")
        ]
        while sum(map(len, protocols.values())) < len(clients):
            await asyncio.sleep(0.001)
        for protocol in protocols["one"] + protocols["two"]:
            await protocol.called("connection_made")
        protocols["one"][0].transport.pause_reading()
        for name, server in servers.items():
            assert set(server._clients) == transports(name)
            assert len(server._clients) == len(protocols[name])
            assert all(transport in server._clients for transport in transports(name))
        assert not transports("two") & set(servers["one"]._clients)
        servers["one"].close()
        servers["one"].close_clients()
        await asyncio.wait_for(servers["one"].wait_closed(), 20)
        assert len(servers["one"]._clients) == 0
        assert len(servers["two"]._clients) == 1
        assert await asyncio.gather(*(p.lost() for p in protocols["one"])) == [None] * 3
        servers["two"].close()
        servers["two"].abort_clients()
        await asyncio.wait_for(servers["two"].wait_closed(), 20)
        for client in clients:
            client.close()

    loop.run_until_complete(scenario())


@since_3_13
def test_an_abandoned_connection_is_no_longer_its_servers(loop):
    protocols = []

    def factory():
        protocols.append(Recorder())
        return protocols[-1]

    async def scenario():
        server = await loop.create_server(factory, "127.0.0.1", 0)
        with socket.create_connection(server.sockets[0].getsockname()):
            while not protocols:
                await asyncio.sleep(0.001)
            await protocols[0].called("connection_made")
            protocols.pop().transport.pause_reading()
            with pytest.warns(ResourceWarning, match="unclosed transport"):
                gc.collect()
            assert len(server._clients) == 0
            assert list(server._clients) == []
        await ended(server)

    loop.run_until_complete(scenario())


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
