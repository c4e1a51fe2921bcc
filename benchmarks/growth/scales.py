"""What is measured, and at which sizes."""

from __future__ import annotations

import resource
from collections.abc import Iterable
from dataclasses import dataclass, replace

from benchmarks.kinds import BYTES, MICROSECONDS, REQUESTS, Unit
from benchmarks.results import Series

# A part of what a server can take that it is given by schedule.
PERCENT = (50, 90)
# In the load generator's answer, and in the table.
PERCENTILES = {"p50_us": "p50", "p99_us": "p99", "p999_us": "p99.9"}
# Memory is counted in pages: it takes many units to tell what one has.
FEWEST_FOR_MEMORY = 10_000
# Open files that a server and a load generator need besides their connections.
SPARE_FILES = 100


@dataclass(frozen=True)
class Figure:
    """Something that is known of each size: a line of the table for each loop."""

    id: str
    title: str
    unit: Unit = MICROSECONDS
    latency: bool = False
    """A time that is waited, whatever the processor does meanwhile."""

    def cost(self, series: Series) -> float:
        """What a unit costs: processor time where that is known."""
        return replace(series, values=series.cpu_us or series.values).median


@dataclass(frozen=True)
class Scale:
    """Something of which there can be more and more."""

    id: str
    title: str
    sizes: tuple[int, ...]
    figures: tuple[Figure, ...]
    files: bool = False
    """Each is an open file of the server's."""
    limited: bool = False
    """The load generator's own server takes part."""
    quick: int = 0
    """The greatest size of a quick run; 0 for all."""
    needs: tuple[str, ...] = ()


def latencies() -> Iterable[Figure]:
    for percent in PERCENT:
        for key, name in PERCENTILES.items():
            title = f"{name} at {percent} % of the load"
            yield Figure(latency_id(percent, key), title, latency=True)


def latency_id(percent: float, key: str) -> str:
    return f"connections-{key.removesuffix('_us')}-{percent:.0f}"


SCALES = (
    Scale(
        "timers",
        "Timers held",
        (1_000, 10_000, 100_000, 1_000_000),
        (
            Figure("timers-set", "set"),
            Figure("timers-memory", "memory", BYTES),
            Figure("timers-cancel", "cancelled"),
            Figure("timers-fire", "fired"),
        ),
        quick=100_000,
    ),
    Scale(
        "callbacks",
        "Callbacks waiting",
        (100_000, 1_000_000, 10_000_000),
        (
            Figure("callbacks-run", "scheduled and run"),
            Figure("callbacks-memory", "memory", BYTES),
        ),
        quick=1_000_000,
    ),
    Scale(
        "connections",
        "Connections",
        (1, 10, 100, 1_000, 10_000, 20_000),
        (
            Figure("connections-memory", "memory", BYTES),
            Figure("connections-rate", "requests", REQUESTS),
            *latencies(),
        ),
        files=True,
        limited=True,
        quick=10_000,
    ),
    Scale(
        "handshakes",
        "TLS handshakes at once",
        (1, 10, 100, 1_000),
        (Figure("handshakes-each", "each"),),
        needs=("trustme",),
    ),
    Scale(
        "children",
        "Children started at once",
        (1, 10, 100, 1_000),
        (Figure("children-each", "each"),),
        quick=100,
    ),
)


def select(ids: list[str]) -> list[Scale]:
    known = {scale.id: scale for scale in SCALES}
    for id in ids:
        if id not in known:
            raise ValueError(f"{id!r} is none of {', '.join(known)}")
    return [scale for scale in SCALES if not ids or scale.id in ids]


def fitted(scale: Scale, *, quick: bool, files: int) -> Scale:
    """The scale with the sizes that are measured; of open files, no more than a process has."""
    sizes: Iterable[int] = (size for size in scale.sizes if not (quick and 0 < scale.quick < size))
    if scale.files:
        sizes = dict.fromkeys(min(size, files - SPARE_FILES) for size in sizes)
    return replace(scale, sizes=tuple(sizes))


def open_files() -> int:
    """How many a process may have here: as many as the kernel allows to raise the limit to."""
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    return most if most != resource.RLIM_INFINITY else 1 << 20


def key(figure: Figure, size: int) -> str:
    """What the file of results calls a figure at a size."""
    return f"{figure.id}@{size}"
