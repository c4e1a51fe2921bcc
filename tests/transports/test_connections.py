"""Making connections: create_connection, create_unix_connection, connect_accepted_socket."""

from __future__ import annotations

import asyncio
import contextlib
import re
import socket
import ssl
import sys
import time

import pytest

from support.recording import (
    Recorder,
    blocking_pair,
    in_thread,
    listener,
    refused_address,
    transport_pair,
    unresponsive_address,
)

STREAM = socket.SOCK_STREAM


@pytest.fixture
def server():
    """A listening socket; the kernel completes connections although no program accepts."""
    with listener() as sock:
        yield sock


def resolves_to(loop, monkeypatch, *addresses):
    """Let the loop resolve any name to these addresses; returns what it was asked."""
    asked = []

    async def getaddrinfo(host, port, *, family=0, type=0, proto=0, flags=0):
        asked.append((host, port, family, type, proto, flags))
        return [
            (socket.AF_INET6 if ":" in address[0] else socket.AF_INET, STREAM, 6, "", address)
            for address in addresses
        ]

    monkeypatch.setattr(loop, "getaddrinfo", getaddrinfo, raising=False)
    return asked


@contextlib.contextmanager
def refused(count, host="127.0.0.1"):
    with contextlib.ExitStack() as stack:
        found = []
        for _ in range(count):
            sock, address = refused_address(host)
            stack.enter_context(sock)
            found.append(address)
        yield found


async def connected(loop, *args, **options):
    """Connect, look, and close: the addresses of both ends."""
    transport, protocol = await loop.create_connection(Recorder, *args, **options)
    assert protocol.calls == ["connection_made"]
    assert protocol.transport is transport
    names = transport.get_extra_info("sockname"), transport.get_extra_info("peername")
    transport.close()
    await protocol.lost()
    return names


def test_connecting_to_a_literal(loop, server):
    _, peer = loop.run_until_complete(connected(loop, *server.getsockname()))
    assert peer == server.getsockname()


def test_connecting_to_an_ipv6_literal(loop):
    with listener(socket.AF_INET6, ("::1", 0)) as server:
        port = server.getsockname()[1]
        _, peer = loop.run_until_complete(connected(loop, "::1", port))
    assert peer == ("::1", port, 0, 0)


def test_connecting_to_localhost(loop, server):
    port = server.getsockname()[1]
    _, peer = loop.run_until_complete(connected(loop, "localhost", port))
    assert peer == ("127.0.0.1", port)


def test_the_port_may_be_text(loop, server):
    host, port = server.getsockname()
    _, peer = loop.run_until_complete(connected(loop, host, str(port)))
    assert peer == (host, port)


def test_a_name_is_resolved_by_the_loop(loop, server, monkeypatch):
    asked = resolves_to(loop, monkeypatch, server.getsockname())
    options = {"family": socket.AF_INET, "proto": 6, "flags": socket.AI_ADDRCONFIG}
    _, peer = loop.run_until_complete(connected(loop, "server.test", 1234, **options))
    assert peer == server.getsockname()
    assert asked == [("server.test", 1234, socket.AF_INET, STREAM, 6, socket.AI_ADDRCONFIG)]


def test_the_next_address_is_tried_when_one_refuses(loop, server, monkeypatch):
    with refused(2) as dead:
        resolves_to(loop, monkeypatch, *dead, server.getsockname())
        _, peer = loop.run_until_complete(connected(loop, "server.test", 1))
    assert peer == server.getsockname()


def test_one_refusal_is_raised_as_it_is(loop, monkeypatch):
    with refused(1) as [dead]:
        with pytest.raises(ConnectionRefusedError) as caught:
            loop.run_until_complete(loop.create_connection(Recorder, *dead))
        assert str(caught.value) == f"[Errno 111] Connect call failed {dead}"


def test_many_refusals_name_every_address_in_order(loop, monkeypatch):
    with refused(3) as dead:
        resolves_to(loop, monkeypatch, *dead)
        with pytest.raises(OSError, match=r"^Multiple exceptions: ") as caught:
            loop.run_until_complete(loop.create_connection(Recorder, "server.test", 1))
    named = re.findall(r"Connect call failed (\(.*?\))", str(caught.value))
    assert named == [str(address) for address in dead]


