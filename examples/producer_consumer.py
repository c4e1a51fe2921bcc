"""A bounded queue between producers and consumers: the fast ones wait for the slow ones."""

from __future__ import annotations

import asyncio

import tokioloop

PRODUCERS, CONSUMERS, ITEMS_EACH = 2, 3, 10


async def produce(queue: asyncio.Queue[int | None], first: int) -> None:
    for item in range(first, first + ITEMS_EACH):
        # Waits while the queue is full: this slows a fast producer down.
        await queue.put(item)
    print(f"producer of {first}..{first + ITEMS_EACH - 1} is done")


async def consume(queue: asyncio.Queue[int | None], results: list[int]) -> int:
    handled = 0
    while (item := await queue.get()) is not None:
        await asyncio.sleep(0.002)
        results.append(item * item)
        handled += 1
    return handled


async def main() -> None:
    queue: asyncio.Queue[int | None] = asyncio.Queue(maxsize=4)
    results: list[int] = []
    consumers = [asyncio.create_task(consume(queue, results)) for _ in range(CONSUMERS)]
    await asyncio.gather(*(produce(queue, i * ITEMS_EACH) for i in range(PRODUCERS)))
    for _ in consumers:
        await queue.put(None)  # each consumer stops at one of these
    handled = await asyncio.gather(*consumers)
    print("items handled:", sum(handled))
    print("everybody had work:", all(handled))
    print("sum of squares:", sum(results))


if __name__ == "__main__":
    tokioloop.run(main())
