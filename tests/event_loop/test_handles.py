"""Handles: what call_soon and call_later return is asyncio's, in type and in behaviour."""

import asyncio
import contextvars
import functools
import gc
import socket
import sys
import weakref

import pytest

from support.iterations import run_briefly


def callback(*args):
    pass


@pytest.fixture
def handle(loop):
    return loop.call_soon(callback, 1, 2)


@pytest.fixture
def timer(loop):
    timer = loop.call_later(60, callback, 1, 2)
    yield timer
    timer.cancel()


def test_handles_are_asyncio_handles(loop, handle, timer):
    assert isinstance(handle, asyncio.Handle)
    assert not isinstance(handle, asyncio.TimerHandle)
    assert isinstance(timer, asyncio.TimerHandle)
    assert isinstance(timer, asyncio.Handle)
    assert isinstance(loop.call_at(0, callback), asyncio.TimerHandle)
    assert isinstance(loop.call_soon_threadsafe(callback), asyncio.Handle)


def test_cancelling_is_remembered_and_can_be_repeated(handle, timer):
    for one in (handle, timer):
        assert one.cancelled() is False
        assert one.cancel() is None
        assert one.cancelled() is True
        one.cancel()
        assert one.cancelled() is True


def test_cancelling_after_it_ran_is_harmless(loop):
    ran = []
    handle = loop.call_soon(ran.append, 1)
    timer = loop.call_later(0, ran.append, 2)
    while len(ran) < 2:
        run_briefly(loop)
    assert not handle.cancelled()
    assert not timer.cancelled()
    handle.cancel()
    timer.cancel()
    run_briefly(loop)
    assert sorted(ran) == [1, 2]


def test_a_callback_can_cancel_its_own_handle_while_it_runs(loop):
    ran = []

    def own():
        handle.cancel()
        ran.append(handle.cancelled())

    handle = loop.call_soon(own)
    run_briefly(loop)
    assert ran == [True]


@pytest.mark.parametrize("debug", [False, True])
@pytest.mark.parametrize("kind", ["call_soon", "call_later", "call_soon_threadsafe", "_add_reader"])
def test_a_handle_cancelled_by_its_own_callback_shows_nothing_of_it(loop, kind, debug):
    loop.set_debug(debug)
    reports = []
    loop.set_exception_handler(lambda _loop, context: reports.append(context))
    near, far = socket.socketpair()

    def cancels(argument):
        handle.cancel()
        seen.append((handle._callback, handle._args, argument, "cancels" in repr(handle)))
        assert handle == handle
        handle._run()
        loop.stop()
        raise ZeroDivisionError

    seen = []
    before = {"call_later": (0,), "_add_reader": (near,)}.get(kind, ())
    with near, far:
        far.send(b"data")
        handle = getattr(loop, kind)(*before, cancels, "argument")
        loop.run_forever()
        loop.remove_reader(near)
    assert seen == [(None, None, "argument", debug)]
    errors = [type(report["exception"]) for report in reports]
    # Since 3.12 reports are made in the handle's context, which is entered already.
    assert errors == [TypeError, ZeroDivisionError][sys.version_info >= (3, 12) :]
    assert {report["message"] for report in reports} == {"Exception in callback None()"}


def test_cancelling_after_the_loop_was_closed_is_harmless(loop_factory):
    loop = loop_factory()
    handle = loop.call_soon(callback)
    timer = loop.call_later(60, callback)
    loop.close()
    handle.cancel()
    timer.cancel()
    assert handle.cancelled()
    assert timer.cancelled()


def test_a_cancelled_handle_releases_callback_and_arguments(loop):
    class Argument:
        pass

    for schedule in (loop.call_soon, lambda *args: loop.call_later(60, *args)):
        argument = Argument()
        gone = weakref.ref(argument)
        handle = schedule(callback, argument)
        del argument
        assert gone() is not None
        handle.cancel()
        gc.collect()
        assert gone() is None
        del handle


