"""``sock_accept`` and ``sock_connect``."""

from __future__ import annotations

import asyncio
import socket

import pytest

from sockets.awaitables import waiting
from support.recording import listener, refused_address


def test_sock_accept_gives_a_socket_ready_for_the_loop(loop):
    async def scenario():
        with listener() as server:
            task = await waiting(loop.sock_accept(server))
            with socket.create_connection(server.getsockname()) as client:
                connection, address = await task
                with connection:
                    assert address == client.getsockname()
                    assert connection.gettimeout() == 0
                    assert connection.get_inheritable() is False
                    client.send(b"hello")
                    assert await loop.sock_recv(connection, 10) == b"hello"

    loop.run_until_complete(scenario())


def test_a_cancelled_accept_leaves_the_connection_to_the_next(loop):
    async def scenario():
        with listener() as server:
            task = await waiting(loop.sock_accept(server))
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            with socket.create_connection(server.getsockname()) as client:
                connection, address = await loop.sock_accept(server)
                connection.close()
                assert address == client.getsockname()

    loop.run_until_complete(scenario())


def test_sock_connect_connects(loop):
    async def scenario():
        with listener() as server, socket.socket() as client:
            client.setblocking(False)
            assert await loop.sock_connect(client, server.getsockname()) is None
            assert client.getpeername() == server.getsockname()

    loop.run_until_complete(scenario())


def test_sock_connect_over_ipv6(loop):
    async def scenario():
        server = listener(socket.AF_INET6, ("::1", 0))
        with server, socket.socket(socket.AF_INET6) as client:
            client.setblocking(False)
            await loop.sock_connect(client, ("::1", server.getsockname()[1]))
            assert client.getpeername() == server.getsockname()

    loop.run_until_complete(scenario())


def test_sock_connect_resolves_a_host_name(loop):
    async def scenario():
        with listener() as server, socket.socket() as client:
            client.setblocking(False)
            await loop.sock_connect(client, ("localhost", server.getsockname()[1]))
            assert client.getpeername() == server.getsockname()

    loop.run_until_complete(scenario())


def test_sock_connect_asks_the_loop_for_names_only(loop, monkeypatch):
    asked = []

    async def scenario():
        with listener() as server, socket.socket() as one, socket.socket() as two:
            host, port = server.getsockname()

            async def getaddrinfo(host, port, **_options):
                asked.append(host)
                return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", port))]

            monkeypatch.setattr(loop, "getaddrinfo", getaddrinfo, raising=False)
            for sock, name in ((one, host), (two, "server.test")):
                sock.setblocking(False)
                await loop.sock_connect(sock, (name, port))
                assert sock.getpeername() == server.getsockname()

    loop.run_until_complete(scenario())
    assert asked == ["server.test"]


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_a_refused_connection_names_the_address(loop, host):
    bound, address = refused_address(host)
    with bound, socket.socket(bound.family) as client:
        client.setblocking(False)
        with pytest.raises(ConnectionRefusedError) as caught:
            loop.run_until_complete(loop.sock_connect(client, address))
        assert f"Connect call failed {address}" in str(caught.value)
        assert loop.remove_writer(client) is False


def test_sock_connect_through_a_replaced_method(loop, monkeypatch):
    """As tools do that forbid connections in tests."""

    def connect(sock, address):
        raise PermissionError(f"not to {address[1]}")

    monkeypatch.setattr(socket.socket, "connect", connect)
    with socket.socket() as client:
        client.setblocking(False)
        with pytest.raises(PermissionError, match="not to 9"):
            loop.run_until_complete(loop.sock_connect(client, ("127.0.0.1", 9)))
        with pytest.raises(PermissionError, match="not to 9"):
            loop.run_until_complete(loop.create_connection(asyncio.Protocol, "127.0.0.1", 9))


def test_sock_connect_of_a_blocking_socket(loop):
    with listener() as server, socket.socket() as client:
        assert loop.run_until_complete(loop.sock_connect(client, server.getsockname())) is None
        assert client.getpeername() == server.getsockname()


def test_sock_connect_is_audited(programs):
    done = programs.run(
        """
        import asyncio, socket, sys

        async def main():
            loop = asyncio.get_running_loop()
            with socket.create_server(("127.0.0.1", 0)) as server, socket.socket() as client:
                client.setblocking(False)
                sys.addaudithook(heard)
                await loop.sock_connect(client, server.getsockname())

        def heard(event, args):
            if event == "socket.connect":
                print(type(args[0]).__name__, args[1][0])

        run(main())
        """
    )
    assert done.stdout == "socket 127.0.0.1\n"


def test_sock_connect_to_a_unix_socket(loop, tmp_path):
    path = str(tmp_path / "socket")
    with listener(socket.AF_UNIX, path), socket.socket(socket.AF_UNIX) as client:
        client.setblocking(False)
        loop.run_until_complete(loop.sock_connect(client, path))
        assert client.getpeername() == path


def test_sock_connect_to_a_missing_unix_socket(loop, tmp_path):
    with socket.socket(socket.AF_UNIX) as client:
        client.setblocking(False)
        with pytest.raises(FileNotFoundError):
            loop.run_until_complete(loop.sock_connect(client, str(tmp_path / "nothing")))
