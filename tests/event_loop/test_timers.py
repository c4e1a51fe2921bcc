"""Timers: never early, in order, cancellable, and following the loop's own clock."""

import asyncio
import contextvars
import decimal
import fractions
import gc
import itertools
import math
import random
import sys
import time
import weakref

import pytest


class FastForward:
    """A clock that can be moved by hand; it stands still otherwise."""

    def __init__(self):
        self.now = 1000.0

    def __call__(self):
        return self.now


def run_briefly(loop):
    loop.call_soon(loop.stop)
    loop.run_forever()


def run_until(loop, condition, timeout=10):
    """Run the loop turn by turn until the condition holds."""
    deadline = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < deadline, "it never happened"
        run_briefly(loop)


def test_time_is_the_monotonic_clock(loop):
    before = time.monotonic()
    now = loop.time()
    after = time.monotonic()
    assert before <= now <= after


def test_a_timer_is_never_early(loop):
    early = []
    pending = 300

    def fire(due):
        nonlocal pending
        if loop.time() < due - time.get_clock_info("monotonic").resolution:
            early.append(due - loop.time())
        pending -= 1
        if not pending:
            loop.stop()

    for _ in range(pending):
        delay = random.uniform(0, 0.2)
        due = loop.time() + delay
        loop.call_at(due, fire, due)
    loop.run_forever()
    assert early == []


def test_a_short_sleep_is_never_early_and_not_much_too_late(loop):
    async def slept(delay):
        start = time.monotonic()
        await asyncio.sleep(delay)
        return time.monotonic() - start

    for delay in (0.0002, 0.001, 0.005, 0.02):
        took = min(loop.run_until_complete(slept(delay)) for _ in range(5))
        assert delay <= took < delay + 0.1


def test_timers_fire_in_the_order_of_their_time(loop):
    order = []
    delays = [i / 1000 for i in range(50)]
    shuffled = random.sample(delays, len(delays))
    start = loop.time()
    for delay in shuffled:
        loop.call_at(start + delay, order.append, delay)
    loop.call_at(start + 0.06, loop.stop)
    loop.run_forever()
    assert order == delays


def test_call_later_zero_runs_after_what_is_ready_already(loop):
    order = []
    loop.call_later(0, order.append, "timer")
    loop.call_soon(order.append, "soon")
    run_until(loop, lambda: len(order) == 2)
    assert order == ["soon", "timer"]


def test_equal_call_later_zero_timers_all_fire_in_one_turn(loop):
    order = []
    when = loop.time()
    for i in range(5):
        loop.call_at(when - 5 + i, order.append, i)
    loop.stop()
    loop.run_forever()
    assert order == [0, 1, 2, 3, 4]


def test_a_negative_delay_means_now(loop):
    fired = []
    loop.call_later(-5, fired.append, "later")
    loop.call_at(loop.time() - 5, fired.append, "at")
    loop.call_at(0, fired.append, "beginning of time")
    run_until(loop, lambda: len(fired) == 3)
    assert sorted(fired) == ["at", "beginning of time", "later"]


def test_an_infinite_delay_never_fires_and_can_be_cancelled(loop):
    fired = []
    timer = loop.call_later(math.inf, fired.append, 1)
    assert timer.when() == math.inf
    loop.run_until_complete(asyncio.sleep(0.01))
    timer.cancel()
    loop.run_until_complete(asyncio.sleep(0))
    assert fired == []


@pytest.mark.parametrize("delay", [1e9, 1e18, 1e300])
def test_a_delay_of_ages_is_as_good_as_never(loop, delay):
    fired = []
    timer = loop.call_later(delay, fired.append, 1)
    loop.run_until_complete(asyncio.sleep(0.01))
    assert not timer.cancelled()
    assert timer.when() >= delay
    timer.cancel()
    assert fired == []


def test_whole_numbers_and_booleans_are_numbers(loop):
    fired = []
    loop.call_later(0, fired.append, 0)
    loop.call_later(False, fired.append, 1)
    loop.call_at(int(loop.time()), fired.append, 2)
    run_until(loop, lambda: len(fired) == 3)
    assert sorted(fired) == [0, 1, 2]


def test_a_delay_of_none_is_refused(loop):
    with pytest.raises(TypeError) as refused:
        loop.call_later(None, print)
    if sys.version_info >= (3, 11):
        assert str(refused.value) == "delay must not be None"


