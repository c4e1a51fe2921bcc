"""The order of calls: call_soon, call_soon_threadsafe, the batch, the ready queue and contexts."""

import asyncio
import contextvars
import functools
import sys
import threading
import time

import pytest

from support.iterations import run_one_iteration

name = contextvars.ContextVar("name", default="unset")


def test_callbacks_run_in_the_order_they_were_scheduled(loop):
    order = []
    for i in range(1000):
        loop.call_soon(order.append, i)
    run_one_iteration(loop)
    assert order == list(range(1000))


def test_a_callback_gets_exactly_the_arguments_it_was_scheduled_with(loop):
    calls = []
    for count in (0, 1, 2, 3, 4, 5, 8, 9, 50):
        loop.call_soon(lambda *args: calls.append(args), *range(count))
    run_one_iteration(loop)
    assert calls == [tuple(range(count)) for count in (0, 1, 2, 3, 4, 5, 8, 9, 50)]


def test_call_soon_never_calls_the_callback_itself(loop):
    called = []
    loop.call_soon(called.append, 1)
    assert called == []
    run_one_iteration(loop)
    assert called == [1]


def test_a_call_scheduled_by_a_callback_runs_in_the_next_iteration(loop):
    order = []

    def first():
        order.append("first")
        loop.call_soon(order.append, "scheduled by first")

    loop.call_soon(first)
    loop.call_soon(order.append, "second")
    run_one_iteration(loop)
    assert order == ["first", "second"]
    run_one_iteration(loop)
    assert order == ["first", "second", "scheduled by first"]


def test_stop_lets_the_current_batch_finish_and_nothing_more(loop):
    order = []

    def stopping():
        loop.stop()
        order.append("stopping")
        loop.call_soon(order.append, "next iteration")

    loop.call_soon(stopping)
    loop.call_soon(order.append, "same batch")
    loop.run_forever()
    assert order == ["stopping", "same batch"]
    run_one_iteration(loop)
    assert order == ["stopping", "same batch", "next iteration"]


def test_a_long_chain_of_callbacks_takes_one_iteration_each(loop):
    steps = []

    def step(left):
        steps.append(left)
        if left:
            loop.call_soon(step, left - 1)
        else:
            loop.stop()

    loop.call_soon(step, 5000)
    loop.run_forever()
    assert steps == list(range(5000, -1, -1))


def test_an_endless_chain_of_callbacks_starves_neither_timers_nor_other_threads(loop):
    events = []

    def chain():
        if len(events) < 2:
            loop.call_soon(chain)
        else:
            loop.stop()

    loop.call_soon(chain)
    loop.call_later(0.01, events.append, "timer")
    thread = threading.Thread(target=loop.call_soon_threadsafe, args=(events.append, "thread"))
    thread.start()
    loop.run_forever()
    thread.join()
    assert sorted(events) == ["thread", "timer"]


def test_a_cancelled_callback_does_not_run(loop):
    called = []
    handles = [loop.call_soon(called.append, i) for i in range(6)]
    for handle in handles[::2]:
        handle.cancel()
    run_one_iteration(loop)
    assert called == [1, 3, 5]


def test_a_callback_can_cancel_another_of_its_own_batch(loop):
    called = []

    def cancel_the_other():
        other.cancel()

    loop.call_soon(cancel_the_other)
    other = loop.call_soon(called.append, "other")
    run_one_iteration(loop)
    assert called == []


def test_a_batch_of_cancelled_callbacks_does_not_keep_the_loop_from_parking(loop):
    for _ in range(100):
        loop.call_soon(lambda: None).cancel()
    started = time.process_time()
    loop.run_until_complete(asyncio.sleep(0.2))
    assert time.process_time() - started < 0.15


def test_the_callback_keeps_its_arguments_alive_only_until_it_has_run(loop):
    class Argument:
        pass

    argument = Argument()
    handle = loop.call_soon(lambda arg: None, argument)
    base = sys.getrefcount(argument)
    run_one_iteration(loop)
    del handle
    assert sys.getrefcount(argument) == base - 1


def test_any_callable_will_do(loop):
    class Callable:
        def __call__(self, value):
            seen.append(value)

    seen = []
    loop.call_soon(Callable(), "object")
    loop.call_soon(functools.partial(seen.append, "partial"))
    loop.call_soon(Callable().__call__, "method")
    run_one_iteration(loop)
    assert seen == ["object", "partial", "method"]


@pytest.mark.parametrize("method", ["call_soon", "call_soon_threadsafe"])
@pytest.mark.parametrize("what", [None, 42, "text", object()])
def test_debug_mode_refuses_objects_that_cannot_be_called(loop, method, what):
    loop.set_debug(True)
    with pytest.raises(TypeError, match=rf"a callable object was expected by {method}\(\)"):
        getattr(loop, method)(what)


@pytest.mark.parametrize("method", ["call_soon", "call_soon_threadsafe"])
def test_debug_mode_refuses_coroutines(loop, method):
    async def coroutine_function():
        pass

    loop.set_debug(True)
    coroutine = coroutine_function()
    for what in (coroutine_function, coroutine):
        with pytest.raises(TypeError, match=rf"coroutines cannot be used with {method}\(\)"):
            getattr(loop, method)(what)
    coroutine.close()


