"""Objects, references and blocks of memory come back."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import sys
import threading

import pytest


async def give(value):
    return value


async def fail():
    raise LookupError


async def cancelled(task):
    await asyncio.sleep(0)
    task.cancel()
    await asyncio.wait([task])


async def sleeping(api, loop):
    await api.sleep(0)
    await api.sleep(1e-5)
    await api.sleep(0, ["a result"])
    await cancelled(asyncio.ensure_future(api.sleep(3600, {})))
    closed = api.sleep(1)
    closed.close()


async def gathering(api, loop):
    await api.gather(give([]), give({}))
    await api.gather(give(1), fail(), return_exceptions=True)
    with contextlib.suppress(LookupError):
        await api.gather(fail(), give(2), fail())
    await cancelled(api.gather(asyncio.sleep(3600), give(1)))
    coroutine = give(1)
    await api.gather(coroutine, coroutine)


async def submitting(api, loop):
    futures = []
    thread = threading.Thread(
        target=lambda: futures.extend(
            api.run_coroutine_threadsafe(coroutine, loop) for coroutine in (give([]), fail())
        )
    )
    thread.start()
    while thread.is_alive():
        await asyncio.sleep(0)
    thread.join()
    for future in futures:
        await asyncio.wait([asyncio.wrap_future(future)])
    assert isinstance(futures[1].exception(), LookupError)
    future = api.run_coroutine_threadsafe(asyncio.sleep(3600), loop)
    await asyncio.sleep(0)
    future.cancel()
    await asyncio.sleep(0)
    await asyncio.sleep(0)


async def creating(api, loop):
    await loop.create_task(give([]), name="named")
    await loop.create_task(give([]))


@pytest.fixture
def loop(loop):
    # What is reported is logged, and pytest keeps what is logged.
    loop.set_exception_handler(lambda loop, context: None)
    return loop


@pytest.mark.parametrize("work", [sleeping, gathering, submitting, creating])
def test_blocks_come_back(loop, native, work):
    async def main():
        async def rounds(count):
            for _ in range(count):
                await work(native, loop)
            gc.collect()
            return sys.getallocatedblocks()

        await rounds(30)
        before = await rounds(30)
        return await rounds(100) - before

    # One block a round would be 100; CPython's own caches breathe by a few.
    grown = loop.run_until_complete(main())
    # A leak shows each time: the message says so.
    assert grown < 60, [loop.run_until_complete(main()) for _ in range(3)]


@pytest.mark.parametrize("work", [sleeping, gathering, submitting, creating])
def test_references_come_back(loop, native, work):
    shared = [None, True, loop, type(loop), asyncio.Task, asyncio.Future]

    async def main():
        async def rounds(count):
            for _ in range(count):
                await work(native, loop)
            await asyncio.sleep(0)
            gc.collect()
            return [sys.getrefcount(thing) for thing in shared]

        await rounds(30)
        before = await rounds(30)
        after = await rounds(100)
        return [b - a for a, b in zip(before, after, strict=True)]

    for thing, more in zip(shared, loop.run_until_complete(main()), strict=True):
        assert more < 60, (thing, more)
