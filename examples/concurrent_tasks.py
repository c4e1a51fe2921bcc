"""Several waits at once take as long as the longest of them."""

from __future__ import annotations

import asyncio
import time

import tokioloop


async def brew(drink: str, seconds: float) -> str:
    print(f"{drink}: started")
    await asyncio.sleep(seconds)
    print(f"{drink}: ready after {seconds} s")
    return drink


async def main() -> None:
    started = time.perf_counter()
    # gather() starts all of them, and returns the results in the order of its arguments.
    drinks = await asyncio.gather(brew("coffee", 0.3), brew("tea", 0.2), brew("water", 0.1))
    print("served:", ", ".join(drinks))

    # A task runs on its own from the moment it is created.
    task = asyncio.create_task(brew("cocoa", 0.1))
    await asyncio.sleep(0.05)
    print("meanwhile something else")
    print("served:", await task)

    elapsed = time.perf_counter() - started
    print("one after the other would have taken 0.7 s; this took less:", elapsed < 0.65)


if __name__ == "__main__":
    tokioloop.run(main())
