"""Protocols that echo, over TCP, Unix sockets and TLS."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from typing import cast

from benchmarks.servers.options import BACKLOG, CHUNK, Place


class EchoProtocol(asyncio.Protocol):
    transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)  # not every loop derives from it

    def data_received(self, data: bytes) -> None:
        self.transport.write(data)


class BufferedEcho(asyncio.BufferedProtocol):
    transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        self.buffer = bytearray(CHUNK)
        self.view = memoryview(self.buffer)

    def get_buffer(self, sizehint: int) -> bytearray:
        return self.buffer

    def buffer_updated(self, count: int) -> None:
        # A copy: a transport may keep what it is given until the socket takes it.
        self.transport.write(bytes(self.view[:count]))


async def listen(factory: Callable[[], asyncio.BaseProtocol], place: Place) -> object:
    loop = asyncio.get_running_loop()
    if place.listener.family == socket.AF_UNIX:
        return await loop.create_unix_server(
            factory, sock=place.listener, backlog=BACKLOG, ssl=place.tls
        )
    return await loop.create_server(factory, sock=place.listener, backlog=BACKLOG, ssl=place.tls)


async def protocol(place: Place) -> object:
    return await listen(EchoProtocol, place)


async def buffered(place: Place) -> object:
    return await listen(BufferedEcho, place)
