"""Programs that get at the objects of `ssl` behind a transport while the core calls OpenSSL."""

from __future__ import annotations

import asyncio
import os
import shutil
import socket
import ssl
import sys
import threading
from pathlib import Path

import pytest

from support.recording import Recorder
from tls.peers import HOST, needs_3_11
from tokioloop import tls

# OpenSSL's number; the `ssl` module has no name for it.
ALLOW_CLIENT_RENEGOTIATION = 1 << 8

# One connection, of which the client says whether OpenSSL is called directly.
CONNECTING = """
        import asyncio, contextlib, os, socket, ssl, sys

        CAN = os.environ["TOKIOLOOP_OPENSSL"] == "1"
        server_context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        server_context.load_cert_chain(sys.argv[1], sys.argv[2])
        client_context = ssl.create_default_context(cafile=sys.argv[3])

        class Echo(asyncio.Protocol):
            def connection_made(self, transport):
                self.transport = transport

            def data_received(self, data):
                self.transport.write(data)

        async def exchange(pair):
            loop = asyncio.get_running_loop()
            accepting = asyncio.ensure_future(
                loop.connect_accepted_socket(Echo, pair[0], ssl=server_context)
            )
            reader, writer = await asyncio.open_connection(
                sock=pair[1], ssl=client_context, server_hostname="localhost"
            )
            data = os.urandom(100_000)
            writer.write(data)
            assert await reader.readexactly(len(data)) == data
            writer.close()
            await writer.wait_closed()
            (await accepting)[0].abort()
            return writer.transport._calls_openssl
"""


@pytest.fixture
def connect(programs, certificates, calls_openssl):
    """Run source text in a process of its own that `CONNECTING` is part of."""

    def run(source, env=None):
        server = certificates.server
        return programs.run(
            source,
            *(server.certificate, server.key, certificates.authority),
            env={"TOKIOLOOP_OPENSSL": "1" if calls_openssl else "0", **(env or {})},
        )

    return run


@needs_3_11
@pytest.mark.parametrize("way", ["none", "deleted"])
def test_an_ssl_object_without_its_c_object(on_tls_pair, way):
    """Who takes it is alone with it from then on: a method of it may run on another thread."""

    async def scenario(client, server):
        ssl_object = client.transport.get_extra_info("ssl_object")
        within = ssl_object._sslobj
        if way == "none":
            ssl_object._sslobj = None
        else:
            del ssl_object._sslobj
        asyncio.get_running_loop().set_exception_handler(lambda *_: None)
        server.transport.write(b"data")
        await client.lost()
        assert client.received == b""
        assert isinstance(client.loss, AttributeError)
        assert within.pending() == 0

    on_tls_pair(scenario)


def test_no_descriptors_for_the_first_connection(connect):
    """Whether OpenSSL can be called takes a pipe to find out: without, the next one asks again."""
    connect(
        CONNECTING
        + """
        import resource

        async def main():
            pair = socket.socketpair()
            "localhost".encode("idna")  # its module is loaded from a file
            resource.setrlimit(resource.RLIMIT_NOFILE, (256, 256))
            hogs = []
            with contextlib.suppress(OSError):
                while True:
                    hogs.append(os.dup(0))
            first = await exchange(pair)
            for hog in hogs:
                os.close(hog)
            assert [first, await exchange(socket.socketpair())] == [False, CAN], first

        run(main())
        """,
    )


def test_another_libcrypto_for_all_to_see(connect, programs, tmp_path):
    """`_ssl`'s libssl takes its BIOs from it then, and not from the one that it was linked with."""
    program = """
        import _ssl
        with open("/proc/self/maps") as maps:
            print(*{line.split()[-1] for line in maps if "/libcrypto.so.3" in line})
        """
    names = programs.run(program).stdout.split()
    if not names:
        pytest.skip("this _ssl has no libcrypto.so.3 of its own")
    other = tmp_path / "libcrypto.so.9"
    # Under its own name it would be taken for the same library.
    renamed = Path(names[0]).read_bytes().replace(b"libcrypto.so.3\0", b"libcrypto.so.9\0")
    other.write_bytes(renamed)
    connect(
        CONNECTING
        + """
        assert run(exchange(socket.socketpair())) is False
        """,
        env={"LD_PRELOAD": str(other)},
    )


def test_a_client_that_renegotiates_is_served_by_the_methods_of_ssl(on_tls_pair, certificates):
    """It has the server's callbacks called in the middle of a read."""
    context = certificates.server_context()
    context.options |= ALLOW_CLIENT_RENEGOTIATION

    async def scenario(client, server):
        assert client.transport._calls_openssl is tls.calls_openssl
        assert server.transport._calls_openssl is False
        client.transport.write(b"data")
        await server.got(4)

    on_tls_pair(scenario, server_context=context)


