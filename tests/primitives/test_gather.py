"""``tokioloop.gather``: asyncio's, whichever loop runs and whatever is gathered."""

from __future__ import annotations

import asyncio
import gc
import warnings

import pytest

from primitives.scripts import caught, fail, give


@pytest.mark.parametrize("count", [0, 1, 2, 7, 300])
def test_results_come_in_the_order_of_the_arguments(both, count):
    async def script(api):
        return await api.gather(*(give(i, after=(i * 7) % 5) for i in range(count)))

    assert both(script) == list(range(count))


def test_children_run_in_the_order_of_the_arguments(both):
    async def script(api):
        order = []

        async def note(name):
            order.append(name)
            await asyncio.sleep(0)
            order.append(name)

        loop = asyncio.get_running_loop()
        loop.call_soon(order.append, "before")
        outer = api.gather(note("a"), note("b"))
        loop.call_soon(order.append, "after")
        outer.add_done_callback(lambda outer: order.append("outer"))
        await outer
        return order

    both(script)


def test_the_number_of_iterations_that_it_takes(both):
    async def script(api):
        iterations = []
        for make in (
            lambda: api.gather(),
            lambda: api.gather(give(1)),
            lambda: api.gather(give(1), give(2, after=3)),
        ):
            outer, count = make(), 0
            while not outer.done():
                await asyncio.sleep(0)
                count += 1
            iterations.append(count)
        return iterations

    both(script)


@pytest.mark.parametrize("return_exceptions", [False, True, 0, "yes"])
def test_exceptions(both, return_exceptions):
    async def script(api):
        outer = api.gather(
            give(1),
            fail(LookupError("second"), after=1),
            fail(OSError("third"), after=2),
            give(4, after=3),
            return_exceptions=return_exceptions,
        )
        outcome = await caught(outer)
        for _ in range(5):
            await asyncio.sleep(0)
        return outcome, outer.done(), outer.cancelled()

    both(script)


def test_exceptions_that_are_not_retrieved_are_not_reported(both):
    async def script(api):
        await caught(api.gather(fail(OSError("first")), fail(KeyError("second"), after=2)))
        for _ in range(5):
            await asyncio.sleep(0)
        gc.collect()

    both(script)


def test_a_failed_gather_that_is_not_awaited_is_reported(both):
    async def script(api):
        api.gather(fail(OSError("lost")))
        for _ in range(5):
            await asyncio.sleep(0)
        gc.collect()

    both(script)


@pytest.mark.parametrize("return_exceptions", [False, True])
@pytest.mark.parametrize("message", [None, "reason"])
def test_cancelling_it_cancels_the_children(both, return_exceptions, message):
    async def script(api):
        ends = []

        async def child(name):
            try:
                await asyncio.sleep(60)
            except asyncio.CancelledError as error:
                ends.append((name, error))
                raise

        outer = api.gather(child("a"), child("b"), give("c"), return_exceptions=return_exceptions)
        await asyncio.sleep(0)
        assert outer.cancel(*([message] if message else []))
        assert not outer.done()
        outcome = await caught(outer)
        return ends, outcome, outer.cancelled(), outer.cancel()

    both(script)


def test_children_that_ignore_it(both):
    async def script(api):
        async def stubborn():
            try:
                await asyncio.sleep(60)
            except asyncio.CancelledError:
                return "stayed"

        outer = api.gather(stubborn(), give(2, after=9), return_exceptions=True)
        await asyncio.sleep(0)
        outer.cancel()
        return await caught(outer)

    both(script)


@pytest.mark.parametrize("return_exceptions", [False, True])
def test_a_child_that_is_cancelled(both, return_exceptions):
    async def script(api):
        child = asyncio.ensure_future(asyncio.sleep(60))
        outer = api.gather(child, give(2, after=3), return_exceptions=return_exceptions)
        await asyncio.sleep(0)
        child.cancel("only it")
        return await caught(outer), outer.cancelled()

    both(script)


