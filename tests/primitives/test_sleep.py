"""``tokioloop.sleep``: asyncio's, whichever loop runs."""

from __future__ import annotations

import asyncio
import gc
import math
import sys
import time
import weakref
from unittest import mock

import pytest


@pytest.mark.parametrize("delay", [0.001, 0, -1, True, 0.0, -0.0, float("-inf")])
@pytest.mark.parametrize("result", [None, "result", (), ValueError("a value, not raised")])
def test_it_gives_its_result(both, delay, result):
    both(lambda api: api.sleep(delay, result))


def test_it_never_ends_early(loop, native):
    async def main():
        for delay in (0.0005, 0.002, 0.01):
            started = loop.time()
            await native.sleep(delay)
            assert loop.time() >= started + delay

    loop.run_until_complete(main())


@pytest.mark.parametrize("delay", ["1", None, [], 1j, object])
def test_it_refuses_objects_that_are_no_number(both, delay):
    both(lambda api: api.sleep(delay))


def test_it_refuses_nan(loop, native):
    async def main():
        await native.sleep(math.nan)

    with pytest.raises(ValueError, match=r"^Invalid delay: NaN \(not a number\)$"):
        loop.run_until_complete(main())


def test_numbers_of_other_kinds_are_left_to_asyncio(both):
    class Delay:
        def __le__(self, other):
            return True

    both(lambda api: api.sleep(Delay(), "compared"))
    both(lambda api: api.sleep(10**400))


@pytest.mark.parametrize(
    "call", [lambda f: f(), lambda f: f(1, 2, 3), lambda f: f(1, delay=2), lambda f: f(1, when=2)]
)
def test_its_arguments_are_checked_when_it_is_called(both, call):
    async def script(api):
        with pytest.raises(TypeError) as caught:
            call(api.sleep)
        return str(caught.value).partition("(")[0]

    both(script)


def test_its_arguments_have_names(both):
    both(lambda api: api.sleep(result=3, delay=0))


def test_a_sleep_of_nothing_lets_the_others_run_once(both):
    async def script(api):
        order = []

        async def counting(name):
            for number in range(3):
                order.append((name, number))
                await api.sleep(0)

        await asyncio.gather(counting("a"), counting("b"))
        return order

    both(script)


def test_sleeps_end_in_the_order_of_their_deadlines(both):
    async def script(api):
        order = []

        async def one(delay):
            await api.sleep(delay)
            order.append(delay)

        await asyncio.gather(*map(one, (0.2, 0.1, 0.3, 0, 0.1)))
        return order

    assert both(script) == [0, 0.1, 0.1, 0.2, 0.3]


def test_it_runs_among_callbacks_in_the_order_of_asyncios(both):
    async def script(api):
        loop = asyncio.get_running_loop()
        order = []

        async def sleeper():
            await api.sleep(0.005)
            order.append("slept")

        task = asyncio.ensure_future(sleeper())
        await asyncio.sleep(0)
        loop.call_later(0.005, order.append, "timer")
        loop.call_later(0.005, loop.call_soon, order.append, "after the timer")
        time.sleep(0.01)  # all are due when the loop looks again
        await task
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        return order

    both(script)


def test_it_can_be_cancelled(both):
    async def script(api):
        outcomes = []
        for delay in (60, 0):
            task = asyncio.ensure_future(api.sleep(delay))
            await asyncio.sleep(0)
            task.cancel("enough")
            try:
                await task
            except asyncio.CancelledError as error:
                outcomes.append(error)
            outcomes.append(task.cancelled())
        return outcomes

    both(script)


def test_a_cancelled_sleep_leaves_no_timer_behind(loop, native):
    async def main():
        class Result:
            pass

        for _ in range(3):
            result = Result()
            gone = weakref.ref(result)
            task = asyncio.ensure_future(native.sleep(3600, result))
            del result
            await asyncio.sleep(0)
            task.cancel()
            await asyncio.wait([task])
            del task
            gc.collect()
            assert gone() is None

    loop.run_until_complete(main())


def test_many_cancelled_sleeps_are_thrown_out_of_the_heap(loop, native):
    import tokioloop

    async def main():
        for _ in range(40):
            tasks = [asyncio.ensure_future(native.sleep(3600)) for _ in range(100)]
            await asyncio.sleep(0)
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)
        gc.collect()
        return sum(type(o) is tokioloop._core.Sleep for o in gc.get_objects())

    assert loop.run_until_complete(main()) < 300


