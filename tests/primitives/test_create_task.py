"""``loop.create_task``: asyncio's own, whatever it is given."""

from __future__ import annotations

import asyncio
import contextvars
import gc
import os
import subprocess
import sys
from pathlib import Path
from unittest import mock

import pytest

from primitives.outcomes import plain
from support.rewriting import rewritten

pytestmark = pytest.mark.native_only
VALUE = contextvars.ContextVar("VALUE", default="default")


async def answer(value=42):
    return value


@pytest.fixture(autouse=True)
def nothing_is_left():
    """A coroutine that cannot be awaited warns here, not in another test."""
    yield
    gc.collect()


@pytest.fixture
def both_loops():
    """``both_loops(script)``: the same from ``script(loop)`` on asyncio's loop and on ours."""
    import tokioloop

    def run(script, factory):
        loop = factory()
        try:
            outcome = script(loop)
        except Exception as error:
            outcome = error
        finally:
            loop.close()
        return plain(outcome)

    def both_loops(script):
        theirs, ours = run(script, asyncio.SelectorEventLoop), run(script, tokioloop.Loop)
        assert ours == theirs
        return ours

    return both_loops


def test_it_makes_cpythons_own_task(loop):
    task = loop.create_task(answer())
    assert type(task) is asyncio.Task
    assert task.get_loop() is loop
    assert loop.run_until_complete(task) == 42


def test_tasks_are_numbered_with_all_others(loop):
    async def main():
        first = loop.create_task(answer())
        second = asyncio.Task(answer())
        third = asyncio.ensure_future(answer())
        numbers = [int(task.get_name().partition("-")[2]) for task in (first, second, third)]
        await asyncio.wait([first, second, third])
        return numbers

    first, second, third = loop.run_until_complete(main())
    assert (second, third) == (first + 1, first + 2)


@pytest.mark.parametrize("name", ["named", None, 7])
def test_names(both_loops, name):
    def script(loop):
        task = loop.create_task(answer(), name=name)
        loop.run_until_complete(task)
        return task.get_name()

    both_loops(script)


@pytest.mark.skipif(sys.version_info < (3, 11), reason="context= is new in 3.11")
def test_contexts(both_loops):
    async def change():
        before = VALUE.get()
        VALUE.set("changed")
        return before

    def script(loop):
        context = contextvars.copy_context()
        context.run(VALUE.set, "given")
        task = loop.create_task(change(), name="n", context=context)
        default = loop.create_task(change(), context=None)
        outcome = loop.run_until_complete(task), loop.run_until_complete(default)
        return outcome, context[VALUE], VALUE.get()

    both_loops(script)


@pytest.mark.parametrize(
    "call",
    [
        lambda loop, coro: loop.create_task(),
        lambda loop, coro: loop.create_task(coro, "name"),
        lambda loop, coro: loop.create_task(coro, unknown=1),
        lambda loop, coro: loop.create_task(42),
        lambda loop, coro: loop.create_task(None, name="x"),
        lambda loop, coro: loop.create_task(answer),
    ],
)
@pytest.mark.filterwarnings("ignore:coroutine .* was never awaited:RuntimeWarning")
def test_errors_are_those_of_asyncio(both_loops, call):
    def script(loop):
        coro = answer()
        try:
            task = call(loop, coro)
            return loop.run_until_complete(task)
        finally:
            coro.close()

    both_loops(script)


@pytest.mark.filterwarnings("ignore:coroutine .* was never awaited:RuntimeWarning")
def test_a_closed_loop_refuses(both_loops):
    def script(loop):
        loop.close()
        loop.create_task(answer())

    both_loops(script)


def test_a_task_factory_is_called(both_loops):
    def script(loop):
        calls = []

        def factory(loop, coro, **options):
            calls.append(sorted(options))
            return asyncio.Task(coro, loop=loop, **options)

        loop.set_task_factory(factory)
        named = loop.create_task(answer(), name="named")
        outcome = [loop.run_until_complete(named), named.get_name()]
        loop.set_task_factory(None)
        loop.run_until_complete(loop.create_task(answer()))
        return outcome, calls

    both_loops(script)


@pytest.mark.skipif(sys.version_info < (3, 12), reason="eager tasks are new in 3.12")
def test_the_eager_task_factory_is_called(both_loops):
    def script(loop):
        async def main():
            return loop.create_task(answer()).done()

        loop.set_task_factory(asyncio.eager_task_factory)
        return loop.run_until_complete(main())

    assert both_loops(script) is True


