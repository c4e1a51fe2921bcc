"""One server on one loop, in a process of its own.

Run by ``benchmarks.runner``, or by hand: ``python -m benchmarks.servers uvloop protocol``.
Prints the port when it is ready, and serves until it is killed.
"""

from __future__ import annotations

import argparse
import asyncio
import importlib
import socket
from collections.abc import Awaitable, Callable
from typing import Any, cast

from benchmarks import loops, system
from benchmarks.servers.options import BACKLOG, Place, start_server_of, tls_context

# Module and function: a server's libraries are imported only where it runs, and count as its
# memory only there. A function starts to serve and returns what must be kept alive meanwhile.
SERVERS = {
    "protocol": "echo:protocol",
    "buffered": "echo:buffered",
    "sink": "bulk:sink",
    "source": "bulk:source",
    "streams-read": "streams:chunks",
    "streams-readline": "streams:lines",
    "sockets": "sockets:sockets",
    "datagrams": "datagrams:datagrams",
    "uvicorn-small": "http:uvicorn_small",
    "uvicorn-10k": "http:uvicorn_10k",
    "aiohttp-small": "http:aiohttp_small",
    "aiohttp-100k": "http:aiohttp_100k",
    "websockets": "websocket:websockets",
}


def load(server: str) -> Callable[[Place], Awaitable[object]]:
    module, _, function = SERVERS[server].partition(":")
    found = getattr(importlib.import_module(f"benchmarks.servers.{module}"), function)
    return cast(Callable[[Place], Awaitable[object]], found)


def listen(server: str, unix_path: str | None) -> socket.socket:
    if unix_path is not None:
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    elif server == "datagrams":
        listener = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    else:
        # By name: asyncio switches Nagle's algorithm off for what calls itself TCP only.
        listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.setblocking(False)
    listener.bind(("127.0.0.1", 0) if unix_path is None else unix_path)
    if unix_path is not None:
        listener.listen(BACKLOG)  # not every loop does, and the loops' speed is what is asked for
    return listener


async def serve(
    server: str, unix_path: str | None, tls: list[str] | None, start_server: Any
) -> None:
    start = load(server)
    listener = listen(server, unix_path)
    address = unix_path or listener.getsockname()[1]  # asked for now: a loop may take the socket
    context = tls_context(*tls) if tls else None
    serving = await start(Place(listener, context, start_server))
    print(address, flush=True)
    await asyncio.get_running_loop().create_future()
    del serving


def main() -> None:
    parser = argparse.ArgumentParser(description="Serve on one loop.")
    parser.add_argument("loop")
    parser.add_argument("server", choices=SERVERS)
    parser.add_argument("--unix", metavar="PATH", help="listen here, not on a TCP port")
    parser.add_argument("--tls", nargs=2, metavar=("CERTIFICATE", "KEY"), help="serve over TLS")
    parser.add_argument("--native", action="store_true", help="use the loop's own streams")
    parser.add_argument("--core", type=int, help="the core to run on")
    args = parser.parse_args()

    system.tie_to_parent()
    system.raise_file_limit()
    if args.core is not None:
        system.pin_to_core(args.core)
    loops.hide_foreign_transports(args.loop)
    loop = loops.load(args.loop)()
    start_server = start_server_of(args.loop, native=args.native)
    loop.run_until_complete(serve(args.server, args.unix, args.tls, start_server))


if __name__ == "__main__":
    main()
