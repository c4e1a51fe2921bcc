"""Rust futures awaited by Python: results, errors, panics, waking."""

from __future__ import annotations

import asyncio
import collections.abc
import contextvars
import inspect
import sys
import threading
import traceback

import pytest


def test_a_ready_future_gives_its_value(loops, extension):
    value = object()

    async def main():
        return await extension.ready(value)

    assert loops.run(main) is value


def test_a_ready_future_costs_no_trip_through_the_loop(inline, extension):
    async def main():
        passed = []
        asyncio.get_running_loop().call_soon(passed.append, True)
        await extension.ready(1)
        return list(passed)

    assert inline.run(main) == []


def test_a_future_may_yield(loops, extension):
    async def main():
        return await extension.yields(100)

    assert loops.run(main) == 100


def test_others_run_while_a_future_yields(inline, extension):
    async def main():
        order = []

        async def note(name):
            for turn in range(3):
                order.append((name, turn))
                await extension.yields(1)

        await asyncio.gather(note("a"), note("b"))
        return order

    assert inline.run(main) == [(name, turn) for turn in range(3) for name in "ab"]


def test_tokio_sleep(loops, extension):
    async def main():
        loop = asyncio.get_running_loop()
        began = loop.time()
        assert await extension.sleeps(0.05) == "rested"
        return loop.time() - began

    assert 0.05 <= loops.run(main) < 5


def test_a_wake_from_the_same_thread(loops, extension):
    async def main():
        channel = extension.Oneshot()
        asyncio.get_running_loop().call_soon(channel.send, "here")
        return await channel.receive()

    assert loops.run(main) == "here"


def test_a_wake_from_another_thread_ends_the_loops_sleep(loops, extension):
    async def main():
        channel = extension.Oneshot()
        asyncio.get_running_loop().call_later(0.02, channel.send_elsewhere, "there")
        return await asyncio.wait_for(channel.receive(), 30)

    assert loops.run(main) == "there"


def test_a_thread_that_answers_again_and_again(loops, extension):
    async def main():
        responder = extension.Responder()
        return [await responder.ask() for _ in range(200)]

    assert loops.run(main) == [True] * 200


def test_a_wake_before_the_first_poll(loops, extension):
    async def main():
        channel = extension.Oneshot()
        future = channel.receive()
        assert channel.send("early")
        return await future

    assert loops.run(main) == "early"


def test_a_sender_that_goes_away_is_noticed(loops, extension):
    async def main():
        channel = extension.Oneshot()
        asyncio.get_running_loop().call_soon(channel.hang_up)
        await channel.receive()

    with pytest.raises(RuntimeError, match="nobody will send"):
        loops.run(main)


def test_a_future_is_polled_in_the_loops_thread(inline, extension):
    async def main():
        return await extension.polled_at_home()

    assert inline.run(main) == (True, True)


def test_wakes_by_many_threads_at_once(loops, extension):
    async def main():
        pulse = extension.Pulse()
        waits = [asyncio.ensure_future(pulse.wait(beats)) for beats in range(1, 401)]
        await asyncio.sleep(0)
        for _ in range(8):
            pulse.beat_elsewhere(50)
        return await asyncio.wait_for(asyncio.gather(*waits), 60)

    assert len(loops.run(main)) == 400


def test_many_wakes_before_a_step_are_one_poll(inline, extension):
    async def main():
        pulse = extension.Pulse()
        task = asyncio.ensure_future(pulse.wait(5))
        await asyncio.sleep(0)
        for _ in range(5):
            pulse.beat()
        return await task

    assert inline.run(main) == 2


def test_a_wake_of_what_is_done_does_nothing(inline, extension):
    async def main():
        pulse = extension.Pulse()
        task = asyncio.ensure_future(pulse.wait(1))
        await asyncio.sleep(0)
        pulse.beat()
        await task
        for _ in range(3):
            pulse.beat()
            await asyncio.sleep(0)
        return pulse.wakers()

    assert inline.run(main) == 1


def test_an_error_is_raised_where_it_is_awaited(loops, extension):
    async def fails(after):
        await extension.raises(after)

    async def main():
        for after in (0, 1):
            with pytest.raises(ValueError, match="raised in Rust") as caught:
                await fails(after)
            frames = [frame.name for frame in traceback.extract_tb(caught.tb)]
            assert frames[-1] == "fails"

    loops.run(main)


def test_a_python_error_keeps_its_traceback_through_rust(loops, extension):
    async def deep_down():
        raise LookupError("from Python")

    async def main():
        with pytest.raises(LookupError, match="from Python") as caught:
            await extension.awaits(deep_down)
        return [frame.name for frame in traceback.extract_tb(caught.tb)]

    assert loops.run(main)[-1] == "deep_down"


