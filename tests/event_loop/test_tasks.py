"""Tasks and futures as the loop makes them: factories, names, contexts, eager start."""

import asyncio
import contextvars
import sys

import pytest

name = contextvars.ContextVar("name", default="unset")


async def answer(value=42):
    await asyncio.sleep(0)
    return value


def test_create_future_makes_asyncios_own_future_of_this_loop(loop):
    future = loop.create_future()
    assert type(future) is asyncio.Future
    assert future.get_loop() is loop


def test_create_task_makes_asyncios_own_task_of_this_loop(loop):
    task = loop.create_task(answer())
    assert type(task) is asyncio.Task
    assert task.get_loop() is loop
    assert asyncio.all_tasks(loop) == {task}
    assert loop.run_until_complete(task) == 42
    assert asyncio.all_tasks(loop) == set()


def test_a_task_has_the_name_it_is_given(loop):
    task = loop.create_task(answer(), name="worker")
    assert task.get_name() == "worker"
    loop.run_until_complete(task)


@pytest.mark.skipif(sys.version_info < (3, 11), reason="create_task(context=) is new in 3.11")
def test_a_task_runs_in_the_context_it_is_given(loop):
    context = contextvars.copy_context()

    async def main():
        name.set("changed by the task")
        await asyncio.sleep(0)

    loop.run_until_complete(loop.create_task(main(), context=context))
    assert context[name] == "changed by the task"
    assert name.get() == "unset"


def test_a_task_does_not_run_before_the_next_iteration(loop):
    started = []

    async def task():
        started.append("task")

    async def main():
        pending = loop.create_task(task())
        assert started == []
        await asyncio.sleep(0)
        assert started == ["task"]
        await pending

    loop.run_until_complete(main())


def test_the_task_factory_makes_the_tasks(loop):
    class MyTask(asyncio.Task):
        pass

    def factory(loop, coro, **kwargs):
        return MyTask(coro, loop=loop, **kwargs)

    assert loop.get_task_factory() is None
    loop.set_task_factory(factory)
    assert loop.get_task_factory() is factory
    task = loop.create_task(answer(), name="made")
    assert type(task) is MyTask
    assert task.get_name() == "made"
    assert loop.run_until_complete(task) == 42
    loop.set_task_factory(None)
    assert loop.get_task_factory() is None
    task = loop.create_task(answer())
    assert type(task) is asyncio.Task
    loop.run_until_complete(task)


def test_a_task_factory_must_be_callable(loop):
    with pytest.raises(TypeError, match="task factory must be a callable or None"):
        loop.set_task_factory(42)


def test_run_until_complete_calls_the_task_factory_too(loop):
    made = []

    def factory(loop, coro, **kwargs):
        made.append(asyncio.Task(coro, loop=loop, **kwargs))
        return made[-1]

    loop.set_task_factory(factory)
    assert loop.run_until_complete(answer()) == 42
    assert len(made) == 1


@pytest.mark.skipif(sys.version_info < (3, 12), reason="eager tasks are new in 3.12")
def test_eager_tasks_start_at_once(loop):
    order = []

    async def child():
        order.append("child starts")
        await asyncio.sleep(0)
        order.append("child ends")
        return asyncio.current_task()

    async def main():
        task = loop.create_task(child())
        order.append("created")
        assert await task is task
        at_once = loop.create_task(no_wait())
        assert at_once.done()
        assert at_once.result() == "at once"

    async def no_wait():
        return "at once"

    loop.set_task_factory(asyncio.eager_task_factory)
    loop.run_until_complete(main())
    assert order == ["child starts", "created", "child ends"]


@pytest.mark.skipif(
    sys.version_info < (3, 13, 3), reason="create_task passes keywords on from 3.13.3"
)
def test_create_task_passes_every_keyword_to_the_factory(loop):
    seen = []

    def factory(loop, coro, **kwargs):
        seen.append(dict(kwargs))
        kwargs.pop("custom", None)
        return asyncio.Task(coro, loop=loop, **kwargs)

    loop.set_task_factory(factory)
    loop.run_until_complete(loop.create_task(answer(), custom=1))
    assert seen[0]["custom"] == 1


@pytest.mark.skipif(sys.version_info < (3, 14), reason="create_task(eager_start=) is new in 3.14")
def test_a_single_task_can_start_eagerly(loop):
    async def at_once():
        return "at once"

    async def main():
        task = loop.create_task(at_once(), eager_start=True)
        assert task.done()
        return task.result()

    assert loop.run_until_complete(main()) == "at once"


def test_the_current_task_is_known_while_it_runs(loop):
    async def main():
        return asyncio.current_task()

    task = loop.create_task(main())
    assert loop.run_until_complete(task) is task
    assert asyncio.current_task(loop) is None


def test_done_callbacks_run_in_an_iteration_of_their_own(loop):
    order = []

    async def main():
        future = loop.create_future()
        future.add_done_callback(lambda f: order.append(f.result()))
        future.set_result("done")
        order.append("set")
        await asyncio.sleep(0)

    loop.run_until_complete(main())
    assert order == ["set", "done"]
