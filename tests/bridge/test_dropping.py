"""When Rust futures are dropped: cancelled, closed, forgotten, orphaned."""

from __future__ import annotations

import asyncio
import gc
import os
import threading
import warnings
import weakref

import pytest


def test_cancelling_before_the_first_step_drops_it(inline, extension, flag):
    async def main():
        task = asyncio.ensure_future(extension.never(flag))
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert (flag.dropped, flag.started) == (True, 0)

    inline.run(main)


def test_cancelling_a_task_drops_the_future_that_it_awaits(loops, extension, flag, eventually):
    async def main():
        async def waits():
            await extension.never(flag)

        task = asyncio.ensure_future(waits())
        await eventually(lambda: flag.started)
        assert not flag.dropped
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await eventually(lambda: flag.dropped)

    loops.run(main)


def test_it_is_dropped_before_python_sees_the_cancellation(inline, extension, flag):
    async def main():
        seen = []

        async def waits():
            try:
                await extension.never(flag)
            except asyncio.CancelledError:
                seen.append(flag.dropped)
                raise

        task = asyncio.ensure_future(waits())
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        return seen

    assert inline.run(main) == [True]


def test_cancelling_passes_on_its_message(inline, extension, flag):
    async def main():
        task = asyncio.ensure_future(extension.never(flag))
        await asyncio.sleep(0)
        task.cancel("enough")
        with pytest.raises(asyncio.CancelledError) as caught:
            await task
        # CPython 3.10 raises another one, of which this is the context.
        assert "enough" in f"{caught.value}{caught.value.__context__}"

    inline.run(main)


def test_cancelling_while_it_yields(inline, extension):
    async def main():
        task = asyncio.ensure_future(extension.yields(1_000_000))
        for _ in range(3):
            await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    inline.run(main)


def test_cancelling_after_the_wake_and_before_the_step(inline, extension):
    async def main():
        channel = extension.Oneshot()
        task = asyncio.ensure_future(channel.receive())
        await asyncio.sleep(0)
        assert channel.send("too late")
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    inline.run(main)


def test_cancelling_from_inside_of_the_poll(inline, extension):
    async def main():
        def cancel():
            asyncio.current_task().cancel()

        async def child():
            await extension.calls(cancel, 0)
            await extension.sleeps(30)

        with pytest.raises(asyncio.CancelledError):
            await asyncio.ensure_future(child())

    inline.run(main)


def test_a_task_that_cancels_itself_while_parking(inline, extension, flag):
    async def main():
        async def child():
            asyncio.current_task().cancel()
            await extension.never(flag)

        with pytest.raises(asyncio.CancelledError):
            await asyncio.ensure_future(child())
        return flag.dropped

    assert inline.run(main)


def test_cancelling_twice(inline, extension, flag):
    async def main():
        task = asyncio.ensure_future(extension.never(flag))
        await asyncio.sleep(0)
        task.cancel()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    inline.run(main)


def test_a_cancellation_can_be_survived(inline, extension, flag):
    async def main():
        async def stubborn():
            try:
                await extension.never(flag)
            except asyncio.CancelledError:
                return await extension.yields(3)

        task = asyncio.ensure_future(stubborn())
        await asyncio.sleep(0)
        task.cancel()
        return await task

    assert inline.run(main) == 3


def test_a_timeout_drops_it(loops, extension, flag, eventually):
    async def main():
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(extension.never(flag), 0.02)
        await eventually(lambda: flag.dropped)

    loops.run(main)


def test_closing_drops_it(inline, extension, flag):
    async def main():
        future = extension.never(flag)
        future.close()
        assert flag.dropped
        future.close()
        with pytest.raises(RuntimeError, match="cannot reuse"):
            await future

    inline.run(main)


def test_closing_between_two_steps_drops_it(inline, extension, flag):
    async def main():
        future = extension.never(flag)
        future.send(None)
        assert not flag.dropped
        future.close()
        assert flag.dropped

    inline.run(main)


def test_one_never_awaited_is_dropped_with_a_warning(inline, extension, flag):
    async def main():
        with pytest.warns(RuntimeWarning, match=r"basics::never' was never awaited"):
            extension.never(flag)
            gc.collect()
        assert (flag.dropped, flag.started) == (True, 0)

    inline.run(main)


def test_a_finished_future_is_dropped_before_the_awaiting_code_goes_on(inline, extension, flag):
    async def main():
        await extension.sleeps_with(0.001, flag)
        assert flag.dropped

    inline.run(main)


