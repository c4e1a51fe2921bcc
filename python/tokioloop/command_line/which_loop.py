"""Which event loops a process runs.

``python -m tokioloop`` and ``tokioloop.install()`` change what asyncio creates when it is asked for
a loop. A program may create one by name instead; without a word of warning it would just not be
faster.
"""

from __future__ import annotations

import asyncio
import atexit
import os
import sys
from asyncio import events
from collections.abc import Callable

from tokioloop.loop import Loop

#: The types of loops that have run, in the order in which they first did.
_seen: dict[type, None] = {}


def announce() -> None:
    """Print each type of loop to stderr when it first runs in a process."""

    def show(kind: type) -> None:
        print(f"tokioloop: process {os.getpid()} runs {describe(kind)}", file=sys.stderr)

    os.register_at_fork(after_in_child=_seen.clear)
    _watch(show)


def warn_if_unused() -> None:
    """Say so at exit, on stderr, if loops ran and none of them was a tokioloop.Loop."""
    _watch(lambda kind: None)

    @atexit.register
    def report() -> None:
        if _seen and not any(issubclass(kind, Loop) for kind in _seen):
            print(
                "tokioloop: not used: the program itself chose "
                + ", ".join(describe(kind) for kind in _seen),
                file=sys.stderr,
            )


def describe(kind: type) -> str:
    """Return the name of a type of loops, as a program would write it."""
    return "tokioloop.Loop" if kind is Loop else f"{kind.__module__}.{kind.__qualname__}"


def _watch(first: Callable[[type], None]) -> None:
    """Call ``first`` with each type of loop that starts to run and has not run before."""
    set_running_loop = events._set_running_loop

    def noting(loop: asyncio.AbstractEventLoop | None) -> None:
        if loop is not None and type(loop) not in _seen:
            _seen[type(loop)] = None
            first(type(loop))
        set_running_loop(loop)

    # Loops find it in either module.
    events._set_running_loop = noting
    asyncio._set_running_loop = noting