def test_the_repr_of_a_handle_is_the_standard_librarys(loop, handle):
    """It names the callback, where it is defined, and before 3.13 its arguments."""
    assert repr(handle) == repr(asyncio.Handle(callback, (1, 2), loop))
    assert repr(handle).startswith("<Handle callback(")
    handle.cancel()
    assert repr(handle) == "<Handle cancelled>"


def test_the_repr_of_a_timer_is_the_standard_librarys(loop, timer):
    assert repr(timer) == repr(asyncio.TimerHandle(timer.when(), callback, (1, 2), loop))
    assert repr(timer).startswith(f"<TimerHandle when={timer.when()} callback(")
    timer.cancel()
    assert repr(timer) == f"<TimerHandle cancelled when={timer.when()}>"


def test_in_debug_mode_the_repr_shows_where_the_handle_was_made(loop):
    loop.set_debug(True)
    handle, timer = loop.call_soon(callback, 1), loop.call_later(60, callback, 1)
    for one in (handle, timer):
        assert "callback(1)" in repr(one)
        assert "test_handles.py:" in repr(one).partition("created at ")[2]
        one.cancel()
        assert "cancelled" in repr(one)
        # What was called is kept as text in debug mode, for the log.
        assert "callback(1)" in repr(one)


def test_the_repr_of_a_handle_names_bound_methods_and_partials(loop):
    for what in ([].append, functools.partial(callback, 1), str.upper, callback.__call__):
        handle = loop.call_soon(what)
        assert repr(handle) == repr(asyncio.Handle(what, (), loop))
        handle.cancel()


def test_when_is_the_time_the_timer_is_due(loop):
    before = loop.time()
    timer = loop.call_later(10, callback)
    after = loop.time()
    assert before + 10 <= timer.when() <= after + 10
    timer.cancel()
    assert before + 10 <= timer.when() <= after + 10
    exact = loop.call_at(12345.5, callback)
    assert exact.when() == 12345.5
    exact.cancel()


def test_timers_order_by_their_time(loop):
    early, late = loop.call_at(1e9, callback), loop.call_at(2e9, callback)
    same = loop.call_at(1e9, callback)
    assert early < late
    assert late > early
    assert early <= same
    assert early <= late
    assert late >= early
    assert not late < early
    assert sorted([late, early]) == [early, late]
    for timer in (early, late, same):
        timer.cancel()


def test_equal_timers_compare_equal_as_the_standard_librarys_do(loop):
    one, two = loop.call_at(1e9, callback, 1), loop.call_at(1e9, callback, 1)
    other = loop.call_at(1e9, callback, 2)
    assert one == two
    assert one != other
    assert one != "something else"
    assert (one == 1) is False
    assert hash(one) == hash(two)
    for timer in (one, two, other):
        timer.cancel()


def test_timers_do_not_compare_with_anything_else(timer):
    with pytest.raises(TypeError):
        _ = timer < 5
    with pytest.raises(TypeError):
        _ = timer >= "text"


def test_a_handle_can_be_weakly_referenced_and_hashed(handle, timer):
    for one in (handle, timer):
        assert weakref.ref(one)() is one
        assert {one: 1}[one] == 1


def test_a_handle_that_is_kept_is_never_used_for_another_callback(loop):
    """Handles may be recycled inside the loop; one that a program holds may not."""
    kept = [loop.call_soon(callback, i) for i in range(50)]
    run_briefly(loop)
    ran = []
    fresh = [loop.call_soon(ran.append, i) for i in range(50)]
    for handle in kept:
        handle.cancel()
    run_briefly(loop)
    assert ran == list(range(50))
    assert not {id(handle) for handle in kept} & {id(handle) for handle in fresh}


def test_a_timer_handle_that_is_kept_is_never_used_for_another_callback(loop):
    kept = [loop.call_later(0, callback, i) for i in range(50)]
    loop.run_until_complete(asyncio.sleep(0.001))
    ran = []
    for i in range(50):
        loop.call_later(0, ran.append, i)
    for timer in kept:
        timer.cancel()
    loop.run_until_complete(asyncio.sleep(0.001))
    assert sorted(ran) == list(range(50))


