"""A web server and its clients in one thread: hyper speaks HTTP, Python answers."""

from __future__ import annotations

import asyncio
import os

import webtalk


async def handler(method: str, path: str, body: bytes) -> tuple[int, bytes]:
    if path == "/slow":
        await asyncio.sleep(0.05)  # others are answered meanwhile
        return 200, b"took its time"
    if method == "POST":
        return 200, body[::-1]
    return 404, f"there is no {path}".encode()


async def main() -> None:
    print("running on", type(asyncio.get_running_loop()).__module__)
    server = await webtalk.serve(handler)
    slow = asyncio.ensure_future(webtalk.fetch("127.0.0.1", server.port, "/slow"))
    print(await webtalk.fetch("127.0.0.1", server.port, "/nothing"))
    print(await webtalk.fetch("127.0.0.1", server.port, "/turn", b"hello"))
    print(await slow)
    answers = await asyncio.gather(
        *(webtalk.fetch("127.0.0.1", server.port, "/", b"%d" % n) for n in range(200))
    )
    print(len(answers), "answers, the last:", answers[-1])
    server.close()

    # The same on a connection that asyncio has accepted; with `ssl=...` it would be one with TLS.
    async def accepted(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await webtalk.serve_connection(reader, writer, handler)

    listener = await asyncio.start_server(accepted, "127.0.0.1", 0)
    port = listener.sockets[0].getsockname()[1]
    print(await webtalk.fetch("127.0.0.1", port, "/turn", b"asyncio"))
    listener.close()
    print("threads of this process:", len(os.listdir("/proc/self/task")))


if __name__ == "__main__":
    webtalk.run(main())
