"""Loops that are closed, or collected, while others still hold, drop and cancel their handles.

What dies with a loop may run Python code at any point: destructors, callbacks of weak references,
other threads. None of them may find a handle or a queue half taken apart.
"""

import asyncio
import contextlib
import functools
import gc
import itertools
import random
import sys
import threading
import time
import warnings
import weakref

import pytest


class AtEnd:
    """A callback that calls something else when it dies."""

    def __init__(self, function):
        self.function = function

    def __call__(self, *args):
        pass

    def __del__(self):
        self.function()


def callback(*args):
    pass


def assert_handles_are_distinct(loop_factory, count=100):
    """Memory that was given back twice is given out twice."""
    loop, ran = loop_factory(), []
    handles = [loop.call_soon(ran.append, i) for i in range(count)]
    timers = [loop.call_later(60, callback, i) for i in range(count)]
    assert len({id(handle) for handle in [*handles, *timers]}) == 2 * count
    assert [handle._args for handle in handles] == [(i,) for i in range(count)]
    assert [timer._args for timer in timers] == [(i,) for i in range(count)]
    loop.call_soon(loop.stop)
    loop.run_forever()
    loop.close()
    assert ran == list(range(count))


@pytest.mark.parametrize("kept", [0, 3, 19])
@pytest.mark.parametrize("dies", [0, 7, 19])
def test_a_destructor_drops_the_handles_of_other_calls_while_the_loop_closes(
    loop_factory, dies, kept
):
    for _ in range(3):
        loop, held = loop_factory(), {}
        for i in range(20):
            if i == dies:
                loop.call_soon(AtEnd(held.clear))
            held[i] = loop.call_soon(callback, i, object())
        held = {i: held[i] for i in range(kept, 20)}
        loop.close()
        assert_handles_are_distinct(loop_factory)


def test_what_a_destructor_does_to_a_loop_that_closes(loop_factory):
    """It may cancel, look, close again and schedule; the last is refused."""
    loop, told, held = loop_factory(), [], []

    def everything():
        held[0].cancel()
        told.append(held[1]._args)
        told.append(repr(held[2])[:7])
        loop.close()
        list(loop._ready)
        list(loop._scheduled)
        for schedule in (
            functools.partial(loop.call_soon, callback),
            functools.partial(loop.call_soon_threadsafe, callback),
            functools.partial(loop.call_later, 1, callback),
            functools.partial(loop.call_at, 1, callback),
        ):
            try:
                schedule()
            except RuntimeError as error:
                told.append(str(error))
        held.clear()

    loop.call_soon(AtEnd(everything))
    held += [loop.call_soon(callback, i) for i in range(10)]
    loop.close()
    assert told == [(1,), "<Handle", *["Event loop is closed"] * 4]
    assert loop._ready is not None
    assert len(loop._ready) == len(loop._scheduled) == 0
    assert_handles_are_distinct(loop_factory)


def test_the_queue_seen_from_a_destructor_of_one_of_its_calls(loop_factory):
    loop = loop_factory()
    seen = []
    loop.call_soon(AtEnd(lambda: seen.extend(loop._ready)))
    for i in range(5):
        loop.call_soon(callback, i)
    loop.call_soon(AtEnd(lambda: seen.extend(loop._ready)))
    loop.close()
    while seen:
        seen[-1].cancel()
        assert seen.pop()._args is None
    assert_handles_are_distinct(loop_factory)


@pytest.mark.native_only(reason="asyncio drops a callback after it has taken the next one")
def test_the_queue_seen_from_a_destructor_while_the_loop_runs(loop_factory):
    """The handles of calls that nobody kept one of are made while somebody looks."""
    loop, ran, seen = loop_factory(), [], []

    def look():
        handles = loop._ready
        handles[1].cancel()
        seen.append(len(handles))

    for number in range(3):
        loop.call_soon(AtEnd(look))
        for i in range(5):
            loop.call_soon(ran.append, (number, i))
    loop.call_soon(loop.stop)
    loop.run_forever()
    assert ran == [(number, i) for number in range(3) for i in (0, 2, 3, 4)]
    assert seen == [18, 12, 6]
    loop.close()
    assert_handles_are_distinct(loop_factory)


def test_a_weak_references_callback_drops_a_handle_while_the_loop_closes(loop_factory):
    loop, held = loop_factory(), []
    thing = AtEnd(lambda: None)
    watch = weakref.ref(thing, lambda _: held.clear())
    loop.call_soon(callback, thing)
    del thing
    held += [loop.call_soon(callback, i) for i in range(10)]
    weakly = [weakref.ref(handle) for handle in held]
    loop.close()
    assert watch() is None
    assert [ref() for ref in weakly] == [None] * 10
    assert_handles_are_distinct(loop_factory)