@pytest.mark.skipif(sys.version_info < (3, 12), reason="Handle.get_context is new in 3.12")
def test_get_context_is_the_context_of_the_callback(loop):
    context = contextvars.copy_context()
    handle = loop.call_soon(callback, context=context)
    timer = loop.call_later(60, callback, context=context)
    assert handle.get_context() is context
    assert timer.get_context() is context
    assert isinstance(loop.call_soon(callback).get_context(), contextvars.Context)
    timer.cancel()


def test_a_cycle_through_a_handle_is_collected(loop):
    class Node:
        pass

    node = Node()
    gone = weakref.ref(node)
    node.handle = loop.call_soon(callback, node)
    node.timer = loop.call_later(0, callback, node)
    del node
    loop.run_until_complete(asyncio.sleep(0.01))
    gc.collect()
    assert gone() is None


def test_another_callback_may_be_put_in_the_place_of_one(loop):
    """As tools do that run handles by their own code."""
    ran = []

    class Once:
        """The handle has the only reference to the callback, which exchanges itself."""

        def __call__(self, *args):
            handle._callback = "another"
            gc.collect()
            ran.append((type(self).__name__, *args))

    handle = loop.call_soon(Once(), 1, 2)
    timer = loop.call_later(0, ran.append, "the timer's")
    kept = timer._callback
    timer._callback = lambda text: kept(text.upper())
    loop.run_until_complete(asyncio.sleep(0.01))
    assert ran == [("Once", 1, 2), "THE TIMER'S"]
    assert handle._callback == "another"


def test_a_callback_that_is_put_into_a_handle_is_freed_with_it(loop):
    def function():
        pass

    handle = loop.call_soon(callback)
    gone = weakref.ref(function)
    handle._callback = function
    del function
    handle.cancel()
    assert gone() is None
    assert handle._callback is None


def test_handles_dropped_and_kept_in_any_order_leave_every_call_in_its_place(loop):
    """A call whose handle is gone belongs to the loop alone; one that is kept can be cancelled."""
    ran = []
    handles = [loop.call_soon(ran.append, i) for i in range(90)]
    for i in range(0, 90, 3):
        handles[i].cancel()
    for i in range(89, 0, -3):
        handles[i] = None
    shown = repr(handles[1])
    assert "append" in shown
    run_briefly(loop)
    assert ran == [i for i in range(90) if i % 3]
    assert repr(handles[1]) == shown
    assert handles[1]._callback == ran.append
    assert handles[1]._args == (1,)


def test_a_handle_that_dies_while_the_batch_runs_takes_nothing_with_it(loop):
    ran = []
    kept = []

    def drop_the_others():
        kept.clear()
        ran.append("dropped")

    loop.call_soon(drop_the_others)
    kept.extend(loop.call_soon(ran.append, i) for i in range(10))
    run_briefly(loop)
    assert ran == ["dropped", *range(10)]


def test_a_handle_can_be_cancelled_by_an_earlier_callback_of_its_batch(loop):
    ran = []
    loop.call_soon(lambda: second.cancel())
    second = loop.call_soon(ran.append, 2)
    loop.call_soon(ran.append, 3)
    run_briefly(loop)
    assert ran == [3]
    assert second._callback is None


def test_the_callback_of_an_unreferenced_handle_is_freed_once_it_ran(loop):
    class Callback:
        def __call__(self, argument):
            pass

    callback, argument = Callback(), Callback()
    gone = [weakref.ref(callback), weakref.ref(argument)]
    loop.call_soon(callback, argument)
    del callback, argument
    run_briefly(loop)
    assert [ref() for ref in gone] == [None, None]


def test_a_weak_reference_sees_an_unreferenced_handle_until_its_call_has_run(loop):
    ran = []
    seen = weakref.ref(loop.call_soon(ran.append, 1))
    cancelled = weakref.ref(loop.call_soon(ran.append, 2))
    cancelled().cancel()
    assert seen()._args == (1,)
    run_briefly(loop)
    assert ran == [1]
    assert seen() is None
    assert cancelled() is None


