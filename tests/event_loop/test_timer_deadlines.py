"""The time of a timer: a number of any kind, which the timer keeps as it was given."""

import decimal
import fractions
import gc
import weakref

import pytest

from support.iterations import run_briefly, run_until


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
def test_a_closed_loop_is_reported_before_times_are_checked(loop, when):
    loop.close()
    with pytest.raises(RuntimeError, match="Event loop is closed"):
        loop.call_at(when, print)


def test_debug_mode_looks_at_the_callback_before_the_time(loop):
    loop.set_debug(True)
    with pytest.raises(TypeError, match="callable"):
        loop.call_at("x", "no callback")
