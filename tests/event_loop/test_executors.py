"""Work handed to threads and processes, and the end of the executors."""

import asyncio
import concurrent.futures
import contextvars
import sys
import threading
import time

import pytest

name = contextvars.ContextVar("name", default="unset")


def test_a_blocking_call_runs_in_another_thread_and_its_result_comes_back(loop):
    def work(a, b):
        return a + b, threading.current_thread()

    result, thread = loop.run_until_complete(loop.run_in_executor(None, work, 1, 2))
    assert result == 3
    assert thread is not threading.main_thread()


def test_the_exception_of_a_blocking_call_comes_back(loop):
    def work():
        raise LookupError("lost")

    with pytest.raises(LookupError, match="lost"):
        loop.run_until_complete(loop.run_in_executor(None, work))


def test_run_in_executor_returns_a_future_of_the_loop(loop):
    future = loop.run_in_executor(None, time.monotonic)
    assert isinstance(future, asyncio.Future)
    assert future.get_loop() is loop
    loop.run_until_complete(future)


def test_the_loop_goes_on_while_threads_work(loop):
    release = threading.Event()
    ticks = []

    async def main():
        blocked = loop.run_in_executor(None, release.wait, 10)
        for _ in range(5):
            await asyncio.sleep(0.001)
            ticks.append(blocked.done())
        release.set()
        return await blocked

    assert loop.run_until_complete(main()) is True
    assert ticks == [False] * 5


def test_many_blocking_calls_all_come_back(loop):
    async def main():
        return await asyncio.gather(*(loop.run_in_executor(None, abs, -i) for i in range(500)))

    assert loop.run_until_complete(main()) == list(range(500))


def test_an_executor_of_ones_own_can_be_used(loop):
    with concurrent.futures.ThreadPoolExecutor(1, thread_name_prefix="own") as executor:
        future = loop.run_in_executor(executor, lambda: threading.current_thread().name)
        assert loop.run_until_complete(future).startswith("own")


def test_the_default_executor_can_be_replaced(loop):
    executor = concurrent.futures.ThreadPoolExecutor(1, thread_name_prefix="replaced")
    loop.set_default_executor(executor)
    future = loop.run_in_executor(None, lambda: threading.current_thread().name)
    assert loop.run_until_complete(future).startswith("replaced")


def test_the_default_executor_must_be_a_thread_pool(loop):
    if sys.version_info < (3, 11):
        with pytest.warns(DeprecationWarning):
            loop.set_default_executor(object())
        loop.set_default_executor(concurrent.futures.ThreadPoolExecutor(1))
    else:
        with pytest.raises(TypeError, match="must be ThreadPoolExecutor instance"):
            loop.set_default_executor(object())


def test_to_thread_carries_the_context_along(loop):
    async def main():
        name.set("carried")
        return await asyncio.to_thread(name.get)

    assert loop.run_until_complete(main()) == "carried"


def test_a_call_that_was_cancelled_before_it_started_never_runs(loop):
    release = threading.Event()
    ran = []

    async def main():
        first = loop.run_in_executor(executor, release.wait, 10)
        second = loop.run_in_executor(executor, ran.append, 1)
        second.cancel()
        release.set()
        await first
        with pytest.raises(asyncio.CancelledError):
            await second

    with concurrent.futures.ThreadPoolExecutor(1) as executor:
        loop.run_until_complete(main())
    assert ran == []


def test_debug_mode_refuses_to_run_coroutines_in_threads(loop):
    async def coroutine_function():
        pass

    loop.set_debug(True)
    with pytest.raises(TypeError, match="coroutines cannot be used with run_in_executor"):
        loop.run_until_complete(loop.run_in_executor(None, coroutine_function))
    with pytest.raises(TypeError, match="a callable object was expected by run_in_executor"):
        loop.run_until_complete(loop.run_in_executor(None, 42))


def test_shutdown_default_executor_waits_for_running_work(loop):
    finished = []

    def work():
        time.sleep(0.05)
        finished.append(True)

    loop.run_in_executor(None, work)
    loop.run_until_complete(loop.shutdown_default_executor())
    assert finished == [True]


def test_shutdown_default_executor_is_fine_where_none_was_used(loop):
    loop.run_until_complete(loop.shutdown_default_executor())


def test_after_the_shutdown_of_the_default_executor_nothing_can_be_handed_to_it(loop):
    loop.run_until_complete(loop.shutdown_default_executor())
    with pytest.raises(RuntimeError, match="Executor shutdown has been called"):
        loop.run_in_executor(None, print)


@pytest.mark.skipif(sys.version_info < (3, 13), reason="before 3.13 it waits all the same")
def test_the_shutdown_of_the_default_executor_can_have_a_time_limit(loop):
    release = threading.Event()
    loop.run_in_executor(None, release.wait, 10)
    started = time.monotonic()
    with pytest.warns(RuntimeWarning, match="The executor did not finish"):
        loop.run_until_complete(loop.shutdown_default_executor(timeout=0.05))
    assert time.monotonic() - started < 5
    release.set()


def test_closing_the_loop_does_not_wait_for_the_threads(loop_factory):
    loop = loop_factory()
    release = threading.Event()
    loop.run_in_executor(None, release.wait, 10)
    started = time.monotonic()
    loop.close()
    assert time.monotonic() - started < 5
    release.set()


def test_a_result_that_arrives_after_the_loop_was_closed_is_dropped(programs):
    """The worker finds the loop closed; that must neither crash nor hang the exit."""
    done = programs.run(
        """
        import threading

        loop = new_event_loop()
        started, release = threading.Event(), threading.Event()

        def work():
            started.set()
            release.wait(10)

        loop.run_in_executor(None, work)
        started.wait(10)
        loop.close()
        release.set()
        print("closed")
        """
    )
    assert done.stdout == "closed\n"


def test_processes_can_do_the_work(programs):
    done = programs.run(
        """
        import concurrent.futures, os

        async def main():
            loop = asyncio.get_running_loop()
            with concurrent.futures.ProcessPoolExecutor(2) as executor:
                there = await loop.run_in_executor(executor, os.getpid)
                sums = [loop.run_in_executor(executor, sum, [i, 1]) for i in range(20)]
                print(there != os.getpid(), await asyncio.gather(*sums) == list(range(1, 21)))

        import asyncio
        run(main())
        """
    )
    assert done.stdout == "True True\n"