def test_an_error_in_a_call_without_a_handle_is_reported_with_one(loop):
    contexts = []
    loop.set_exception_handler(lambda loop, context: contexts.append(context))
    loop.call_soon(divmod, 1, 0)
    run_briefly(loop)
    [context] = contexts
    assert isinstance(context["exception"], ZeroDivisionError)
    assert isinstance(context["handle"], asyncio.Handle)
    assert context["handle"]._args == (1, 0)
    assert "divmod" in context["message"]


def test_a_handle_keeps_its_callback_when_the_loop_is_closed(loop_factory):
    loop = loop_factory()
    handle = loop.call_soon(callback, 1)
    loop.close()
    assert handle._callback is callback
    assert handle._args == (1,)
    assert not handle.cancelled()


def test_a_waiting_call_keeps_no_loop_alive(loop_factory):
    """The callback refers to the loop, which holds the call: garbage, all of it, once dropped."""
    loop = loop_factory()
    gone = weakref.ref(loop)
    run_briefly(loop)
    loop.call_soon(callback, loop)
    with pytest.warns(ResourceWarning):
        del loop
        gc.collect()
    assert gone() is None


@pytest.mark.parametrize("schedule", ["call_later", "call_soon"])
@pytest.mark.parametrize("debug", [False, True])
def test_handles_of_loops_that_take_turns_are_called_and_collected(loop_factory, schedule, debug):
    """The last handle given out is known for all loops at once; each calls and frees its own."""

    def give(loop, *args):
        loop.set_debug(debug)
        return loop.call_later(0, *args) if schedule == "call_later" else loop.call_soon(*args)

    called = []
    loops = [loop_factory() for _ in range(3)]
    kept = []
    for number in range(30):
        loop = loops[number % 3]
        handle = give(loop, called.append, number)
        if number % 2:
            kept.append(handle)
        del handle
        gc.collect(0)
    for loop in reversed(loops):
        run_briefly(loop)
    assert sorted(called) == list(range(30))
    assert not any(handle.cancelled() for handle in kept)
    for loop in loops:
        loop.own = give(loop, callback, loop)
        loop.close()
    references = [weakref.ref(loop) for loop in loops]
    del loop, loops, kept
    gc.collect()
    assert [reference() for reference in references] == [None] * 3


def test_a_cancelled_handle_run_by_hand_reports_pythons_error(loop):
    reported = []
    loop.set_exception_handler(lambda loop, context: reported.append(context))
    for handle in (loop.call_soon(callback, 1), loop.call_later(60, callback, 1)):
        handle.cancel()
        assert handle._run() is None
        assert reported[-1]["handle"] is handle
    assert [type(context["exception"]) for context in reported] == [TypeError] * 2
    assert [context["message"] for context in reported] == ["Exception in callback None()"] * 2
    assert "must be an iterable, not NoneType" in str(reported[0]["exception"])


def test_a_handle_run_by_hand_while_it_is_collected(loop):
    """A destructor runs a handle whose callback the collector has taken already."""
    space = {"reported": [], "loop": loop, "callback": callback}
    source = """
class Last:
    __slots__ = ()  # no part of a cycle itself: dies while the rest is taken apart
    def __del__(self):
        reported.append(handle._run())

handle = loop.call_soon(callback, Last(), Last)
"""
    loop.set_exception_handler(lambda loop, context: None)
    exec(source, space)
    run_briefly(loop)
    reported = space["reported"]
    del space
    gc.collect()
    assert reported == [None]


def test_a_call_that_cancels_and_runs_itself_keeps_its_arguments(loop):
    """A function in C holds on to arguments that only its handle owns."""
    ran = []

    class Key:
        def __init__(self, number):
            self.number = number

        def __lt__(self, other):
            handle._run()
            handle.cancel()
            ran.append((self.number, other.number))
            return self.number < other.number

    loop.set_exception_handler(lambda loop, context: None)
    handle = loop.call_soon(max, Key(1), Key(2), Key(3))
    run_briefly(loop)
    assert handle._args is None
    assert ran[-1] in [(3, 2), (2, 3)]
