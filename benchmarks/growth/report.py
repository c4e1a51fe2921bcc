"""The tables of a run: what a unit costs at each size, and how that grows."""

from __future__ import annotations

import statistics
from collections.abc import Iterable
from dataclasses import replace

from benchmarks.growth.scales import SCALES, Figure, Scale
from benchmarks.kinds import BYTES, REQUESTS
from benchmarks.loops import LIMIT
from benchmarks.results import Run, Series

ABSENT = "-"
Sizes = dict[int, Series]


def merged(runs: list[Run]) -> Run:
    """One run of all rounds of several, such as those of other scales or of another hour."""
    first, *others = runs
    results = {row: dict(loops) for row, loops in first.results.items()}
    for run in others:
        if run.machine != first.machine or run.loops != first.loops:
            raise ValueError("these runs are of other machines or loops, and are not one run")
        for row, loops in run.results.items():
            for loop, series in loops.items():
                found = results.setdefault(row, {})
                found[loop] = together(found[loop], series) if loop in found else series
    rounds = max((len(s.values) for row in results.values() for s in row.values()), default=0)
    settings = {**first.settings, "rounds": float(rounds)}
    return replace(first, results=results, settings=settings)


def together(one: Series, other: Series) -> Series:
    lists = ("values", "cpu_us", "client_busy")
    more = {name: getattr(one, name) + getattr(other, name) for name in lists}
    return replace(one, error=one.error or other.error, **more)


def sizes_of(run: Run, figure: Figure, loop: str) -> Sizes:
    found: Sizes = {}
    for row, loops in run.results.items():
        id, _, size = row.partition("@")
        if id == figure.id and loop in loops:
            found[int(size)] = loops[loop]
    return dict(sorted(found.items()))


def usable(figure: Figure, sizes: Sizes) -> dict[int, float]:
    """The cost at each size at which there is one."""
    return {size: figure.cost(series) for size, series in sizes.items() if series.usable}


def growth(figure: Figure, sizes: Sizes) -> float | None:
    """The cost of a unit at the largest size, as a multiple of that at the smallest."""
    costs = list(usable(figure, sizes).values())
    return costs[-1] / costs[0] if len(costs) > 1 and costs[0] > 0 else None


def over_least(figure: Figure, sizes: Sizes) -> float | None:
    """The same as a multiple of the least cost at any size.

    What is there once for few is a great part of them: a cost may fall before it grows.
    """
    costs = list(usable(figure, sizes).values())
    return costs[-1] / min(costs) if len(costs) > 1 and min(costs) > 0 else None


def tables(run: Run) -> str:
    return "\n\n".join(table(run, scale) for scale in present(run))


def present(run: Run) -> list[Scale]:
    """The scales of which something was measured, with the sizes at which it was."""
    found = []
    for scale in SCALES:
        ids = {figure.id for figure in scale.figures}
        rows = (row.partition("@") for row in run.results)
        sizes = sorted({int(size) for id, _, size in rows if id in ids})
        if sizes:
            found.append(replace(scale, sizes=tuple(sizes)))
    return found


def table(run: Run, scale: Scale) -> str:
    """A line for each figure and loop."""
    heads = [
        scale.title,
        "loop",
        *(f"{size:,}" for size in scale.sizes),
        "growth",
        "over its least",
    ]
    lines = [heads, ["---", "---"] + ["---:"] * (len(heads) - 2)]
    for figure in scale.figures:
        found = {loop: sizes_of(run, figure, loop) for loop in [*run.loops, LIMIT]}
        found = {loop: sizes for loop, sizes in found.items() if sizes}
        # Where memory has no figure at any size, as in a quick run of few.
        if not any(usable(figure, sizes) or failed(sizes) for sizes in found.values()):
            continue
        for loop, sizes in found.items():
            cells = []
            for size in scale.sizes:
                text = cell(figure, sizes.get(size))
                cells.append(f"**{text}**" if loop == best(figure, found, size) else text)
            # A latency is no cost: it has the waiting in it.
            costs = {} if figure.latency else sizes
            ratios = (growth(figure, costs), over_least(figure, costs))
            name = f"{figure.title}, {figure.unit.name}"
            lines.append([name, loop, *cells, *map(times, ratios)])
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def failed(sizes: Sizes) -> bool:
    return any(series.error for series in sizes.values())


def best(figure: Figure, found: dict[str, Sizes], size: int) -> str | None:
    rivals = {loop: usable(figure, sizes) for loop, sizes in found.items() if loop != LIMIT}
    rivals = {loop: costs for loop, costs in rivals.items() if size in costs}
    return min(rivals, key=lambda loop: rivals[loop][size], default=None)


def cell(figure: Figure, series: Series | None) -> str:
    if series is None or not series.usable:
        return "fails" if series is not None and series.error else ABSENT
    text = number(series.median, figure)
    if series.cpu_us:
        text += f" [{number(statistics.median(series.cpu_us), None)}]"
    return text


def number(value: float, figure: Figure | None) -> str:
    if figure is not None and figure.unit is REQUESTS:
        return f"{value / 1000:.1f}k"
    if figure is not None and figure.unit is BYTES:
        return f"{value:.0f}"
    if value < 1:
        return f"{value:.3f}"
    return f"{value:.2f}" if value < 10 else f"{value:.1f}" if value < 100 else f"{value:,.0f}"


def times(ratio: float | None) -> str:
    return ABSENT if ratio is None else f"{ratio:.2f}x"


def failures(run: Run) -> list[str]:
    """Each reason once, however many figures a measurement was to have."""
    found: Iterable[tuple[str, str, str]] = (
        (scale_of(row), loop, series.error)
        for row, loops in run.results.items()
        for loop, series in loops.items()
        if series.error
    )
    return [": ".join(failure) for failure in dict.fromkeys(found)]


def scale_of(row: str) -> str:
    id, _, size = row.partition("@")
    [scale] = [s.id for s in SCALES if any(figure.id == id for figure in s.figures)]
    return f"{scale}, {int(size):,}"


def legend(run: Run) -> str:
    versions = ", ".join(f"{name} {version}" for name, version in run.loops.items())
    machine = run.machine
    return "\n".join(
        [
            f"{machine['python']}, {machine['processor']} ({machine['cores']} cores), "
            f"{machine['kernel']}, {run.date}. {versions}.",
            f"Medians of {run.settings['rounds']:.0f} rounds, by the clock; in brackets "
            "microseconds of the loop's process, of its processor time. Less is better, save for "
            "requests (a second). The best of each size is bold, judged by processor time where "
            "that is given.",
            "'growth' is what one costs at the largest size as a multiple of what it costs at the "
            "smallest; 'over its least', as a multiple of the least cost at any size. Both are of "
            "processor time where that is given.",
            "Latencies count from when a request should have been sent. The load is a part of "
            "what the same server took before, over as many connections.",
            f"'{LIMIT}' is an epoll server in Rust without an interpreter.",
        ]
    )


def document(run: Run) -> str:
    parts = ["# Growth", tables(run), legend(run)]
    if failures(run):
        parts += ["## Failed", "\n".join(f"- {failure}" for failure in failures(run))]
    return "\n\n".join(parts) + "\n"
