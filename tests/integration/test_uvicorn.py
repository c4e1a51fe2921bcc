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


def on_server(loop, scenario, **options):
    """Run ``scenario(host:port)`` beside the server, then stop it; returns its life's events."""
    events = []

    async def wrapper():
        config = uvicorn.Config(
            application(events), "127.0.0.1", 0, log_level="error", access_log=False, **options
        )
        server = uvicorn.Server(config)
        serving = asyncio.ensure_future(server.serve())
        while not server.started:
            assert not serving.done(), serving
            await asyncio.sleep(0.005)
        host, port = server.servers[0].sockets[0].getsockname()
        try:
            await asyncio.wait_for(scenario(f"{host}:{port}"), 60)
        finally:
            server.should_exit = True
            await serving
        await asyncio.sleep(0.02)

    loop.run_until_complete(wrapper())
    return events


@pytest.mark.parametrize("http", ["httptools", "h11"])
def test_requests_and_answers(loop, http):
    async def scenario(address):
        async with aiohttp.ClientSession(f"http://{address}") as session:
            async with session.get("/items/7", params={"note": "hello"}) as response:
                assert response.status == 200
                assert await response.json() == {"number": 7, "note": "hello"}
            async with session.get("/items/seven") as response:
                assert response.status == 422
            async with session.get("/nowhere") as response:
                assert response.status == 404
            async with session.get("/blocking") as response:
                assert await response.json() == {"thread": True}
            async with session.get("/stream") as response:
                assert await response.text() == "".join(f"part {i};" for i in range(20))

    assert on_server(loop, scenario, http=http) == ["started", "stopped"]


def test_many_requests_at_once(loop):
    async def scenario(address):
        async with aiohttp.ClientSession(f"http://{address}") as session:

            async def one(i):
                async with session.get(f"/items/{i}") as response:
                    return (await response.json())["number"]

            assert await asyncio.gather(*(one(i) for i in range(200))) == list(range(200))

    on_server(loop, scenario)


def test_a_plain_socket_client_with_pipelined_requests(loop):
    async def scenario(address):
        host, port = address.split(":")
        reader, writer = await asyncio.open_connection(host, int(port))
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

    on_server(loop, scenario)


def test_a_websocket_conversation(loop):
    async def scenario(address):
        async with websockets.connect(f"ws://{address}/upper", proxy=None) as socket:
            for i in range(50):
                await socket.send(f"text {i}")
                assert await socket.recv() == f"TEXT {i}"
            await socket.send("x" * 500_000)
            assert await socket.recv() == "X" * 500_000

    on_server(loop, scenario)
