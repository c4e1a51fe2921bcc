"""An echo server on one loop, in a process of its own.

Run by ``benchmarks.runner``, or by hand: ``python -m benchmarks.servers uvloop protocol``.
Prints the port when it is ready, and serves until it is killed.
"""

from __future__ import annotations

import argparse
import asyncio
import socket
from collections.abc import Awaitable, Callable
from contextlib import suppress
from functools import partial
from typing import cast

from benchmarks import loops, system

BACKLOG = 256
CHUNK = 256 * 1024


class EchoProtocol(asyncio.Protocol):
    transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)  # not every loop derives from it

    def data_received(self, data: bytes) -> None:
        self.transport.write(data)


async def protocol(listener: socket.socket) -> object:
    loop = asyncio.get_running_loop()
    if listener.family == socket.AF_UNIX:
        return await loop.create_unix_server(EchoProtocol, sock=listener, backlog=BACKLOG)
    return await loop.create_server(EchoProtocol, sock=listener, backlog=BACKLOG)


async def echo_chunks(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(CHUNK):
        writer.write(data)
    writer.close()


async def echo_lines(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while line := await reader.readline():
        writer.write(line)
        await writer.drain()
    writer.close()


async def streams(
    handler: Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]],
    listener: socket.socket,
) -> object:
    return await asyncio.start_server(handler, sock=listener, backlog=BACKLOG)


async def sockets(listener: socket.socket) -> object:
    loop = asyncio.get_running_loop()
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


class DatagramEcho(asyncio.DatagramProtocol):
    transport: asyncio.DatagramTransport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.DatagramTransport, transport)

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        self.transport.sendto(data, addr)


async def datagrams(sock: socket.socket) -> object:
    loop = asyncio.get_running_loop()
    return await loop.create_datagram_endpoint(DatagramEcho, sock=sock)


# Each starts to serve and returns what must be kept alive meanwhile.
SERVERS: dict[str, Callable[[socket.socket], Awaitable[object]]] = {
    "protocol": protocol,
    "streams-read": partial(streams, echo_chunks),
    "streams-readline": partial(streams, echo_lines),
    "sockets": sockets,
    "datagrams": datagrams,
}


def listen(server: str, unix_path: str | None) -> socket.socket:
    family = socket.AF_INET if unix_path is None else socket.AF_UNIX
    kind = socket.SOCK_DGRAM if server == "datagrams" else socket.SOCK_STREAM
    listener = socket.socket(family, kind)
    listener.setblocking(False)
    listener.bind(("127.0.0.1", 0) if unix_path is None else unix_path)
    return listener


async def serve(server: str, unix_path: str | None) -> None:
    listener = listen(server, unix_path)
    address = unix_path or listener.getsockname()[1]  # asked for now: a loop may take the socket
    serving = await SERVERS[server](listener)
    print(address, flush=True)
    await asyncio.get_running_loop().create_future()
    del serving


def main() -> None:
    parser = argparse.ArgumentParser(description="Serve echoes on one loop.")
    parser.add_argument("loop")
    parser.add_argument("server", choices=SERVERS)
    parser.add_argument("--unix", metavar="PATH", help="listen here, not on a TCP port")
    parser.add_argument("--core", type=int, help="the core to run on")
    args = parser.parse_args()

    system.tie_to_parent()
    if args.core is not None:
        system.pin_to_core(args.core)
    loop = loops.load(args.loop)()
    loop.run_until_complete(serve(args.server, args.unix))


if __name__ == "__main__":
    main()
