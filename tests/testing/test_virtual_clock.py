"""The clock jumps from timer to timer, and what runs when is what asyncio's loop would do."""

import asyncio
import math
import random
import subprocess
import sys

import pytest

tokioloop = pytest.importorskip("tokioloop")
pytestmark = pytest.mark.native_only

HOUR = 3600.0


def test_the_clock_begins_at_zero_and_stands_still_while_callbacks_run(loop):
    async def main():
        times = []
        for _ in range(100):
            await asyncio.sleep(0)
            sum(range(10_000))
            times.append(loop.time())
        return times

    assert loop.run_until_complete(main()) == [0.0] * 100


def test_the_clock_begins_where_it_is_told(loop_factory):
    loop = loop_factory(start=1e6)
    try:
        assert loop.time() == 1e6
        loop.run_until_complete(asyncio.sleep(HOUR))
        assert loop.time() == 1e6 + HOUR
    finally:
        loop.close()


@pytest.mark.parametrize("start", [math.inf, math.nan, -math.inf])
def test_a_clock_cannot_begin_at_a_time_that_is_none(loop_factory, start):
    with pytest.raises(ValueError, match="start must be finite"):
        loop_factory(start=start)


@pytest.mark.parametrize("threshold", [-1, math.nan])
def test_a_threshold_is_not_negative(loop_factory, threshold):
    with pytest.raises(ValueError, match="autojump_threshold must be None or at least 0"):
        loop_factory(autojump_threshold=threshold)


def call_later(loop):
    future = loop.create_future()
    loop.call_later(HOUR, future.set_result, None)
    return future


def call_at(loop):
    future = loop.create_future()
    loop.call_at(loop.time() + HOUR, future.set_result, None)
    return future


async def time_out(loop):
    with pytest.raises(asyncio.TimeoutError):
        await asyncio.wait_for(loop.create_future(), HOUR)


async def wait(loop):
    never = loop.create_future()
    assert await asyncio.wait([never], timeout=HOUR) == (set(), {never})


WAITS = {
    "asyncio.sleep": lambda loop: asyncio.sleep(HOUR),
    "tokioloop.sleep": lambda loop: tokioloop.sleep(HOUR),
    "call_later": call_later,
    "call_at": call_at,
    "wait_for": time_out,
    "wait": wait,
}


@pytest.mark.parametrize("debug", [False, True])
@pytest.mark.parametrize("name", WAITS)
def test_an_hour_takes_no_time(loop, name, debug, real_time):
    loop.set_debug(debug)

    async def main():
        before = loop.time()
        await WAITS[name](loop)
        return loop.time() - before

    with real_time():
        assert loop.run_until_complete(main()) == HOUR


@pytest.mark.skipif(sys.version_info < (3, 11), reason="asyncio.timeout is new in 3.11")
def test_timeouts_nest(loop, real_time):
    async def main():
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(2 * HOUR):
                with pytest.raises(TimeoutError):
                    async with asyncio.timeout(HOUR):
                        await asyncio.sleep(10 * HOUR)
                assert loop.time() == HOUR
                await asyncio.sleep(10 * HOUR)
        return loop.time()

    with real_time():
        assert loop.run_until_complete(main()) == 2 * HOUR


def test_a_timer_that_was_cancelled_does_not_move_the_clock(loop):
    async def main():
        for delay in (10, 20, 30):
            loop.call_later(delay, print).cancel()
        timer = loop.call_later(5, print)
        loop.call_later(1, timer.cancel)
        await asyncio.sleep(2)
        return loop.time()

    assert loop.run_until_complete(main()) == 2
    assert loop.run_until_complete(asyncio.sleep(1)) is None
    assert loop.time() == 3


def test_timers_that_schedule_timers_run_at_their_own_times(loop):
    seen = []

    def fire(depth):
        seen.append((depth, loop.time()))
        if depth < 10:
            loop.call_later(2**depth, fire, depth + 1)
        else:
            loop.stop()

    loop.call_soon(fire, 0)
    loop.run_forever()
    assert seen == [(depth, 2.0**depth - 1) for depth in range(11)]


def test_timers_of_one_time_run_in_the_order_in_which_they_were_scheduled(loop):
    seen = []
    for number in range(100):
        loop.call_at(HOUR, seen.append, number)
    loop.run_until_complete(asyncio.sleep(2 * HOUR))
    assert seen == list(range(100))


