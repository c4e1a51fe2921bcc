"""Threads against loops that open, run, close, fork and are collected.

    python tests/machines/thread_stress.py --seconds 60 --seed 7 [--bridge] [--loop asyncio]

Each round makes a loop, lets a few threads at it, and ends it in one of several ways while they go
on. Threads schedule calls and coroutines, cancel handles and futures, drop what they hold and run
the collector; with ``--bridge`` Rust threads wake futures as well (tests/bridge/extension). What is
checked: no crash and no hang; each thread's calls run in its order and none runs twice; after a
loop that ran to its end none is missing; and nothing but "Event loop is closed" is raised.

A seed decides what each thread does. It does not decide how the threads meet: a seed that failed is
worth many runs.
"""

from __future__ import annotations

import argparse
import asyncio
import concurrent.futures
import contextlib
import faulthandler
import gc
import logging
import os
import pathlib
import random
import signal
import sys
import threading
import time
import weakref

HUNG_AFTER = 60


class Caller:
    """One thread's calls on one loop, by number."""

    def __init__(self, loop):
        self.loop = loop
        self.made = 0
        self.cancelled = set()
        self.ran = []

    def call(self, dice):
        number = self.made
        # Counted first: the call may run before this thread goes on.
        self.made += 1
        handle = self.loop.call_soon_threadsafe(self.ran.append, number)
        if dice.random() < 0.3:
            self.cancel(number, handle)
        return number, handle

    def cancel(self, number, handle):
        handle.cancel()
        self.cancelled.add(number)


class CallsBack:
    """Has the loop call it once more when it is freed, in whichever thread that is."""

    def __init__(self, loop, freed):
        self.loop = loop
        self.freed = freed

    def __call__(self):
        pass

    def __del__(self):
        try:
            self.loop.call_soon_threadsafe(self.freed.append, 1)
        except RuntimeError as error:
            expect_closed(error)


def expect_closed(error):
    if "Event loop is closed" not in str(error):
        raise error


async def step(value):
    await asyncio.sleep(0)
    return value


async def waits():
    await asyncio.sleep(1000)


