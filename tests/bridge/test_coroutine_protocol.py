"""Rust futures as coroutines: stepped by hand, awaited once, taken by the functions of asyncio."""

from __future__ import annotations

import asyncio
import collections.abc
import inspect

import pytest


def test_it_is_a_coroutine(inline, extension):
    async def main():
        future = extension.ready(1)
        assert isinstance(future, collections.abc.Coroutine)
        assert asyncio.iscoroutine(future)
        assert inspect.isawaitable(future)
        assert not asyncio.isfuture(future)
        assert not callable(future)
        assert future.__name__ == "ready"
        assert future.__qualname__ == "bridge_extension::basics::ready"
        assert repr(future).startswith("<coroutine object bridge_extension::basics::ready at 0x")
        future.close()

    inline.run(main)


def test_it_is_awaited_once(inline, extension):
    async def main():
        for after in (0, 1):
            future = extension.yields(after)
            await future
            with pytest.raises(RuntimeError, match="cannot reuse already awaited coroutine"):
                await future

    inline.run(main)


def test_it_is_awaited_by_one_at_a_time(inline, extension, flag):
    async def main():
        future = extension.never(flag)
        task = asyncio.create_task(future)
        await asyncio.sleep(0)
        with pytest.raises(RuntimeError, match="being awaited already"):
            await future
        task.cancel()

    inline.run(main)


def test_it_cannot_be_stepped_by_its_own_poll(inline, extension):
    async def main():
        def step_it():
            with pytest.raises(ValueError, match="already executing"):
                future.send(None)
            with pytest.raises(ValueError, match="already executing"):
                future.throw(KeyError)
            with pytest.raises(ValueError, match="already executing"):
                future.close()
            return "stepped"

        future = extension.calls(step_it, 0)
        return await future

    assert inline.run(main) == "stepped"


def test_a_value_sent_to_a_new_one_is_refused(inline, extension):
    future = extension.ready(1)
    with pytest.raises(TypeError, match="can't send non-None value"):
        future.send(1)
    future.close()


def test_without_a_loop_it_cannot_be_stepped(extension):
    future = extension.ready(1)
    with pytest.raises(RuntimeError, match="no running event loop"):
        future.send(None)


def test_stepped_by_hand_it_stops_with_its_value(inline, extension):
    async def main():
        future = extension.yields(1)
        assert future.send(None) is None
        with pytest.raises(StopIteration) as stop:
            future.send(None)
        assert stop.value.value == 1
        with pytest.raises(StopIteration):
            next(extension.ready(None))

    inline.run(main)


def test_a_tuple_is_a_value_like_others(loops, extension):
    async def main():
        return await extension.ready((1, 2)), await extension.ready(StopIteration(3))

    pair, stop = loops.run(main)
    assert pair == (1, 2)
    assert stop.value == 3


@pytest.mark.parametrize(
    ("args", "kind", "text"),
    [
        ((KeyError("x"),), KeyError, "x"),
        ((KeyError,), KeyError, "^$"),
        ((KeyError, "y"), KeyError, "y"),
        ((KeyError, ("y", "z")), KeyError, "z"),
        ((KeyError, KeyError("w")), KeyError, "w"),
        ((KeyError("x"), "y"), TypeError, "separate value"),
        ((3,), TypeError, "exceptions must be"),
        ((), TypeError, "at least 1 argument"),
    ],
)
def test_throw_takes_the_arguments_of_a_coroutines(inline, extension, flag, args, kind, text):
    async def main():
        future = extension.never(flag)
        with pytest.raises(kind, match=text):
            future.throw(*args)
        # A call without any argument never reaches it, as it never reaches a coroutine.
        assert flag.dropped is bool(args)
        future.close()

    inline.run(main)


def test_asyncios_own_functions_take_it(loops, extension):
    async def main():
        results = await asyncio.gather(*(extension.yields(times) for times in range(20)))
        assert results == list(range(20))
        assert await asyncio.wait_for(extension.yields(3), 10) == 3
        assert await asyncio.shield(extension.yields(4)) == 4
        done, pending = await asyncio.wait([asyncio.ensure_future(extension.sleeps(0.001))])
        assert not pending
        assert {task.result() for task in done} == {"rested"}
        return [await first for first in asyncio.as_completed([extension.yields(5)])]

    assert loops.run(main) == [5]


def test_tasks_and_task_groups_take_it(inline, extension):
    async def main():
        task = asyncio.create_task(extension.yields(2), name="rust")
        assert await task == 2
        if hasattr(asyncio, "TaskGroup"):
            async with asyncio.TaskGroup() as group:
                tasks = [group.create_task(extension.sleeps(0.001)) for _ in range(10)]
            assert {task.result() for task in tasks} == {"rested"}

    inline.run(main)


def test_an_eager_task_factory(inline, extension):
    async def main():
        loop = asyncio.get_running_loop()
        loop.set_task_factory(getattr(asyncio, "eager_task_factory", None))
        channel = extension.Oneshot()
        tasks = [
            loop.create_task(future)
            for future in (extension.ready(1), extension.yields(2), channel.receive())
        ]
        channel.send(3)
        return [await task for task in tasks]

    assert inline.run(main) == [1, 2, 3]
