"""Talks to an asyncio server through tokio's sockets, while tokio's timer ticks: in one thread."""

from __future__ import annotations

import asyncio
import os

import linetalk


async def tick() -> int:
    last = 0
    async for number in linetalk.ticks(0.01, 5):
        last = number
    return last


async def main() -> None:
    print("running on", type(asyncio.get_running_loop()).__module__)
    hung_up = asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while line := await reader.readline():
            writer.write(line.upper())
            await writer.drain()
        writer.close()
        hung_up.set()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    ticking = asyncio.create_task(tick())

    connection = await linetalk.connect("127.0.0.1", port)
    print("the server says", await connection.ask("hello"))
    answers = await asyncio.gather(*(connection.ask(f"question {n}") for n in range(100)))
    print(f"{len(answers)} more answers, the last: {answers[-1]}")
    print("ticks:", await ticking)
    print("threads of this process:", len(os.listdir("/proc/self/task")))
    del connection  # drops its socket
    await hung_up.wait()
    server.close()


if __name__ == "__main__":
    linetalk.run(main())
