"""aiofastnet, which gives a loop other transports: files, Unix sockets, pipes, and how they end.

`test_aiohttp` has requests and websockets over them.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import io
import random
import socket
import sys

import aiohttp
import pytest
from aiohttp import web

from integration.waiting import until

aiofastnet = pytest.importorskip("aiofastnet")

CONTENT = random.Random(3).randbytes(3 << 20)


@pytest.fixture(autouse=True)
def patched(loop):
    aiofastnet.patch_loop(loop)


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "content"
    path.write_bytes(CONTENT)
    return path


@pytest.fixture
def site(security):
    """Run an application on a site: a class of aiohttp's, with where to listen."""

    @contextlib.asynccontextmanager
    async def running(app, kind, *where):
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        await runner.setup()
        try:
            context = security and security.server_context()
            site = kind(runner, *where, ssl_context=context)
            await site.start()
            yield site._server.sockets[0].getsockname()
        finally:
            await runner.cleanup()

    return running


def session(security, connector=aiohttp.TCPConnector, *where):
    scheme = "https" if security else "http"
    context = security.client_context() if security else True
    return scheme, aiohttp.ClientSession(connector=connector(*where, ssl=context))


def kind_of(transport):
    return type(transport).__module__.partition(".")[0]


@pytest.mark.parametrize("chunked", [False, True], ids=["sendfile", "chunks"])
def test_files_are_served(run, site, security, file, chunked, monkeypatch):
    kinds = set()

    async def answer(request):
        kinds.add(kind_of(request.transport))
        return web.FileResponse(file)

    async def scenario():
        app = web.Application()
        app.router.add_get("/", answer)
        async with site(app, web.TCPSite, "127.0.0.1", 0) as (host, port):
            scheme, client = session(security)
            async with client, client.get(f"{scheme}://{host}:{port}/") as response:
                assert await response.read() == CONTENT
            scheme, client = session(security)
            part = {"Range": "bytes=1000000-1999999"}
            async with client, client.get(f"{scheme}://{host}:{port}/", headers=part) as response:
                assert await response.read() == CONTENT[1000000:2000000]

    if chunked:
        monkeypatch.setattr("aiohttp.web_fileresponse.NOSENDFILE", True)
    run(scenario())
    assert kinds == {"aiofastnet"}


def test_unix_sockets(run, site, security, tmp_path):
    path = str(tmp_path / "socket")

    async def answer(request):
        assert kind_of(request.transport) == "aiofastnet"
        return web.Response(body=(await request.read())[::-1])

    async def scenario():
        app = web.Application(client_max_size=64 << 20)
        app.router.add_post("/", answer)
        async with site(app, web.UnixSite, path):
            if security:
                # aiohttp's connector for Unix sockets has no TLS.
                reader, writer = await asyncio.open_unix_connection(
                    path, ssl=security.client_context(), server_hostname="localhost"
                )
                writer.write(b"POST / HTTP/1.0\r\ncontent-length: 4\r\n\r\nbody")
                assert (await reader.read()).endswith(b"\r\n\r\nydob")
                writer.close()
                await writer.wait_closed()
                return
            async with (
                aiohttp.ClientSession(connector=aiohttp.UnixConnector(path)) as client,
                client.post("http://localhost/", data=io.BytesIO(CONTENT)) as response,
            ):
                assert await response.read() == CONTENT[::-1]

    run(scenario())


def test_a_server_ends_while_clients_wait(run, site, security):
    begun, ends = [], []

    async def answer(request):
        begun.append(request)
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            ends.append("cancelled")
            raise

    async def scenario():
        app = web.Application()
        app.router.add_get("/", answer)
        scheme, client = session(security)
        async with client:
            async with site(app, web.TCPSite, "127.0.0.1", 0) as (host, port):
                asking = asyncio.ensure_future(client.get(f"{scheme}://{host}:{port}/"))
                await until(lambda: begun)
            with pytest.raises(aiohttp.ClientConnectionError):
                await asking

    run(scenario())
    assert ends == ["cancelled"]


