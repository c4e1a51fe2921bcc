"""Loops that know nothing of Rust futures: tokio's threads leave results at the loop's port."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import gc
import os
import signal
import threading
import weakref

import pytest

VARIABLE = contextvars.ContextVar("variable", default="unset")


class WithoutReaders(asyncio.SelectorEventLoop):
    """As the loop of Windows that has no ``add_reader``."""

    def add_reader(self, *_args):
        raise NotImplementedError


class WithoutWeakReferences:
    """A loop whose class has no weak references, around one of asyncio's."""

    __slots__ = ("inner",)

    def __init__(self):
        self.inner = asyncio.new_event_loop()

    def __getattr__(self, name):
        return getattr(self.inner, name)

    @contextlib.contextmanager
    def running(self):
        """Within, this is the running loop. (Not beyond a step of a task, which CPython checks.)"""
        asyncio._set_running_loop(self)
        try:
            yield
        finally:
            asyncio._set_running_loop(self.inner)


@pytest.fixture(params=[asyncio.new_event_loop, WithoutReaders], ids=["readers", "no readers"])
def loop(request):
    loop = request.param()
    yield loop
    loop.run_until_complete(loop.shutdown_default_executor())
    loop.close()


def descriptors():
    return len(os.listdir("/proc/self/fd"))


def test_many_results_arrive(loop, extension):
    async def main():
        return await asyncio.gather(*(extension.yields(i % 5) for i in range(2_000)))

    assert loop.run_until_complete(main()) == [i % 5 for i in range(2_000)]


def test_a_loop_is_run_again_and_by_another_thread(loop, extension):
    async def main():
        return await extension.sleeps(0.001)

    results = [loop.run_until_complete(main())]
    thread = threading.Thread(target=lambda: results.append(loop.run_until_complete(main())))
    thread.start()
    thread.join()
    results.append(loop.run_until_complete(main()))
    assert results == ["rested"] * 3


def test_it_starts_at_the_call(loop, extension, flag, eventually):
    async def main():
        future = extension.never(flag)
        assert isinstance(future, asyncio.Future)
        assert future.get_loop() is loop
        await eventually(lambda: flag.started)
        future.cancel()
        await eventually(lambda: flag.dropped)

    loop.run_until_complete(main())


def test_a_result_that_comes_too_late_is_dropped(loop, extension):
    async def main():
        channel = extension.Oneshot()
        future = extension.yields(1)
        waits = asyncio.ensure_future(channel.receive())
        future.cancel()
        for _ in range(3):
            await extension.yields(1)
        channel.send("on time")
        return future.cancelled(), await waits

    assert loop.run_until_complete(main()) == (True, "on time")


def test_errors_and_panics_arrive_and_the_next_results_too(loop, extension):
    async def main():
        calls = [extension.raises(1), extension.panics(1), extension.yields(2)]
        return await asyncio.gather(*calls, return_exceptions=True)

    error, panic, two = loop.run_until_complete(main())
    assert isinstance(error, ValueError)
    assert "rust future panicked" in str(panic)
    assert two == 2


@pytest.mark.parametrize("exception", [KeyboardInterrupt, SystemExit])
def test_what_ends_the_loop_ends_it_and_the_other_results_arrive(extension, exception):
    """A callback of the future's is called by the loop, not in the midst of other results."""
    loop = asyncio.new_event_loop()

    async def main():
        futures = [extension.yields(1) for _ in range(5)]
        kept.extend(futures)

        def end(_future):
            raise exception

        futures[0].add_done_callback(end)
        await asyncio.gather(*futures[1:])
        await asyncio.Event().wait()

    kept = []
    task = loop.create_task(main())
    with pytest.raises(exception):
        loop.run_until_complete(task)
    loop.run_until_complete(asyncio.wait(kept, timeout=20))
    assert [future.result() for future in kept] == [1] * 5
    task.cancel()
    loop.run_until_complete(asyncio.wait([task]))
    loop.close()


def test_a_local_future_is_woken_by_another_thread(loop, extension):
    async def main():
        return await extension.local_yields(3), await extension.polled_at_home()

    assert loop.run_until_complete(main())[0] == 3


def test_no_callback_sees_the_context_of_another_caller(loop, extension):
    async def first():
        VARIABLE.set("first")
        await extension.yields(1)

    async def second():
        seen = []
        future = extension.yields(1)
        future.add_done_callback(lambda _: seen.append(VARIABLE.get()))
        await future
        await asyncio.sleep(0)
        return seen

    async def main():
        await asyncio.create_task(first())
        return await asyncio.create_task(second())

    assert loop.run_until_complete(main()) == ["unset"]


