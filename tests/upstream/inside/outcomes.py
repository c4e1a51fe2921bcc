"""In the process of a suite: sets the loop that is tested, and notes how each test ended.

Notes also the classes of the loops that were made, to see whether the suite ran on the loop that
was meant.
"""

from __future__ import annotations

import asyncio
import atexit
import json
import os
from collections import Counter

#: How many loops of which class were made here.
loops: Counter[str] = Counter()


def set_loop() -> None:
    loop = os.environ["TESTED_LOOP"]
    if loop == "tokioloop":
        import tokioloop

        tokioloop.install()
    elif loop == "uvloop":
        import uvloop

        asyncio.set_event_loop_policy(uvloop.EventLoopPolicy())
    policy = asyncio.get_event_loop_policy()
    made = policy.new_event_loop

    def new_event_loop() -> asyncio.AbstractEventLoop:
        loop = made()
        loops[f"{type(loop).__module__}.{type(loop).__qualname__}"] += 1
        return loop

    # The policy is where each suite's loops come from, and the one place that all three share.
    policy.new_event_loop = new_event_loop
    atexit.register(note_loops)


def note_loops() -> None:
    for name, count in loops.items():
        _write("loop", name, count)


def note(test: str, outcome: str) -> None:
    _write("test", test, outcome)


def _write(*entry: object) -> None:
    # At once: the process may not live long enough. In one piece: the file has several writers.
    with open(os.environ["OUTCOMES"], "ab", buffering=0) as file:
        file.write(json.dumps(entry).encode() + b"\n")