def test_its_future_can_be_set_or_cancelled_by_other_code(both):
    async def script(api):
        outcomes = []
        for name, args in (
            ("set_result", ("early",)),
            ("set_exception", (LookupError("x"),)),
            ("cancel", ()),
        ):
            task = asyncio.ensure_future(api.sleep(0.01, "late"))
            await asyncio.sleep(0)
            getattr(task._fut_waiter, name)(*args)
            try:
                outcomes.append(await task)
            except BaseException as error:
                outcomes.append(error)
            await asyncio.sleep(0.02)
        return outcomes

    both(script)


@pytest.mark.parametrize("wrap", ["wait_for", "shield", "create_task", "ensure_future", "group"])
def test_everything_that_takes_a_coroutine_takes_it(both, wrap):
    async def script(api):
        sleep = api.sleep(0.001, "slept")
        if wrap == "wait_for":
            return await asyncio.wait_for(sleep, 10)
        if wrap == "group":
            if sys.version_info < (3, 11):
                return await sleep
            async with asyncio.TaskGroup() as group:
                task = group.create_task(sleep, name="sleeper")
            return task.result(), task.get_name()
        return await getattr(asyncio, wrap)(sleep)

    both(script)


def test_a_time_out_ends_it(both):
    async def script(api):
        started = time.monotonic()
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(api.sleep(60), 0.01)
        assert time.monotonic() - started < 30

    both(script)


def test_one_that_is_never_awaited_warns(both):
    async def script(api):
        api.sleep(1)
        api.sleep(0)
        closed = api.sleep(1)
        closed.close()
        thrown = api.sleep(1)
        with pytest.raises(KeyError):
            thrown.throw(KeyError("x"))
        gc.collect()

    both(script)


@pytest.mark.native_only
def test_a_loop_with_overridden_methods_is_used_as_asyncio_uses_it(native):
    import tokioloop

    calls = []

    class Recording(tokioloop.Loop):
        def call_later(self, delay, callback, *args, context=None):
            calls.append(delay)
            return super().call_later(delay, callback, *args, context=context)

    loop = Recording()
    assert loop.run_until_complete(native.sleep(0.001, "slept")) == "slept"

    async def main():
        return await native.sleep(0.002, "slept again")

    assert loop.run_until_complete(main()) == "slept again"
    loop.close()
    assert calls == [0.001, 0.002]


@pytest.mark.native_only
def test_a_method_replaced_on_the_loop_is_called(loop, native):
    calls = []
    call_later = loop.call_later

    def recording(delay, *args, **options):
        calls.append(delay)
        return call_later(delay, *args, **options)

    async def main():
        with mock.patch.object(loop, "call_later", recording):
            await native.sleep(0.001)

    loop.run_until_complete(main())
    assert calls == [0.001]


@pytest.mark.native_only
def test_a_clock_of_the_loops_own_moves_it(loop, native):
    async def main():
        ahead = [0]
        with mock.patch.object(loop, "time", lambda: time.monotonic() + ahead[0]):
            task = asyncio.ensure_future(native.sleep(1000, "woken"))
            await asyncio.sleep(0)
            ahead[0] = 2000
            return await asyncio.wait_for(task, 1e6)

    assert loop.run_until_complete(main()) == "woken"


@pytest.mark.skipif(sys.version_info < (3, 12), reason="eager tasks are new in 3.12")
def test_an_eager_task_runs_it(both):
    async def script(api):
        loop = asyncio.get_running_loop()
        loop.set_task_factory(asyncio.eager_task_factory)
        tasks = [asyncio.create_task(api.sleep(delay, delay)) for delay in (0, 0.001)]
        return [task.done() for task in tasks], await asyncio.gather(*tasks)

    both(script)


def test_closing_the_loop_leaves_sleeps_alone(loop_factory, native):
    loop = loop_factory()
    task = loop.create_task(native.sleep(60))
    loop.run_until_complete(asyncio.sleep(0))
    task.cancel()
    loop.run_until_complete(asyncio.wait([task]))
    pending = loop.create_task(native.sleep(60))
    loop.run_until_complete(asyncio.sleep(0))
    pending._log_destroy_pending = False
    loop.close()
    del pending, task
    gc.collect()


@pytest.mark.skipif(sys.version_info < (3, 14), reason="call graphs are new in 3.14")
def test_call_graphs_can_be_captured(loop, native):
    async def outer():
        await native.sleep(60)

    async def main():
        task = asyncio.create_task(outer())
        await asyncio.sleep(0)
        assert "outer" in asyncio.format_call_graph(task)
        task.cancel()
        alone = asyncio.create_task(native.sleep(60))
        await asyncio.sleep(0)
        assert asyncio.format_call_graph(alone)
        alone.cancel()

    loop.run_until_complete(main())