class Round:
    def __init__(self, loop, seed, bridge):
        self.loop = loop
        self.dice = random.Random(seed)
        self.bridge = bridge
        self.over = threading.Event()
        self.errors = []
        self.callers = []
        self.freed = []
        self.threads = []
        for number in range(self.dice.randint(1, 4)):
            caller = Caller(loop)
            self.callers.append(caller)
            self.threads.append(
                threading.Thread(target=self.work, args=(caller, f"{seed}/{number}"), daemon=True)
            )

    def work(self, caller, seed):
        dice = random.Random(seed)
        kept = []
        try:
            while not self.over.is_set():
                self.do_something(caller, dice, kept)
                if len(kept) > 50 or dice.random() < 0.02:
                    dice.shuffle(kept)
                    del kept[: len(kept) // 2]
        except RuntimeError as error:
            try:
                expect_closed(error)
            except RuntimeError:
                self.errors.append(error)
        except BaseException as error:
            self.errors.append(error)

    def do_something(self, caller, dice, kept):
        loop = self.loop
        what = dice.random()
        if what < 0.6:
            numbered = caller.call(dice)
            if dice.random() < 0.3:
                kept.append(numbered)
        elif what < 0.7:
            kept.append(loop.call_soon_threadsafe(CallsBack(loop, self.freed)))
        elif what < 0.75:
            # An unreferenced handle, seen through a weak reference.
            kept.append(weakref.ref(loop.call_soon_threadsafe(int)))
        elif what < 0.85:
            self.submit(dice, kept)
        elif what < 0.9:
            for each in kept:
                if isinstance(each, tuple):
                    caller.cancel(*each)
                elif hasattr(each, "cancel"):
                    each.cancel()
                repr(each)
        elif what < 0.92:
            gc.collect()
        elif what < 0.94:
            time.sleep(dice.random() * 0.002)
        else:
            for _ in range(dice.randint(1, 40)):
                caller.call(dice)

    def submit(self, dice, kept):
        coroutine = step(1) if dice.random() < 0.7 else waits()
        try:
            future = asyncio.run_coroutine_threadsafe(coroutine, self.loop)
        except BaseException:
            coroutine.close()
            raise
        if dice.random() < 0.5:
            future.cancel()
        elif dice.random() < 0.3:
            # Late, or cancelled with its loop.
            with contextlib.suppress(
                concurrent.futures.TimeoutError, concurrent.futures.CancelledError
            ):
                assert future.result(timeout=dice.random() * 0.01) in (1, None)
        kept.append(future)

    async def main(self):
        for thread in self.threads:
            thread.start()
        end = time.monotonic() + self.dice.random() * 0.03
        while time.monotonic() < end:
            await asyncio.sleep(self.dice.choice((0, 0, 0.0005)))
            if self.bridge is not None:
                await self.woken()

    async def woken(self):
        """Wait for what Rust threads wake, or leave them alone with it."""
        pulse = self.bridge.Pulse()
        beats = self.dice.randint(1, 5)
        waiting = asyncio.ensure_future(pulse.wait(beats))
        await asyncio.sleep(0)
        pulse.beat_elsewhere(self.dice.randint(beats, 10))
        if self.dice.random() < 0.6:
            await waiting
        else:
            waiting.cancel()
        oneshot = self.bridge.Oneshot()
        receiving = asyncio.ensure_future(oneshot.receive())
        oneshot.send_elsewhere(object())
        if self.dice.random() < 0.5:
            await receiving

    def join(self):
        self.over.set()
        for thread in self.threads:
            thread.join(HUNG_AFTER)
            if thread.is_alive():
                raise AssertionError("a thread hangs in the loop")

    def judge(self, *, complete):
        for error in self.errors:
            raise error
        for caller in self.callers:
            assert caller.ran == sorted(set(caller.ran)), "a thread's calls ran out of order"
            if complete:
                missing = set(range(caller.made)) - set(caller.ran) - caller.cancelled
                assert not missing, f"calls that never ran: {sorted(missing)[:10]}"


def quiet(loop, context):
    """Tasks and futures that die with their loop are no news here."""


def end_in_order(a_round):
    """The threads stop, then the loop runs what is left, then it closes."""
    a_round.join()
    a_round.loop.run_until_complete(asyncio.sleep(0))
    for task in asyncio.all_tasks(a_round.loop):
        task.cancel()
    a_round.loop.run_until_complete(asyncio.sleep(0))
    a_round.loop.close()
    a_round.judge(complete=True)


def end_under_fire(a_round):
    """The loop closes while the threads go on; then they get the error."""
    a_round.loop.close()
    a_round.join()
    a_round.judge(complete=False)


def end_collected(a_round):
    """The loop is never closed: it goes with its last reference."""
    a_round.join()
    a_round.judge(complete=False)
    seen = weakref.ref(a_round.loop)
    del a_round.loop
    for caller in a_round.callers:
        del caller.loop
    return seen


def end_in_a_child(a_round):
    """A fork while the threads are at it; the child runs a loop, and the parent's goes on."""
    child = os.fork()
    if child == 0:
        signal.alarm(HUNG_AFTER)  # the parent's watchdog is a thread, which is not here
        fresh = type(a_round.loop)()
        fresh.run_until_complete(asyncio.sleep(0.001))
        fresh.close()
        os._exit(0)
    a_round.loop.run_until_complete(asyncio.sleep(0.001))
    _, status = os.waitpid(child, 0)
    assert status == 0, f"the forked child ended with {os.waitstatus_to_exitcode(status)}"
    end_under_fire(a_round)


ENDS = (end_in_order, end_under_fire, end_under_fire, end_collected, end_in_a_child)


def play(factory, seed, bridge, loops):
    """One round, in this thread or in another."""
    dice = random.Random(seed)
    failures = []

    def body():
        try:
            loop = factory()
            loop.set_exception_handler(quiet)
            a_round = Round(loop, seed, bridge)
            loop.run_until_complete(a_round.main())
            del loop
            end = dice.choice(ENDS)
            seen = end(a_round)
            if seen is not None:
                loops.append(seen)
        except BaseException as error:
            failures.append(error)

    if dice.random() < 0.5:
        body()
    else:
        thread = threading.Thread(target=body, daemon=True)
        thread.start()
        thread.join(2 * HUNG_AFTER)
        assert not thread.is_alive(), "the loop's thread hangs"
    for error in failures:
        raise error


def load_bridge():
    sys.path.insert(0, str(pathlib.Path(__file__).parents[1]))
    from bridge import builds

    folder = builds.build(builds.HERE / "extension", "bridge_extension")
    return builds.load(folder, "bridge_extension")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--seed", type=int, default=None, help="of the first round")
    parser.add_argument("--rounds", type=int, default=None, help="at most so many")
    parser.add_argument("--bridge", action="store_true", help="Rust threads wake futures too")
    parser.add_argument("--loop", choices=("tokioloop", "asyncio"), default="tokioloop")
    options = parser.parse_args()
    if options.loop == "tokioloop":
        import tokioloop

        factory = tokioloop.new_event_loop
    else:
        factory = asyncio.new_event_loop
    bridge = load_bridge() if options.bridge else None
    # What concurrent.futures says of a future whose loop has closed is no news here.
    logging.disable(logging.CRITICAL)
    # Threads change places a hundred times as often.
    sys.setswitchinterval(5e-5)
    seed = options.seed if options.seed is not None else random.randrange(1 << 31)
    print(f"first seed: {seed}", flush=True)
    end = time.monotonic() + options.seconds
    rounds = 0
    uncollected = []
    while time.monotonic() < end and rounds != options.rounds:
        faulthandler.dump_traceback_later(4 * HUNG_AFTER, exit=True)
        try:
            play(factory, seed, bridge, uncollected)
        except BaseException:
            print(f"seed {seed} failed", flush=True)
            raise
        seed += 1
        rounds += 1
    faulthandler.cancel_dump_traceback_later()
    for _ in range(3):
        gc.collect()
    left = [loop for loop in uncollected if loop() is not None]
    assert not left, f"{len(left)} of {len(uncollected)} loops without a reference are left"
    print(f"{rounds} rounds passed, 0 failed; the last seed was {seed - 1}")


if __name__ == "__main__":
    faulthandler.enable()
    main()