def test_a_task_that_only_a_waker_refers_to_lives_on(inline, extension, flag, eventually):
    async def main():
        results = []

        async def child():
            results.append(await extension.sleeps_with(0.05, flag))

        seen = weakref.ref(asyncio.ensure_future(child()))
        await asyncio.sleep(0)
        gc.collect()
        assert seen() is not None
        await eventually(lambda: results)

    inline.run(main)


def test_a_task_that_cannot_be_woken_is_garbage(inline, extension, flag):
    async def main():
        reported = []
        # Not the whole report, which would keep the task.
        note = lambda _, about: reported.append(about["message"])  # noqa: E731
        asyncio.get_running_loop().set_exception_handler(note)
        asyncio.ensure_future(extension.never(flag))  # noqa: RUF006 - not kept
        await asyncio.sleep(0)
        gc.collect()
        assert flag.dropped
        assert reported == ["Task was destroyed but it is pending!"]

    inline.run(main)


def test_a_waiter_that_outlives_its_future_does_nothing(inline, extension, flag):
    async def main():
        future = extension.never(flag)
        waiter = future.send(None)
        asked = []
        seen = weakref.ref(future, lambda _: asked.append(waiter.cancel()))
        future.close()
        del future
        assert asked == [False]
        assert seen() is None
        assert waiter.done()
        future = extension.never(flag)
        waiter = future.send(None)
        seen = weakref.ref(future, lambda _: asked.append(waiter.cancel()))
        del future
        # It refers to itself; the collector calls back while it is whole, then takes it apart.
        gc.collect()
        assert len(asked) == 2
        assert seen() is None
        assert flag.dropped
        assert not waiter.cancel()

    inline.run(main)


def test_it_is_garbage_once_the_last_waker_is_gone(inline, extension):
    async def main():
        asyncio.get_running_loop().set_exception_handler(lambda *_: None)
        pulse = extension.Pulse()
        seen = weakref.ref(asyncio.ensure_future(pulse.wait(1)))
        await asyncio.sleep(0)
        gc.collect()
        assert seen() is not None
        pulse.forget()
        gc.collect()
        assert seen() is None

    inline.run(main)


@pytest.mark.parametrize("kind", ["never", "sleeps_with", "local_never"])
def test_a_loop_that_closes_drops_pending_futures(inline, extension, flag, kind):
    loop = inline.factory()
    future = extension.never if kind == "never" else getattr(extension, kind)
    args = (30, flag) if kind == "sleeps_with" else (flag,)

    async def main():
        asyncio.get_running_loop().set_exception_handler(lambda *_: None)
        task = asyncio.ensure_future(future(*args))
        await asyncio.sleep(0.01)
        return task

    task = loop.run_until_complete(main())
    assert not flag.dropped
    loop.close()
    assert flag.dropped
    assert not task.done()
    del task
    gc.collect()


def test_a_wake_after_the_loop_was_closed_does_nothing(inline, extension):
    loop = inline.factory()
    pulse = extension.Pulse()

    async def main():
        asyncio.get_running_loop().set_exception_handler(lambda *_: None)
        task = asyncio.ensure_future(pulse.wait(1))
        await asyncio.sleep(0)
        return task

    task = loop.run_until_complete(main())
    loop.close()
    pulse.beat()
    pulse.beat_elsewhere(3)
    assert not task.done()
    del task
    pulse.forget()
    gc.collect()


def test_a_waker_does_not_keep_a_closed_loops_descriptors(inline, extension):
    def descriptors():
        return set(os.listdir("/proc/self/fd"))

    async def main():
        asyncio.get_running_loop().set_exception_handler(lambda *_: None)
        asyncio.ensure_future(pulse.wait(1))  # noqa: RUF006 - not kept
        for _ in range(3):
            await extension.sleeps(0.001)

    inline.run(lambda: extension.sleeps(0.001))  # what a process opens once
    pulse = extension.Pulse()
    before = descriptors()
    inline.run(main)
    assert pulse.wakers() == 1
    assert descriptors() <= before
    pulse.forget()
    gc.collect()


def test_a_wake_between_two_runs_of_the_loop_is_kept(inline, extension):
    loop = inline.factory()
    channel = extension.Oneshot()

    async def start():
        task = asyncio.ensure_future(channel.receive())
        await asyncio.sleep(0)
        return task

    task = loop.run_until_complete(start())
    thread = threading.Thread(target=channel.send, args=("kept",))
    thread.start()
    thread.join()
    assert loop.run_until_complete(asyncio.wait_for(task, 30)) == "kept"
    loop.close()


def test_a_loop_moves_to_another_thread(inline, extension):
    loop = inline.factory()
    channel = extension.Oneshot()
    results = []

    async def start():
        task = asyncio.ensure_future(channel.receive())
        await extension.sleeps(0.001)
        return task

    async def finish(task):
        await extension.sleeps(0.001)
        channel.send("moved")
        results.append(await task)

    task = loop.run_until_complete(start())
    thread = threading.Thread(target=lambda: loop.run_until_complete(finish(task)))
    thread.start()
    thread.join(60)
    loop.close()
    assert results == ["moved"]


