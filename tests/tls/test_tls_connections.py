"""Every way to make a TLS connection."""

from __future__ import annotations

import asyncio
import socket
import ssl

import pytest

from support.recording import Recorder, in_thread, listener
from tls.peers import HOST, OLDER_DESIGN, Peer, ask, echo


@pytest.fixture
def trusted_by_default(certificates, monkeypatch):
    """Have `ssl.create_default_context()` trust our authority."""
    monkeypatch.setenv("SSL_CERT_FILE", certificates.authority)


# --- the ways ---


@pytest.mark.native_only(**OLDER_DESIGN)
def test_over_tcp(on_tls_pair, tls_version, certificates):
    async def scenario(client, server):
        client.transport.write(b"ping")
        await server.got(4)
        server.transport.write(b"pong")
        await client.got(4)
        for end in (client, server):
            version = end.transport.get_extra_info("ssl_object").version()
            assert version == tls_version.name.replace("_", ".")
        client.transport.close()
        assert await client.lost() is None
        assert await server.lost() is None
        story = ["connection_made", "data_received", "eof_received", "connection_lost"]
        assert server.story == story
        assert client.story == story

    on_tls_pair(scenario, client_context=certificates.client_context(version=tls_version))


def test_over_a_unix_socket(loop, certificates, tmp_path):
    path = str(tmp_path / "socket")
    client, server = Recorder(), Recorder()

    async def main():
        listening = await loop.create_unix_server(
            lambda: server, path, ssl=certificates.server_context()
        )
        transport, _ = await loop.create_unix_connection(
            lambda: client, path, ssl=certificates.client_context(), server_hostname=HOST
        )
        transport.write(b"ping")
        await server.got(4)
        assert transport.get_extra_info("peername") == path
        assert transport.get_extra_info("cipher") is not None
        server.transport.close()
        assert await client.lost() is None
        assert await server.lost() is None
        listening.close()
        await listening.wait_closed()

    loop.run_until_complete(main())


def test_streams(loop, certificates):
    async def main():
        server = await asyncio.start_server(echo, "127.0.0.1", 0, ssl=certificates.server_context())
        address = server.sockets[0].getsockname()
        await ask(*await asyncio.open_connection(*address, ssl=certificates.client_context()))
        await ask(
            *await asyncio.open_connection(
                *address, ssl=certificates.client_context(), server_hostname=HOST
            )
        )
        server.close()
        await server.wait_closed()

    loop.run_until_complete(main())


def test_streams_over_a_unix_socket(loop, certificates, tmp_path):
    path = str(tmp_path / "socket")

    async def main():
        server = await asyncio.start_unix_server(echo, path, ssl=certificates.server_context())
        await ask(
            *await asyncio.open_unix_connection(
                path, ssl=certificates.client_context(), server_hostname=HOST
            )
        )
        server.close()
        await server.wait_closed()

    loop.run_until_complete(main())


def test_a_default_context(loop, certificates, trusted_by_default):
    async def main():
        server = await asyncio.start_server(echo, "127.0.0.1", 0, ssl=certificates.server_context())
        address = server.sockets[0].getsockname()
        await ask(*await asyncio.open_connection(*address, ssl=True))
        with pytest.raises(ssl.SSLCertVerificationError, match="Hostname mismatch"):
            await asyncio.open_connection(*address, ssl=True, server_hostname="other.test")
        # An empty name means: no name is asked for, the chain is checked all the same.
        reader, writer = await asyncio.open_connection(*address, ssl=True, server_hostname="")
        assert not writer.get_extra_info("sslcontext").check_hostname
        await ask(reader, writer)
        server.close()
        await server.wait_closed()

    loop.run_until_complete(main())


def test_the_default_context_trusts_no_stranger(loop, certificates):
    async def main():
        server = await asyncio.start_server(echo, "127.0.0.1", 0, ssl=certificates.server_context())
        with pytest.raises(ssl.SSLCertVerificationError):
            await asyncio.open_connection(*server.sockets[0].getsockname(), ssl=True)
        server.close()
        await server.wait_closed()

    loop.run_until_complete(main())


def test_a_context_that_checks_nothing_needs_no_name(loop, certificates):
    context = certificates.untrusting_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE

    async def main():
        server = await asyncio.start_server(echo, "127.0.0.1", 0, ssl=certificates.server_context())
        address = server.sockets[0].getsockname()
        reader, writer = await asyncio.open_connection(*address, ssl=context, server_hostname="")
        assert writer.get_extra_info("peercert") == {}
        assert writer.get_extra_info("ssl_object").server_hostname is None
        await ask(reader, writer)
        server.close()
        await server.wait_closed()

    loop.run_until_complete(main())


def test_a_socket_accepted_elsewhere(on_tls):
    async def scenario(_transport, protocol, peer):
        await in_thread(peer.send, b"ping")
        await protocol.got(4)

    on_tls(scenario, server_side=True)


def test_a_hundred_connections_at_once(loop, certificates):
    async def main():
        server = await asyncio.start_server(echo, "127.0.0.1", 0, ssl=certificates.server_context())
        address = server.sockets[0].getsockname()
        context = certificates.client_context()

        async def one():
            await ask(*await asyncio.open_connection(*address, ssl=context))

        await asyncio.gather(*(one() for _ in range(100)))
        server.close()
        await server.wait_closed()

    loop.run_until_complete(main())


def test_a_certificate_longer_than_a_record(loop, certificates):
    async def main():
        server = await asyncio.start_server(
            echo, "127.0.0.1", 0, ssl=certificates.server_context(certificates.long)
        )
        await ask(
            *await asyncio.open_connection(
                *server.sockets[0].getsockname(), ssl=certificates.client_context()
            )
        )
        server.close()
        await server.wait_closed()

    loop.run_until_complete(main())


@pytest.mark.native_only(**OLDER_DESIGN)
def test_a_blocking_client_and_a_blocking_server(loop, certificates):
    """The standard library's own SSLSocket, both ways."""

    def client(address):
        context = certificates.client_context()
        with socket.create_connection(address, timeout=20) as raw:
            sock = context.wrap_socket(raw, server_hostname=HOST)
            sock.sendall(b"line\n")
            answer = sock.recv(100)
            sock.unwrap().close()
            return answer

    def serve(listening):
        raw, _ = listening.accept()
        raw.settimeout(20)
        with Peer(raw, certificates.server_context()) as peer:
            peer.handshake()
            peer.send(peer.recv_exactly(5))
            assert peer.recv_all() == b""
            peer.unwrap()

    async def main():
        server = await asyncio.start_server(echo, "127.0.0.1", 0, ssl=certificates.server_context())
        assert await in_thread(client, server.sockets[0].getsockname()) == b"line\n"
        server.close()
        await server.wait_closed()
        with listener(blocking=True) as listening:
            serving = asyncio.ensure_future(in_thread(serve, listening))
            await ask(
                *await asyncio.open_connection(
                    *listening.getsockname(), ssl=certificates.client_context()
                )
            )
            await serving

    loop.run_until_complete(main())
