"""Times one operation of one loop, in a process of its own; prints microseconds per operation.

Run by ``benchmarks.runner``, or by hand: ``python -m benchmarks.micro uvloop sleep-zero 200000``.
The garbage collector stays on, as it is in the programs that use a loop.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import statistics
import time
from collections.abc import Callable

from benchmarks import loops, system

Loop = asyncio.AbstractEventLoop


def nothing(*args: object) -> None:
    pass


def call_soon_batch(loop: Loop, count: int) -> float:
    started = time.perf_counter()
    for _ in range(count):
        loop.call_soon(nothing)
    loop.call_soon(loop.stop)
    loop.run_forever()
    return time.perf_counter() - started


def call_soon_args(loop: Loop, count: int) -> float:
    started = time.perf_counter()
    for _ in range(count):
        loop.call_soon(nothing, loop, 1, "two")
    loop.call_soon(loop.stop)
    loop.run_forever()
    return time.perf_counter() - started


def call_soon_chain(loop: Loop, count: int) -> float:
    left = count

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


def call_later_cancel(loop: Loop, count: int) -> float:
    """Timeouts that never happen: the usual fate of a timer."""

    async def main() -> float:
        started = time.perf_counter()
        for _ in range(count):
            loop.call_later(60, nothing).cancel()
        return time.perf_counter() - started

    return loop.run_until_complete(main())


def timers_firing(loop: Loop, count: int) -> float:
    """Timers so close together that they are due by the time the last one is set."""
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


def sleep_zero(loop: Loop, count: int) -> float:
    async def main() -> float:
        sleep = asyncio.sleep
        started = time.perf_counter()
        for _ in range(count):
            await sleep(0)
        return time.perf_counter() - started

    return loop.run_until_complete(main())


OPERATIONS: dict[str, Callable[[Loop, int], float]] = {
    "call-soon-batch": call_soon_batch,
    "call-soon-chain": call_soon_chain,
    "call-soon-args": call_soon_args,
    "call-later-cancel": call_later_cancel,
    "timers-firing": timers_firing,
    "sleep-zero": sleep_zero,
}


def main() -> None:
    parser = argparse.ArgumentParser(description="Time one operation of one loop.")
    parser.add_argument("loop")
    parser.add_argument("operation", choices=OPERATIONS)
    parser.add_argument("count", type=int)
    parser.add_argument("--repeats", type=int, default=3, help="the median of these is printed")
    parser.add_argument("--core", type=int, help="the core to run on")
    args = parser.parse_args()

    system.tie_to_parent()
    if args.core is not None:
        system.pin_to_core(args.core)
    loop = loops.load(args.loop)()
    operation = OPERATIONS[args.operation]
    try:
        operation(loop, max(args.count // 10, 1))
        gc.collect()
        times = [operation(loop, args.count) for _ in range(args.repeats)]
    finally:
        loop.close()
    print(statistics.median(times) / args.count * 1e6)


if __name__ == "__main__":
    main()
