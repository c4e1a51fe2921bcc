"""A program on an installed tokioloop, with nothing but the standard library around it."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import tempfile

import tokioloop


async def serve_and_ask() -> bytes:
    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(await reader.readline())
        await writer.drain()
        writer.close()

    async with await asyncio.start_server(echo, "127.0.0.1", 0) as server:
        reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
        writer.write(b"line\n")
        line = await reader.readline()
        writer.close()
        await writer.wait_closed()
        return line


async def main() -> None:
    assert type(asyncio.get_running_loop()) is tokioloop.Loop
    assert await serve_and_ask() == b"line\n"
    child = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", "print('child')"), stdout=asyncio.subprocess.PIPE
    )
    output, _ = await child.communicate()
    assert (output, child.returncode) == (b"child\n", 0)
    assert await asyncio.to_thread(sum, range(10)) == 45
    assert await tokioloop.gather(tokioloop.sleep(0.001, 1), asyncio.sleep(0, 2)) == [1, 2]


def module(*arguments: str) -> str:
    command = [sys.executable, "-m", "tokioloop", *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


if __name__ == "__main__":
    tokioloop.run(main())
    tokioloop.install()
    asyncio.run(main())
    tokioloop.uninstall()
    assert module("--version") == f"tokioloop {tokioloop.__version__}\n"
    with tempfile.NamedTemporaryFile("w", suffix=".py") as program:
        program.write("import asyncio; print(asyncio.run(asyncio.sleep(0, 'slept')))")
        program.flush()
        assert module(program.name) == "slept\n"
