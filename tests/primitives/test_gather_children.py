"""The children of ``tokioloop.gather``: how they are made, and the list of them."""

from __future__ import annotations

import asyncio
import gc
import sys
import weakref

import pytest

from primitives.scripts import VALUE, caught, fail, give


def test_each_child_has_a_context_a_name_and_itself(both):
    async def script(api):
        seen = []

        async def child():
            seen.append(VALUE.get())
            VALUE.set("changed by a child")
            task = asyncio.current_task()
            seen.append(task in asyncio.all_tasks())
            seen.append(type(task) is asyncio.Task)
            seen.append(task.get_name())

        VALUE.set("given")
        await api.gather(child(), child())
        return seen, VALUE.get()

    both(script)


def test_children_are_numbered_one_after_the_other(loop, native):
    async def number():
        return int(asyncio.current_task().get_name().partition("-")[2])

    async def main():
        return await native.gather(number(), number(), number())

    first, *others = loop.run_until_complete(main())
    assert others == [first + 1, first + 2]


def test_it_looks_like_asyncios(both):
    async def script(api):
        future = asyncio.get_running_loop().create_future()
        outer = api.gather(future, give(1))
        shown = repr(outer), repr(future), type(outer).__name__, outer._children[0] is future
        future.set_result(None)
        await outer
        return shown, repr(outer)

    both(script)


def test_children_are_let_go_of(loop, native):
    class Value:
        pass

    async def main():
        for failing in (False, True):
            value = Value()
            gone = weakref.ref(value)
            children = [give(value), fail(OSError())] if failing else [give(value), give(2)]
            await caught(native.gather(*children))
            del children, value
            for _ in range(3):
                await asyncio.sleep(0)
            gc.collect()
            assert gone() is None

    loop.run_until_complete(main())


def test_it_can_be_shielded_waited_for_and_timed_out(both):
    async def script(api):
        first = await asyncio.wait_for(api.gather(give(1), give(2)), 10)
        second = await asyncio.shield(api.gather(give(3)))
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(api.gather(asyncio.sleep(60)), 0.01)
        done, _ = await asyncio.wait([api.gather(give(5))])
        return first, second, [d.result() for d in done], len(asyncio.all_tasks())

    both(script)


def test_a_task_factory_makes_the_children(both):
    async def script(api):
        made = []

        def factory(loop, coro, **options):
            made.append(coro.__name__)
            return asyncio.Task(coro, loop=loop, **options)

        loop = asyncio.get_running_loop()
        loop.set_task_factory(factory)
        outcome = await api.gather(give(1), give(2))
        loop.set_task_factory(None)
        return outcome, made

    both(script)


@pytest.mark.skipif(sys.version_info < (3, 12), reason="eager tasks are new in 3.12")
def test_eager_children_may_be_done_at_once(both):
    async def script(api):
        asyncio.get_running_loop().set_task_factory(asyncio.eager_task_factory)
        outer = api.gather(give(1), give(2))
        return outer.done(), await outer

    assert both(script) == [True, [1, 2]]


@pytest.mark.skipif(sys.version_info < (3, 14), reason="call graphs are new in 3.14")
def test_the_call_graph_shows_the_awaiting_task(both):
    async def script(api):
        graphs = []

        def waiters(task):
            return [
                frame.future.get_name() for frame in asyncio.capture_call_graph(task).awaited_by
            ]

        async def child():
            await asyncio.sleep(60)

        async def parent():
            tasks.extend(asyncio.ensure_future(child()) for _ in range(2))
            with pytest.raises(asyncio.CancelledError):
                await api.gather(*tasks)

        tasks = []
        task = asyncio.create_task(parent(), name="parent")
        for _ in range(3):
            await asyncio.sleep(0)
        graphs.append([waiters(task) for task in tasks])
        tasks[0].cancel()
        await task
        graphs.append([waiters(task) for task in tasks])
        tasks[1].cancel()
        return graphs

    both(script)


def test_on_another_loop_it_is_asyncios(native):
    async def main():
        return await native.gather(give(1), native.sleep(0, 2))

    loop = asyncio.SelectorEventLoop()
    assert loop.run_until_complete(main()) == [1, 2]
    loop.close()


# Others have the list of children, too


@pytest.mark.parametrize("cancelled", [False, True])
@pytest.mark.parametrize("return_exceptions", [False, True])
@pytest.mark.parametrize(
    "change",
    [
        list.clear,
        list.pop,
        list.reverse,
        lambda children: children.append(children[0]),
        lambda children: children.append("no future"),
        lambda children: children.__setitem__(0, None),
        lambda children: children.extend(children * 50),
        lambda children: children.__delitem__(slice(1, None)),
    ],
)
def test_a_list_of_children_that_a_program_changed(both, change, return_exceptions, cancelled):
    async def script(api):
        loop = asyncio.get_running_loop()
        futures = [loop.create_future() for _ in range(3)]
        outer = api.gather(*futures, return_exceptions=return_exceptions)
        if cancelled:
            outer.cancel()
        change(outer._children)
        for number, future in enumerate(futures):
            if not future.done():
                future.set_result(number)
        await asyncio.wait([outer], timeout=0.05)
        return await caught(outer) if outer.done() else "never done"

    both(script)


def test_a_list_of_children_that_changes_while_it_is_read(both):
    async def script(api):
        loop = asyncio.get_running_loop()
        futures = [loop.create_future() for _ in range(3)]
        outer = api.gather(*futures)
        children, asked = outer._children, []

        class Child:
            def cancelled(self):
                asked.append(len(children))
                if len(asked) < 5:
                    children.append(Child())
                else:
                    children.clear()
                return False

            def exception(self):
                return None

            def result(self):
                return len(asked)

        children[1] = Child()
        for future in futures:
            future.set_result("ours")
        return await asyncio.wait_for(outer, 1), asked

    both(script)
