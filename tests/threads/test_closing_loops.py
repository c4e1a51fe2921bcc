"""Threads schedule, cancel and drop handles while the loops of these are closed or collected."""

import asyncio
import contextlib
import functools
import gc
import random
import sys
import threading
import time
import warnings
import weakref

import pytest

from support.handles import AtEnd, assert_handles_are_distinct, callback

SECONDS = 2


class Hammer:
    """Threads that use the current loop until they are stopped."""

    def __init__(self, loop_factory):
        self.loop_factory = loop_factory
        self.loop = loop_factory()
        self.over = False
        self.rounds_made = 0
        self.shared = [None] * 64
        self.wrong = []

    def work(self, seed):
        chance, mine = random.Random(seed), []
        try:
            while not self.over:
                loop = self.loop
                try:
                    for _ in range(8):
                        self.one_thing(chance, loop, mine)
                except RuntimeError as error:
                    if str(error) != "Event loop is closed":
                        raise
                # The loop has to come to the end of its queue.
                time.sleep(0.0005)
        except BaseException as error:
            self.wrong.append(error)

    def one_thing(self, chance, loop, mine):
        match chance.randrange(9):
            case 0 | 1 | 2:
                mine.append(loop.call_soon_threadsafe(callback, mine))
            case 3:
                # Another thread may drop or cancel it.
                place = chance.randrange(len(self.shared))
                self.shared[place] = loop.call_soon_threadsafe(callback, self, place)
            case 4:
                handle = self.shared[chance.randrange(len(self.shared))]
                if handle is not None:
                    handle.cancel()
            case 5:
                self.shared[chance.randrange(len(self.shared))] = None
            case 6:
                loop.call_soon_threadsafe(AtEnd(functools.partial(self.drop_some, seed=len(mine))))
            case 7 if mine:
                mine[chance.randrange(len(mine))].cancelled()
                weakref.ref(mine[-1])
            case _:
                if len(mine) > 40:
                    mine.clear()

    def drop_some(self, seed):
        for at in range(seed % 7, len(self.shared), 7):
            self.shared[at] = None
        # What waits for the GIL gets it in the middle of what dies.
        time.sleep(0)

    @contextlib.contextmanager
    def threads(self, count=3):
        threads = [threading.Thread(target=self.work, args=(i,)) for i in range(count)]
        before = sys.getswitchinterval()
        sys.setswitchinterval(1e-5)
        for thread in threads:
            thread.start()
        try:
            yield
        finally:
            self.over = True
            sys.setswitchinterval(before)
            for thread in threads:
                thread.join(30)
            self.loop.close()
        assert not any(thread.is_alive() for thread in threads)
        assert self.wrong == []

    def rounds(self, end):
        """Loops one after the other, each ended in its own way."""
        until = time.monotonic() + SECONDS
        while time.monotonic() < until:
            loop = self.loop
            loop.call_later(0.001, loop.stop)
            loop.run_forever()
            end(self, loop)
            self.rounds_made += 1


def close(hammer, loop):
    loop.close()
    hammer.loop = hammer.loop_factory()


def close_after(hammer, loop):
    hammer.loop = hammer.loop_factory()
    loop.close()


def drop(hammer, loop):
    hammer.loop = hammer.loop_factory()
    del loop
    gc.collect(0)


def close_elsewhere(hammer, loop):
    hammer.loop = hammer.loop_factory()
    thread = threading.Thread(target=loop.close)
    thread.start()
    thread.join()


@pytest.mark.parametrize("end", [close, close_after, close_elsewhere, drop])
@pytest.mark.filterwarnings("ignore:unclosed event loop:ResourceWarning")
def test_threads_schedule_cancel_and_drop_while_loops_come_and_go(loop_factory, end):
    hammer = Hammer(loop_factory)
    with hammer.threads():
        hammer.rounds(end)
    assert hammer.rounds_made > 1
    del hammer
    gc.collect()
    assert_handles_are_distinct(loop_factory)


@pytest.mark.filterwarnings("ignore:unclosed event loop:ResourceWarning")
def test_the_same_with_the_collector_running_all_the_time(loop_factory):
    hammer = Hammer(loop_factory)
    before = gc.get_threshold()
    gc.set_threshold(1, 1, 1)
    try:
        with hammer.threads(2):
            for end in (close, drop):
                loop = hammer.loop
                for _ in range(20):
                    loop = hammer.loop
                    loop.call_later(0.001, loop.stop)
                    loop.run_forever()
                    end(hammer, loop)
                del loop
    finally:
        gc.set_threshold(*before)
    del hammer
    gc.collect()
    assert_handles_are_distinct(loop_factory)


def test_coroutines_handed_over_while_loops_close(loop_factory):
    async def nothing():
        pass

    def submit(box, over, wrong):
        while not over.is_set():
            coro = nothing()
            try:
                asyncio.run_coroutine_threadsafe(coro, box[0])
            except RuntimeError as error:
                coro.close()
                if str(error) != "Event loop is closed":
                    wrong.append(error)
            time.sleep(0.0001)

    with warnings.catch_warnings():
        # Those that a closing loop never started.
        warnings.simplefilter("ignore")
        box, over, wrong = [loop_factory()], threading.Event(), []
        threads = [threading.Thread(target=submit, args=(box, over, wrong)) for _ in range(3)]
        for thread in threads:
            thread.start()
        until = time.monotonic() + SECONDS
        while time.monotonic() < until:
            loop = box[0]
            loop.call_later(0.001, loop.stop)
            loop.run_forever()
            loop.close()
            box[0] = loop_factory()
        over.set()
        for thread in threads:
            thread.join(30)
        box[0].close()
        gc.collect()
    assert wrong == []
    assert_handles_are_distinct(loop_factory)