@pytest.mark.skipif(sys.version_info < (3, 12), reason="all_errors came with Python 3.12")
def test_all_errors_come_as_a_group_when_asked_for(loop, monkeypatch):
    with refused(2) as dead:
        resolves_to(loop, monkeypatch, *dead)
        with pytest.raises(ExceptionGroup, match="create_connection failed") as caught:  # noqa: F821
            loop.run_until_complete(
                loop.create_connection(Recorder, "server.test", 1, all_errors=True)
            )
    assert [type(exc) for exc in caught.value.exceptions] == [ConnectionRefusedError] * 2
    for exc, address in zip(caught.value.exceptions, dead, strict=True):
        assert f"Connect call failed {address}" in str(exc)


def test_a_name_without_addresses_is_an_error(loop, monkeypatch):
    resolves_to(loop, monkeypatch)
    with pytest.raises(OSError, match=re.escape("getaddrinfo() returned empty list")):
        loop.run_until_complete(loop.create_connection(Recorder, "server.test", 1))


def test_an_error_of_the_resolver_is_raised(loop, monkeypatch):
    def getaddrinfo(*_args):
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    with pytest.raises(socket.gaierror, match="not known"):
        loop.run_until_complete(loop.create_connection(Recorder, "nowhere.test", 1))


def test_happy_eyeballs_do_not_wait_for_an_address_that_does_not_answer(loop, server, monkeypatch):
    with unresponsive_address() as silent:
        resolves_to(loop, monkeypatch, silent, server.getsockname())
        started = time.monotonic()
        _, peer = loop.run_until_complete(
            connected(loop, "server.test", 1, happy_eyeballs_delay=0.05)
        )
        # Far less than the seconds the kernel would try the first one for.
        assert time.monotonic() - started < 10
    assert peer == server.getsockname()


def test_happy_eyeballs_go_on_at_once_after_a_refusal(loop, server, monkeypatch):
    with refused(1) as dead:
        resolves_to(loop, monkeypatch, *dead, server.getsockname())
        _, peer = loop.run_until_complete(
            asyncio.wait_for(connected(loop, "server.test", 1, happy_eyeballs_delay=60), 20)
        )
    assert peer == server.getsockname()


def test_happy_eyeballs_report_every_refusal(loop, monkeypatch):
    with refused(2) as dead:
        resolves_to(loop, monkeypatch, *dead)
        with pytest.raises(OSError, match="Multiple exceptions") as caught:
            loop.run_until_complete(
                loop.create_connection(Recorder, "server.test", 1, happy_eyeballs_delay=0.01)
            )
    for address in dead:
        assert str(address) in str(caught.value)


@pytest.mark.parametrize(
    ("options", "order"),
    [
        ({}, [0, 1, 2, 3]),
        ({"interleave": 0}, [0, 1, 2, 3]),
        ({"interleave": 1}, [0, 2, 1, 3]),
        ({"interleave": 2}, [0, 1, 2, 3]),
        ({"happy_eyeballs_delay": 60}, [0, 2, 1, 3]),
    ],
)
def test_families_alternate_when_interleaved(loop, monkeypatch, options, order):
    with refused(2) as ipv4, refused(2, "::1") as ipv6:
        addresses = ipv4 + ipv6
        resolves_to(loop, monkeypatch, *addresses)
        with pytest.raises(OSError, match="Multiple exceptions") as caught:
            loop.run_until_complete(loop.create_connection(Recorder, "server.test", 1, **options))
    # The failures are listed in the order of the attempts.
    named = re.findall(r"Connect call failed (\(.*?\))", str(caught.value))
    assert named == [str(addresses[i]) for i in order]


def test_the_local_address_can_be_chosen(loop, server):
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        free = probe.getsockname()
    host, port = server.getsockname()
    name, peer = loop.run_until_complete(connected(loop, host, port, local_addr=free))
    assert (name, peer) == (free, (host, port))


def test_a_local_address_that_cannot_be_bound_is_named(loop, server):
    foreign = ("192.0.2.1", 0)
    with pytest.raises(OSError, match="while attempting to bind on address") as caught:
        loop.run_until_complete(
            loop.create_connection(Recorder, *server.getsockname(), local_addr=foreign)
        )
    assert str(foreign) in str(caught.value)
    assert "cannot assign requested address" in str(caught.value).lower()


