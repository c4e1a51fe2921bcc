"""Carries out programs that leave nothing to chance, and compares what both loops make of them.

Everything belongs to an *actor*: the program itself, a transport, a reader. What an actor schedules
belongs to it, too, and works on its things only. So the order within an actor is decided even where
the kernel may wake two of them in any order, and the story is kept for each actor by itself. After
each step the loop runs until nothing moves.
"""

from __future__ import annotations

import asyncio
import contextvars
import gc
import itertools

from random_programs.decided.connections import Connections
from random_programs.decided.scheduling import Scheduling
from random_programs.decided.surroundings import Surroundings
from random_programs.decided.world import World

FLAGS = {"own clock": 0.3, "debug": 0.15, "handler raises": 0.15}
SIZE = (10, 2)
REPEATS = 4


def story(factory, program, native):
    context = contextvars.Context()
    world = World(factory, program, native)
    try:
        return context.run(world.play)
    finally:
        world.actors.clear()
        del world


def side_by_side(expected, got):
    """The first step in which the stories part."""
    for (title, one), (_, two) in itertools.zip_longest(expected, got, fillvalue=("-", [])):
        if one != two:
            left, right = dict(one), dict(two)
            rows = [f"at step {title}:"]
            for name in sorted(left.keys() | right.keys()):
                if left.get(name) != right.get(name):
                    rows.append(f"  {name}: asyncio   {left.get(name)}")
                    rows.append(f"  {name}: this loop {right.get(name)}")
            return "\n".join(rows)
    return "the stories differ"


def compare(program, factory, native, stock):
    """How the two stories differ, or ``None``; ``""`` if they leave something to chance."""
    expected = story(stock, program, asyncio)
    got = story(factory, program, native)
    gc.collect(0)
    if got == expected:
        return None
    for _ in range(REPEATS):
        if got == story(stock, program, asyncio) or story(factory, program, native) == expected:
            return ""
    if by_chance(expected) or by_chance(got):
        return ""
    return side_by_side(expected, got)


def by_chance(story):
    """Whether writing met a peer that was gone.

    Which of two errors ends a connection, and what was received before, is up to the kernel and
    to when a write leaves: at once on asyncio, after the callback here.
    """
    text = repr(story)
    # The last one is asyncio's own mistake: a pipe that is closed twice.
    found = ("Broken pipe", "ConnectionReset", "'NoneType' object has no attribute 'close'")
    return any(each in text for each in found)


WEIGHTS = {
    "transport": 10,
    "connection": 3,
    "soon": 4,
    "later": 3,
    "task": 5,
    "future": 2,
    "set": 2,
    "cancel": 2,
    "handle": 3,
    "pair": 2,
    "process": 0.1,
    "close": 0.3,
    "stop": 0.5,
    "run": 0.3,
    "signal": 0.3,
    "executor": 0.5,
    "debug": 0.2,
    "task_factory": 0.3,
}

PARTS = (Scheduling, Connections, Surroundings)  # in the order that seeds rely on
NAMES = {
    name[3:]: WEIGHTS.get(name[3:], 1.0)
    for part in PARTS
    for name in vars(part)
    if name.startswith("do_")
}