def test_the_awaiting_task_is_cancelled(both):
    async def script(api):
        async def parent():
            await api.gather(asyncio.sleep(60), asyncio.sleep(60))

        task = asyncio.ensure_future(parent())
        await asyncio.sleep(0)
        task.cancel()
        outcome = await caught(task)
        return outcome, len(asyncio.all_tasks())

    both(script)


def test_one_argument_given_twice_is_one_child(both):
    async def script(api):
        ran = []

        async def once(name):
            ran.append(name)
            return name

        a, future = once("a"), asyncio.get_running_loop().create_future()
        asyncio.get_running_loop().call_soon(future.set_result, "f")
        outcome = await api.gather(a, future, a, once("b"), future, a)
        return outcome, ran

    both(script)


@pytest.mark.parametrize("return_exceptions", [False, True])
def test_futures_that_are_done_already(both, return_exceptions):
    async def script(api):
        loop = asyncio.get_running_loop()
        outcomes = []
        for finish in (
            lambda f: f.set_result("r"),
            lambda f: f.set_exception(OSError("e")),
            lambda f: f.cancel("c"),
        ):
            for others in ((), (1,), (1, 2)):
                future = loop.create_future()
                finish(future)
                children = [give(other) for other in others]
                outer = api.gather(future, *children, return_exceptions=return_exceptions)
                outcomes.append(outer.done())
                outcomes.append(await caught(outer))
                for _ in range(3):
                    await asyncio.sleep(0)
        return outcomes

    both(script)


def test_gathers_of_gathers(both):
    async def script(api):
        inner = api.gather(give(1), give(2))
        return await api.gather(inner, api.gather(), api.gather(give(3), inner))

    both(script)


def test_sleeps_are_gathered(both):
    async def script(api):
        return await api.gather(*(api.sleep(i / 1000, i) for i in range(3)), api.sleep(0, "now"))

    both(script)


def test_awaitables_of_all_kinds(both):
    class Awaitable:
        def __await__(self):
            yield
            return "awaitable"

    class Future(asyncio.Future):
        pass

    async def script(api):
        special = Future()
        asyncio.get_running_loop().call_soon(special.set_result, "future")
        return await api.gather(Awaitable(), special, give("coroutine"), asyncio.sleep(0, "s"))

    both(script)


@pytest.mark.parametrize("wrong", [42, None, "text", give])
def test_an_argument_that_is_no_awaitable(both, wrong):
    async def script(api):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)
            coroutine = give(1)
            try:
                return await caught(api.gather(coroutine, wrong))
            except TypeError as error:
                return error
            finally:
                for task in asyncio.all_tasks() - {asyncio.current_task()}:
                    await task

    both(script)


def test_a_future_of_another_loop(both):
    async def script(api):
        other = asyncio.SelectorEventLoop()
        future = other.create_future()
        coroutine = give(1)
        try:
            api.gather(coroutine, future)
        except ValueError as error:
            return error
        finally:
            other.close()
            coroutine.close()
            for task in asyncio.all_tasks() - {asyncio.current_task()}:
                await caught(task)

    both(script)


@pytest.mark.parametrize("kind", [asyncio.Future, asyncio.Task])
def test_a_future_that_was_never_initialised(both, kind):
    """What comes before it runs, as it does on asyncio."""

    async def script(api):
        ran = []

        async def child():
            ran.append(1)

        try:
            api.gather(child(), kind.__new__(kind))
        except RuntimeError as error:
            await asyncio.sleep(0)
            return error, ran

    both(script)


def test_options_it_does_not_know(both):
    async def script(api):
        with pytest.raises(TypeError) as info:
            api.gather(return_exception=True)
        return info.value

    both(script)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_without_a_running_loop(native):
    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    try:
        for module in (asyncio, native):
            with warnings.catch_warnings(record=True) as caught_warnings:
                warnings.simplefilter("always")
                outer = module.gather(give(1), give(2))
            assert loop.run_until_complete(outer) == [1, 2]
            lines = [(w.category, w.filename) for w in caught_warnings]
            if module is asyncio:
                expected = lines
        assert lines == expected
    finally:
        asyncio.set_event_loop(None)
        loop.close()
