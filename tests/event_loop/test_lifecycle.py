"""Running, stopping and closing a loop, and the calls that a loop refuses in each state."""

import asyncio
import gc
import socket
import sys
import threading
import warnings
import weakref

import pytest

from support.iterations import run_one_iteration

refused_runs_do_no_harm = pytest.mark.native_only(
    when=sys.version_info[:3] == (3, 13, 0),
    reason="in CPython 3.13.0 a refused run resets the loop that is running",
)


async def answer(value=42):
    await asyncio.sleep(0)
    return value


# run_until_complete


def test_run_until_complete_returns_what_the_coroutine_returns(loop):
    assert loop.run_until_complete(answer()) == 42


def test_run_until_complete_takes_futures_tasks_and_other_awaitables(loop):
    class Awaitable:
        def __await__(self):
            return (yield from answer("awaitable").__await__())

    future = loop.create_future()
    loop.call_soon(future.set_result, "future")
    assert loop.run_until_complete(future) == "future"
    assert loop.run_until_complete(loop.create_task(answer("task"))) == "task"
    assert loop.run_until_complete(Awaitable()) == "awaitable"
    assert loop.run_until_complete(future) == "future"


def test_run_until_complete_raises_what_the_coroutine_raises(loop):
    async def fails():
        raise LookupError("lost")

    with pytest.raises(LookupError, match="lost"):
        loop.run_until_complete(fails())
    assert loop.run_until_complete(answer()) == 42


def test_run_until_complete_raises_cancellation(loop):
    async def cancels_itself():
        asyncio.current_task().cancel()
        await asyncio.sleep(1)

    with pytest.raises(asyncio.CancelledError):
        loop.run_until_complete(cancels_itself())


@pytest.mark.parametrize("what", [None, 42, "text", answer])
def test_run_until_complete_refuses_objects_that_cannot_be_awaited(loop, what):
    with pytest.raises(TypeError, match="awaitable is required"):
        loop.run_until_complete(what)


def test_run_until_complete_refuses_the_future_of_another_loop(loop, loop_factory):
    other = loop_factory()
    future = other.create_future()
    with pytest.raises(ValueError, match="belongs to a different loop"):
        loop.run_until_complete(future)
    other.close()


def test_run_until_complete_raises_when_stopped_before_the_future_is_done(loop):
    loop.call_soon(loop.stop)
    future = loop.create_future()
    with pytest.raises(RuntimeError, match=r"Event loop stopped before Future completed\."):
        loop.run_until_complete(future)
    assert not future.done()


@pytest.mark.parametrize("error", [SystemExit, KeyboardInterrupt])
def test_exit_and_interrupt_leave_the_loop_at_once_and_it_can_run_again(loop, error):
    after = []

    async def leaves():
        loop.call_soon(after.append, "next iteration")
        raise error(3)

    with pytest.raises(error):
        loop.run_until_complete(leaves())
    assert not loop.is_running()
    assert after == []
    assert loop.run_until_complete(answer()) == 42
    assert after == ["next iteration"]


@pytest.mark.parametrize("error", [SystemExit, KeyboardInterrupt])
def test_exit_and_interrupt_in_a_callback_leave_the_rest_of_the_batch_for_the_next_run(loop, error):
    order = []

    def leaves():
        order.append("leaves")
        raise error(3)

    loop.call_soon(leaves)
    loop.call_soon(order.append, "after")
    with pytest.raises(error):
        loop.run_forever()
    assert order == ["leaves"]
    run_one_iteration(loop)
    assert order == ["leaves", "after"]


# run_forever and stop


def test_run_forever_runs_until_it_is_stopped(loop):
    loop.call_later(0.01, loop.stop)
    assert loop.run_forever() is None


def test_stop_before_the_run_makes_it_one_iteration(loop):
    order = []
    loop.call_soon(order.append, 1)
    loop.call_soon(loop.call_soon, order.append, 2)
    loop.stop()
    loop.stop()
    loop.run_forever()
    assert order == [1]
    run_one_iteration(loop)
    assert order == [1, 2]