def test_a_callback_that_cannot_be_called_is_reported_when_it_should_run(loop):
    contexts = []
    loop.set_exception_handler(lambda loop, context: contexts.append(context))
    loop.call_soon(42)
    run_one_iteration(loop)
    (context,) = contexts
    assert isinstance(context["exception"], TypeError)
    assert "not callable" in str(context["exception"])


@pytest.mark.parametrize("method", ["call_soon", "call_soon_threadsafe"])
def test_scheduling_takes_no_unknown_keywords(loop, method):
    with pytest.raises(TypeError):
        getattr(loop, method)(print, unknown=1)
    with pytest.raises(TypeError):
        getattr(loop, method)()


# Contexts


def test_a_callback_runs_in_the_context_it_was_scheduled_in(loop):
    seen = []
    token = name.set("scheduling")
    loop.call_soon(lambda: seen.append(name.get()))
    name.reset(token)
    run_one_iteration(loop)
    assert seen == ["scheduling"]
    assert name.get() == "unset"


def test_a_variable_set_by_a_callback_stays_in_the_context_copied_for_it(loop):
    seen = []
    loop.call_soon(name.set, "changed")
    loop.call_soon(lambda: seen.append(name.get()))
    run_one_iteration(loop)
    assert seen == ["unset"]


@pytest.mark.parametrize("method", ["call_soon", "call_soon_threadsafe", "call_later", "call_at"])
def test_a_callback_runs_in_the_context_it_is_given(loop, method):
    delay = {"call_later": [0.001], "call_at": [loop.time()]}.get(method, [])
    context = contextvars.copy_context()
    context.run(name.set, "given")
    seen = []

    def callback():
        seen.append(name.get())
        name.set("left behind")
        loop.stop()

    getattr(loop, method)(*delay, callback, context=context)
    loop.run_forever()
    assert seen == ["given"]
    assert context[name] == "left behind"
    assert name.get() == "unset"


def test_many_callbacks_can_share_one_context(loop):
    context = contextvars.copy_context()
    for i in range(10):
        loop.call_soon(lambda i=i: name.set(f"{name.get()} {i}"), context=context)
    run_one_iteration(loop)
    assert context[name] == "unset " + " ".join(map(str, range(10)))


class ContextOfOnesOwn:
    """Has what asyncio asks of a context, and nothing else."""

    def __init__(self):
        self.ran = 0

    def run(self, callback, *args):
        self.ran += 1
        return callback(*args)


@pytest.mark.parametrize("count", (0, 2, 3, 4, 9))
@pytest.mark.parametrize("keep", (False, True))
@pytest.mark.parametrize("method", ("call_soon", "call_later", "call_at", "call_soon_threadsafe"))
def test_an_object_with_a_run_will_do_for_a_context(loop, method, keep, count):
    context, calls, handles = ContextOfOnesOwn(), [], []
    when = {"call_later": (0,), "call_at": (loop.time(),)}.get(method, ())
    callback = lambda *args: calls.append(args)  # noqa: E731
    handle = getattr(loop, method)(*when, callback, *range(count), context=context)
    if keep:
        handles.append(handle)
    del handle
    loop.call_later(0.01, loop.stop)
    loop.run_forever()
    assert calls == [tuple(range(count))]
    assert context.ran == 1


@pytest.mark.skipif(
    not (3, 11) <= sys.version_info < (3, 15),
    reason="before 3.11 tasks take no context, from 3.15 on none but CPython's own",
)
def test_a_task_runs_in_an_object_with_a_run(loop):
    context = ContextOfOnesOwn()

    async def steps():
        for _ in range(3):
            await asyncio.sleep(0)
        await asyncio.sleep(0.001)
        return "done"

    assert loop.run_until_complete(loop.create_task(steps(), context=context)) == "done"
    assert context.ran == 5


@pytest.mark.parametrize("keep", (False, True))
def test_an_object_that_is_no_context_is_reported_when_it_is_run(loop, caplog, keep):
    ran = []
    handle = loop.call_soon(ran.append, "never", context=5)
    if not keep:
        del handle
    run_one_iteration(loop)
    assert ran == []
    assert "'int' object has no attribute 'run'" in caplog.text


@pytest.mark.parametrize("keep", (False, True))
def test_an_error_out_of_an_object_with_a_run_is_reported(loop, caplog, keep):
    handle = loop.call_soon(lambda: 1 / 0, context=ContextOfOnesOwn())
    if not keep:
        del handle
    run_one_iteration(loop)
    assert "ZeroDivisionError" in caplog.text
    with pytest.raises(SystemExit):
        loop.call_soon(sys.exit, 3, context=ContextOfOnesOwn())
        loop.run_forever()


def test_a_call_in_an_object_with_a_run_may_cancel_itself(loop):
    seen = []

    class Cancels(ContextOfOnesOwn):
        def run(self, callback, *args):
            handle.cancel()
            return super().run(callback, *args)

    handle = loop.call_soon(seen.append, "called", context=Cancels())
    run_one_iteration(loop)
    assert seen == ["called"]
    assert handle.cancelled()