def test_handles_that_only_weak_references_know_die_with_their_loop(loop_factory):
    loop = loop_factory()
    seen = [weakref.ref(loop.call_soon(callback, i)) for i in range(10)]
    assert [ref()._args for ref in seen] == [(i,) for i in range(10)]
    loop.close()
    gc.collect()
    assert [ref() for ref in seen] == [None] * 10


def test_dropped_at_any_time_in_a_batch_or_after_a_stop(loop_factory):
    """Handles go while the batch runs, while it stands, and while the rest is dropped."""
    for number in range(40):
        chance = random.Random(number)
        loop, held = loop_factory(), []

        def drop(chance=chance, held=held):
            while held and chance.random() < 0.7:
                held.pop(chance.randrange(len(held)))

        for _ in range(30):
            function = drop if chance.random() < 0.5 else AtEnd(drop)
            held.append(loop.call_soon(function))
            if chance.random() < 0.1:
                loop.call_soon(loop.stop)
        loop.call_soon(loop.stop)
        loop.run_forever()
        drop()
        loop.close()
    assert_handles_are_distinct(loop_factory)


# Loops that nobody closes


def unclosed(loop_factory, scenario):
    """A weak reference to a loop that is garbage, with whatever the scenario ties to it."""

    class Owner:
        pass

    loop, owner = loop_factory(), Owner()
    owner.loop = loop
    scenario(loop, owner)
    return weakref.ref(loop)


def briefly(loop):
    loop.call_soon(loop.stop)
    loop.run_forever()


def from_the_queue(loop, owner):
    loop.call_soon(callback, owner)
    owner.handle = loop._ready[0]


def from_the_heap(loop, owner):
    loop.call_later(60, callback, owner)
    owner.handle = loop._scheduled[0]


def weakly_first(loop, owner):
    seen = weakref.ref(loop.call_soon(callback, owner))
    owner.handle = seen()


def stopped_with_them(loop, owner):
    def inside():
        owner.soon = loop.call_soon(callback, owner)
        owner.later = loop.call_later(60, callback, owner)
        owner.seen = weakref.ref(loop.call_soon(callback, owner, "seen"))
        loop.stop()

    loop.call_soon(inside)
    loop.run_forever()
    owner.strong = [owner.seen(), *loop._ready]


def reader(loop, owner):
    # Any descriptor will do; the loop does not get to it.
    owner.file = file = contextlib.closing(__import__("socket").socket())
    owner.handle = loop._add_reader(file.thing.fileno(), callback, owner)


UNCLOSED = {
    "soon": lambda loop, owner: setattr(owner, "handle", loop.call_soon(callback, owner)),
    "safe": lambda loop, owner: setattr(
        owner, "handle", loop.call_soon_threadsafe(callback, owner)
    ),
    "many": lambda loop, owner: setattr(owner, "handle", loop.call_soon(callback, owner, 2, 3, 4)),
    "later": lambda loop, owner: setattr(owner, "handle", loop.call_later(60, callback, owner)),
    "at a time that holds it": lambda loop, owner: setattr(
        owner, "handle", loop.call_at(Moment(owner), callback)
    ),
    "several": lambda loop, owner: setattr(
        owner, "handles", [loop.call_later(i, callback, owner) for i in range(60, 70)]
    ),
    "cancelled": lambda loop, owner: [
        handle.cancel() or setattr(owner, str(id(handle)), handle)
        for handle in (loop.call_soon(callback, owner), loop.call_later(60, callback, owner))
    ],
    "looked at": lambda loop, owner: [
        handle._args and setattr(owner, str(id(handle)), handle)
        for handle in (loop.call_soon(callback, owner), loop.call_later(60, callback, owner))
    ],
    "its own method": lambda loop, owner: setattr(owner, "handle", loop.call_soon(loop.stop)),
    "after a run": lambda loop, owner: (
        briefly(loop),
        setattr(owner, "handle", loop.call_later(60, callback, owner)),
    ),
    "from the queue": from_the_queue,
    "from the heap": from_the_heap,
    "weakly first": weakly_first,
    "stopped with them": stopped_with_them,
    "reader": reader,
    "in debug mode": lambda loop, owner: (
        loop.set_debug(True),
        setattr(owner, "handle", loop.call_soon(callback, owner)),
        setattr(owner, "timer", loop.call_later(60, callback, owner)),
    ),
}


class Moment(float):
    def __new__(cls, owner):
        self = super().__new__(cls, 1e9)
        self.owner = owner
        return self


@pytest.mark.parametrize("scenario", UNCLOSED)
def test_a_loop_that_nobody_closed_is_collected_with_its_own_handles(loop_factory, scenario):
    gc.collect()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        gone = unclosed(loop_factory, UNCLOSED[scenario])
        gc.collect()
        # A descriptor that its owner forgot to close warns, too.
        about = [str(w.message) for w in caught if "event loop" in str(w.message)]
        assert [text.partition(" <")[0] for text in about] == ["unclosed event loop"]
        # What the finalizer gave to somebody else is garbage for the next time.
        gc.collect()
    assert gone() is None


