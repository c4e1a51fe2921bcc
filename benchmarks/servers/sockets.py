"""Sockets of one's own that echo through the loop."""

from __future__ import annotations

import asyncio
import socket
from contextlib import suppress

from benchmarks.servers.options import BACKLOG, CHUNK, Place


async def sockets(place: Place) -> object:
    loop = asyncio.get_running_loop()
    listener = place.listener
    echoes: set[asyncio.Task[None]] = set()  # a loop holds its tasks only weakly

    async def echo(connection: socket.socket) -> None:
        # The load generator leaves with answers under way, which resets its connections.
        with connection, suppress(ConnectionError):
            while data := await loop.sock_recv(connection, CHUNK):
                await loop.sock_sendall(connection, data)

    async def accept() -> None:
        while True:
            connection, _ = await loop.sock_accept(listener)
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            task = loop.create_task(echo(connection))
            echoes.add(task)
            task.add_done_callback(echoes.discard)

    listener.listen(BACKLOG)
    return loop.create_task(accept())