@pytest.mark.skipif(not shutil.which("openssl"), reason="needs the openssl program")
def test_a_server_that_renegotiates(loop, certificates, tmp_path):
    """Each time the client's key log is written, in the middle of a read that gives the GIL up."""
    context = certificates.client_context(version=ssl.TLSVersion.TLSv1_2)
    context.keylog_filename = str(tmp_path / "keys")

    async def main():
        with socket.create_server(("127.0.0.1", 0)) as unused:
            port = unused.getsockname()[1]
        server = await asyncio.create_subprocess_exec(
            *("openssl", "s_server", "-accept", f"127.0.0.1:{port}", "-tls1_2"),
            *("-cert", certificates.server.certificate, "-key", certificates.server.key),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
        )
        await server.stdout.readuntil(b"ACCEPT")
        client = Recorder()
        await loop.create_connection(
            lambda: client, "127.0.0.1", port, ssl=context, server_hostname=HOST
        )
        for number in range(1, 4):
            # A letter alone on a line is a command, if no other line is read with it.
            server.stdin.write(b"r\n")
            while keys_logged() <= number:
                await asyncio.sleep(0.01)
            server.stdin.write(b"line %d\n" % number)
            await client.got(7 * number)
            client.transport.write(b"from the client %d\n" % number)
            await server.stdout.readuntil(b"from the client %d\n" % number)
        assert client.received == b"line 1\nline 2\nline 3\n"
        client.transport.abort()
        await client.lost()
        server.kill()
        await server.communicate()

    def keys_logged():
        return (tmp_path / "keys").read_bytes().count(b"CLIENT_RANDOM")

    loop.run_until_complete(asyncio.wait_for(main(), 30))


@pytest.mark.parametrize("shows", [True, False], ids=["shown", "refused"])
def test_a_certificate_asked_for_after_the_handshake(on_tls_pair, certificates, shows):
    server_context = certificates.server_context(ask_client=True)
    client_context = certificates.client_context(certificates.client if shows else None)
    for context in (server_context, client_context):
        context.minimum_version = ssl.TLSVersion.TLSv1_3
        context.post_handshake_auth = True

    async def scenario(client, server):
        asyncio.get_running_loop().set_exception_handler(lambda *_: None)
        ssl_object = server.transport.get_extra_info("ssl_object")
        assert not ssl_object.getpeercert()
        ssl_object.verify_client_post_handshake()
        server.transport.write(b"request")
        await client.got(7)
        client.transport.write(b"answer")
        if shows:
            await server.got(6)
            assert ssl_object.getpeercert()["subject"]
        else:
            await server.lost()
            assert server.loss.reason == "PEER_DID_NOT_RETURN_A_CERTIFICATE"
            assert server.received == b""

    on_tls_pair(scenario, client_context=client_context, server_context=server_context)


def test_calls_from_other_threads(on_tls_pair):
    """Those that change nothing, while data goes both ways."""
    data = os.urandom(3_000_000)

    def ask(ssl_object, over):
        while not over.is_set():
            ssl_object.pending()
            ssl_object.cipher()
            ssl_object.getpeercert()
            ssl_object.version()

    async def scenario(client, server):
        over = threading.Event()
        objects = [end.transport.get_extra_info("ssl_object") for end in (client, server)]
        threads = [threading.Thread(target=ask, args=(each, over)) for each in objects]
        interval = sys.getswitchinterval()
        sys.setswitchinterval(1e-5)
        try:
            for thread in threads:
                thread.start()
            for start in range(0, len(data), 100_000):
                for end in (client, server):
                    end.transport.write(data[start : start + 100_000])
                await asyncio.sleep(0)
            await client.got(len(data))
            await server.got(len(data))
        finally:
            over.set()
            for thread in threads:
                thread.join()
            sys.setswitchinterval(interval)
        assert client.received == server.received == data

    on_tls_pair(scenario)


def test_what_a_program_writes_to_the_ssl_object_keeps_its_place(on_tls_pair):
    async def scenario(client, server):
        ssl_object = client.transport.get_extra_info("ssl_object")
        for number in range(0, 10, 2):
            client.transport.write(b"%d" % number)
            assert ssl_object.write(b"%d" % (number + 1)) == 1
        client.transport.close()
        await server.lost()
        assert server.received == b"0123456789"

    on_tls_pair(scenario)


DAMAGE = {
    "content type": lambda record: bytes([record[0] ^ 0x41]) + record[1:],
    "version": lambda record: record[:1] + b"\x41" + record[2:],
    "length": lambda record: record[:3] + b"\xff\xff" + record[5:],
    "ciphertext": lambda record: record[:-1] + bytes([record[-1] ^ 1]),
    "plain alert": lambda _record: b"\x15\x03\x03\x00\x02\x02\x28",
    "empty record": lambda _record: b"\x17\x03\x03\x00\x00",
    "no record": lambda _record: b"GET / HTTP/1.0\r\n\r\n",
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_damaged_records(on_tls, tls_version, certificates, damage, monkeypatch):
    """Either way the exception is the same, and what came before is not lost."""
    losses = []

    async def scenario(transport, protocol, peer):
        asyncio.get_running_loop().set_exception_handler(lambda *_: None)
        peer.sock.sendall(peer.records(b"good") + DAMAGE[damage](peer.records(b"bad")))
        await protocol.lost()
        assert protocol.received == b"good"
        losses.append((type(protocol.loss), protocol.loss.library, protocol.loss.reason))

    for directly in (True, False):
        monkeypatch.setattr(tls, "calls_openssl", directly)
        on_tls(scenario, client_context=certificates.client_context(version=tls_version))
    assert losses[0] == losses[1]
    assert losses[0][:2] == (ssl.SSLError, "SSL")
