"""Web servers: uvicorn with httptools, and aiohttp."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from benchmarks.servers.options import BACKLOG, Place

SMALL = b"Hello, World!"
LARGE = b"x" * (10 * 1024)
LARGEST = b"x" * (100 * 1024)

Send = Callable[[dict[str, Any]], Awaitable[None]]


async def uvicorn(place: Place, body: bytes) -> object:
    import uvicorn

    headers = [(b"content-type", b"text/plain"), (b"content-length", b"%d" % len(body))]
    start = {"type": "http.response.start", "status": 200, "headers": headers}
    answer = {"type": "http.response.body", "body": body}

    async def app(scope: dict[str, Any], receive: object, send: Send) -> None:
        await send(start)
        await send(answer)

    config = uvicorn.Config(
        app, http="httptools", lifespan="off", access_log=False, log_level="error", backlog=BACKLOG
    )
    server = uvicorn.Server(config)
    serving = asyncio.create_task(server.serve(sockets=[place.listener]))
    while not server.started:
        if serving.done():
            await serving
            raise SystemExit("uvicorn did not start")
        await asyncio.sleep(0.01)
    return server, serving


async def uvicorn_small(place: Place) -> object:
    return await uvicorn(place, SMALL)


async def uvicorn_10k(place: Place) -> object:
    return await uvicorn(place, LARGE)


async def aiohttp(place: Place, body: bytes) -> object:
    from aiohttp import web

    async def hello(request: web.Request) -> web.Response:
        return web.Response(body=body, content_type="text/plain")

    app = web.Application()
    app.router.add_get("/", hello)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    site = web.SockSite(runner, place.listener, ssl_context=place.tls, backlog=BACKLOG)
    await site.start()
    return runner


async def aiohttp_small(place: Place) -> object:
    return await aiohttp(place, SMALL)


async def aiohttp_100k(place: Place) -> object:
    return await aiohttp(place, LARGEST)
