"""Rust futures that a call starts, whether or not they are awaited."""

from __future__ import annotations

import asyncio
import gc

import pytest


def test_it_starts_without_being_awaited(loops, extension, flag, eventually):
    async def main():
        extension.starts(0.001, flag)
        await eventually(lambda: flag.started == 1)
        # Nothing but its waker knows of it now.
        gc.collect()
        await eventually(lambda: flag.dropped)

    loops.run(main)


def test_it_is_an_asyncio_future(loops, extension, flag):
    async def main():
        future = extension.starts(0.001, flag)
        assert asyncio.isfuture(future)
        assert isinstance(future, asyncio.Future)
        done = []
        future.add_done_callback(done.append)
        assert await future == "done"
        # Once more: a future keeps its result.
        assert await future == "done"
        assert future.result() == "done"
        await asyncio.sleep(0)
        assert done == [future]
        assert flag.started == 1

    loops.run(main)


def test_cancelled_it_is_dropped(loops, extension, flag, eventually):
    async def main():
        future = extension.starts(3600, flag)
        await eventually(lambda: flag.started == 1)
        assert future.cancel()
        with pytest.raises(asyncio.CancelledError):
            await future
        await eventually(lambda: flag.dropped)

    loops.run(main)


def test_without_a_loop_it_is_refused(loops, extension, flag):
    with pytest.raises(RuntimeError, match="no running event loop"):
        extension.starts(0.001, flag)
    assert flag.started == 0


def test_a_task_factory_makes_the_task(inline, extension, flag):
    made = []

    def factory(loop, coro, **options):
        made.append(coro)
        return asyncio.Task(coro, loop=loop, **options)

    async def main():
        asyncio.get_running_loop().set_task_factory(factory)
        future = extension.starts(0.001, flag)
        assert len(made) == 1
        assert await future == "done"

    inline.run(main)
