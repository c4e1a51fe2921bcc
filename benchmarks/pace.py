"""Whether the machine is as fast as it was: a virtual one shares its cores with others, unseen."""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Iterable

from benchmarks.system import pin_to_core

# By what another machine does on the same core this one gets 1.5 to 2 times slower; by itself it
# varies by a sixth.
TOLERATED = 1.25
SPINS = 5
PATIENCE = 2.0
PAUSE = 0.05


class Pace:
    """How long a piece of work takes on a core, beside the least that it ever took there."""

    def __init__(self) -> None:
        self._least: dict[int, float] = {}

    def slowness(self, cores: Iterable[int]) -> float:
        """How many times its least time the work takes, on the slowest of the cores."""
        allowed = os.sched_getaffinity(0)
        try:
            return max(self._slowness_of(core) for core in cores)
        finally:
            os.sched_setaffinity(0, allowed)

    def settle(self, cores: Iterable[int]) -> float:
        """Waits for the cores to be as fast as they can, in vain after two seconds; returns how
        many times slower they are then.
        """
        end = time.monotonic() + PATIENCE
        while (slowness := self.slowness(cores)) > TOLERATED and time.monotonic() < end:
            time.sleep(PAUSE)
        return slowness

    def _slowness_of(self, core: int) -> float:
        pin_to_core(core)
        taken = statistics.median(work() for _ in range(SPINS))
        self._least[core] = min(self._least.get(core, taken), taken)
        return taken / self._least[core]


def work() -> float:
    """Some of what an interpreter does most; a millisecond or two. Returns the seconds it took."""
    begun = time.perf_counter()
    total = 0
    for number in range(30_000):
        total += number & 7
    return time.perf_counter() - begun
