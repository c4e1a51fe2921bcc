"""``tokioloop.run_coroutine_threadsafe``: asyncio's, for whichever loop."""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextvars
import gc
import threading
import warnings
import weakref

import pytest

VALUE = contextvars.ContextVar("VALUE", default="default")


async def give(value):
    await asyncio.sleep(0)
    return value


async def fail(error):
    raise error


@pytest.fixture
def from_thread(both):
    """``both``, with the script's ``work(api, loop)`` called in another thread."""

    def run(work):
        async def script(api):
            loop = asyncio.get_running_loop()
            outcome = await loop.run_in_executor(None, work, api, loop)
            # What was cancelled ends before the loop does.
            await asyncio.sleep(0.01)
            return outcome, len(asyncio.all_tasks())

        return both(script)

    return run


def outcome_of(future):
    try:
        return future.result(10)
    except BaseException as error:
        return error


def test_results_and_exceptions_come_back(from_thread):
    def work(api, loop):
        futures = [
            api.run_coroutine_threadsafe(coro, loop)
            for coro in (give(1), fail(LookupError("x")), fail(asyncio.CancelledError("c")))
        ]
        return [outcome_of(future) for future in futures]

    from_thread(work)


def test_the_future_is_concurrents_own(from_thread):
    def work(api, loop):
        future = api.run_coroutine_threadsafe(give(1), loop)
        done, pending = concurrent.futures.wait([future], timeout=10)
        called = []
        future.add_done_callback(called.append)
        return (
            isinstance(future, concurrent.futures.Future),
            type(future).__name__,
            len(done),
            len(pending),
            called == [future],
            [f.result() for f in concurrent.futures.as_completed([future], timeout=10)],
        )

    from_thread(work)


def test_exceptions_of_the_other_kind_are_translated(from_thread):
    def work(api, loop):
        kinds = (concurrent.futures.InvalidStateError, concurrent.futures.CancelledError)
        futures = [api.run_coroutine_threadsafe(fail(kind("text")), loop) for kind in kinds]
        return [outcome_of(future) for future in futures]

    from_thread(work)


def test_cancelling_the_future_cancels_the_task(from_thread):
    def work(api, loop):
        started, ended = threading.Event(), threading.Event()

        async def wait():
            started.set()
            try:
                await asyncio.sleep(60)
            finally:
                ended.set()

        future = api.run_coroutine_threadsafe(wait(), loop)
        assert started.wait(10)
        cancelled = future.cancel()
        return cancelled, future.cancelled(), ended.wait(10), outcome_of(future)

    from_thread(work)


def test_a_future_that_is_cancelled_before_the_loop_came_to_it(both):
    async def script(api):
        ran = []

        async def note():
            ran.append(True)
            await asyncio.sleep(60)

        future = api.run_coroutine_threadsafe(note(), asyncio.get_running_loop())
        cancelled = future.cancel()
        for _ in range(5):
            await asyncio.sleep(0)
        return cancelled, future.cancelled(), ran, len(asyncio.all_tasks())

    both(script)


def test_it_is_cancelled_in_the_loops_own_thread(both):
    async def script(api):
        future = api.run_coroutine_threadsafe(asyncio.sleep(60), asyncio.get_running_loop())
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        future.cancel()
        iterations = 0
        while len(asyncio.all_tasks()) > 1:
            await asyncio.sleep(0)
            iterations += 1
        return iterations, future.cancelled()

    both(script)


def test_a_task_that_is_cancelled_cancels_the_future(both):
    async def script(api):
        future = api.run_coroutine_threadsafe(asyncio.sleep(60), asyncio.get_running_loop())
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        (task,) = asyncio.all_tasks() - {asyncio.current_task()}
        task.cancel()
        await asyncio.wait([task])
        await asyncio.sleep(0)
        return future.cancelled(), outcome_of(future)

    both(script)


@pytest.mark.parametrize("wrong", [42, None, give])
def test_it_wants_a_coroutine(both, wrong):
    async def script(api):
        api.run_coroutine_threadsafe(wrong, asyncio.get_running_loop())

    both(script)


def test_its_arguments_have_names(from_thread):
    def work(api, loop):
        return outcome_of(api.run_coroutine_threadsafe(loop=loop, coro=give(5)))

    from_thread(work)


def test_a_closed_loop_refuses(both, loop_factory):
    closed = loop_factory()
    closed.close()

    async def script(api):
        coroutine = give(1)
        try:
            api.run_coroutine_threadsafe(coroutine, closed)
        finally:
            coroutine.close()

    both(script)


def test_the_callers_context_is_the_tasks(from_thread):
    def work(api, loop):
        async def look():
            return VALUE.get()

        def call():
            VALUE.set("the caller's")
            return outcome_of(api.run_coroutine_threadsafe(look(), loop))

        return contextvars.copy_context().run(call)

    assert from_thread(work)[0] == "the caller's"


def test_a_task_factory_that_raises_reaches_both_sides(from_thread):
    def work(api, loop):
        def factory(loop, coro, **options):
            coro.close()
            raise NameError("corrupted")

        loop.call_soon_threadsafe(loop.set_task_factory, factory)
        outcome = outcome_of(api.run_coroutine_threadsafe(give(1), loop))
        loop.call_soon_threadsafe(loop.set_task_factory, None)
        return outcome

    outcome = from_thread(work)
    assert outcome[0][0] is NameError


def test_the_repr_of_the_task(both):
    async def script(api):
        future = api.run_coroutine_threadsafe(asyncio.sleep(60), asyncio.get_running_loop())
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        (task,) = asyncio.all_tasks() - {asyncio.current_task()}
        shown = repr(task).partition("cb=")[2] if not task.get_loop().get_debug() else None
        task.cancel()
        await asyncio.wait([task])
        return shown, future.running()

    both(script)


def test_many_threads_at_once(loop, native):
    def work():
        return [native.run_coroutine_threadsafe(give(i), loop).result(10) for i in range(200)]

    async def main():
        return await asyncio.gather(*(loop.run_in_executor(None, work) for _ in range(4)))

    assert loop.run_until_complete(main()) == [list(range(200))] * 4


def test_nothing_is_kept(loop, native):
    class Value:
        pass

    async def main():
        value = Value()
        gone = weakref.ref(value)
        future = native.run_coroutine_threadsafe(give(value), loop)
        await asyncio.wrap_future(future)
        del value, future
        await asyncio.sleep(0)  # the step that woke this task has its future in hand
        gc.collect()
        assert gone() is None

    loop.run_until_complete(main())


def test_for_another_loop_it_is_asyncios(native):
    async def main():
        loop = asyncio.get_running_loop()

        def work():
            with warnings.catch_warnings():
                return native.run_coroutine_threadsafe(give(3), loop).result(10)

        return await loop.run_in_executor(None, work)

    loop = asyncio.SelectorEventLoop()
    assert loop.run_until_complete(main()) == 3
    loop.run_until_complete(loop.shutdown_default_executor())
    loop.close()
