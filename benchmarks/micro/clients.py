"""The loop as a client: names, connections, HTTP."""

from __future__ import annotations

import asyncio
import ssl
from typing import Any

from benchmarks import certificates
from benchmarks.micro.context import Context
from benchmarks.micro.tasks import timed

WORKERS = 10
LINE = b"a line to and fro\n"


@timed
async def getaddrinfo_literal(context: Context) -> None:
    loop = context.loop
    for _ in range(context.count):
        await loop.getaddrinfo("127.0.0.1", 80)


@timed
async def connect_close(context: Context) -> None:
    host, port = context.address
    for _ in range(context.count):
        reader, writer = await asyncio.open_connection(host, port)
        writer.write(LINE)
        if await reader.readline() != LINE:
            raise SystemExit("the server answered another line")
        writer.close()
        await writer.wait_closed()


async def upgrade(writer: Any, context: ssl.SSLContext, name: str | None = None) -> None:
    # `StreamWriter.start_tls` is new in CPython 3.11.
    await writer.start_tls(context, server_hostname=name)


@timed
async def start_tls(context: Context) -> None:
    """Both ends are on this loop, so that each handshake is a client's and a server's."""
    server_side, client_side = certificates.contexts()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(await reader.readline())
        await upgrade(writer, server_side)
        writer.write(await reader.readline())
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    host, port = server.sockets[0].getsockname()
    for _ in range(context.count):
        reader, writer = await asyncio.open_connection(host, port)
        writer.write(LINE)
        plain = await reader.readline()
        await upgrade(writer, client_side, "localhost")
        writer.write(LINE)
        if not plain == await reader.readline() == LINE:
            raise SystemExit("the server answered another line")
        writer.close()
        await writer.wait_closed()
    server.close()


@timed
async def aiohttp_client(context: Context) -> None:
    import aiohttp

    host, port = context.address
    url = f"http://{host}:{port}/"
    left = context.count

    async def work(session: aiohttp.ClientSession) -> None:
        nonlocal left
        while left > 0:
            left -= 1
            async with session.get(url) as response:
                if response.status != 200 or not await response.read():
                    raise SystemExit("the server did not answer")

    async with aiohttp.ClientSession() as session:
        await asyncio.gather(*(work(session) for _ in range(WORKERS)))
