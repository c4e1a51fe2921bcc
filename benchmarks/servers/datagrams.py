"""Datagrams that go back where they came from."""

from __future__ import annotations

import asyncio
from typing import cast

from benchmarks.servers.options import Place


class DatagramEcho(asyncio.DatagramProtocol):
    transport: asyncio.DatagramTransport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.DatagramTransport, transport)

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        self.transport.sendto(data, addr)


async def datagrams(place: Place) -> object:
    loop = asyncio.get_running_loop()
    return await loop.create_datagram_endpoint(DatagramEcho, sock=place.listener)
