"""Sleeping: not at all, many at once, and how exactly."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable

from benchmarks.micro.context import Context

# How long the sleepers of a crowd sleep: less than it takes to start them all, so that the time
# measured is the loop's own.
SHORTEST, SPREAD = 0.005, 0.02
NAP = 200e-6
# A clock's reading is a float; a nanosecond is more than its rounding.
ROUNDING = 1e-9


class EarlySleep(Exception):
    """A sleep ended before its time, which no caller expects."""


def sleep_zero(context: Context) -> float:
    async def main() -> float:
        sleep = context.primitives.sleep
        started = time.perf_counter()
        for _ in range(context.count):
            await sleep(0)
        return time.perf_counter() - started

    return context.loop.run_until_complete(main())


def sleepers(context: Context) -> float:
    async def main() -> float:
        sleep, count = context.primitives.sleep, context.count
        create_task = context.loop.create_task
        started = time.perf_counter()
        tasks = [
            create_task(sleep(SHORTEST + SPREAD * ((index * 7919) % count) / count))
            for index in range(count)
        ]
        for task in tasks:
            await task
        return time.perf_counter() - started

    return context.loop.run_until_complete(main())


def overshoots(context: Context) -> list[float]:
    """By how many seconds each short sleep was too long."""
    return overshoots_of(context.primitives.sleep, NAP, context)


def overshoots_of(
    sleep: Callable[[float], Awaitable[object]], nap: float, context: Context
) -> list[float]:
    async def main() -> list[float]:
        found = []
        for _ in range(context.count):
            started = time.monotonic()
            await sleep(nap)
            found.append(time.monotonic() - started - nap)
        return found

    found = context.loop.run_until_complete(main())
    if min(found) < -ROUNDING:
        early = sum(1 for overshoot in found if overshoot < -ROUNDING)
        raise EarlySleep(
            f"{early} of {len(found)} sleeps ended early, one by {-min(found) * 1e6:.1f} us"
        )
    return found
