"""Rows about the native primitives."""

from __future__ import annotations

import asyncio
import collections.abc
import inspect

import pytest

from compatibility.rows import row

pytestmark = pytest.mark.native_only(reason="looks at both loops already")


@row("The object that `tokioloop.sleep` gives")
def test_the_result_of_sleep(ours):
    import tokioloop

    async def look(make):
        sleep = make(60)
        task = asyncio.ensure_future(sleep)
        await asyncio.sleep(0)
        text = repr(task)
        task.cancel()
        assert asyncio.iscoroutine(sleep)
        assert isinstance(sleep, collections.abc.Coroutine)
        return inspect.iscoroutine(sleep), "coro=<sleep() running at " in text

    assert ours(lambda loop: look(asyncio.sleep)) == (True, True)
    assert ours(lambda loop: look(tokioloop.sleep)) == (False, False)


@row("The timer of a `tokioloop.sleep`")
def test_the_timer_of_a_sleep(ours):
    import tokioloop

    async def look(loop, make):
        task = asyncio.ensure_future(make(60))
        await asyncio.sleep(0)
        listed = len(loop._scheduled)
        task.cancel()
        return listed

    assert ours(lambda loop: look(loop, asyncio.sleep)) == 1
    assert ours(lambda loop: look(loop, tokioloop.sleep)) == 0
    # Overridden: tests/primitives/test_sleep.py.
