"""Whether the machine is as fast as it was: a virtual one shares its cores with others, unseen."""

from __future__ import annotations

import os
import statistics
import time

from benchmarks.system import Cores, pin_to_core

# A slowdown by what another machine does on the same core is one of 1.3 to 2.
TOLERATED = 1.12
SPINS = 5
PATIENCE = 2.0
PAUSE = 0.05


class Pace:
    """How long a piece of work takes on each core, beside the least that it ever took there."""

    def __init__(self, cores: Cores) -> None:
        used = [cores.server] if cores.client is None else [cores.server, cores.client]
        self._least = dict.fromkeys(used, float("inf"))

    def slowness(self) -> float:
        """How many times its least time the work takes, on the slower core."""
        allowed = os.sched_getaffinity(0)
        try:
            return max(self._slowness_of(core) for core in self._least)
        finally:
            os.sched_setaffinity(0, allowed)

    def settle(self) -> float:
        """Waits for the machine to be itself, in vain after two seconds; returns the slowness."""
        end = time.monotonic() + PATIENCE
        while (slowness := self.slowness()) > TOLERATED and time.monotonic() < end:
            time.sleep(PAUSE)
        return slowness

    def _slowness_of(self, core: int) -> float:
        pin_to_core(core)
        taken = statistics.median(work() for _ in range(SPINS))
        self._least[core] = min(self._least[core], taken)
        return taken / self._least[core]


def work() -> float:
    """Some of what an interpreter does most; a millisecond or two. Returns the seconds it took."""
    begun = time.perf_counter()
    total = 0
    for number in range(30_000):
        total += number & 7
    return time.perf_counter() - begun
