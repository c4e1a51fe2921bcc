"""Asynchronous generators: the loop finishes those that are dropped, or open at the shutdown."""

import asyncio
import contextlib
import gc
import sys
import weakref

import pytest

from support.iterations import run_one_iteration


def exit_now():
    raise SystemExit


def test_shutdown_asyncgens_finishes_generators_that_are_still_open(loop):
    closed = []

    async def generator():
        try:
            yield 1
            yield 2
        finally:
            await asyncio.sleep(0)
            closed.append("closed")

    async def main():
        gen = generator()
        assert await gen.__anext__() == 1
        return gen

    gen = loop.run_until_complete(main())
    assert closed == []
    loop.run_until_complete(loop.shutdown_asyncgens())
    assert closed == ["closed"]
    with pytest.raises(StopAsyncIteration):
        loop.run_until_complete(gen.__anext__())


def test_a_generator_that_is_dropped_is_finished_by_the_loop(loop):
    closed = []

    async def generator():
        try:
            yield 1
        finally:
            await asyncio.sleep(0)
            closed.append("closed")

    async def main():
        gen = generator()
        await gen.__anext__()
        del gen
        gc.collect()
        for _ in range(5):
            await asyncio.sleep(0)

    loop.run_until_complete(main())
    assert closed == ["closed"]


def test_a_generator_started_after_the_shutdown_is_reported(loop):
    async def generator():
        yield 1

    async def main():
        gen = generator()
        with pytest.warns(ResourceWarning, match="was scheduled after"):
            await gen.__anext__()
        await gen.aclose()

    loop.run_until_complete(loop.shutdown_asyncgens())
    loop.run_until_complete(main())


def test_only_open_generators_are_tracked(loop):
    async def generator():
        yield 1

    @contextlib.asynccontextmanager
    async def manager():
        yield 2

    async def main():
        kept = [generator() for _ in range(3)]
        for each in kept:
            await anext(each)
        async for _ in generator():
            pass
        async with manager():
            assert len(loop._asyncgens) == 4
        await kept[0].aclose()
        assert set(loop._asyncgens) == set(kept)
        loop._asyncgens.discard(kept[0])
        del kept[1:], each
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert list(loop._asyncgens) == []

    loop.run_until_complete(main())


def test_generators_are_noted_in_a_set_of_the_programs_own(loop):
    async def generator():
        yield 1

    async def main():
        loop._asyncgens = weakref.WeakSet()
        gen = generator()
        await anext(gen)
        assert list(loop._asyncgens) == [gen]
        await loop.shutdown_asyncgens()
        with pytest.raises(StopAsyncIteration):
            await anext(gen)

    loop.run_until_complete(main())


def test_the_generator_hooks_are_set_while_running_and_restored(loop):
    def firstiter(gen):
        pass

    before = sys.get_asyncgen_hooks()
    sys.set_asyncgen_hooks(firstiter=firstiter, finalizer=None)
    try:
        inside = []
        loop.call_soon(lambda: inside.append(sys.get_asyncgen_hooks()))
        run_one_iteration(loop)
        assert inside[0].firstiter is not firstiter
        assert inside[0].finalizer is not None
        assert sys.get_asyncgen_hooks() == (firstiter, None)
        loop.call_soon(exit_now)
        with contextlib.suppress(SystemExit):
            loop.run_forever()
        assert sys.get_asyncgen_hooks() == (firstiter, None)
    finally:
        sys.set_asyncgen_hooks(*before)
