"""Futures, tasks, and what asyncio makes of them."""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import AsyncGenerator, Callable, Coroutine
from typing import Any

from benchmarks.micro.context import Context, trivial

# Coroutines that are gathered at a time.
CHILDREN = 100


def timed(operations: Callable[[Context], Coroutine[Any, Any, None]]) -> Callable[[Context], float]:
    """A coroutine function as an operation: what it does inside the loop is timed."""

    def operation(context: Context) -> float:
        async def main() -> float:
            started = time.perf_counter()
            await operations(context)
            return time.perf_counter() - started

        return context.loop.run_until_complete(main())

    return operation


@timed
async def futures(context: Context) -> None:
    loop = context.loop
    for _ in range(context.count):
        future = loop.create_future()
        loop.call_soon(future.set_result, None)
        await future


@timed
async def task(context: Context) -> None:
    for _ in range(context.count):
        await context.loop.create_task(trivial())


@timed
async def gather(context: Context) -> None:
    """Counts children, not gatherings."""
    gather = context.primitives.gather
    for first in range(0, context.count, CHILDREN):
        children = min(CHILDREN, context.count - first)
        await gather(*[trivial() for _ in range(children)])


@timed
async def queues(context: Context) -> None:
    """A queue of one place: each item is waited for."""
    queue: asyncio.Queue[int] = asyncio.Queue(1)

    async def produce() -> None:
        for item in range(context.count):
            await queue.put(item)

    producer = context.loop.create_task(produce())
    for _ in range(context.count):
        await queue.get()
    await producer


@timed
async def asyncgen(context: Context) -> None:
    async def once() -> AsyncGenerator[None, None]:
        yield

    for _ in range(context.count):
        async for _ in once():
            pass


@timed
async def wait_for(context: Context) -> None:
    for _ in range(context.count):
        await asyncio.wait_for(trivial(), 60)


@timed
async def timeout(context: Context) -> None:
    if sys.version_info < (3, 11):
        raise SystemExit("asyncio.timeout came with CPython 3.11")
    timeout = asyncio.timeout
    for _ in range(context.count):
        async with timeout(60):
            await trivial()
