"""Callbacks and timers."""

from __future__ import annotations

import time

from benchmarks.micro.context import Context, nothing


def call_soon_batch(context: Context) -> float:
    loop = context.loop
    started = time.perf_counter()
    for _ in range(context.count):
        loop.call_soon(nothing)
    loop.call_soon(loop.stop)
    loop.run_forever()
    return time.perf_counter() - started


def call_soon_args(context: Context) -> float:
    loop = context.loop
    started = time.perf_counter()
    for _ in range(context.count):
        loop.call_soon(nothing, loop, 1, "two")
    loop.call_soon(loop.stop)
    loop.run_forever()
    return time.perf_counter() - started


def call_soon_chain(context: Context) -> float:
    loop = context.loop
    left = context.count

    def step() -> None:
        nonlocal left
        left -= 1
        if left:
            loop.call_soon(step)
        else:
            loop.stop()

    loop.call_soon(step)
    started = time.perf_counter()
    loop.run_forever()
    return time.perf_counter() - started


def call_later_cancel(context: Context) -> float:
    """Timeouts that never happen: the usual fate of a timer."""

    async def main() -> float:
        loop = context.loop
        started = time.perf_counter()
        for _ in range(context.count):
            loop.call_later(60, nothing).cancel()
        return time.perf_counter() - started

    return context.loop.run_until_complete(main())


def timers_firing(context: Context) -> float:
    """Timers so close together that they are due by the time the last one is set."""
    loop, count = context.loop, context.count
    spread = count * 1e-7
    left = count

    def fire() -> None:
        nonlocal left
        left -= 1
        if not left:
            loop.stop()

    started = time.perf_counter()
    for index in range(count):
        # A stride that is coprime to the count visits the span out of order.
        loop.call_later(spread * ((index * 7919) % count) / count, fire)
    loop.run_forever()
    return time.perf_counter() - started
