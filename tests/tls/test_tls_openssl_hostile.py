"""Programs that get at the `ssl` module's objects behind a transport while the core calls OpenSSL."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from tls.peers import needs_3_11

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
    """How OpenSSL is called is found out with a pipe: without one, the next connection asks again."""
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
