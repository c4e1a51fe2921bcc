"""Handshakes that fail, stall or are given up: errors of both sides, and nothing that is left."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import re
import socket
import ssl

import pytest

from support.recording import Recorder, Reports, blocking_pair, in_thread, listener, read_all, reset
from tls.peers import HOST, Peer, secure

# Seconds after which a handshake is given up here.
SHORT = 0.2


@contextlib.asynccontextmanager
async def counting_server(loop, context, **options):
    """A server, and the protocols it made."""
    protocols = []

    def factory():
        protocols.append(Recorder())
        return protocols[-1]

    server = await loop.create_server(factory, "127.0.0.1", 0, ssl=context, **options)
    yield server.sockets[0].getsockname(), protocols
    server.close()
    await server.wait_closed()
    # asyncio's server side ends a moment later.
    await asyncio.sleep(0.01)


# --- certificates ---


def wrong_host(certificates):
    return certificates.wrong_host_context(), certificates.client_context()


def untrusted(certificates):
    return certificates.server_context(), certificates.untrusting_context()


def expired(certificates):
    return certificates.server_context(certificates.expired), certificates.client_context()


REASONS = pytest.mark.parametrize(
    ("contexts", "reason"),
    [
        (wrong_host, "Hostname mismatch"),
        (untrusted, "unable to get local issuer certificate|self.signed certificate"),
        (expired, "certificate has expired"),
    ],
)


@REASONS
@pytest.mark.parametrize("debug", [False, True])
def test_a_bad_certificate(loop, certificates, tls_version, contexts, reason, debug):
    loop.set_debug(debug)
    reports = Reports(loop)
    server_context, client_context = contexts(certificates)
    client_context.minimum_version = client_context.maximum_version = tls_version

    async def main():
        client = Recorder()
        async with counting_server(loop, server_context) as (address, protocols):
            with pytest.raises(ssl.SSLCertVerificationError, match=reason):
                await loop.create_connection(
                    lambda: client, *address, ssl=client_context, server_hostname=HOST
                )
            while not protocols or (debug and not reports.contexts):
                await asyncio.sleep(0.001)
        assert client.calls == []
        assert [protocol.calls for protocol in protocols] == [[]]

    loop.run_until_complete(main())
    if debug:
        report = reports.only()
        assert report["message"] == "Error on transport creation for incoming connection"
        assert isinstance(report["exception"], OSError)
        assert isinstance(report["protocol"], Recorder)
    else:
        assert reports.contexts == []


def test_a_bad_certificate_is_logged_in_debug_mode(loop, certificates, caplog):
    loop.set_debug(True)

    async def main():
        with pytest.raises(ssl.SSLCertVerificationError):
            await secure(loop, certificates, client_context=certificates.untrusting_context())

    with caplog.at_level(logging.DEBUG, "asyncio"):
        loop.run_until_complete(main())
    messages = [record.getMessage() for record in caplog.records]
    assert any("SSL handshake failed on verifying the certificate" in text for text in messages)
    assert any("starts SSL handshake" in text for text in messages)


def test_a_good_handshake_is_logged_in_debug_mode(loop, on_tls, caplog):
    loop.set_debug(True)

    async def scenario(_transport, _protocol, peer):
        await in_thread(peer.send, b"data")

    with caplog.at_level(logging.DEBUG, "asyncio"):
        on_tls(scenario)
    messages = [record.getMessage() for record in caplog.records]
    assert any(re.search(r"SSL handshake took \d+\.\d ms", text) for text in messages)


# --- peers that vanish ---


@pytest.mark.parametrize("server_side", [False, True], ids=["client", "server"])
@pytest.mark.parametrize("how", [socket.socket.close, reset], ids=["end", "reset"])
@pytest.mark.parametrize("after", [0, 1, 6, 100])
def test_a_peer_that_vanishes(loop, certificates, server_side, how, after):
    """After so many bytes of its first flight."""
    reports = Reports(loop)

    class Vanishing(Peer):
        def _flush(self):
            data = self._outgoing.read()
            if data:
                self.sock.sendall(data[:after])
                how(self.sock)
                raise EOFError

    async def main():
        protocol = Recorder()
        with pytest.raises((ConnectionResetError, EOFError)) as caught:
            await secure(
                loop, certificates, protocol, server_side=server_side, peer_class=Vanishing
            )
        assert caught.type is ConnectionResetError
        assert protocol.calls == []

    loop.run_until_complete(main())
    assert reports.contexts == []


@pytest.mark.parametrize("server_side", [False, True], ids=["client", "server"])
def test_garbage_instead_of_a_handshake(loop, certificates, server_side):
    class Garbage(Peer):
        def _flush(self):
            if self._outgoing.read():
                self.sock.sendall(b"\x15\x03\x01\x00\x02\x02\x28")  # a handshake_failure alert

    async def main():
        protocol = Recorder()
        with pytest.raises(ssl.SSLError):
            await secure(loop, certificates, protocol, server_side=server_side, peer_class=Garbage)
        assert protocol.calls == []

    loop.run_until_complete(main())


# --- timeouts ---


@pytest.mark.parametrize(("seconds", "text"), [(SHORT, str(SHORT)), (1, "1")])
def test_a_server_that_never_answers(loop, certificates, seconds, text):
    async def main():
        near, far = blocking_pair()
        protocol = Recorder()
        started = loop.time()
        with far, pytest.raises(ConnectionAbortedError) as caught:
            await loop.create_connection(
                lambda: protocol,
                sock=near,
                ssl=certificates.client_context(),
                server_hostname=HOST,
                ssl_handshake_timeout=seconds,
            )
        assert caught.value.args == (
            f"SSL handshake is taking longer than {text} seconds: aborting the connection",
        )
        assert loop.time() - started >= seconds
        assert protocol.calls == []

    loop.run_until_complete(main())


@pytest.mark.parametrize("debug", [False, True])
def test_a_client_that_never_begins(loop, certificates, debug):
    loop.set_debug(debug)
    reports = Reports(loop)

    async def main():
        context = certificates.server_context()
        options = {"ssl_handshake_timeout": SHORT}
        async with counting_server(loop, context, **options) as (address, protocols):
            with socket.create_connection(address) as client:
                client.settimeout(20)
                assert await in_thread(read_all, client) == b""
        assert [protocol.calls for protocol in protocols] == [[]]

    loop.run_until_complete(main())
    if debug:
        report = reports.only()
        assert report["message"] == "Error on transport creation for incoming connection"
        assert isinstance(report["exception"], ConnectionAbortedError)
    else:
        assert reports.contexts == []


def test_a_client_that_stops_in_the_middle(loop, certificates):
    class Stops(Peer):
        def _flush(self):
            data = self._outgoing.read()
            if data:
                self.sock.sendall(data[: len(data) // 2])

    async def main():
        protocol = Recorder()
        with pytest.raises(ConnectionAbortedError, match="SSL handshake is taking longer than"):
            await secure(
                loop,
                certificates,
                protocol,
                server_side=True,
                peer_class=Stops,
                ssl_handshake_timeout=SHORT,
            )
        assert protocol.calls == []

    loop.run_until_complete(main())


# --- given up ---


@pytest.mark.parametrize("iterations", [1, 2, 3, 4, 5, 8, 12])
def test_a_connection_cancelled_after_some_iterations(loop, certificates, iterations):
    """The descriptor check of the `loop` fixture is what this is about."""

    async def main():
        context = certificates.server_context()
        async with counting_server(loop, context) as (address, _protocols):
            client = Recorder()
            connecting = asyncio.ensure_future(
                loop.create_connection(lambda: client, *address, ssl=certificates.client_context())
            )
            for _ in range(iterations):
                await asyncio.sleep(0)
            if connecting.cancel():
                with pytest.raises(asyncio.CancelledError):
                    await connecting
                assert "data_received" not in client.calls
            else:
                connecting.result()[0].abort()
                await client.lost()

    loop.run_until_complete(main())


@pytest.mark.parametrize("seconds", [0.02, 0.1])
def test_a_connection_cancelled_while_the_server_is_silent(loop, certificates, seconds):
    async def main():
        with listener(blocking=True) as listening:
            client = Recorder()
            with pytest.raises(asyncio.TimeoutError):
                await asyncio.wait_for(
                    loop.create_connection(
                        lambda: client,
                        *listening.getsockname(),
                        ssl=certificates.client_context(),
                    ),
                    seconds,
                )
            assert client.calls == []
            accepted, _ = listening.accept()
            with accepted:
                # The client said hello, and went.
                accepted.settimeout(20)
                with contextlib.suppress(ConnectionResetError):
                    await in_thread(read_all, accepted)

    loop.run_until_complete(main())


def test_an_exception_of_connection_made(loop, certificates):
    reports = Reports(loop)

    class Fails(Recorder):
        def connection_made(self, transport):
            raise LookupError("no room for it")

    async def main():
        with pytest.raises(LookupError, match="no room for it") as caught:
            await secure(loop, certificates, Fails())
        return caught.value

    error = loop.run_until_complete(main())
    assert reports.only()["exception"] is error


def test_an_exception_of_the_factory(loop, certificates):
    def factory():
        raise LookupError("no protocol")

    async def main():
        near, far = blocking_pair()
        with near, far, pytest.raises(LookupError, match="no protocol"):
            await loop.create_connection(
                factory, sock=near, ssl=certificates.client_context(), server_hostname=HOST
            )

    loop.run_until_complete(main())
