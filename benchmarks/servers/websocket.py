"""The websockets library, echoing."""

from __future__ import annotations

from benchmarks.servers.options import Place


async def websockets(place: Place) -> object:
    from websockets.asyncio.server import ServerConnection, serve
    from websockets.exceptions import ConnectionClosed

    async def echo(connection: ServerConnection) -> None:
        # The load generator leaves without a word.
        try:
            async for message in connection:
                await connection.send(message)
        except ConnectionClosed:
            pass

    return await serve(echo, sock=place.listener, compression=None)
