"""``tokioloop.gather``: asyncio's, whichever loop runs and whatever is gathered."""

from __future__ import annotations

import asyncio
import contextvars
import gc
import sys
import warnings
import weakref

import pytest

VALUE = contextvars.ContextVar("VALUE", default="default")


async def give(value, after=0):
    for _ in range(after):
        await asyncio.sleep(0)
    return value


async def fail(error, after=0):
    for _ in range(after):
        await asyncio.sleep(0)
    raise error


async def caught(awaitable):
    try:
        return await awaitable
    except BaseException as error:
        return error


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


def test_how_many_turns_it_takes(both):
    async def script(api):
        turns = []
        for make in (
            lambda: api.gather(),
            lambda: api.gather(give(1)),
            lambda: api.gather(give(1), give(2, after=3)),
        ):
            outer, count = make(), 0
            while not outer.done():
                await asyncio.sleep(0)
                count += 1
            turns.append(count)
        return turns

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


def test_exceptions_nobody_asked_for_are_not_reported(both):
    async def script(api):
        await caught(api.gather(fail(OSError("first")), fail(KeyError("second"), after=2)))
        for _ in range(5):
            await asyncio.sleep(0)
        gc.collect()

    both(script)


def test_a_gather_that_failed_and_nobody_awaits_is_reported(both):
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
def test_what_is_done_already(both, return_exceptions):
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
def test_what_is_no_awaitable(both, wrong):
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
def test_the_call_graph_knows_who_waits(both):
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
def test_a_list_of_children_that_somebody_changed(both, change, return_exceptions, cancelled):
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