def test_stop_after_the_run_counts_for_the_next(loop):
    run_one_iteration(loop)
    loop.call_soon(loop.stop)
    loop.run_forever()
    assert not loop.is_running()


def test_is_running_while_and_only_while_it_runs(loop):
    seen = []
    loop.call_soon(lambda: seen.append(loop.is_running()))
    assert loop.is_running() is False
    run_one_iteration(loop)
    assert loop.is_running() is False
    assert seen == [True]


def test_the_running_loop_is_the_one_that_runs(loop):
    seen = []
    loop.call_soon(lambda: seen.append(asyncio.get_running_loop()))
    loop.call_soon(lambda: seen.append(asyncio.get_event_loop()))
    run_one_iteration(loop)
    assert seen == [loop, loop]
    with pytest.raises(RuntimeError, match="no running event loop"):
        asyncio.get_running_loop()


@refused_runs_do_no_harm
def test_a_running_loop_cannot_be_run_again(loop):
    errors = []

    def nested():
        for run in (loop.run_forever, lambda: loop.run_until_complete(loop.create_future())):
            with pytest.raises(RuntimeError) as raised:
                run()
            errors.append(str(raised.value))

    loop.call_soon(nested)
    run_one_iteration(loop)
    assert errors == ["This event loop is already running"] * 2


@refused_runs_do_no_harm
def test_no_other_loop_can_be_run_inside_a_running_one(loop, loop_factory):
    other = loop_factory()
    errors = []

    def nested():
        with pytest.raises(RuntimeError) as raised:
            other.run_forever()
        errors.append(str(raised.value))
        running.append(asyncio.get_running_loop())

    running = []
    loop.call_soon(nested)
    run_one_iteration(loop)
    assert errors == ["Cannot run the event loop while another loop is running"]
    assert running == [loop]
    assert other.run_until_complete(answer()) == 42
    other.close()


@refused_runs_do_no_harm
def test_a_loop_running_in_one_thread_cannot_be_run_in_another(loop):
    errors = []

    def elsewhere():
        try:
            loop.run_forever()
        except RuntimeError as error:
            errors.append(str(error))
        loop.call_soon_threadsafe(loop.stop)

    thread = threading.Thread(target=elsewhere)
    loop.call_soon(thread.start)
    loop.run_forever()
    thread.join()
    assert errors == ["This event loop is already running"]


# close


def test_a_loop_can_be_closed_twice(loop):
    assert not loop.is_closed()
    assert loop.close() is None
    assert loop.is_closed()
    loop.close()
    assert loop.is_closed()
    assert not loop.is_running()


def test_a_running_loop_cannot_be_closed(loop):
    errors = []

    def closes():
        with pytest.raises(RuntimeError) as raised:
            loop.close()
        errors.append(str(raised.value))

    loop.call_soon(closes)
    run_one_iteration(loop)
    assert errors == ["Cannot close a running event loop"]
    assert loop.run_until_complete(answer()) == 42


def test_closing_drops_scheduled_calls(loop_factory):
    class Argument:
        pass

    loop = loop_factory()
    ready, later = Argument(), Argument()
    gone = [weakref.ref(ready), weakref.ref(later)]
    loop.call_soon(print, ready)
    loop.call_later(60, print, later)
    del ready, later
    loop.close()
    gc.collect()
    assert [ref() for ref in gone] == [None, None]


@pytest.mark.parametrize(
    "method",
    [
        lambda loop: loop.call_soon(print),
        lambda loop: loop.call_soon_threadsafe(print),
        lambda loop: loop.call_later(1, print),
        lambda loop: loop.call_at(1, print),
        lambda loop: loop.run_forever(),
        lambda loop: loop.run_until_complete(loop.create_future()),
        lambda loop: loop.run_in_executor(None, print),
        lambda loop: loop.add_reader(0, print),
        lambda loop: loop.add_writer(0, print),
    ],
    ids=lambda method: method.__code__.co_names[0],
)
def test_a_closed_loop_refuses_to_work(loop, method):
    loop.close()
    with pytest.raises(RuntimeError, match="Event loop is closed"):
        method(loop)