@pytest.mark.native_only(when=sys.version_info < (3, 11), reason="asyncio asserts instead")
def test_a_time_of_none_is_refused(loop):
    with pytest.raises(TypeError, match="when cannot be None"):
        loop.call_at(None, print)


@pytest.mark.parametrize("delay", ["1", object(), [1]])
def test_a_delay_that_is_no_number_is_refused(loop, delay):
    with pytest.raises(TypeError):
        loop.call_later(delay, print)


@pytest.mark.native_only
@pytest.mark.parametrize("when", ["1", object(), [1], 1j])
def test_a_time_that_is_no_number_is_refused(loop, when):
    """asyncio takes it, and breaks in the heap when a second timer comes."""
    with pytest.raises(TypeError):
        loop.call_at(when, print)


@pytest.mark.native_only
def test_a_delay_of_nan_is_refused(loop):
    """asyncio takes it, and its heap has no order from then on."""
    with pytest.raises(ValueError, match=r"(?i)nan"):
        loop.call_later(math.nan, print)
    with pytest.raises(ValueError, match=r"(?i)nan"):
        loop.call_at(math.nan, print)


@pytest.mark.parametrize("method", ["call_later", "call_at"])
def test_debug_mode_refuses_what_cannot_be_called(loop, method):
    async def coroutine_function():
        pass

    loop.set_debug(True)
    with pytest.raises(TypeError, match=r"a callable object was expected by call_(at|later)\(\)"):
        getattr(loop, method)(0, 42)
    with pytest.raises(TypeError, match=r"coroutines cannot be used with call_(at|later)\(\)"):
        getattr(loop, method)(0, coroutine_function)


def test_a_cancelled_timer_does_not_fire(loop):
    fired = []
    timers = [loop.call_later(0.01, fired.append, i) for i in range(10)]
    for timer in timers[::2]:
        timer.cancel()
    loop.run_until_complete(asyncio.sleep(0.03))
    assert fired == [1, 3, 5, 7, 9]


def test_a_timer_can_cancel_another_that_is_due_in_the_same_turn(loop):
    fired = []
    now = loop.time()
    loop.call_at(now - 2, lambda: second.cancel())
    second = loop.call_at(now - 1, fired.append, "second")
    loop.stop()
    loop.run_forever()
    assert fired == []


def test_cancelling_most_of_many_timers_leaves_the_rest_in_order(loop):
    """Cancelled entries are cleaned out of the middle; what stays must keep its order."""
    order = []
    start = loop.time()
    timers = [loop.call_at(start + 0.05 + i / 1e6, order.append, i) for i in range(5000)]
    for i, timer in enumerate(timers):
        if i % 10:
            timer.cancel()
    loop.run_until_complete(asyncio.sleep(0.1))
    assert order == list(range(0, 5000, 10))


def test_a_timer_nearer_than_all_others_is_not_held_up_by_them(loop):
    start = time.monotonic()
    far = [loop.call_later(3600 + i, print) for i in range(100)]
    loop.call_later(0.02, loop.stop)
    loop.run_forever()
    assert 0.02 <= time.monotonic() - start < 0.5
    for timer in far:
        timer.cancel()


def test_a_timer_set_from_a_timer_counts_from_its_own_start(loop):
    times = []

    def tick(left):
        times.append(loop.time())
        if left:
            loop.call_later(0.01, tick, left - 1)
        else:
            loop.stop()

    loop.call_soon(tick, 5)
    loop.run_forever()
    assert all(b - a >= 0.0099 for a, b in itertools.pairwise(times))


def test_timers_survive_between_two_runs(loop):
    fired = []
    loop.call_later(0.02, fired.append, 1)
    loop.run_until_complete(asyncio.sleep(0))
    time.sleep(0.03)
    assert fired == []
    run_until(loop, lambda: fired)
    assert fired == [1]


def test_many_sleeping_tasks_all_wake(loop):
    async def sleeper(i):
        await asyncio.sleep(i % 10 / 1000)
        return i

    async def main():
        return await asyncio.gather(*(sleeper(i) for i in range(2000)))

    assert loop.run_until_complete(main()) == list(range(2000))


# A clock of the user's own


def test_timers_follow_a_time_patched_onto_the_instance(loop, monkeypatch):
    clock = FastForward()
    monkeypatch.setattr(loop, "time", clock)
    fired = []
    timer = loop.call_later(3600, fired.append, "an hour later")
    assert timer.when() == clock.now + 3600
    loop.stop()
    loop.run_forever()
    assert fired == []
    clock.now += 3600
    loop.stop()
    loop.run_forever()
    assert fired == ["an hour later"]


