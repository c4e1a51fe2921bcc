"""Rust futures awaited by Python: results, errors, panics, waking."""

from __future__ import annotations

import asyncio
import contextvars
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
            for number in range(3):
                order.append((name, number))
                await extension.yields(1)

        await asyncio.gather(note("a"), note("b"))
        return order

    assert inline.run(main) == [(name, number) for number in range(3) for name in "ab"]


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


def test_a_wake_of_a_finished_future_does_nothing(inline, extension):
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


def test_the_exception_has_the_message_of_the_panic(inline, extension):
    async def main():
        with pytest.raises(extension.RustPanic, match="a bug of the extension's"):
            await extension.panics(1)

    inline.run(main)


def test_a_panic_in_a_destructor_is_unraisable(inline, extension, monkeypatch):
    reported = []
    monkeypatch.setattr(sys, "unraisablehook", lambda about: reported.append(about.exc_value))

    async def main():
        task = asyncio.ensure_future(extension.panics_when_dropped())
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    inline.run(main)
    assert [type(error) for error in reported] == [extension.RustPanic]
    assert "a bug in a destructor" in str(reported[0])


def test_made_without_a_loop_it_can_be_run(loops, extension, embedding):
    future = extension.yields(3)

    async def main():
        return await future

    assert loops.run(main) == 3
    assert embedding.run(embedding.yields(2)) == 2
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


def test_the_repr_of_a_task_shows_its_rust_future(inline, extension, flag):
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


@pytest.mark.skipif(
    not (3, 11) <= sys.version_info < (3, 15),
    reason="before 3.11 tasks take no context, from 3.15 on none but CPython's own",
)
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
