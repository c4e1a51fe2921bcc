"""Other threads and the loop."""

from __future__ import annotations

import threading
import time

from benchmarks.micro.context import Context, nothing, trivial
from benchmarks.micro.tasks import timed

FLOODERS = 4


def flood(context: Context) -> float:
    """Several threads schedule as fast as they can; the last call stops the loop."""
    loop = context.loop
    each = -(-context.count // FLOODERS)
    left = FLOODERS

    def last() -> None:
        nonlocal left
        left -= 1
        if not left:
            loop.stop()

    def schedule() -> None:
        for _ in range(each - 1):
            loop.call_soon_threadsafe(nothing)
        loop.call_soon_threadsafe(last)

    threads = [threading.Thread(target=schedule) for _ in range(FLOODERS)]
    started = time.perf_counter()
    for thread in threads:
        thread.start()
    loop.run_forever()
    seconds = time.perf_counter() - started
    for thread in threads:
        thread.join()
    return seconds


def round_trip(context: Context) -> float:
    """Another thread has the loop run a coroutine, and waits for its result."""
    loop = context.loop
    submit = context.primitives.run_coroutine_threadsafe
    seconds = 0.0
    failure: BaseException | None = None

    def ask() -> None:
        nonlocal seconds, failure
        try:
            started = time.perf_counter()
            for _ in range(context.count):
                submit(trivial(), loop).result()
            seconds = time.perf_counter() - started
        except BaseException as error:
            failure = error
        loop.call_soon_threadsafe(loop.stop)

    thread = threading.Thread(target=ask)
    thread.start()
    loop.run_forever()
    thread.join()
    if failure is not None:
        raise failure
    return seconds


@timed
async def executor(context: Context) -> None:
    loop = context.loop
    for _ in range(context.count):
        await loop.run_in_executor(None, nothing)