def test_a_connected_socket_can_be_given(loop):
    near, far = blocking_pair()
    with far:
        name, peer = loop.run_until_complete(connected(loop, sock=near))
        assert (name, peer) == (far.getpeername(), far.getsockname())
        assert far.recv(1) == b""


def test_a_given_socket_is_made_non_blocking(loop):
    near, far = blocking_pair()
    near.setblocking(True)
    with far:

        async def scenario():
            transport, protocol = await loop.create_connection(Recorder, sock=near)
            assert near.gettimeout() == 0
            transport.close()
            await protocol.lost()

        loop.run_until_complete(scenario())


def test_a_unix_socket_can_be_given(loop):
    near, far = socket.socketpair()
    with far:
        name, peer = loop.run_until_complete(connected(loop, sock=near))
    assert (name, peer) == ("", "")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "host and port was not specified and no sock specified"),
        (
            {"host": "h", "port": 1, "server_hostname": "h"},
            "server_hostname is only meaningful with ssl",
        ),
        ({"port": 1, "ssl": True}, "You must set server_hostname when using ssl without a host"),
        (
            {"host": "h", "port": 1, "ssl_handshake_timeout": 1},
            "ssl_handshake_timeout is only meaningful with ssl",
        ),
    ],
)
def test_arguments_that_contradict_each_other_are_refused(loop, options, message):
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        loop.run_until_complete(loop.create_connection(Recorder, **options))


@pytest.mark.skipif(sys.version_info < (3, 11), reason="the argument came with Python 3.11")
def test_a_shutdown_timeout_needs_tls(loop):
    with pytest.raises(ValueError, match=r"^ssl_shutdown_timeout is only meaningful with ssl$"):
        loop.run_until_complete(
            loop.create_connection(Recorder, "127.0.0.1", 1, ssl_shutdown_timeout=1)
        )


def test_an_address_and_a_socket_are_too_much(loop):
    with socket.socket() as sock, pytest.raises(ValueError, match="can not be specified"):
        loop.run_until_complete(loop.create_connection(Recorder, "127.0.0.1", 1, sock=sock))


def test_a_datagram_socket_is_refused(loop):
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        with pytest.raises(ValueError, match="A Stream Socket was expected, got <"):
            loop.run_until_complete(loop.create_connection(Recorder, sock=sock))
        with pytest.raises(ValueError, match="A Stream Socket was expected, got <"):
            loop.run_until_complete(loop.connect_accepted_socket(Recorder, sock))


def test_a_tls_socket_is_refused(loop):
    context = ssl.create_default_context()
    with (
        context.wrap_socket(socket.socket(), server_hostname="x.test") as wrapped,
        pytest.raises(TypeError, match="Socket cannot be of type SSLSocket"),
    ):
        loop.run_until_complete(loop.create_connection(Recorder, sock=wrapped))


def test_connecting_can_be_cancelled(loop):
    async def scenario():
        with unresponsive_address() as silent:
            task = loop.create_task(loop.create_connection(Recorder, *silent))
            await asyncio.sleep(0.01)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task

    # The loop fixture checks that no descriptor stays behind.
    loop.run_until_complete(scenario())


def test_connecting_within_a_timeout(loop):
    async def scenario():
        with unresponsive_address() as silent, pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(loop.create_connection(Recorder, *silent), 0.05)

    loop.run_until_complete(scenario())


def test_an_exception_of_the_factory_is_raised(loop):
    def factory():
        raise LookupError("no protocol today")

    near, far = blocking_pair()
    with near, far, pytest.raises(LookupError, match="no protocol today"):
        loop.run_until_complete(loop.create_connection(factory, sock=near))


def test_tcp_connections_do_not_delay_small_writes(loop):
    async def scenario():
        transport, protocol, far = await transport_pair(loop)
        sock = transport.get_extra_info("socket")
        assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY) != 0
        transport.close()
        await protocol.lost()
        far.close()

    loop.run_until_complete(scenario())


def test_many_connections_at_once(loop, server):
    server.listen(500)

    async def scenario():
        peers = await asyncio.gather(*(connected(loop, *server.getsockname()) for _ in range(200)))
        assert len({name for name, _ in peers}) == 200

    loop.run_until_complete(scenario())


