"""A chat over TCP.

python chat.py                   a server and three clients talk, as a demonstration
python chat.py serve [PORT]      serve until interrupted
python chat.py join NAME [PORT]  take part from the keyboard
"""

from __future__ import annotations

import asyncio
import contextlib
import sys

import tokioloop

HOST, PORT = "127.0.0.1", 8765


class Room:
    """The members that are connected; a line from one is sent to all others."""

    def __init__(self) -> None:
        self.members: dict[asyncio.StreamWriter, str] = {}

    def tell(self, text: str, skip: asyncio.StreamWriter | None = None) -> None:
        for writer in self.members:
            if writer is not skip:
                writer.write(f"{text}\n".encode())

    async def welcome(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        name = (await reader.readline()).decode().strip()
        try:
            if name:
                self.members[writer] = name
                self.tell(f"* {name} joined")
                async for line in reader:
                    self.tell(f"{name}: {line.decode().rstrip()}", skip=writer)
                    await writer.drain()
        except ConnectionError:
            pass  # the client closed the connection abruptly: it leaves as well
        finally:
            if self.members.pop(writer, None) is not None:
                self.tell(f"* {name} left")
            writer.close()


async def serve(port: int) -> None:
    server = await asyncio.start_server(Room().welcome, HOST, port)
    print(f"serving on {HOST}:{server.sockets[0].getsockname()[1]}; Ctrl-C ends it")
    async with server:
        await server.serve_forever()


async def join(name: str, port: int) -> None:
    reader, writer = await asyncio.open_connection(HOST, port)
    writer.write(f"{name}\n".encode())

    async def listen() -> None:
        async for line in reader:
            print(line.decode().rstrip())

    async def talk() -> None:
        while line := await asyncio.to_thread(sys.stdin.readline):
            writer.write(line.encode())
            await writer.drain()

    tasks = [asyncio.create_task(listen()), asyncio.create_task(talk())]
    await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    for task in tasks:
        task.cancel()
    writer.close()


async def demonstrate() -> None:
    room = Room()
    server = await asyncio.start_server(room.welcome, HOST, 0)
    port = server.sockets[0].getsockname()[1]
    people: dict[str, tuple[asyncio.StreamReader, asyncio.StreamWriter]] = {}

    async def hears(name: str, expected: str) -> None:
        line = (await people[name][0].readline()).decode().rstrip()
        print(f"{name:>5} hears  {line}")
        assert line == expected, (line, expected)

    for name in ("Ann", "Bob", "Cleo"):
        people[name] = await asyncio.open_connection(HOST, port)
        people[name][1].write(f"{name}\n".encode())
        for present in people:
            await hears(present, f"* {name} joined")

    people["Ann"][1].write(b"hello everybody\n")
    await hears("Bob", "Ann: hello everybody")
    await hears("Cleo", "Ann: hello everybody")
    people["Bob"][1].write(b"hello Ann\n")
    await hears("Ann", "Bob: hello Ann")
    await hears("Cleo", "Bob: hello Ann")

    _, writer = people.pop("Cleo")
    writer.close()
    await writer.wait_closed()
    for name in people:
        await hears(name, "* Cleo left")

    for _, writer in people.values():
        writer.close()
        await writer.wait_closed()
    server.close()
    await server.wait_closed()
    while room.members:  # until the room has handled the closed connections
        await asyncio.sleep(0.01)


def main(arguments: list[str]) -> None:
    with contextlib.suppress(KeyboardInterrupt):
        match arguments:
            case []:
                tokioloop.run(demonstrate())
            case ["serve", *port]:
                tokioloop.run(serve(int(port[0]) if port else PORT))
            case ["join", name, *port]:
                tokioloop.run(join(name, int(port[0]) if port else PORT))
            case _:
                sys.exit(__doc__)


if __name__ == "__main__":
    main(sys.argv[1:])
