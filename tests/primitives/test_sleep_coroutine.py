"""``tokioloop.sleep`` as a coroutine: stepped by hand, awaited twice, on another loop."""

from __future__ import annotations

import asyncio
import collections.abc
import copy
import inspect
import itertools
import math
import pickle
import sys
import sysconfig
from unittest import mock

import pytest


def test_it_is_a_coroutine_by_hand_too(both):
    async def script(api):
        seen = []

        def note(what, *args):
            try:
                seen.append(what(*args))
            except BaseException as error:
                seen.append(error)

        bare = api.sleep(0, "done")
        note(bare.send, 1)
        note(bare.send, None)
        note(bare.send, None)
        note(bare.send, None)
        note(bare.throw, KeyError("late"))
        note(bare.close)
        waiting = api.sleep(60)
        future = waiting.send(None)
        seen.append(asyncio.isfuture(future))
        note(waiting.send, None)
        for stop in (
            lambda c: c.close(),
            lambda c: c.throw(KeyError("x")),
            lambda c: c.throw(KeyError),
        ):
            for delay in (0, 60):
                stopped = api.sleep(delay)
                stopped.send(None)
                note(stop, stopped)
                note(stopped.send, None)
        return seen

    both(script)


def test_it_cannot_be_awaited_by_two(both):
    async def script(api):
        sleep = api.sleep(0.01, "once")

        async def wait():
            return await sleep

        return await asyncio.gather(wait(), wait(), return_exceptions=True)

    both(script)


def test_inspection_takes_it_for_a_coroutine(loop, native):
    async def main():
        sleep = native.sleep(0)
        assert isinstance(sleep, collections.abc.Coroutine)
        assert asyncio.iscoroutine(sleep)
        assert inspect.isawaitable(sleep)
        assert sleep.__name__ == sleep.__qualname__ == "sleep"
        assert repr(sleep).startswith("<coroutine object sleep at 0x")
        assert not sleep.cr_suspended
        sleep.send(None)
        assert sleep.cr_suspended
        assert not sleep.cr_running
        assert sleep.cr_origin is None
        sleep.close()

    loop.run_until_complete(main())


def test_the_repr_of_a_task_shows_its_sleep(loop, native):
    async def main():
        task = asyncio.ensure_future(native.sleep(60))
        await asyncio.sleep(0)
        text = repr(task)
        assert "coro=<sleep()>" in text
        assert "wait_for=<Future pending cb=[Task.task_wakeup()]>" in text or (
            "wait_for=<Future pending cb=[" in text
        )
        assert task.get_stack() == []
        task.cancel()

    loop.run_until_complete(main())


def test_the_function_passes_for_asyncios(native):
    assert inspect.signature(native.sleep) == inspect.signature(asyncio.sleep)
    assert native.sleep.__name__ == native.sleep.__qualname__ == "sleep"
    assert pickle.loads(pickle.dumps(native.sleep)) is native.sleep
    assert copy.deepcopy(native.sleep) is native.sleep
    if sys.version_info < (3, 14):
        assert asyncio.iscoroutinefunction(native.sleep)
    if sys.version_info >= (3, 12):
        assert inspect.iscoroutinefunction(native.sleep)
    with mock.patch("tokioloop.sleep") as patched:
        assert isinstance(patched, mock.AsyncMock)


def test_on_another_loop_it_is_asyncios(native):
    async def main():
        sleep = native.sleep(0, "there")
        assert inspect.iscoroutine(sleep)
        return await sleep

    loop = asyncio.SelectorEventLoop()
    assert loop.run_until_complete(main()) == "there"
    loop.close()


def test_one_made_on_this_loop_can_be_awaited_on_another(loop, native):
    async def make():
        return native.sleep(0.001, "elsewhere"), native.sleep(0, "at once")

    async def wait(sleeps):
        return [await sleep for sleep in sleeps]

    sleeps = loop.run_until_complete(make())
    other = asyncio.SelectorEventLoop()
    assert other.run_until_complete(wait(sleeps)) == ["elsewhere", "at once"]
    other.close()


class Thrown(Exception):
    pass


#: What is done to a coroutine by hand.
DONE_BY_HAND = {
    "send": lambda coro: coro.send(None),
    "send 5": lambda coro: coro.send(5),
    "throw": lambda coro: coro.throw(Thrown("thrown")),
    "throw a class": lambda coro: coro.throw(Thrown),
    "throw a number": lambda coro: coro.throw(5),
    "throw StopIteration": lambda coro: coro.throw(StopIteration(3)),
    "throw GeneratorExit": lambda coro: coro.throw(GeneratorExit),
    "throw with a value": lambda coro: coro.throw(Thrown("thrown"), "value"),
    "throw with no traceback": lambda coro: coro.throw(Thrown, None, 5),
    "throw nothing": lambda coro: coro.throw(),
    "close": lambda coro: coro.close(),
}
if sys.version_info >= (3, 12) and (
    sysconfig.get_config_var("Py_DEBUG")
    or "--with-assertions" in (sysconfig.get_config_var("CONFIG_ARGS") or "")
):
    # An assertion of CPython's ends the process where its own coroutine has not begun.
    del DONE_BY_HAND["throw StopIteration"]


def outcome(what, coro):
    try:
        result = what(coro)
    except BaseException as error:
        return type(error), str(error), getattr(error, "value", None), error.args
    return asyncio.isfuture(result) or result


@pytest.mark.filterwarnings("ignore:the .* signature of throw.. is deprecated:DeprecationWarning")
@pytest.mark.parametrize("args", [(0,), (0, "r"), (0, (1, 2)), (30, "r"), (math.nan,)], ids=repr)
def test_stepped_by_hand_it_behaves_like_asyncios(loop, native, args):
    """In any order, before, while and after it sleeps."""

    async def main():
        for names in itertools.product(DONE_BY_HAND, repeat=3):
            outcomes = []
            for sleep in (asyncio.sleep, native.sleep):
                coro = sleep(*args)
                outcomes.append([outcome(DONE_BY_HAND[name], coro) for name in names])
                coro.close()
            assert outcomes[0] == outcomes[1], names

    loop.run_until_complete(main())


def test_a_step_inside_of_a_step_is_refused(loop, native, monkeypatch):
    """The clock is Python code, which may know the sleep."""
    now, seen, coro = loop.time, [], None

    def clock():
        if coro is not None and not seen:
            seen.append(coro.cr_running)
            for name in ("send", "throw", "close"):
                seen.append(outcome(DONE_BY_HAND[name], coro)[:2])
        return now()

    async def main():
        nonlocal coro
        monkeypatch.setattr(loop, "time", clock)
        coro = native.sleep(0.001, "slept")
        return await coro

    assert loop.run_until_complete(main()) == "slept"
    assert seen == [True, *[(ValueError, "coroutine already executing")] * 3]
    assert coro.cr_running is False