def test_a_closed_loop_refuses_coroutines_and_leaves_them_unstarted(loop):
    loop.close()
    coroutine = answer()
    with pytest.raises(RuntimeError, match="Event loop is closed"):
        loop.run_until_complete(coroutine)
    with pytest.raises(RuntimeError, match="Event loop is closed"):
        loop.create_task(coroutine)
    coroutine.close()


def test_a_closed_loop_can_still_be_stopped_and_queried(loop):
    loop.close()
    loop.stop()
    assert loop.time() > 0
    assert loop.get_debug() in (True, False)
    assert loop.create_future().get_loop() is loop
    assert not loop.is_running()


def test_a_watched_descriptor_stays_open_when_the_loop_is_closed(loop):
    left, right = socket.socketpair()
    with left, right:
        loop.add_reader(left, print)
        loop.close()
        right.send(b"x")
        assert left.recv(1) == b"x"


def test_a_loop_that_is_never_closed_is_reported(loop_factory):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        loop = loop_factory()
        text = repr(loop)
        del loop
        gc.collect()
    messages = [str(w.message) for w in caught if w.category is ResourceWarning]
    assert f"unclosed event loop {text}" in messages


def test_a_closed_loop_is_not_reported(loop_factory):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        loop = loop_factory()
        loop.run_until_complete(answer())
        loop.close()
        del loop
        gc.collect()
    assert [w for w in caught if w.category is ResourceWarning] == []


def test_a_loop_in_reference_cycles_is_collected(loop_factory):
    loop = loop_factory()
    gone = weakref.ref(loop)
    loop.myself = loop
    loop.set_exception_handler(lambda loop_, context, keep=loop: None)
    loop.set_task_factory(lambda loop_, coro, keep=loop, **kw: asyncio.Task(coro, loop=loop_, **kw))
    loop.call_soon(lambda keep=loop: None)
    loop.call_later(60, lambda keep=loop: None)
    loop.run_until_complete(answer())
    loop.call_soon(lambda keep=loop: None)
    loop.close()
    del loop
    gc.collect()
    assert gone() is None


def test_the_repr_shows_the_state(loop):
    name = "tokioloop.Loop" if type(loop).__name__ == "Loop" else type(loop).__name__
    assert repr(loop) == f"<{name} running=False closed=False debug=False>"
    running = []
    loop.call_soon(lambda: running.append(repr(loop)))
    run_one_iteration(loop)
    assert running == [f"<{name} running=True closed=False debug=False>"]
    loop.set_debug(True)
    loop.close()
    assert repr(loop) == f"<{name} running=False closed=True debug=True>"


def test_a_loop_is_an_asyncio_loop(loop):
    assert isinstance(loop, asyncio.AbstractEventLoop)
    assert isinstance(loop, asyncio.SelectorEventLoop)
    assert weakref.ref(loop)() is loop
    assert {loop: 1}[loop] == 1
    loop.own_attribute = 1
    assert loop.own_attribute == 1


def test_a_loop_can_be_subclassed(loop):
    class Named(type(loop)):
        def __init__(self, name):
            super().__init__()
            self.name = name

        def call_soon(self, callback, *args, context=None):
            scheduled.append(callback)
            return super().call_soon(callback, *args, context=context)

    scheduled = []
    named = Named("mine")
    try:
        named.call_soon(named.stop)
        named.run_forever()
        assert scheduled == [named.stop]
        assert named.name == "mine"
    finally:
        named.close()


def test_many_loops_one_after_the_other_leave_nothing_open(loop, loop_factory):
    for _ in range(50):
        other = loop_factory()
        assert other.run_until_complete(answer()) == 42
        other.close()


def test_a_loop_that_never_ran_leaves_nothing_open(loop, loop_factory):
    for _ in range(50):
        loop_factory().close()


def test_run_forever_calls_a_run_once_of_a_program(loop):
    class Mine(type(loop)):
        iterations = 0

        def _run_once(self):
            self.iterations += 1
            super()._run_once()

    mine = Mine()
    try:
        assert mine.run_until_complete(asyncio.sleep(0.001, "slept")) == "slept"
        assert 2 <= mine.iterations < 100
    finally:
        mine.close()