def test_a_loop_that_is_run_again_goes_on_with_its_timers(loop):
    seen = []
    loop.call_later(10, seen.append, "late")
    loop.run_until_complete(asyncio.sleep(1))
    assert seen == []
    loop.run_until_complete(asyncio.sleep(100))
    assert seen == ["late"]


def test_run_once_jumps_as_well(loop):
    seen = []
    loop.call_later(HOUR, seen.append, "ran")
    for _ in range(5):
        loop._run_once()
        if seen:
            break
    assert seen == ["ran"]
    assert loop.time() == HOUR


def test_stop_leaves_the_timers_alone(loop):
    loop.call_later(1, print)
    loop.call_soon(loop.stop)
    loop.run_forever()
    assert loop.time() == 0


def test_without_autojump_the_clock_runs_in_real_time(loop_factory, real_time):
    loop = loop_factory(start=7.0, autojump=False)
    try:
        with real_time(at_least=0.2):
            loop.run_until_complete(asyncio.sleep(0.2))
        assert loop.time() == 7.2
    finally:
        loop.close()


def test_a_closed_loop_knows_its_time_and_leaves_nothing_behind(loop_factory):
    loop = loop_factory()
    loop.call_later(HOUR, print)
    loop.run_until_complete(asyncio.sleep(1))
    loop.close()
    assert loop.time() == 1
    with pytest.raises(RuntimeError, match="Event loop is closed"):
        loop.call_later(1, print)


@pytest.mark.skipif(sys.version_info < (3, 11), reason="asyncio.Runner is new in 3.11")
def test_a_runner_takes_the_loop_factory(loop_factory):
    async def main():
        await asyncio.sleep(HOUR)
        return asyncio.get_running_loop().time()

    with asyncio.Runner(loop_factory=loop_factory) as runner:
        assert runner.run(main()) == HOUR


class Program:
    """A program of sleeps, timers, cancellations and time-outs, which a seed decides."""

    def __init__(self, seed, sleep):
        self.random = random.Random(seed)
        self.sleep = sleep
        self.story = []
        self.tasks = []

    def note(self, *what):
        self.story.append((asyncio.get_running_loop().time(), *what))

    def delay(self):
        delay = self.random.choice([0, 0, 1, 1, 2, 3, 5, 8, 100, 3600])
        # Never twice the same, for asyncio runs timers of the same time in any order. The binary
        # fractions have sums that are exact.
        return delay and delay + self.random.randrange(2**28) / 2**28

    async def actor(self, name, depth):
        loop = asyncio.get_running_loop()
        for step in range(self.random.randrange(1, 6)):
            kind = self.random.randrange(8)
            delay = self.delay()
            self.note(name, step, kind, delay)
            try:
                if kind <= 2:
                    await self.sleep(delay)
                elif kind == 3:
                    loop.call_later(delay, self.note, name, "timer", step)
                elif kind == 4:
                    await asyncio.wait_for(self.sleep(self.delay()), delay)
                elif kind == 5 and depth < 3:
                    task = loop.create_task(self.actor(f"{name}.{step}", depth + 1))
                    self.tasks.append(task)
                elif kind == 6 and self.tasks:
                    self.random.choice(self.tasks).cancel()
                else:
                    await asyncio.sleep(0)
            except asyncio.TimeoutError:
                self.note(name, "timed out")
            except asyncio.CancelledError:
                self.note(name, "cancelled")
                raise
        self.note(name, "end")

    async def main(self):
        loop = asyncio.get_running_loop()
        self.tasks += [loop.create_task(self.actor(str(number), 0)) for number in range(4)]
        while not all(task.done() for task in self.tasks):
            await asyncio.wait(list(self.tasks))
        await self.sleep(10_000)  # for timers that outlive their actors
        return self.story


@pytest.mark.parametrize("sleep", ["asyncio", "tokioloop"])
def test_programs_run_as_on_asyncio_in_virtual_time(loop, asyncio_loop, sleep, real_time):
    with real_time(less_than=60):
        for seed in range(200):
            expected = asyncio_loop.run_until_complete(Program(seed, asyncio.sleep).main())
            chosen = asyncio.sleep if sleep == "asyncio" else tokioloop.sleep
            got = loop.run_until_complete(Program(seed, chosen).main())
            assert len(got) > 4
            assert got == expected, seed


def test_importing_the_package_does_not_import_its_testing_module():
    program = "import sys, tokioloop; print('tokioloop.testing' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.stdout == "False\n", done.stderr
