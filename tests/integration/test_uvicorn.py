"""A FastAPI application under uvicorn, on the tested loop."""

from __future__ import annotations

import asyncio
import contextlib
import json

import aiohttp
import fastapi
import fastapi.responses
import pytest
import uvicorn
import websockets

from integration.waiting import until


def application(events):
    @contextlib.asynccontextmanager
    async def lifespan(_app):
        events.append("started")
        yield
        events.append("stopped")

    app = fastapi.FastAPI(lifespan=lifespan)

    async def read_item(number: int, note: str = ""):
        return {"number": number, "note": note}

    def blocking():
        # A plain function: the framework runs it in a thread, away from the loop.
        return {"thread": True}

    async def stream():
        async def parts():
            for i in range(20):
                yield f"part {i};"
                await asyncio.sleep(0)

        return fastapi.responses.StreamingResponse(parts(), media_type="text/plain")

    async def upper(socket):
        await socket.accept()
        with contextlib.suppress(fastapi.WebSocketDisconnect):
            while True:
                await socket.send_text((await socket.receive_text()).upper())

    # Before the decorators of the framework can see them, give the arguments real types:
    # with postponed annotations it could not find names that are local to this function.
    upper.__annotations__["socket"] = fastapi.WebSocket
    app.get("/items/{number}")(read_item)
    app.get("/blocking")(blocking)
    app.get("/stream")(stream)
    app.websocket("/upper")(upper)
    return app


@pytest.fixture
def on_server(run, security):
    """Run ``scenario(host:port)`` beside a server; returns the events of its life."""

    def on_server(scenario, **options):
        events = []
        if security:
            options["ssl_certfile"], options["ssl_keyfile"] = security.server

        async def wrapper():
            config = uvicorn.Config(
                application(events), "127.0.0.1", 0, log_level="error", access_log=False, **options
            )
            server = uvicorn.Server(config)
            serving = asyncio.ensure_future(server.serve())
            await until(lambda: server.started or serving.done())
            host, port = server.servers[0].sockets[0].getsockname()
            try:
                await scenario(f"{host}:{port}")
            finally:
                server.should_exit = True
                await serving

        run(wrapper())
        return events

    return on_server


@pytest.fixture
def context(security):
    """The client's TLS context, or None."""
    return security and security.client_context()


@pytest.fixture
def session(context):
    """Make a client session for an address."""

    def session(address):
        connector = aiohttp.TCPConnector(ssl=context or True)
        base = f"{'https' if context else 'http'}://{address}"
        return aiohttp.ClientSession(base, connector=connector)

    return session


@pytest.mark.parametrize("http", ["httptools", "h11"])
def test_requests_and_answers(on_server, session, http):
    async def scenario(address):
        async with session(address) as client:
            async with client.get("/items/7", params={"note": "hello"}) as response:
                assert response.status == 200
                assert await response.json() == {"number": 7, "note": "hello"}
            async with client.get("/items/seven") as response:
                assert response.status == 422
            async with client.get("/nowhere") as response:
                assert response.status == 404
            async with client.get("/blocking") as response:
                assert await response.json() == {"thread": True}
            async with client.get("/stream") as response:
                assert await response.text() == "".join(f"part {i};" for i in range(20))

    assert on_server(scenario, http=http) == ["started", "stopped"]


def test_many_requests_at_once(on_server, session):
    async def scenario(address):
        async with session(address) as client:

            async def one(i):
                async with client.get(f"/items/{i}") as response:
                    return (await response.json())["number"]

            assert await asyncio.gather(*(one(i) for i in range(200))) == list(range(200))

    on_server(scenario)


def test_a_plain_socket_client_with_pipelined_requests(on_server, context):
    async def scenario(address):
        host, port = address.split(":")
        reader, writer = await asyncio.open_connection(host, int(port), ssl=context)
        for i in range(5):
            writer.write(f"GET /items/{i} HTTP/1.1\r\nHost: {address}\r\n\r\n".encode())
        for i in range(5):
            head = await reader.readuntil(b"\r\n\r\n")
            assert head.startswith(b"HTTP/1.1 200 OK\r\n")
            [length] = [
                int(line.split(b":")[1])
                for line in head.split(b"\r\n")
                if line.lower().startswith(b"content-length:")
            ]
            assert json.loads(await reader.readexactly(length))["number"] == i
        writer.close()
        await writer.wait_closed()

    on_server(scenario)


def test_a_websocket_conversation(on_server, context):
    async def scenario(address):
        async with websockets.connect(
            f"{'wss' if context else 'ws'}://{address}/upper", proxy=None, ssl=context
        ) as socket:
            for i in range(50):
                await socket.send(f"text {i}")
                assert await socket.recv() == f"TEXT {i}"
            await socket.send("x" * 500_000)
            assert await socket.recv() == "X" * 500_000

    on_server(scenario)
