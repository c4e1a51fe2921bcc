"""Mistakes that a type checker finds: each line would be an unused `ignore` if it did not.

Not run: `make lint` has mypy check it.
"""

import asyncio

import tokioloop


async def answer() -> int:
    return 42


async def mistakes(loop: tokioloop.Loop) -> None:
    loop.create_task(answer(), nme="a task")  # type: ignore[call-arg]
    await loop.create_connection(asyncio.Protocol, "host", 1, sssl=True)  # type: ignore[call-overload]
    await loop.create_server(asyncio.Protocol, "host", 1, backlogg=1)  # type: ignore[call-overload]
    loop.call_later(1)  # type: ignore[call-arg]
    loop.call_soon(print, contxt=None)  # type: ignore[call-arg]
    await loop.sock_recv("no socket", 1)  # type: ignore[arg-type]
    tokioloop.run(answer(), loopfactory=None)  # type: ignore[call-arg]
    tokioloop.install(acelerate=True)  # type: ignore[call-arg]
    tokioloop.new_event_loop(nestd=True)  # type: ignore[call-arg]
    await tokioloop.sleep("soon")  # type: ignore[call-overload]


async def right(loop: tokioloop.Loop) -> None:
    number: int = await loop.create_task(answer(), name="a task")
    numbers: tuple[int, int] = await tokioloop.gather(answer(), answer())
    text: str = await tokioloop.sleep(1, "text")
    print(number, numbers, text)