def test_a_panic_becomes_an_exception(loops, extension):
    async def main():
        for after in (0, 1):
            with pytest.raises(extension.RustPanic, match="rust future panicked"):
                await extension.panics(after)
        return await extension.ready("alive")

    assert loops.run(main) == "alive"


def test_what_a_panic_said_is_told(inline, extension):
    async def main():
        with pytest.raises(extension.RustPanic, match="a bug of the extension's"):
            await extension.panics(1)

    inline.run(main)


def test_a_panic_in_a_destructor_is_unraisable(inline, extension, monkeypatch):
    told = []
    monkeypatch.setattr(sys, "unraisablehook", lambda about: told.append(about.exc_value))

    async def main():
        task = asyncio.ensure_future(extension.panics_when_dropped())
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    inline.run(main)
    assert [type(error) for error in told] == [extension.RustPanic]
    assert "a bug in a destructor" in str(told[0])


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
def test_throw_takes_what_a_coroutines_does(inline, extension, flag, args, kind, text):
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


def test_made_without_a_loop_it_can_be_run(loops, extension):
    future = extension.yields(3)

    async def main():
        return await future

    assert loops.run(main) == 3
    assert extension.run(extension.yields(2)) == 2
    assert asyncio.run(extension.yields(2)) == 2


@pytest.mark.parametrize("how", ["same", "other", "sleep"])
def test_made_without_a_loop_it_is_woken(loops, extension, how):
    channel = extension.Oneshot()
    future = extension.sleeps(0.001) if how == "sleep" else channel.receive()

    async def main():
        loop = asyncio.get_running_loop()
        loop.call_later(0.01, channel.send if how == "same" else channel.send_elsewhere, "rested")
        return await asyncio.wait_for(future, 30)

    assert loops.run(main) == "rested"


def test_two_loops_in_two_threads(loops, extension):
    channels = [extension.Oneshot() for _ in range(200)]
    results = []

    async def receiver():
        return [await channel.receive() for channel in channels]

    async def sender():
        for number, channel in enumerate(channels):
            channel.send(number)
            await extension.yields(1)

    receiving = threading.Thread(target=lambda: results.extend(loops.run(receiver)))
    sending = threading.Thread(target=lambda: loops.run(sender))
    receiving.start()
    sending.start()
    sending.join(60)
    receiving.join(60)
    assert results == list(range(200))


def test_a_future_awaited_on_the_wrong_loop_is_refused(inline, extension, flag):
    async def start():
        future = extension.never(flag)
        assert future.send(None) is not None
        return future

    future = inline.run(start)

    async def main():
        await future

    with pytest.raises(RuntimeError, match=r"Event loop is closed|being awaited already"):
        inline.run(main)


def test_both_kinds_of_loops_in_one_process(extension):
    import tokioloop

    async def main():
        return await extension.sleeps(0.001), await extension.yields(2)

    for run in (extension.run, tokioloop.run, asyncio.run) * 3:
        assert run(main()) == ("rested", 2)


def test_debug_mode(loops, extension):
    async def main():
        asyncio.get_running_loop().set_debug(True)
        channel = extension.Oneshot()
        asyncio.get_running_loop().call_soon(channel.send, "debugged")
        await extension.yields(2)
        return await channel.receive()

    assert loops.run(main) == "debugged"


def test_a_task_tells_what_it_waits_for(inline, extension, flag):
    async def main():
        task = asyncio.create_task(extension.never(flag))
        await asyncio.sleep(0)
        text = repr(task)
        task.cancel()
        return text

    text = inline.run(main)
    assert "wait_for=<Rust future bridge_extension::basics::never>" in text


def test_keyboard_interrupt_leaves_the_loop(inline, extension):
    async def main():
        def interrupt():
            raise KeyboardInterrupt

        await extension.sleeps(0.001)
        await extension.calls(interrupt, 1)

    with pytest.raises(KeyboardInterrupt):
        inline.run(main)


@pytest.mark.skipif(sys.version_info < (3, 11), reason="tasks take no context")
def test_the_awaiting_task_may_have_an_object_with_a_run_for_a_context(loops, extension):
    class Context:
        def run(self, callback, *args):
            return callback(*args)

    async def waits():
        await extension.sleeps(0.001)
        return "done"

    async def main():
        return await asyncio.get_running_loop().create_task(waits(), context=Context())

    assert loops.run(main) == "done"


def test_the_awaiting_tasks_context_is_current(inline, extension):
    variable = contextvars.ContextVar("variable", default="unset")

    async def child(value):
        variable.set(value)
        read = [await extension.calls(variable.get, after) for after in range(3)]
        await extension.sleeps(0.001)
        return [*read, await extension.calls(variable.get, 1)]

    async def main():
        return await asyncio.gather(child("a"), child("b"))

    assert inline.run(main) == [["a"] * 4, ["b"] * 4]
