"""Servers on the tested loop behind nginx, which comes to them with TLS or without."""

from __future__ import annotations

import asyncio
import contextlib
import io
import os
import random
import ssl

import aiohttp
import pytest
import uvicorn
from aiohttp import web

from integration.nginx_server import Nginx, running
from integration.waiting import until

PIECE = bytes(range(256)) * 256


@pytest.fixture(scope="module")
def nginx(certificates):
    with running(Nginx, certificates) as server:
        yield server


# --- The same little site twice: for aiohttp's server, and in ASGI for uvicorn -----------------


def aiohttp_site(gone):
    async def echo(request):
        return web.Response(body=await request.read())

    async def stream(request):
        response = web.StreamResponse()
        await response.prepare(request)
        for _ in range(100):
            await response.write(PIECE)
        await response.write_eof()
        return response

    async def cut(request):
        response = web.StreamResponse(headers={"Content-Length": str(100 * len(PIECE))})
        await response.prepare(request)
        await response.write(PIECE)
        request.transport.close()
        return response

    async def forever(request):
        try:
            response = web.StreamResponse()
            await response.prepare(request)
            while True:
                await response.write(b"tick")
                await asyncio.sleep(0.01)
        finally:
            gone.set()

    async def upper(request):
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        async for message in socket:
            await socket.send_str(message.data.upper())
        return socket

    app = web.Application(client_max_size=64 << 20)
    app.router.add_post("/echo", echo)
    app.router.add_get("/stream", stream)
    app.router.add_get("/cut", cut)
    app.router.add_get("/forever", forever)
    app.router.add_get("/upper", upper)
    return app


def asgi_site(gone):
    async def echo(receive, send):
        body, more = b"", True
        while more:
            message = await receive()
            body += message["body"]
            more = message["more_body"]
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": body})

    async def stream(receive, send):
        await send({"type": "http.response.start", "status": 200, "headers": []})
        for i in range(100):
            await send({"type": "http.response.body", "body": PIECE, "more_body": i < 99})

    async def cut(receive, send):
        length = str(100 * len(PIECE)).encode()
        headers = [(b"content-length", length)]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": PIECE, "more_body": True})
        # uvicorn closes the connection of an application that ends too early.

    async def forever(receive, send):
        await send({"type": "http.response.start", "status": 200, "headers": []})
        assert (await receive())["type"] == "http.request"
        left = asyncio.ensure_future(receive())
        while not left.done():
            await send({"type": "http.response.body", "body": b"tick", "more_body": True})
            await asyncio.sleep(0.01)
        assert left.result() == {"type": "http.disconnect"}
        gone.set()

    async def upper(receive, send):
        assert (await receive())["type"] == "websocket.connect"
        await send({"type": "websocket.accept"})
        while (message := await receive())["type"] == "websocket.receive":
            await send({"type": "websocket.send", "text": message["text"].upper()})

    pages = {"/echo": echo, "/stream": stream, "/cut": cut, "/forever": forever, "/upper": upper}

    async def app(scope, receive, send):
        await pages[scope["path"]](receive, send)

    return app


@contextlib.asynccontextmanager
async def aiohttp_backend(path, gone, certificates, identity):
    runner = web.AppRunner(aiohttp_site(gone), access_log=None, handler_cancellation=True)
    await runner.setup()
    context = certificates and certificates.server_context(identity, ask_client=True)
    try:
        await web.UnixSite(runner, path, ssl_context=context).start()
        yield
    finally:
        await runner.cleanup()


@contextlib.asynccontextmanager
async def uvicorn_backend(path, gone, certificates, identity):
    options = {}
    if certificates:
        identity = identity or certificates.server
        options = {
            "ssl_certfile": identity.certificate,
            "ssl_keyfile": identity.key,
            "ssl_ca_certs": certificates.authority,
            "ssl_cert_reqs": ssl.CERT_REQUIRED,
        }
    config = uvicorn.Config(
        asgi_site(gone), uds=path, lifespan="off", log_level="critical", access_log=False, **options
    )
    server = uvicorn.Server(config)
    serving = asyncio.ensure_future(server.serve())
    await until(lambda: server.started or serving.done())
    try:
        yield
    finally:
        server.should_exit = True
        await serving