def resident():
    with open("/proc/self/statm") as statm:
        return int(statm.read().split()[1]) * 4096


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["ready", "yields", "receive", "cancelled", "sleeps"])
def test_memory_comes_back(inline, extension, kind):
    async def batch(count):
        if kind == "ready":
            for _ in range(count):
                await extension.ready(None)
        elif kind == "receive":
            channels = [extension.Oneshot() for _ in range(count)]
            tasks = [asyncio.ensure_future(channel.receive()) for channel in channels]
            await asyncio.sleep(0)
            for channel in channels:
                channel.send(None)
            await asyncio.gather(*tasks)
        elif kind == "cancelled":
            channels = [extension.Oneshot() for _ in range(count)]
            tasks = [asyncio.ensure_future(channel.receive()) for channel in channels]
            await asyncio.sleep(0)
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        elif kind == "sleeps":
            await asyncio.gather(*(extension.sleeps(0.001) for _ in range(count)))
        else:
            await asyncio.gather(*(extension.yields(2) for _ in range(count)))

    async def main():
        async def rounds(count):
            for _ in range(count):
                await batch(5000)
                gc.collect()

        await rounds(4)
        objects, before = len(gc.get_objects()), resident()
        await rounds(20)  # 100,000 futures
        return len(gc.get_objects()) - objects, resident() - before

    objects, grown = inline.run(main)
    assert objects < 100
    assert grown < 4_000_000


@pytest.mark.parametrize("kind", ["futures", "streams", "both", "pending"])
def test_a_long_chain_is_dropped(extension_programs, kind):
    """Each owns the next. Python's own coroutines and generators survive that, too."""
    done = extension_programs(
        f"""
        import asyncio, gc, tokioloop, warnings
        warnings.simplefilter("ignore")
        flag = bridge_extension.DropFlag()
        kind, last = {kind!r}, None

        class Last:
            def __del__(self):
                print("dropped")

        async def main():
            last = Last()
            for at in range(100_000):
                if kind == "streams" or (kind == "both" and at % 2):
                    last = bridge_extension.counts(1, last, flag)
                else:
                    last = bridge_extension.ready(last)
            if kind == "pending":
                # Taken apart by the loop that closes.
                task = asyncio.ensure_future(bridge_extension.keeps(last))
                await asyncio.sleep(0)
                return task

        loop = bridge_extension.new_event_loop()
        kept = loop.run_until_complete(main())
        loop.close()
        """
    )
    assert done.stdout == "dropped\n"


@pytest.mark.parametrize("woken_by", ["the thread of the loop", "another thread"])
def test_a_loop_that_never_runs_again_takes_woken_futures_along(inline, extension, woken_by):
    """A receiver keeps its last waker: for the collector nothing outside must count it."""

    def forget():
        channel = extension.Oneshot()
        loop = inline.factory()
        task = asyncio.ensure_future(channel.receive(), loop=loop)
        loop.run_until_complete(asyncio.sleep(0))
        assert channel.send("too late") if woken_by != "another thread" else in_thread(channel)
        return weakref.ref(loop), weakref.ref(task)

    def in_thread(channel):
        sent = []
        thread = threading.Thread(target=lambda: sent.append(channel.send("too late")))
        thread.start()
        thread.join()
        return sent == [True]

    kept = [ref for _ in range(10) for ref in forget()]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        for _ in range(3):
            gc.collect()
    assert [ref() for ref in kept if ref() is not None] == []


def test_the_collector_leaves_a_woken_future_to_a_loop_that_runs(inline, extension):
    async def main():
        channel, results = extension.Oneshot(), []

        async def waits():
            results.append(await channel.receive())

        # No reference is left but the one of the waker, and after the wake the loop's.
        task = weakref.ref(asyncio.ensure_future(waits()))
        await asyncio.sleep(0)
        for _ in range(2):
            gc.collect()
            assert task() is not None
        assert channel.send("on time")
        for _ in range(2):
            gc.collect()
            assert task() is not None
        while not results:
            await asyncio.sleep(0)
            gc.collect()
        return results

    assert inline.run(main) == ["on time"]


def test_an_awaitable_that_is_stepped_by_hand_and_dropped_drops_its_future(inline, extension, flag):
    async def main():
        awaitable = extension.never(flag)
        awaitable.send(None)
        assert not flag.dropped
        del awaitable
        return flag.dropped

    assert inline.run(main)
