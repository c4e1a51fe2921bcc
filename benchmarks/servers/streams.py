"""Streams that echo chunks or lines."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from benchmarks.servers.options import BACKLOG, CHUNK, Place

Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


async def echo_chunks(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(CHUNK):
        writer.write(data)
    writer.close()


async def echo_lines(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while line := await reader.readline():
        writer.write(line)
        await writer.drain()
    writer.close()


async def listen(handler: Handler, place: Place) -> object:
    return await place.start_server(handler, sock=place.listener, backlog=BACKLOG, ssl=place.tls)


async def chunks(place: Place) -> object:
    return await listen(echo_chunks, place)


async def lines(place: Place) -> object:
    return await listen(echo_lines, place)