def test_clients_that_leave(run, site, security):
    """Each leaves in the middle of an answer; the next one gets the number of its descriptor."""
    served = []

    async def answer(request):
        response = web.StreamResponse()
        await response.prepare(request)
        try:
            for _ in range(100):
                await response.write(CONTENT)
        except (ConnectionError, asyncio.CancelledError) as error:
            served.append(type(error))
            raise
        return response

    async def scenario():
        app = web.Application()
        app.router.add_get("/", answer)
        async with site(app, web.TCPSite, "127.0.0.1", 0) as (host, port):
            for _ in range(20):
                scheme, client = session(security)
                async with client:
                    response = await client.get(f"{scheme}://{host}:{port}/")
                    assert await response.content.readexactly(10) == CONTENT[:10]
                    response.close()
            await until(lambda: len(served) == 20)

    run(scenario())


def test_a_connection_that_is_cancelled_is_closed(run, certificates):
    async def scenario():
        with socket.create_server(("127.0.0.1", 0)) as silent:
            connecting = asyncio.ensure_future(
                asyncio.open_connection(*silent.getsockname(), ssl=certificates.client_context())
            )
            loop = asyncio.get_running_loop()
            silent.setblocking(False)
            accepted, _ = await loop.sock_accept(silent)
            with accepted:
                assert await loop.sock_recv(accepted, 1) == b"\x16"  # the handshake has begun
                connecting.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await connecting
                # To the end: the client has closed.
                with contextlib.suppress(ConnectionResetError):
                    while await loop.sock_recv(accepted, 1 << 16):
                        pass

    run(scenario())


def test_pipes_of_a_child(run):
    async def scenario():
        program = "import sys; sys.stdout.write(sys.stdin.read()[::-1])"
        child = await asyncio.create_subprocess_exec(
            sys.executable,
            "-c",
            program,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
        )
        assert kind_of(child.stdin.transport) == "aiofastnet"
        text = b"a line and " * 20_000
        output, _ = await child.communicate(text)
        assert output == text[::-1]
        assert child.returncode == 0

    run(scenario())


def test_datagrams(run):
    async def scenario():
        loop = asyncio.get_running_loop()
        received = loop.create_future()

        class Echo(asyncio.DatagramProtocol):
            def connection_made(self, transport):
                self.transport = transport

            def datagram_received(self, data, addr):
                self.transport.sendto(data[::-1], addr)

        class Asker(asyncio.DatagramProtocol):
            def datagram_received(self, data, addr):
                received.set_result(data)

        server, _ = await loop.create_datagram_endpoint(Echo, ("127.0.0.1", 0))
        address = server.get_extra_info("sockname")
        client, _ = await loop.create_datagram_endpoint(Asker, remote_addr=address)
        client.sendto(b"datagram")
        assert await received == b"margatad"
        for transport in (client, server):
            assert kind_of(transport) == "aiofastnet"
            transport.close()

    run(scenario())


def test_a_loop_is_closed_with_a_connection_open(loop):
    near, far = socket.socketpair()
    with far:
        transport, _ = loop.run_until_complete(loop.create_connection(asyncio.Protocol, sock=near))
        assert kind_of(transport) == "aiofastnet"
        loop.close()
        with pytest.raises(RuntimeError, match="Event loop is closed"):
            transport.close()
        with pytest.warns(ResourceWarning, match="unclosed SelectorSocketTransport"):
            del transport
            gc.collect()
        assert far.recv(1) == b""


def test_by_its_loop_factory(loop_factory):
    async def main():
        async def echo(reader, writer):
            writer.write(await reader.readline())
            writer.close()

        async with await asyncio.start_server(echo, "127.0.0.1", 0) as server:
            reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
            writer.write(b"line\n")
            kind = kind_of(writer.transport)
            assert await reader.read() == b"line\n"
            writer.close()
            await writer.wait_closed()
        return kind

    loop = aiofastnet.loop_factory(loop_factory)()
    try:
        assert loop.run_until_complete(main()) == "aiofastnet"
    finally:
        loop.close()
        asyncio.set_event_loop(None)
