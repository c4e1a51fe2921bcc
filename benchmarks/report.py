"""The Markdown table of a run, and the comparison of two runs."""

from __future__ import annotations

import statistics

from benchmarks.loops import OURS
from benchmarks.results import Run, Series
from benchmarks.rows import ROWS, Row

ABSENT = "-"


def table(run: Run) -> str:
    loops = list(run.loops)
    rated = OURS in loops and len(loops) > 1
    heads = ["row", *loops] + ([f"{OURS} / best rival"] if rated else [])
    lines = [heads, ["---"] + ["---:"] * (len(heads) - 1)]
    for row in _rows_of(run):
        series = run.results[row.id]
        best = _best(row, series, list(series))
        cells = [row.title]
        for loop in loops:
            cell = _cell(row, series[loop])
            cells.append(f"**{cell}**" if loop == best else cell)
        if rated:
            cells.append(_ratio(row, series))
        lines.append(cells)
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def legend(run: Run) -> str:
    versions = ", ".join(f"{name} {version}" for name, version in run.loops.items())
    machine = run.machine
    lines = [
        f"{machine['python']}, {machine['processor']} ({machine['cores']} cores), "
        f"{machine['kernel']}, {run.date}. {versions}.",
        f"Medians of {run.settings['rounds']:.0f} rounds, with half the span between the best and "
        "the worst round. Echo rows: requests a second and, in brackets, microseconds of the "
        "server's processor time a request; more is better. Other rows: microseconds an "
        "operation; less is better.",
    ]
    if OURS in run.loops:
        lines.append(
            f"The last column says how many times as fast as the best rival {OURS} is; "
            "≈ marks a difference within the spread of the rounds."
        )
    return "\n".join(lines)


def failures(run: Run) -> list[str]:
    return [
        f"{row.id}: {loop}: {series.error}"
        for row in _rows_of(run)
        for loop, series in run.results[row.id].items()
        if series.error
    ]


def compare(old: Run, new: Run, loops: list[str]) -> str:
    """How the medians of ``loops`` moved; more than 1 means faster."""
    lines = [["row", "loop", "old", "new", "new / old"], ["---", "---", "---:", "---:", "---:"]]
    for row in _rows_of(new):
        for loop in loops:
            before = old.results.get(row.id, {}).get(loop)
            after = new.results[row.id].get(loop)
            if before is None or after is None:
                continue
            change = ABSENT
            if before.usable and after.usable:
                change = _mark(_speedup(row, after, before), after, before)
            lines.append([row.title, loop, _cell(row, before), _cell(row, after), change])
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def value(row: Row, series: Series) -> str:
    if not series.usable:
        return "fails" if series.error else ABSENT
    median = series.median
    if row.higher_is_better:
        return f"{median / 1000:.1f}k"
    return f"{median:.3f}" if median < 1 else f"{median:.2f}"


def _cell(row: Row, series: Series) -> str:
    text = value(row, series)
    if not series.usable:
        return text
    if len(series.values) > 1:
        text += f" ±{100 * series.spread:.0f}%"
    if series.cpu_us:
        text += f" [{statistics.median(series.cpu_us):.1f}]"
    return text


def _rows_of(run: Run) -> list[Row]:
    return [row for row in ROWS if row.id in run.results]


def _best(row: Row, series: dict[str, Series], candidates: list[str]) -> str | None:
    usable = [loop for loop in candidates if series[loop].usable]
    if not usable:
        return None
    pick = max if row.higher_is_better else min
    return pick(usable, key=lambda loop: series[loop].median)


def _ratio(row: Row, series: dict[str, Series]) -> str:
    rival = _best(row, series, [loop for loop in series if loop != OURS])
    if rival is None or not series[OURS].usable:
        return ABSENT
    ratio = _speedup(row, series[OURS], series[rival])
    return f"{_mark(ratio, series[OURS], series[rival])} {rival}"


def _speedup(row: Row, one: Series, other: Series) -> float:
    """How many times as fast as ``other`` is ``one``."""
    ratio = one.median / other.median
    return ratio if row.higher_is_better else 1 / ratio


def _mark(ratio: float, one: Series, other: Series) -> str:
    overlap = min(one.values) <= max(other.values) and min(other.values) <= max(one.values)
    return f"{ratio:.2f}x{' ≈' if overlap else ''}"