def test_timers_follow_a_time_overridden_in_a_subclass(loop):
    clock = FastForward()

    class FastLoop(type(loop)):
        def time(self):
            return clock()

    fast = FastLoop()
    try:
        assert fast.time() == clock.now

        async def main():
            fast.call_soon(move)
            before = fast.time()
            await asyncio.sleep(86400)
            return fast.time() - before

        def move():
            clock.now += 86400

        started = time.monotonic()
        assert fast.run_until_complete(main()) == 86400
        assert time.monotonic() - started < 5
    finally:
        fast.close()


def test_a_patched_clock_that_runs_on_by_itself_makes_long_sleeps_short(loop, monkeypatch):
    start = time.monotonic()
    monkeypatch.setattr(loop, "time", lambda: start + (time.monotonic() - start) * 1000)

    async def main():
        before = loop.time()
        loop.call_soon(keep_turning)
        await asyncio.sleep(100)
        return loop.time() - before

    def keep_turning():
        # The loop parks by the real clock: what fast-forwards must keep it turning.
        if not done:
            loop.call_soon(keep_turning)

    done = []
    task = loop.create_task(main())
    task.add_done_callback(done.append)
    assert loop.run_until_complete(task) >= 100
    assert time.monotonic() - start < 5


def test_restoring_the_clock_restores_the_timers(loop):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loop, "time", FastForward())
        assert loop.time() == 1000.0
    start = time.monotonic()
    loop.run_until_complete(asyncio.sleep(0.02))
    assert 0.02 <= time.monotonic() - start < 0.5


# What a timer's time is


class Whole(int):
    pass


class Exact(float):
    """A float that answers for itself."""

    def __add__(self, other):
        return Exact(float(self) + float(other))

    __radd__ = __add__


class Number:
    """Neither float nor int, like a scalar of an array."""

    def __init__(self, value):
        self.value = value

    def __float__(self):
        return float(self.value)

    def __lt__(self, other):
        return [] if float(self) >= float(other) else ["less"]

    def __gt__(self, other):
        return [] if float(self) <= float(other) else ["more"]

    def __ge__(self, other):
        return float(self) >= float(other)

    def __sub__(self, other):
        return float(self) - float(other)

    def __repr__(self):
        return f"Number({self.value})"


TIMES = [5, True, 10**15, Whole(7), Exact(7.5), 2.5, fractions.Fraction(1, 3), Number(3)]


@pytest.mark.parametrize("when", TIMES, ids=repr)
def test_a_timer_keeps_the_time_that_it_was_given(loop, when):
    timer = loop.call_at(when, print, "late", 2)
    for _ in range(2):
        assert type(timer.when()) is type(when)
        assert timer.when() is when or type(when) is float
        assert timer._when == timer.when() == when
        assert f"when={when}" in repr(timer)
        assert hash(timer) == hash(when)
        timer.cancel()


def test_a_timer_with_a_time_of_its_own_kind_runs_like_others(loop):
    ran = []
    for number, when in enumerate([3, Exact(1.5), Number(2), 2.5, Whole(1)]):
        handle = loop.call_at(when, lambda *args: ran.append(args), number, "with", "some", "more")
        assert handle._args == (number, "with", "some", "more")
    handle = loop.call_at(Whole(4), ran.append, "one")
    assert handle._args == ("one",)
    nothing = loop.call_at(Whole(4), ran.clear)
    assert nothing._args == ()
    nothing.cancel()
    assert nothing._args is None
    assert nothing.when() == 4
    run_until(loop, lambda: len(ran) == 6)
    assert [one if one == "one" else one[0] for one in ran] == [4, 1, 2, 3, 0, "one"]


def test_timers_compare_by_what_their_times_say(loop):
    number, five, more = (loop.call_at(when, print) for when in (Number(3), 5, 7.0))
    try:
        assert five < more
        assert five == loop.call_at(5.0, print)
        assert five != more
        assert (number < five) == ["less"]
        assert (number <= five) == ["less"]
        assert (number > five) == []
        assert not number >= five
    finally:
        for timer in (number, five, more):
            timer.cancel()


@pytest.mark.parametrize("delay", [5, 2.5, True, Whole(7), Exact(7.5), fractions.Fraction(1, 3)])
def test_call_later_adds_the_delay_to_the_time(loop, delay):
    timer = loop.call_later(delay, print)
    assert type(timer.when()) is type(loop.time() + delay)
    assert 0 <= loop.time() + delay - timer.when() < 5
    timer.cancel()


