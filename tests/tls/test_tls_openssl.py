"""OpenSSL without the methods of ``ssl``: when it is called directly, and what stays as it was."""

from __future__ import annotations

import concurrent.futures
import os
import ssl
import subprocess
import sys
import threading

import pytest

from tls.peers import HOST, OLDER_DESIGN, secure, tls_pair

pytestmark = pytest.mark.native_only(**OLDER_DESIGN)

# What was measured here: the probe knows OpenSSL from 3.0 on, in a shared library.
DIRECT = ssl.OPENSSL_VERSION_INFO >= (3,) and "OpenSSL" in ssl.OPENSSL_VERSION


async def echoed(near, far, size):
    """Have `far` get what `near` writes, in pieces, and the same back."""
    data = os.urandom(size)
    for start in range(0, size, 50_000):
        near.transport.write(data[start : start + 50_000])
    await far.got(size)
    assert far.received == data
    far.transport.write(data)
    await near.got(size)
    assert near.received == data
    near.received.clear()
    far.received.clear()


def is_direct(recorder):
    return recorder.transport._calls_openssl


def test_records_are_read_and_written_directly_after_the_handshake(on_tls_pair, calls_openssl):
    async def scenario(client, server):
        assert is_direct(client) == is_direct(server) == (DIRECT and calls_openssl)
        for size in (1, 1000, 16_384, 16_385, 300_000, 3_000_000):
            await echoed(client, server, size)

    on_tls_pair(scenario)


def test_a_message_callback_hears_each_record(on_tls_pair, certificates):
    heard = []
    context = certificates.client_context()
    context._msg_callback = lambda connection, direction, *_rest: heard.append(direction)

    async def scenario(client, server):
        assert not is_direct(client)
        heard.clear()
        await echoed(client, server, 1000)
        assert {"read", "write"} <= set(heard)

    on_tls_pair(scenario, client_context=context)


def shake_hands(client, server):
    """Run both ends of a handshake, which write into each other's buffer."""
    waiting = [client, server]
    while waiting:
        end = waiting.pop(0)
        try:
            end.do_handshake()
        except ssl.SSLWantReadError:
            waiting.append(end)


def test_so_does_that_of_a_context_that_comes_later(on_tls_pair, certificates):
    heard = []
    other = certificates.server_context()
    other._msg_callback = lambda connection, direction, *_rest: heard.append(direction)

    # Not with every version of OpenSSL and CPython: as `ssl` has it without a loop.
    buffers = ssl.MemoryBIO(), ssl.MemoryBIO()
    by_hand = (
        certificates.client_context().wrap_bio(*buffers, server_hostname=HOST),
        certificates.server_context().wrap_bio(*reversed(buffers), server_side=True),
    )
    shake_hands(*by_hand)
    by_hand[1].context = other
    by_hand[1].write(b"data")
    expected = {"read", "write"} if heard else set()
    heard.clear()

    async def scenario(client, server):
        await echoed(client, server, 1000)
        server.transport.get_extra_info("ssl_object").context = other
        assert heard == []
        await echoed(client, server, 1000)
        assert set(heard) == expected

    on_tls_pair(scenario)


def test_an_object_that_somebody_keeps_does_not_matter(on_tls_pair):
    async def scenario(client, server):
        kept = client.transport.get_extra_info("ssl_object")._sslobj
        await echoed(client, server, 100_000)
        del kept
        await echoed(client, server, 100_000)

    on_tls_pair(scenario)


def test_threads_that_ask_the_object_disturb_nothing(on_tls_pair):
    async def scenario(client, server):
        # The tickets that follow a handshake have arrived: until they are read there is a moment in
        # which the `ssl` module says that the handshake is not done.
        await echoed(client, server, 1)
        stop = threading.Event()
        objects = [end.transport.get_extra_info("ssl_object") for end in (client, server)]
        # Before 3.13 nothing but the caller keeps two threads out of one `SSL`, whatever the loop.
        asked = (
            ["pending", "cipher", "version", "getpeercert"]
            if sys.version_info >= (3, 13)
            else ["version", "cipher", "getpeercert"]
        )

        def ask():
            while not stop.is_set():
                for each in objects:
                    for name in asked:
                        getattr(each, name)()

        with concurrent.futures.ThreadPoolExecutor(2) as executor:
            asking = [executor.submit(ask) for _ in range(2)]
            try:
                for _ in range(5):
                    await echoed(client, server, 200_000)
            finally:
                stop.set()
            for each in asking:
                each.result()

    on_tls_pair(scenario)


