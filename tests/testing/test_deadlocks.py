"""A program that can never go on is reported, with the stacks of its tasks."""

import asyncio
import gc
import math
import sys

import pytest

testing = pytest.importorskip("tokioloop.testing")
pytestmark = pytest.mark.native_only


async def cancel_tasks(loop):
    tasks = asyncio.all_tasks() - {asyncio.current_task()}
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


@pytest.fixture
def deadlock(loop):
    """Run a coroutine function to its deadlock; return the text of the error."""

    def run(main):
        with pytest.raises(testing.DeadlockError) as caught:
            loop.run_until_complete(main())
        loop.run_until_complete(cancel_tasks(loop))
        return str(caught.value)

    return run


def test_the_error_is_a_runtime_error():
    assert issubclass(testing.DeadlockError, RuntimeError)
    assert testing.DeadlockError.__module__ == "tokioloop.testing"


async def innermost(event):
    await event.wait()  # the line that waits


def test_the_text_has_the_whole_stack_of_each_waiting_task(deadlock):
    async def outer():
        await innermost(asyncio.Event())

    async def main():
        tasks = [asyncio.ensure_future(outer()) for _ in range(2)]
        for number, task in enumerate(tasks):
            task.set_name(f"worker {number}")
        asyncio.current_task().set_name("main")
        await asyncio.gather(*tasks)

    text = deadlock(main)
    assert text.startswith("Deadlock: no callback is ready, no timer is set")
    main_at, first, second = (
        text.index(f"Task {name!r} waits:") for name in ("main", "worker 0", "worker 1")
    )
    assert main_at < first < second
    for part in (text[first:second], text[second:]):
        assert part.index(", in outer") < part.index(", in innermost") < part.index(", in wait")
        assert "await event.wait()  # the line that waits" in part
        assert "for <Future pending" in part
    assert "await asyncio.gather(*tasks)" in text[main_at:first]
    assert "for <_GatheringFuture pending" in text[main_at:first]


def test_a_task_that_waits_for_another_names_it(deadlock):
    async def main():
        asyncio.current_task().set_name("main")
        task = asyncio.ensure_future(innermost(asyncio.Event()))
        task.set_name("worker")
        await task

    assert "for <Task pending name='worker'" in deadlock(main)


def test_it_is_found_after_timers_and_io_have_ended(deadlock, loop):
    async def main():
        process = await asyncio.create_subprocess_exec("true")
        await process.wait()
        await loop.run_in_executor(None, len, "")
        await asyncio.sleep(1000)
        await asyncio.Queue().get()

    text = deadlock(main)
    assert ", in get" in text
    assert loop.time() >= 1000


def test_a_sleep_without_end_is_a_deadlock(deadlock):
    async def main():
        await asyncio.sleep(math.inf)

    assert ", in sleep" in deadlock(main)


@pytest.mark.skipif(sys.version_info < (3, 11), reason="asyncio.timeout is new in 3.11")
def test_a_time_out_without_end_is_a_deadlock(deadlock):
    async def main():
        async with asyncio.timeout(None):
            await asyncio.Event().wait()

    assert ", in wait" in deadlock(main)


def test_two_tasks_that_wait_for_each_others_lock(deadlock):
    async def main():
        one, two = asyncio.Lock(), asyncio.Lock()

        async def take(first, second):
            async with first:
                await asyncio.sleep(1)
                async with second:
                    raise AssertionError("not reached")

        await asyncio.gather(take(one, two), take(two, one))

    assert deadlock(main).count("async with second:") == 2


def test_a_coroutine_that_awaits_itself_through_a_generator(deadlock):
    class Awaitable:
        def __await__(self):
            yield from asyncio.get_running_loop().create_future()

    async def main():
        await Awaitable()

    assert ", in __await__" in deadlock(main)


def test_a_loop_without_tasks_is_reported_as_well(loop):
    with pytest.raises(testing.DeadlockError, match="The loop has no tasks"):
        loop.run_forever()
    assert not loop.is_running()
    assert loop.run_until_complete(asyncio.sleep(1, "still works")) == "still works"


def test_the_loop_and_its_tasks_can_be_collected_afterwards(loop_factory):
    import weakref

    loop = loop_factory()
    task = loop.create_task(innermost(asyncio.Event()))
    with pytest.raises(testing.DeadlockError):
        loop.run_until_complete(task)
    loop.run_until_complete(cancel_tasks(loop))
    loop.close()
    gone = weakref.ref(task)
    del task, loop
    gc.collect()
    assert gone() is None


@pytest.mark.skipif(sys.version_info < (3, 11), reason="asyncio.Runner is new in 3.11")
def test_a_runner_cancels_the_tasks_and_closes_the_loop():
    cleaned = []

    async def main():
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(1)
            cleaned.append(asyncio.get_running_loop().time())

    with (
        pytest.raises(testing.DeadlockError),
        asyncio.Runner(loop_factory=testing.new_event_loop) as runner,
    ):
        loop = runner.get_loop()
        runner.run(main())
    assert cleaned == [1]
    assert loop.is_closed()