@pytest.mark.parametrize("now", [1000, 1000.0, fractions.Fraction(1000), Exact(1000)], ids=repr)
def test_call_later_adds_to_whatever_the_clock_shows(loop, monkeypatch, now):
    monkeypatch.setattr(loop, "time", lambda: now)
    for delay in (5, 2.5, Exact(1)):
        timer = loop.call_later(delay, print)
        assert timer.when() == now + delay
        assert type(timer.when()) is type(now + delay)
        timer.cancel()


def test_a_delay_that_cannot_be_added_is_refused(loop):
    for delay in ("1", [], decimal.Decimal(1), object()):
        with pytest.raises(TypeError) as expected:
            loop.time() + delay
        with pytest.raises(TypeError) as refused:
            loop.call_later(delay, print)
        assert str(refused.value) == str(expected.value)


def test_a_time_is_let_go_of_with_its_timer(loop):
    when = Exact(1e9)
    gone = weakref.ref(when)
    timer = loop.call_at(when, print)
    del when
    assert gone() is timer.when()
    timer.cancel()
    assert gone() is timer.when()
    while timer._scheduled:
        run_briefly(loop)
    del timer
    assert gone() is None


def test_a_time_in_a_cycle_with_its_timer_is_collected(loop):
    when = Exact(0.0)
    when.timer = loop.call_at(when, int)
    gone = weakref.ref(when)
    ran = when.timer
    while ran._scheduled:
        run_briefly(loop)
    del when, ran
    gc.collect()
    assert gone() is None


@pytest.mark.native_only(reason="asyncio runs timers of one time in any order")
def test_zero_has_one_time(loop):
    ran = []
    for number, when in enumerate([0.0, -0.0, 0, -0.0, 0.0]):
        loop.call_at(when, ran.append, number)
    run_until(loop, lambda: len(ran) == 5)
    assert ran == [0, 1, 2, 3, 4]


@pytest.mark.parametrize("when", ["x", 1j, float("nan"), 2**2000])
def test_a_closed_loop_says_so_before_it_looks_at_times(loop, when):
    loop.close()
    with pytest.raises(RuntimeError, match="Event loop is closed"):
        loop.call_at(when, print)


def test_debug_mode_looks_at_the_callback_before_the_time(loop):
    loop.set_debug(True)
    with pytest.raises(TypeError, match="callable"):
        loop.call_at("x", "no callback")


# --- methods of a program's own ---


def test_call_later_calls_a_call_at_of_a_program(loop):
    calls = []
    theirs = loop.call_at
    context = contextvars.copy_context()

    def call_at(when, callback, *args, **options):
        calls.append((when, callback, args, options))
        return theirs(when, callback, *args, **options)

    loop.call_at = call_at
    before = loop.time()
    timer = loop.call_later(60, print, 1, 2)
    loop.call_later(60.0, print, context=context).cancel()
    del loop.call_at
    loop.call_later(60.0, print, "not seen").cancel()
    (when, *first), (_, *second) = calls
    assert before + 60 <= when == timer.when() <= loop.time() + 60
    assert first == [print, (1, 2), {"context": None}]
    assert second == [print, (), {"context": context}]
    timer.cancel()


def test_call_later_calls_the_call_at_of_a_class(loop):
    calls = []

    class Mine(type(loop)):
        def call_at(self, when, callback, *args, context=None):
            calls.append(args)
            return super().call_at(when, callback, *args, context=context)

    mine = Mine()
    try:
        for debug in (False, True):
            mine.set_debug(debug)
            mine.call_later(0, mine.stop)
            timer = mine.call_later(0.0, print, 1)
            timer.cancel()
            source = timer._source_traceback
            assert (source is not None) == debug
            if debug:
                assert "test_call_later_calls_the_call_at_of_a_class" in [
                    frame.name for frame in source
                ]
            mine.run_forever()
        Mine.call_at = type(loop).call_at
        mine.call_later(0.0, print, "not seen").cancel()
        assert calls == [(), (1,)] * 2
    finally:
        mine.close()


def test_call_later_needs_a_timer_of_call_at(loop):
    loop.call_at = lambda *args, **options: None
    with pytest.raises(AttributeError, match="_source_traceback"):
        loop.call_later(1, print)
