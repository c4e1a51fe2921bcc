"""aiohttp's server and client on the tested loop, with its own transports and aiofastnet's."""

from __future__ import annotations

import asyncio
import contextlib
import io
import random

import aiohttp
import pytest
from aiohttp import web, web_fileresponse, web_runner


async def echo(request):
    return web.Response(body=await request.read(), headers={"x-method": request.method})


async def slow(_request):
    await asyncio.sleep(0.05)
    return web.json_response({"slow": True})


async def stream(request):
    response = web.StreamResponse()
    response.enable_chunked_encoding()
    await response.prepare(request)
    for i in range(50):
        await response.write(b"chunk %d;" % i)
    await response.write_eof()
    return response


async def websocket(request):
    socket = web.WebSocketResponse()
    await socket.prepare(request)
    async for message in socket:
        if message.type is aiohttp.WSMsgType.TEXT:
            await socket.send_str(message.data.upper())
        else:
            await socket.send_bytes(message.data[::-1])
    return socket


async def broken(_request):
    raise RuntimeError("the handler has trouble")


@pytest.fixture(params=["own", "aiofastnet"], autouse=True)
def transports(request, loop, monkeypatch):
    """The transports of the tested loop, or those of aiofastnet over it."""
    if request.param == "aiofastnet":
        pytest.importorskip("aiofastnet").patch_loop(loop)
        return
    for module in (aiohttp.connector, web_fileresponse, web_runner):
        # From 3.15 on aiohttp uses aiofastnet wherever it is installed.
        if hasattr(module, "aiofastnet"):
            monkeypatch.setattr(module, "aiofastnet", None)


@contextlib.asynccontextmanager
async def served(security):
    """The base address of a running server."""
    app = web.Application(client_max_size=64 << 20)
    app.router.add_route("*", "/echo", echo)
    app.router.add_get("/slow", slow)
    app.router.add_get("/stream", stream)
    app.router.add_get("/websocket", websocket)
    app.router.add_get("/broken", broken)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    try:
        context = security and security.server_context()
        site = web.TCPSite(runner, "127.0.0.1", 0, ssl_context=context)
        await site.start()
        host, port = site._server.sockets[0].getsockname()
        yield f"{'https' if security else 'http'}://{host}:{port}"
    finally:
        await runner.cleanup()


def connector(security):
    return aiohttp.TCPConnector(ssl=security.client_context() if security else True)


@pytest.fixture
def on_server(run, security):
    """Run ``scenario(session)`` beside a server, over TLS or not."""

    def on_server(scenario):
        async def wrapper():
            async with (
                served(security) as base,
                aiohttp.ClientSession(base, connector=connector(security)) as session,
            ):
                await scenario(session)

        run(wrapper())

    return on_server


def test_requests_and_answers(on_server):
    async def scenario(session):
        for method in ("GET", "POST", "PUT", "DELETE"):
            async with session.request(method, "/echo", data=b"body") as response:
                assert response.status == 200
                assert response.headers["x-method"] == method
                assert await response.read() == b"body"

    on_server(scenario)


def test_a_large_body_both_ways(on_server):
    body = random.Random(1).randbytes(8 << 20)

    async def scenario(session):
        async with session.post("/echo", data=io.BytesIO(body)) as response:
            assert await response.read() == body

    on_server(scenario)


def test_chunks_as_they_come(on_server):
    async def scenario(session):
        async with session.get("/stream") as response:
            text = b"".join([chunk async for chunk in response.content.iter_any()])
        assert text == b"".join(b"chunk %d;" % i for i in range(50))

    on_server(scenario)


def test_many_requests_at_once(on_server):
    async def scenario(session):
        async def one(i):
            async with session.post("/echo", data=b"%d" % i) as response:
                return await response.read()

        answers = await asyncio.gather(*(one(i) for i in range(300)))
        assert answers == [b"%d" % i for i in range(300)]

    on_server(scenario)


def test_slow_answers_overlap(on_server):
    async def scenario(session):
        started = asyncio.get_running_loop().time()
        responses = await asyncio.gather(*(session.get("/slow") for _ in range(50)))
        assert [await response.json() for response in responses] == [{"slow": True}] * 50
        # One after the other they would take 2.5 seconds.
        assert asyncio.get_running_loop().time() - started < 2

    on_server(scenario)


def test_a_request_that_takes_too_long(on_server):
    async def scenario(session):
        with pytest.raises(asyncio.TimeoutError):
            await session.get("/slow", timeout=aiohttp.ClientTimeout(total=0.01))
        async with session.get("/echo") as response:
            assert response.status == 200

    on_server(scenario)


def test_a_broken_handler_is_an_error_500(on_server):
    async def scenario(session):
        async with session.get("/broken") as response:
            assert response.status == 500
        async with session.get("/echo") as response:
            assert response.status == 200

    on_server(scenario)


def test_a_websocket_conversation(on_server):
    async def scenario(session):
        async with session.ws_connect("/websocket") as socket:
            for i in range(50):
                await socket.send_str(f"text {i}")
                assert await socket.receive_str() == f"TEXT {i}"
            payload = random.Random(2).randbytes(1 << 20)
            await socket.send_bytes(payload)
            assert await socket.receive_bytes() == payload[::-1]

    on_server(scenario)


def test_no_server_listens(run, security):
    async def scenario():
        async with served(security) as base:
            pass
        async with aiohttp.ClientSession(base, connector=connector(security)) as session:
            with pytest.raises(aiohttp.ClientConnectorError):
                await session.get("/echo")

    run(scenario())


def test_a_client_that_does_not_trust_the_server(run, certificates):
    async def scenario():
        async with served(certificates) as base:
            untrusting = aiohttp.TCPConnector(ssl=certificates.untrusting_context())
            async with aiohttp.ClientSession(base, connector=untrusting) as session:
                for _ in range(3):
                    with pytest.raises(aiohttp.ClientConnectorCertificateError):
                        await session.get("/echo")
            trusting = aiohttp.ClientSession(base, connector=connector(certificates))
            async with trusting as session, session.post("/echo", data=b"body") as response:
                assert await response.read() == b"body"

    run(scenario())
