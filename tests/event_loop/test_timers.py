"""Timers: never early, in order, cancellable, and following the loop's own clock."""

import asyncio
import contextvars
import itertools
import math
import random
import sys
import time

import pytest

from support.iterations import run_until


class FastForward:
    """A clock that can be moved by hand; it stands still otherwise."""

    def __init__(self):
        self.now = 1000.0

    def __call__(self):
        return self.now


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


def test_call_later_zero_runs_after_calls_that_are_ready_already(loop):
    order = []
    loop.call_later(0, order.append, "timer")
    loop.call_soon(order.append, "soon")
    run_until(loop, lambda: len(order) == 2)
    assert order == ["soon", "timer"]


def test_equal_call_later_zero_timers_all_fire_in_one_iteration(loop):
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
def test_debug_mode_refuses_objects_that_cannot_be_called(loop, method):
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


def test_a_timer_can_cancel_another_that_is_due_in_the_same_iteration(loop):
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


def deadlines_in_steps(generator, count):
    """Rising for a while, then back: as of a program with a few time-outs."""
    return [generator.choice([0.0, 0.25, 0.5]) + index / count for index in range(count)]


ORDERS = {
    "rising": lambda generator, count: sorted(generator.random() for _ in range(count)),
    "falling": lambda generator, count: sorted(
        (generator.random() for _ in range(count)), reverse=True
    ),
    "random": lambda generator, count: [generator.random() for _ in range(count)],
    "few": lambda generator, count: [generator.randrange(5) / 5 for _ in range(count)],
    "in steps": deadlines_in_steps,
}


@pytest.mark.parametrize("far", [0, 200, 20_000], ids="{} later ones".format)
@pytest.mark.parametrize("count", [100, 5000])
@pytest.mark.parametrize("order", ORDERS)
def test_what_is_due_at_once_fires_by_deadline_and_then_by_age(loop, order, count, far):
    """However many are due of however many, and in whatever order they were set and cancelled."""
    generator = random.Random(count + far)
    past = loop.time() - 2
    fired, wanted, others = [], [], []
    late = [generator.random() for _ in range(far)]
    deadlines = ORDERS[order](generator, count)
    for number, deadline in enumerate(deadlines):
        if far > number * 4:
            others += [
                loop.call_at(past + 3600 + each, fired.append, -1) for each in late[number::count]
            ]
        when = past + deadline
        timer = loop.call_at(when, fired.append, number)
        if generator.random() < 0.2:
            timer.cancel()
        else:
            wanted.append((when, number))
    others += [loop.call_at(past + 3600, fired.append, -1) for _ in range(far)]
    run_until(loop, lambda: fired)
    assert fired == [number for _, number in sorted(wanted)]
    for timer in others:
        timer.cancel()
    run_until(loop, lambda: True)
    assert len(fired) == len(wanted)


def test_timers_set_by_those_of_a_crowd_fire_in_the_next_iteration(loop):
    past = loop.time() - 1
    fired = []

    def fire(number):
        fired.append(number)
        if number % 2 == 0:
            loop.call_at(past - number, fired.append, -number)

    numbers = list(range(1, 3001))
    random.Random(1).shuffle(numbers)
    for number in numbers:
        loop.call_at(past + number / 1e4, fire, number)
    run_until(loop, lambda: len(fired) == 4500)
    assert fired == sorted(numbers) + sorted(range(-3000, 0, 2))


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
