"""Timers, callbacks or children of one loop, at one size, in a process of its own.

Run by ``benchmarks.growth.runner``, or by hand:
``python -m benchmarks.growth.operations uvloop timers 100000``. Prints a line of JSON: a value a
unit for each figure. The garbage collector stays on.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks import loops, system
from benchmarks.growth.scales import FEWEST_FOR_MEMORY
from benchmarks.micro.context import nothing
from benchmarks.micro.processes import CHILD

Found = dict[str, dict[str, float]]
PAGE = os.sysconf("SC_PAGE_SIZE")
# Far beyond the measurement.
NEVER = 3600.0
# Longer than any loop takes to set a timer, in seconds.
TO_SET = 4e-6
# Coprime to the sizes: goes through all of them out of order.
STRIDE = 7919


@dataclass
class Stopwatch:
    """Adds up spans, by the clock and in processor time."""

    clock: float = 0.0
    cpu: float = 0.0
    units: int = 0

    @contextmanager
    def span(self, units: int) -> Iterator[None]:
        clock, cpu = time.perf_counter(), time.process_time()
        yield
        self.clock += time.perf_counter() - clock
        self.cpu += time.process_time() - cpu
        self.units += units

    def each(self) -> dict[str, float]:
        return {"value": self.clock / self.units * 1e6, "cpu_us": self.cpu / self.units * 1e6}


@dataclass
class Memory:
    """What the first of several repetitions adds to this process."""

    before: int = field(default_factory=lambda: resident())
    each: float | None = None

    def look(self, units: int) -> None:
        if self.each is None:
            self.each = (resident() - self.before) / units

    def found(self, id: str, units: int) -> Found:
        if self.each is None or units < FEWEST_FOR_MEMORY:
            return {}
        return {id: {"value": self.each}}


def resident() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * PAGE


def turn(loop: asyncio.AbstractEventLoop) -> None:
    """Lets the loop do what it has put off."""
    loop.call_soon(loop.stop)
    loop.run_forever()


def timers(loop: asyncio.AbstractEventLoop, count: int, repeats: int) -> Found:
    setting, cancelling, firing = Stopwatch(), Stopwatch(), Stopwatch()
    handles: list[asyncio.TimerHandle | None] = [None] * count
    gc.collect()
    memory = Memory()
    for _ in range(repeats):
        with setting.span(count):
            for index in range(count):
                delay = NEVER + (index * STRIDE) % count
                handles[index] = loop.call_later(delay, nothing)
        memory.look(count)
        with cancelling.span(count):
            for handle in handles:
                if handle is not None:
                    handle.cancel()
            turn(loop)
        handles = [None] * count
        gc.collect()
        fire(loop, count, firing)
    return {
        "timers-set": setting.each(),
        **memory.found("timers-memory", count),
        "timers-cancel": cancelling.each(),
        "timers-fire": firing.each(),
    }


def fire(loop: asyncio.AbstractEventLoop, count: int, firing: Stopwatch) -> None:
    """Timers that are all due when the loop is let go."""
    left = count

    def fired() -> None:
        nonlocal left
        left -= 1
        if not left:
            loop.stop()

    # A timer of less than a millisecond is none on some loops.
    begin = loop.time() + max(count * TO_SET, 0.005)
    spread = count * 1e-7
    for index in range(count):
        loop.call_at(begin + spread * ((index * STRIDE) % count) / count, fired)
    # By a clock that goes on while the loop does not run.
    time.sleep(max(begin + spread - loop.time(), 0) + 0.002)
    with firing.span(count):
        loop.run_forever()


def callbacks(loop: asyncio.AbstractEventLoop, count: int, repeats: int) -> Found:
    running = Stopwatch()
    gc.collect()
    memory = Memory()
    for _ in range(repeats):
        with running.span(count):
            for _ in range(count):
                loop.call_soon(nothing)
        memory.look(count)
        with running.span(0):
            turn(loop)
    return {"callbacks-run": running.each(), **memory.found("callbacks-memory", count)}


def children(loop: asyncio.AbstractEventLoop, count: int, repeats: int) -> Found:
    async def one() -> None:
        child = await asyncio.create_subprocess_exec(CHILD)
        if await child.wait():
            raise SystemExit(f"{CHILD} failed")

    async def all_at_once() -> None:
        await asyncio.gather(*(one() for _ in range(count)))

    running = Stopwatch()
    for _ in range(repeats):
        with running.span(count):
            loop.run_until_complete(all_at_once())
    return {"children-each": running.each()}


OPERATIONS: dict[str, tuple[Callable[[asyncio.AbstractEventLoop, int, int], Found], int]] = {
    # With the units that are to be had in all: a small size is measured often.
    "timers": (timers, 100_000),
    "callbacks": (callbacks, 1_000_000),
    "children": (children, 200),
}


def main() -> None:
    parser = argparse.ArgumentParser(description="Measure one loop at one size.")
    parser.add_argument("loop")
    parser.add_argument("operation", choices=OPERATIONS)
    parser.add_argument("count", type=int)
    parser.add_argument("--core", type=int, help="the core to run on")
    args = parser.parse_args()

    system.tie_to_parent()
    system.raise_file_limit()
    if args.core is not None:
        system.pin_to_core(args.core)
    loop = loops.load(args.loop)()
    operation, units = OPERATIONS[args.operation]
    try:
        operation(loop, 10, 1)
        found = operation(loop, args.count, max(units // args.count, 1))
    finally:
        loop.close()
    print(json.dumps(found), flush=True)


if __name__ == "__main__":
    main()
