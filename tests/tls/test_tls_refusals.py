"""Arguments that a TLS connection refuses, and peers that speak no TLS."""

from __future__ import annotations

import asyncio
import functools
import re
import socket
import ssl

import pytest

from support.recording import Recorder, Reports, blocking_pair, in_thread, read_all
from tls.peers import HOST, REWRITTEN, ask, echo

# --- what is refused ---


def refused(loop, call, error, message):
    async def main():
        with pytest.raises(error, match=re.escape(message)):
            await call()

    loop.run_until_complete(main())


def test_a_host_name_without_tls(loop):
    refused(
        loop,
        lambda: loop.create_connection(Recorder, "127.0.0.1", 1, server_hostname=HOST),
        ValueError,
        "server_hostname is only meaningful with ssl",
    )
    refused(
        loop,
        lambda: loop.create_unix_connection(Recorder, "nowhere", server_hostname=HOST),
        ValueError,
        "server_hostname is only meaningful with ssl",
    )


def test_tls_without_a_host_name(loop, tmp_path):
    near, far = blocking_pair()
    with near, far:
        refused(
            loop,
            lambda: loop.create_connection(Recorder, sock=near, ssl=True),
            ValueError,
            "You must set server_hostname when using ssl without a host",
        )
    refused(
        loop,
        lambda: loop.create_unix_connection(Recorder, str(tmp_path / "none"), ssl=True),
        ValueError,
        "you have to pass server_hostname when using ssl",
    )


OPTIONS = ["ssl_handshake_timeout", *(["ssl_shutdown_timeout"] if REWRITTEN else [])]


@pytest.mark.parametrize("option", OPTIONS)
def test_timeouts_without_tls(loop, option, tmp_path):
    near, far = blocking_pair()
    path, message = str(tmp_path / "socket"), f"{option} is only meaningful with ssl"
    calls = (
        lambda: loop.create_connection(Recorder, "127.0.0.1", 1, **{option: 1}),
        lambda: loop.create_unix_connection(Recorder, path, **{option: 1}),
        lambda: loop.create_server(Recorder, "127.0.0.1", 0, **{option: 1}),
        lambda: loop.create_unix_server(Recorder, path, **{option: 1}),
        lambda: loop.connect_accepted_socket(Recorder, near, **{option: 1}),
    )
    with near, far:
        for call in calls:
            refused(loop, call, ValueError, message)


@pytest.mark.parametrize("option", OPTIONS)
@pytest.mark.parametrize("seconds", [0, -1, -0.5])
def test_timeouts_must_be_positive(loop, certificates, option, seconds):
    bad = {option: seconds}
    calls = (
        lambda near: loop.create_connection(
            Recorder, sock=near, ssl=True, server_hostname=HOST, **bad
        ),
        lambda near: loop.connect_accepted_socket(
            Recorder, near, ssl=certificates.server_context(), **bad
        ),
    )
    message = f"{option} should be a positive number, got {seconds}"
    for call in calls:
        near, far = blocking_pair()  # some versions close it
        with near, far:
            refused(loop, functools.partial(call, near), ValueError, message)


@pytest.mark.native_only(reason="asyncio leaves the accepted socket to the collector")
@pytest.mark.parametrize("debug", [False, True])
def test_a_server_whose_timeout_is_refused(loop, certificates, debug):
    """The first connection shows it, and it is logged in debug mode."""
    loop.set_debug(debug)
    reports = Reports(loop)

    async def main():
        server = await loop.create_server(
            Recorder, "127.0.0.1", 0, ssl=certificates.server_context(), ssl_handshake_timeout=-1
        )
        with socket.create_connection(server.sockets[0].getsockname()) as client:
            client.settimeout(20)
            assert await in_thread(client.recv, 1) == b""
        server.close()
        await server.wait_closed()

    loop.run_until_complete(main())
    if debug:
        report = reports.only()
        assert report["message"] == "Error on transport creation for incoming connection"
        assert "ssl_handshake_timeout should be a positive" in str(report["exception"])
    else:
        assert reports.contexts == []


def test_a_server_needs_a_context(loop, tmp_path):
    message = "ssl argument must be an SSLContext or None"
    refused(
        loop, lambda: loop.create_server(Recorder, "127.0.0.1", 0, ssl=True), TypeError, message
    )
    path = str(tmp_path / "socket")
    refused(loop, lambda: loop.create_unix_server(Recorder, path, ssl=True), TypeError, message)
    near, far = blocking_pair()
    with near, far:
        refused(
            loop,
            lambda: loop.connect_accepted_socket(Recorder, near, ssl=True),
            ValueError,
            "Server side SSL needs a valid SSLContext",
        )


def test_a_context_of_the_wrong_side(loop, certificates):
    near, far = blocking_pair()
    with near, far:
        refused(
            loop,
            lambda: loop.create_connection(
                Recorder, sock=near, ssl=certificates.server_context(), server_hostname=HOST
            ),
            ssl.SSLError,
            "Cannot create a client socket with a PROTOCOL_TLS_SERVER context",
        )


def test_an_object_that_is_no_context(loop):
    near, far = blocking_pair()
    with near, far:
        refused(
            loop,
            lambda: loop.create_connection(
                Recorder, sock=near, ssl="context", server_hostname=HOST
            ),
            AttributeError,
            "wrap_bio",
        )


# --- the other side speaks no TLS ---


def test_plain_http_sent_to_a_tls_port(loop, certificates):
    reports = Reports(loop)
    protocols = []

    def factory():
        protocols.append(Recorder())
        return protocols[-1]

    async def main():
        server = await loop.create_server(
            factory, "127.0.0.1", 0, ssl=certificates.server_context()
        )
        with socket.create_connection(server.sockets[0].getsockname()) as client:
            client.settimeout(20)
            client.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
            await in_thread(read_all, client)
        server.close()
        await server.wait_closed()

    loop.run_until_complete(main())
    assert [protocol.calls for protocol in protocols] == [[]]
    assert reports.contexts == []


def test_a_tls_client_at_a_plain_text_port(loop, certificates):
    async def main():
        async def serve(reader, writer):
            await reader.read(1)
            writer.write(b"220 mail.test ready, and some more text\r\n")
            writer.close()

        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        with pytest.raises(ssl.SSLError, match=r"(?i)wrong.version|record"):
            await asyncio.open_connection(
                *server.sockets[0].getsockname(), ssl=certificates.client_context()
            )
        server.close()
        await server.wait_closed()
        await asyncio.sleep(0.01)

    loop.run_until_complete(main())


def test_one_bad_client_does_not_disturb_the_others(loop, certificates):
    async def main():
        server = await asyncio.start_server(echo, "127.0.0.1", 0, ssl=certificates.server_context())
        address = server.sockets[0].getsockname()
        with socket.create_connection(address) as silent, socket.create_connection(address) as bad:
            bad.sendall(bytes(100))
            await ask(*await asyncio.open_connection(*address, ssl=certificates.client_context()))
            silent.sendall(b"\x16\x03\x01")
            await ask(*await asyncio.open_connection(*address, ssl=certificates.client_context()))
        server.close()
        await server.wait_closed()
        await asyncio.sleep(0.01)

    loop.run_until_complete(main())
