"""Protocols that only receive, or only send."""

from __future__ import annotations

import asyncio
from typing import cast

from benchmarks.servers.echo import listen
from benchmarks.servers.options import Place

PIECE = b"x" * (64 * 1024)


class Sink(asyncio.Protocol):
    def data_received(self, data: bytes) -> None:
        pass


class Source(asyncio.Protocol):
    """Writes until it is told to pause, and again when it may resume."""

    transport: asyncio.Transport
    paused = False
    lost = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        self.write()

    def write(self) -> None:
        if self.paused or self.lost:
            return
        self.transport.write(PIECE)
        if not self.paused:
            # Not in a loop of its own: a socket that takes everything would never let go.
            asyncio.get_running_loop().call_soon(self.write)

    def pause_writing(self) -> None:
        self.paused = True

    def resume_writing(self) -> None:
        self.paused = False
        self.write()

    def connection_lost(self, error: Exception | None) -> None:
        self.lost = True


async def sink(place: Place) -> object:
    return await listen(Sink, place)


async def source(place: Place) -> object:
    return await listen(Source, place)
