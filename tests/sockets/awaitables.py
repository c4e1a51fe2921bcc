"""Awaitables of which the test expects that they wait, or that they do not."""

from __future__ import annotations

import asyncio


def at_once(awaitable):
    """The result of an awaitable that must not wait at all."""
    try:
        next(awaitable.__await__())
    except StopIteration as stop:
        return stop.value
    raise AssertionError("it waited although it could have been done at once")


async def waiting(awaitable):
    """A task for ``awaitable`` that has had time to begin waiting."""
    task = asyncio.ensure_future(awaitable)
    for _ in range(3):
        await asyncio.sleep(0.001)
    assert not task.done()
    return task