@pytest.mark.skipif(sys.version_info < (3, 14), reason="eager_start= is new in 3.14")
def test_eager_start(both_loops):
    def script(loop):
        async def main():
            eager, lazy = (loop.create_task(answer(), eager_start=e) for e in (True, False))
            return eager.done(), lazy.done(), await lazy

        return loop.run_until_complete(main())

    assert both_loops(script) == [True, False, 42]


def test_debug_mode_keeps_where_it_was_made(both_loops):
    def script(loop):
        loop.set_debug(True)
        task = loop.create_task(answer())
        made_at = task._source_traceback[-1].name
        loop.run_until_complete(task)
        return made_at

    assert both_loops(script) == "script"


def test_another_task_class_in_asyncios_place_is_used(both_loops):
    def script(loop):
        class Special(asyncio.Task):
            pass

        with mock.patch("asyncio.tasks.Task", Special):
            task = loop.create_task(answer())
        loop.run_until_complete(task)
        return type(task).__name__

    assert both_loops(script) == "Special"


def test_a_wrapper_of_asyncios_method_is_called(both_loops):
    original = asyncio.BaseEventLoop.create_task

    def script(loop):
        calls = []

        def wrapper(self, coro, **options):
            calls.append(self is loop)
            return original(self, coro, **options)

        with mock.patch.object(asyncio.BaseEventLoop, "create_task", wrapper):
            loop.run_until_complete(loop.create_task(answer()))
        loop.run_until_complete(loop.create_task(answer()))
        return calls

    assert both_loops(script) == [True]


def test_a_wrapper_inside_of_asyncios_method_is_called(both_loops):
    def script(loop):
        calls = []

        def wrapper(original, self, coro, **options):
            calls.append(self is loop)
            return original(self, coro, **options)

        async def main():
            await asyncio.gather(answer(), answer())

        loop.run_until_complete(main())
        with rewritten(asyncio.BaseEventLoop.create_task, wrapper):
            loop.run_until_complete(main())
        loop.run_until_complete(main())
        return calls

    assert both_loops(script) == [True] * 3


def test_the_native_gather_calls_a_wrapper_inside_of_asyncios_method(loop):
    import tokioloop

    names = []

    def wrapper(original, self, coro, **options):
        names.append(coro.__name__)
        return original(self, coro, **options)

    async def main():
        return await tokioloop.gather(answer(1), answer(2))

    assert loop.run_until_complete(main()) == [1, 2]
    with rewritten(asyncio.BaseEventLoop.create_task, wrapper):
        assert loop.run_until_complete(main()) == [1, 2]
    assert names == ["main", "answer", "answer"]


@pytest.mark.parametrize("inside", [False, True], ids=["replaced", "rewritten"])
def test_a_wrapper_that_was_there_before_the_package_is_called(inside):
    program = f"""
import asyncio, sys
from support.rewriting import rewritten

calls = []
method = asyncio.BaseEventLoop.create_task

def wrapper(original, self, coro, **options):
    calls.append(coro.__name__)
    return original(self, coro, **options)

if {inside}:
    context = rewritten(method, wrapper)
    context.__enter__()
else:
    def replacement(*args, **options):
        return wrapper(method, *args, **options)
    asyncio.BaseEventLoop.create_task = replacement

import tokioloop

async def child():
    pass

async def main():
    await asyncio.create_task(child())

tokioloop.run(main())
print(*calls)
"""
    command = [sys.executable, "-c", program]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parent.parent)}
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, env=environment)
    assert done.stdout.startswith("main child "), done.stderr


def test_a_subclass_may_override_it():
    import tokioloop

    made = []

    class Recording(tokioloop.Loop):
        def create_task(self, coro, **options):
            task = super().create_task(coro, **options)
            made.append(task)
            return task

    loop = Recording()

    async def main():
        return await tokioloop.gather(answer(1), answer(2))

    assert loop.run_until_complete(main()) == [1, 2]
    assert len(made) == 3
    loop.close()


def test_from_a_thread_where_another_loop_runs_it_is_put_on_its_own(loop):
    other = asyncio.SelectorEventLoop()

    async def outside():
        return loop.create_task(answer("its own"))

    task = other.run_until_complete(outside())
    other.close()
    assert task.get_loop() is loop
    assert loop.run_until_complete(task) == "its own"