# --- Unix sockets ---


def test_connecting_to_a_unix_socket(loop, tmp_path):
    path = tmp_path / "socket"

    async def scenario(given):
        transport, protocol = await loop.create_unix_connection(Recorder, given)
        assert transport.get_extra_info("peername") == str(path)
        connection, _ = server.accept()
        with connection:
            transport.write(b"hello")
            connection.settimeout(20)
            assert await in_thread(connection.recv, 10) == b"hello"
            transport.close()
            await protocol.lost()

    with listener(socket.AF_UNIX, str(path), blocking=True) as server:
        for given in (str(path), path, bytes(path)):
            loop.run_until_complete(scenario(given))


def test_connecting_to_an_abstract_unix_socket(loop, tmp_path):
    name = f"\0{tmp_path}"
    with listener(socket.AF_UNIX, name):

        async def scenario():
            transport, protocol = await loop.create_unix_connection(Recorder, name)
            assert transport.get_extra_info("peername") == name.encode()
            transport.close()
            await protocol.lost()

        loop.run_until_complete(scenario())


def test_a_missing_unix_socket(loop, tmp_path):
    with pytest.raises(FileNotFoundError):
        loop.run_until_complete(loop.create_unix_connection(Recorder, str(tmp_path / "none")))


def test_a_unix_socket_without_a_listener(loop, tmp_path):
    path = str(tmp_path / "socket")
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind(path)
        with pytest.raises(ConnectionRefusedError):
            loop.run_until_complete(loop.create_unix_connection(Recorder, path))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "no path and sock were specified"),
        ({"path": "p", "server_hostname": "h"}, "server_hostname is only meaningful with ssl"),
        (
            {"path": "p", "ssl_handshake_timeout": 1},
            "ssl_handshake_timeout is only meaningful with ssl",
        ),
    ],
)
def test_unix_arguments_that_contradict_each_other_are_refused(loop, options, message):
    with pytest.raises(ValueError, match=message):
        loop.run_until_complete(loop.create_unix_connection(Recorder, **options))


def test_unix_connections_need_unix_stream_sockets(loop):
    with (
        socket.socket() as tcp,
        socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as datagrams,
        socket.socket(socket.AF_UNIX) as sock,
    ):
        for wrong in (tcp, datagrams):
            with pytest.raises(ValueError, match="A UNIX Domain Stream Socket was expected"):
                loop.run_until_complete(loop.create_unix_connection(Recorder, sock=wrong))
        with pytest.raises(ValueError, match="path and sock can not be specified at the same time"):
            loop.run_until_complete(loop.create_unix_connection(Recorder, "path", sock=sock))


# --- accepted sockets ---


def test_an_accepted_socket_becomes_a_transport(loop):
    near, far = blocking_pair()
    near.setblocking(True)

    async def scenario():
        transport, protocol = await loop.connect_accepted_socket(Recorder, near)
        assert near.gettimeout() == 0
        far.sendall(b"question")
        await protocol.got(8)
        transport.write(b"answer")
        assert await in_thread(far.recv, 100) == b"answer"
        far.close()
        await protocol.lost()
        assert protocol.story == [
            "connection_made",
            "data_received",
            "eof_received",
            "connection_lost",
        ]

    loop.run_until_complete(scenario())


def test_an_accepted_socket_needs_tls_for_tls_options(loop):
    near, far = blocking_pair()
    with near, far, pytest.raises(ValueError, match="is only meaningful with ssl"):
        loop.run_until_complete(
            loop.connect_accepted_socket(Recorder, near, ssl_handshake_timeout=1)
        )


def test_a_server_of_the_same_loop_gets_a_connection_before_the_client_goes_on(loop):
    """Also of one that is closed at once, with the server after it."""
    served = []

    async def serve(reader, writer):
        served.append(await reader.read())
        writer.close()

    async def main():
        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        _, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
        writer.write(b"all there is")
        writer.close()
        await writer.wait_closed()
        server.close()
        await server.wait_closed()
        while not served:
            await asyncio.sleep(0)

    loop.run_until_complete(asyncio.wait_for(main(), 20))
    assert served == [b"all there is"]