def test_a_handle_that_is_held_keeps_its_loop(loop_factory):
    loop = loop_factory()
    gone = weakref.ref(loop)
    handles = [loop.call_soon(callback), loop.call_later(60, callback)]
    del loop
    gc.collect()
    assert gone() is not None
    assert {handle._loop for handle in handles} == {gone()}
    gone().close()


def test_a_destructor_schedules_on_its_loop_while_both_are_collected(loop_factory):
    """The destructor's only way to the loop is through garbage."""
    told = []
    source = """
class Last:
    __slots__ = ()  # no part of any cycle: dies while the rest is taken apart
    def __del__(self):
        try:
            told.append(loop.call_soon(print))
        except Exception as error:
            told.append(str(error))

for _ in range(3):
    loop.call_soon(Last())
"""
    space = {"told": told, "loop": loop_factory()}
    exec(source, space)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        del space
        gc.collect()
    assert told == ["Event loop is closed"] * 3


# Long chains


def next_argument(loop, before):
    return loop.call_later(1000, callback, before)


def next_list(loop, before):
    return loop.call_later(1000, callback, [before])


def next_partial(loop, before):
    return loop.call_later(1000, functools.partial(callback, before))


def next_method(loop, before):
    return loop.call_later(1000, before.cancel if before else callback)


def next_tuple_of_four(loop, before):
    return loop.call_later(1000, callback, 1, 2, 3, before)


def next_cancelled_in_between(loop, before):
    return loop.call_later(1000, callback, before, loop.call_soon(callback))


def next_soon(loop, before):
    handle = loop.call_soon(callback, before)
    assert handle._callback is callback
    return handle


CHAINS = {
    "argument": [next_argument],
    "soon": [next_soon],
    "many arguments": [next_tuple_of_four],
    "method": [next_method],
    "with another": [next_cancelled_in_between],
    "mixed": [next_argument, next_list, next_partial, next_soon, next_tuple_of_four],
}


@pytest.mark.parametrize("kind", CHAINS)
def test_a_long_chain_of_handles_is_freed_without_end_of_stack(loop_factory, kind):
    loop, last = loop_factory(), None
    for make in itertools.islice(itertools.cycle(CHAINS[kind]), 100_000):
        last = make(loop, last)
    first = weakref.ref(last)
    loop.close()
    del last
    assert first() is None
    assert_handles_are_distinct(loop_factory)


def test_a_long_chain_ends_in_a_thread_with_a_small_stack(loop_factory):
    loop, last = loop_factory(), None
    for make in itertools.islice(itertools.cycle(CHAINS["mixed"]), 50_000):
        last = make(loop, last)
    loop.close()
    held = [last]
    del last
    before = threading.stack_size(256 * 1024)
    try:
        thread = threading.Thread(target=held.clear)
        thread.start()
    finally:
        threading.stack_size(before)
    thread.join(60)
    assert not held


def test_a_long_chain_in_a_cycle_is_collected(loop_factory):
    loop, node = loop_factory(), []
    last = node
    for make in itertools.islice(itertools.cycle(CHAINS["mixed"]), 50_000):
        last = make(loop, last)
    node.append(last)
    gone = weakref.ref(last)
    loop.close()
    del last, node
    gc.collect()
    assert gone() is None


@pytest.mark.native_only(reason="asyncio's loops are Python objects through and through")
def test_a_long_chain_of_loops_is_freed_without_end_of_stack():
    """The core's own class needs no descriptors, so there may be any number of loops."""
    from tokioloop._core import NativeLoop

    ended = []
    loop = NativeLoop()
    loop.call_soon(AtEnd(functools.partial(ended.append, "first")))
    for _ in range(100_000):
        before, loop = loop, NativeLoop()
        loop.call_soon(callback, before)
        del before
    loop.call_soon(AtEnd(functools.partial(ended.append, "last")))
    del loop
    assert ended == ["last", "first"]


def test_destructors_in_a_chain_run_each_once(loop_factory):
    loop, last, ended = loop_factory(), None, []
    for i in range(1000):
        last = loop.call_later(1000, AtEnd(functools.partial(ended.append, i)), last)
    loop.close()
    del last
    assert sorted(ended) == list(range(1000))


@pytest.mark.native_only(reason="asyncio.sleep's coroutine keeps no chain short of its stack")
def test_a_long_chain_of_sleeps_is_freed(loop_factory):
    import tokioloop

    async def main():
        chain = None
        for _ in range(100_000):
            chain = tokioloop.sleep(0, chain)
            chain.close() if _ == 0 else None
        return chain

    loop = loop_factory()
    chain = loop.run_until_complete(main())
    loop.close()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        del chain


# Threads

SECONDS = 2


class Hammer:
    """Threads that use whichever loop is there, until they are told to stop."""

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
def test_the_same_with_the_collector_at_every_turn(loop_factory):
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