BACKENDS = {"aiohttp": aiohttp_backend, "uvicorn": uvicorn_backend}


@pytest.fixture(params=BACKENDS)
def on_backend(request, run, nginx, certificates, security):
    """Run ``scenario(client, gone)`` with the server behind nginx.

    ``client`` is a session whose paths begin at the backend; ``gone`` an event that is set when
    the page ``forever`` notices that its reader has left.
    """
    backend = BACKENDS[request.param]
    path = str(nginx.directory / "backend")

    def on_backend(scenario, identity=None):
        async def wrapper():
            gone = asyncio.Event()
            async with backend(path, gone, security, identity):
                os.chmod(path, 0o777)  # nginx may be another user
                location = "/secure-backend/" if security else "/backend/"
                connector = aiohttp.TCPConnector(ssl=certificates.client_context())
                async with aiohttp.ClientSession(
                    nginx.url("main", location), connector=connector
                ) as client:
                    await scenario(client, gone)

        try:
            run(wrapper())
        finally:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(path)

    return on_backend


def test_bodies_of_all_sizes_come_back(on_backend):
    async def scenario(client, _gone):
        for size in (0, 1, 16_384, 16_385, 1 << 20, 6 << 20):
            body = random.Random(size).randbytes(size)
            async with client.post("echo", data=io.BytesIO(body)) as response:
                assert response.status == 200
                assert await response.read() == body

    on_backend(scenario)


def test_many_requests_at_once(on_backend):
    async def scenario(client, _gone):
        async def post(i):
            body = b"%d " % i * 1000
            async with client.post("echo", data=body) as response:
                assert await response.read() == body

        await asyncio.gather(*(post(i) for i in range(150)))

    on_backend(scenario)


def test_chunks_to_a_slow_reader(on_backend):
    async def scenario(client, _gone):
        async with client.get("stream") as response:
            assert response.headers["Transfer-Encoding"] == "chunked"
            received = bytearray()
            while piece := await response.content.read(200_000):
                received += piece
                await asyncio.sleep(0.001)
        assert received == PIECE * 100

    on_backend(scenario)


def test_chunks_from_a_slow_writer(on_backend):
    async def pieces():
        for i in range(20):
            yield b"%d;" % i
            await asyncio.sleep(0.002)

    async def scenario(client, _gone):
        async with client.post("echo", data=pieces()) as response:
            assert await response.read() == b"".join(b"%d;" % i for i in range(20))

    on_backend(scenario)


def test_a_websocket_conversation(on_backend):
    async def scenario(client, _gone):
        async with client.ws_connect("upper", max_msg_size=0) as socket:
            for i in range(50):
                await socket.send_str(f"text {i}")
                assert await socket.receive_str() == f"TEXT {i}"
            await socket.send_str("x" * 500_000)
            assert await socket.receive_str() == "X" * 500_000

    on_backend(scenario)


def test_an_answer_that_ends_too_early(on_backend):
    async def scenario(client, _gone):
        async with client.get("cut") as response:
            assert response.status == 200
            with pytest.raises(aiohttp.ClientPayloadError):
                await response.read()
        async with client.post("echo", data=b"still there") as response:
            assert await response.read() == b"still there"

    on_backend(scenario)


def test_a_client_that_leaves_while_it_reads(on_backend):
    async def scenario(client, gone):
        async with client.get("forever") as response:
            assert await response.content.readexactly(12) == b"tick" * 3
            response.close()
        await asyncio.wait_for(gone.wait(), 20)
        async with client.post("echo", data=b"still there") as response:
            assert await response.read() == b"still there"

    on_backend(scenario)


@pytest.mark.parametrize("security", ["tls"], indirect=True)
def test_a_proxy_that_does_not_trust_us(on_backend, certificates):
    async def scenario(client, _gone):
        for _ in range(5):
            async with client.post("echo", data=b"anything") as response:
                assert response.status == 502

    for identity in (certificates.elsewhere, certificates.untrusted, certificates.expired):
        on_backend(scenario, identity)


@pytest.mark.parametrize("security", ["tls"], indirect=True)
def test_a_long_chain_of_certificates(on_backend, certificates):
    async def scenario(client, _gone):
        async with client.post("echo", data=b"anything") as response:
            assert await response.read() == b"anything"

    on_backend(scenario, certificates.long)