def test_a_context_that_is_none_means_a_copy_of_the_current_one(loop):
    seen = []
    token = name.set("current")
    loop.call_soon(lambda: seen.append(name.get()), context=None)
    name.reset(token)
    run_one_iteration(loop)
    assert seen == ["current"]


def test_a_callback_in_a_context_that_is_already_entered_is_reported(loop, caplog):
    context = contextvars.copy_context()
    ran = []
    loop.call_soon(ran.append, "entered twice", context=context)
    loop.call_soon(ran.append, "next")
    context.run(run_one_iteration, loop)
    assert ran == ["next"]
    assert "Exception in callback" in caplog.text
    assert "already entered" in caplog.text


# From other threads


def test_a_destructor_that_runs_as_the_loop_falls_asleep_wakes_it(loop):
    """The loop may hold the last reference to a context, and drops it before it blocks."""
    variable = contextvars.ContextVar("variable")
    late = []

    class Last:
        def __del__(self):
            loop.call_soon(loop.stop)

    def schedule():
        variable.set(Last())
        loop.call_soon(int)

    def give_up():
        late.append(True)
        loop.stop()

    timer = loop.call_later(10, give_up)
    contextvars.copy_context().run(schedule)
    loop.run_forever()
    timer.cancel()
    assert not late


def test_call_soon_threadsafe_wakes_an_idle_loop(loop):
    woken_after = []
    threads = []

    def wake():
        # Only once the loop has had time to park is this a test of the wake-up.
        time.sleep(0.1)
        sent = time.monotonic()
        loop.call_soon_threadsafe(lambda: woken_after.append(time.monotonic() - sent))
        loop.call_soon_threadsafe(loop.stop)

    threads.append(threading.Thread(target=wake))
    loop.call_soon(threads[0].start)
    loop.run_forever()
    threads[0].join()
    assert woken_after[0] < 0.5


def test_call_soon_threadsafe_keeps_the_order_of_each_thread(loop):
    each, thread_count = 2000, 4
    seen = []

    def flood(who):
        for i in range(each):
            loop.call_soon_threadsafe(seen.append, (who, i))

    threads = [threading.Thread(target=flood, args=(who,)) for who in range(thread_count)]
    for thread in threads:
        thread.start()
    while len(seen) < each * thread_count:
        run_one_iteration(loop)
    for thread in threads:
        thread.join()
    for who in range(thread_count):
        assert [i for w, i in seen if w == who] == list(range(each))


def test_call_soon_threadsafe_from_the_loops_own_thread_keeps_its_place(loop):
    order = []
    loop.call_soon(order.append, 1)
    loop.call_soon_threadsafe(order.append, 2)
    loop.call_soon(order.append, 3)
    run_one_iteration(loop)
    assert order == [1, 2, 3]


def test_call_soon_threadsafe_returns_a_handle_that_can_be_cancelled(loop):
    called = []
    handles = []

    def schedule():
        handles.append(loop.call_soon_threadsafe(called.append, 1))

    thread = threading.Thread(target=schedule)
    thread.start()
    thread.join()
    assert isinstance(handles[0], asyncio.Handle)
    handles[0].cancel()
    run_one_iteration(loop)
    assert called == []


def test_a_callback_scheduled_before_the_loop_runs_waits_for_it(loop):
    seen = []

    def schedule():
        loop.call_soon_threadsafe(lambda: seen.append(threading.current_thread()))

    thread = threading.Thread(target=schedule)
    thread.start()
    thread.join()
    run_one_iteration(loop)
    assert seen == [threading.main_thread()]


def test_sleep_zero_yields_exactly_one_iteration(loop):
    order = []

    async def task(who):
        for step in range(3):
            order.append((who, step))
            await asyncio.sleep(0)

    async def main():
        await asyncio.gather(task("a"), task("b"))

    loop.run_until_complete(main())
    assert order == [(who, step) for step in range(3) for who in "ab"]


@pytest.mark.parametrize(
    ("method", "given"),
    [
        ("call_soon", ()),
        ("call_soon_threadsafe", ()),
        ("call_later", ()),
        ("call_later", (1,)),
        ("call_at", ()),
        ("call_at", (1,)),
    ],
)
def test_a_missing_argument_is_named(loop, method, given):
    missing = [{"call_later": "'delay'", "call_at": "'when'"}.get(method), "'callback'"]
    missing = [name for name in missing if name][len(given) :]
    plural = "s" if len(missing) > 1 else ""
    with pytest.raises(TypeError) as caught:
        getattr(loop, method)(*given)
    assert str(caught.value) == (
        f"BaseEventLoop.{method}() missing {len(missing)} required positional "
        f"argument{plural}: {' and '.join(missing)}"
    )
    with pytest.raises(TypeError, match=rf"BaseEventLoop\.{method}\(\) got an unexpected keyword"):
        getattr(loop, method)(*given, *[print] * len(missing), colour="red")
