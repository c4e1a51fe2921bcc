"""Fetches from an asyncio server through the Rust client, no faster than the limiter allows.

python demo.py [--loop tokioloop | --loop asyncio]
"""

from __future__ import annotations

import argparse
import asyncio
import time

import fetchlimit

RATE, BURST, PAGES = 50.0, 5, 15


async def serve(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, gone: asyncio.Event
) -> None:
    """A very small HTTP server, for one connection."""
    while head := await reader.readline():
        path = head.split()[1].decode()
        while await reader.readline() != b"\r\n":
            pass
        if path == "/slow":
            await reader.read()  # answers nothing; returns when the client hangs up
            gone.set()
        elif path == "/large":
            writer.write(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n")
            for _ in range(8):
                writer.write(b"10000\r\n" + bytes(0x10000) + b"\r\n")
                await writer.drain()
            writer.write(b"0\r\n\r\n")
        elif path == "/missing":
            writer.write(b"HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n")
        else:
            body = f"this is {path}".encode()
            writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % len(body) + body)
        await writer.drain()
    writer.close()


async def fetch(client: fetchlimit.Client, url: str) -> tuple[bytes, float]:
    response = await client.get(url)
    return await response.read(), time.monotonic()


async def main() -> None:
    gone = asyncio.Event()
    connections = []

    def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connections.append(asyncio.create_task(serve(reader, writer, gone)))

    server = await asyncio.start_server(accept, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    base = f"http://127.0.0.1:{port}"
    print("running on", type(asyncio.get_running_loop()).__module__.partition(".")[0])

    limited = fetchlimit.Client(fetchlimit.Limiter(RATE, BURST))
    began = time.monotonic()

    pages = await asyncio.gather(*(fetch(limited, f"{base}/{n}") for n in range(PAGES)))
    print(f"fetched {len(pages)} pages, the last: {pages[-1][0].decode()}")
    times = sorted(done - began for _, done in pages)
    kept = all(count <= BURST + RATE * done for count, done in enumerate(times, 1))
    print("never more than the limiter allows:", kept)

    client = fetchlimit.Client()
    large = await client.get(f"{base}/large")
    print("in pieces:", sum([len(chunk) async for chunk in large]), "bytes")

    try:
        await client.get(f"{base}/missing")
    except fetchlimit.StatusError as error:
        print("status", error.status)

    try:
        await asyncio.wait_for(client.get(f"{base}/slow"), 0.05)
    except asyncio.TimeoutError:
        await gone.wait()
        print("gave up waiting, and the server saw the connection close")

    server.close()
    try:
        # A new client: the other may have a connection that the server still answers.
        await fetchlimit.Client().get(f"{base}/closed")
    except ConnectionRefusedError as error:
        print("refused:", error.strerror)

    del limited, client  # their idle connections go with them
    await asyncio.gather(*connections)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--loop", choices=("tokioloop", "asyncio"), default="tokioloop")
    if parser.parse_args().loop == "asyncio":
        asyncio.run(main())
    else:
        import tokioloop

        tokioloop.run(main())