def test_a_loop_that_closes_with_futures_in_flight_lets_go_of_everything(extension):
    def round_of():
        loop = asyncio.new_event_loop()
        flag = extension.DropFlag()

        async def main():
            futures = [extension.sleeps(0.005) for _ in range(20)]
            futures += [extension.yields(3) for _ in range(20)] + [extension.never(flag)]
            await asyncio.sleep(0)
            return [weakref.ref(future) for future in futures]

        futures = loop.run_until_complete(main())
        loop.close()
        return [weakref.ref(loop), *futures]

    round_of()
    gc.collect()
    before = descriptors()
    refs = [ref for _ in range(30) for ref in round_of()]
    gc.collect()
    assert descriptors() <= before
    left = [ref() for ref in refs if ref() is not None]
    assert [it for it in left if isinstance(it, asyncio.Future)] == []


def test_a_closed_loop_takes_no_more_futures(extension):
    loop = asyncio.new_event_loop()

    async def main():
        await extension.yields(1)
        loop.call_soon(loop.stop)

    loop.run_until_complete(main())
    loop.close()

    async def elsewhere():
        with pytest.raises(RuntimeError, match="closed"):
            extension.reads_given(loop, contextvars.copy_context(), VARIABLE, False)
        return await extension.yields(1)

    other = asyncio.new_event_loop()
    assert other.run_until_complete(elsewhere()) == 1
    other.close()


def test_a_future_of_a_loop_that_runs_in_another_thread(loop, extension):
    running = threading.Event()

    async def serve():
        running.set()
        await asyncio.wait_for(ended.wait(), 30)

    async def wait(future):
        try:
            return await future
        finally:
            ended.set()

    ended = asyncio.Event()
    thread = threading.Thread(target=lambda: loop.run_until_complete(serve()))
    thread.start()
    assert running.wait(20)
    context = contextvars.copy_context()
    context.run(VARIABLE.set, "given")
    future = extension.reads_given(loop, context, VARIABLE, False)
    assert future.get_loop() is loop
    assert asyncio.run_coroutine_threadsafe(wait(future), loop).result(20) == "given"
    thread.join()


def test_a_loop_without_weak_references(extension):
    loop = WithoutWeakReferences()

    async def main():
        results = []
        for _ in range(3):
            with loop.running():
                future = extension.yields(2)
            results.append(await future)
        return results

    before = descriptors()
    assert loop.inner.run_until_complete(main()) == [2] * 3
    loop.inner.close()
    assert descriptors() <= before


def test_a_forked_child_has_a_loop_of_its_own(extension_programs):
    done = extension_programs(
        """
        import asyncio, os
        loop = asyncio.new_event_loop()

        async def main():
            return await bridge_extension.local_yields(3)

        assert loop.run_until_complete(main()) == 3
        child = os.fork()
        if child == 0:
            # Not the parent's socket: a byte of the child's must not wake the parent, nor the other
            # way round.
            assert asyncio.new_event_loop().run_until_complete(main()) == 3
            os._exit(7)
        assert loop.run_until_complete(main()) == 3
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
        print("both")
        """
    )
    assert done.stdout == "both\n"


NAPS = """
    import asyncio, sys, tokioloop

    async def main():
        print(await bridge_extension.sleeps(0.001))
        await asyncio.gather(*(bridge_extension.sleeps(0.001) for _ in range(50)))

    tokioloop.run(main())
    asyncio.run(main())
    """

IN_FLIGHT = """
    import asyncio, sys, threading, tokioloop
    loop = asyncio.new_event_loop()

    async def main():
        kept.extend(bridge_extension.sleeps(0.001 * (i % 7)) for i in range(200))
        kept.extend(bridge_extension.spawned_blocking(1) for _ in range(20))
        kept.extend(bridge_extension.calls(lambda: None, i % 7) for i in range(50))
        await asyncio.sleep(0.003)
        print("rested")
        print("rested")

    kept = []
    loop.run_until_complete(main())
    """


@pytest.mark.parametrize("program", [NAPS, IN_FLIGHT], ids=["naps", "in flight"])
@pytest.mark.parametrize("end", ["", "sys.exit(0)", "loop.close()"])
def test_the_interpreter_exits_cleanly(extension_programs, program, end):
    """Its threads run no Python on the way back, so CPython finds none of them to end."""
    if end == "loop.close()" and program is NAPS:
        end = "import gc; gc.collect()"
    for _ in range(5):
        done = extension_programs(program + "\n    " + end)
        assert done.stdout == "rested\nrested\n"
        assert "panicked" not in done.stderr


def test_a_signal_is_handled_while_results_arrive(loop, extension):
    handled = []

    async def main():
        signal.setitimer(signal.ITIMER_REAL, 0.002, 0.002)
        try:
            for _ in range(200):
                await extension.yields(1)
            while not handled:
                await extension.sleeps(0.001)
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)

    before = signal.signal(signal.SIGALRM, lambda *_: handled.append(True))
    try:
        loop.run_until_complete(main())
    finally:
        signal.signal(signal.SIGALRM, before)
    assert handled