@pytest.mark.parametrize("how", ["corrupt", "alert"])
def test_errors_are_those_of_the_ssl_module(loop, certificates, tls_version, how):
    """The exception has the class, the reason and the text that `SSLObject.read` gives."""

    async def main():
        context = certificates.client_context()
        context.maximum_version = tls_version
        transport, protocol, peer = await secure(loop, certificates, client_context=context)
        with peer:
            if how == "corrupt":
                records = bytearray(peer.records(b"something"))
                records[-1] ^= 1
                peer.sock.sendall(records)
            else:
                # A fatal alert that nothing protects: to this end of TLS it is a broken record.
                peer.sock.sendall(b"\x15\x03\x03\x00\x02\x02\x28")
            await protocol.lost()
            transport.close()
        return protocol.loss

    error = loop.run_until_complete(main())
    assert type(error) is ssl.SSLError
    assert error.library == "SSL" and error.errno == ssl.SSL_ERROR_SSL
    assert str(error).startswith("[SSL") and "(_ssl.c:" in str(error)
    if how == "corrupt":
        # What OpenSSL from 3.2 on says in front of it.
        reasons = ("DECRYPTION_FAILED_OR_BAD_RECORD_MAC", "RECORD_LAYER_FAILURE")
        assert error.reason in reasons
        text = error.reason.lower().replace("_", " ")
        assert str(error).startswith(f"[SSL: {error.reason}] {text} (_ssl.c:")


def test_key_logs_and_sessions_stay_the_contexts(loop, certificates, tmp_path):
    keys = tmp_path / "keys"

    async def main():
        context = certificates.client_context()
        context.keylog_filename = str(keys)
        pair = await tls_pair(loop, certificates, client_context=context)
        await echoed(pair.client, pair.server, 100_000)
        await pair.end()

    loop.run_until_complete(main())
    assert b"CLIENT" in keys.read_bytes()


PROGRAM = """
import _ssl, asyncio, ssl, sys
{before}
import tokioloop

async def echo(reader, writer):
    writer.write(await reader.readexactly(100_000))
    await writer.drain()
    writer.close()

async def main(certificate, key, authority):
    server_context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    server_context.load_cert_chain(certificate, key)
    server = await asyncio.start_server(echo, "127.0.0.1", 0, ssl=server_context)
    reader, writer = await asyncio.open_connection(
        *server.sockets[0].getsockname()[:2],
        ssl=ssl.create_default_context(cafile=authority),
        server_hostname="localhost",
    )
    writer.write(bytes(100_000))
    assert await reader.read() == bytes(100_000)
    print(writer.transport._calls_openssl)
    writer.close()
    await writer.wait_closed()
    server.close()

tokioloop.run(main(*sys.argv[1:]))
"""


@pytest.mark.parametrize(
    ("before", "variable", "direct"),
    [
        ("", {}, DIRECT),
        ("", {"TOKIOLOOP_OPENSSL": "0"}, False),
        # Built in, as far as one can tell: the program itself has no such functions.
        ("del _ssl.__file__", {}, False),
        ("_ssl.MemoryBIO = object", {}, False),
    ],
    ids=["as it is", "switched off", "built in", "replaced"],
)
def test_where_it_cannot_be_proven_the_methods_do_it(certificates, before, variable, direct):
    program = PROGRAM.format(before=before)
    command = [sys.executable, "-c", program, *certificates.server, certificates.authority]
    ended = subprocess.run(
        command, env={**os.environ, **variable}, capture_output=True, text=True, timeout=60
    )
    assert ended.stderr == ""
    assert ended.stdout.split() == [str(direct)]
