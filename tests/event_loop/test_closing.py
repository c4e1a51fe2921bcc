"""Loops that are closed, or collected, while others still hold, drop and cancel their handles.

Python code may run at any point while a loop is taken apart: destructors, callbacks of weak
references, other threads. It must find no handle and no queue in a broken state.
"""

import contextlib
import functools
import gc
import random
import warnings
import weakref

import pytest

from support.handles import AtEnd, assert_handles_are_distinct, callback


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


def test_calls_of_a_destructor_on_a_loop_that_closes(loop_factory):
    """It may cancel, look, close again and schedule; the last is refused."""
    loop, noted, held = loop_factory(), [], []

    def everything():
        held[0].cancel()
        noted.append(held[1]._args)
        noted.append(repr(held[2])[:7])
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
                noted.append(str(error))
        held.clear()

    loop.call_soon(AtEnd(everything))
    held += [loop.call_soon(callback, i) for i in range(10)]
    loop.close()
    assert noted == [(1,), "<Handle", *["Event loop is closed"] * 4]
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
    """Handles that no program keeps are made while a destructor looks at the queue."""
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


# Loops that are never closed


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
def test_an_unclosed_loop_is_collected_with_its_own_handles(loop_factory, scenario):
    gc.collect()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        gone = unclosed(loop_factory, UNCLOSED[scenario])
        gc.collect()
        # A descriptor that its owner forgot to close warns, too.
        about = [str(w.message) for w in caught if "event loop" in str(w.message)]
        assert [text.partition(" <")[0] for text in about] == ["unclosed event loop"]
        # Each has its source, the loop.
        caught.clear()
        # Objects that the finalizer passed on are garbage for the next collection.
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
    noted = []
    source = """
class Last:
    __slots__ = ()  # no part of any cycle: dies while the rest is taken apart
    def __del__(self):
        try:
            noted.append(loop.call_soon(print))
        except Exception as error:
            noted.append(str(error))

for _ in range(3):
    loop.call_soon(Last())
"""
    space = {"noted": noted, "loop": loop_factory()}
    exec(source, space)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        del space
        gc.collect()
    assert noted == ["Event loop is closed"] * 3
