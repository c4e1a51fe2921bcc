"""The Markdown tables of a run, and the comparison of two runs."""

from __future__ import annotations

import statistics
from dataclasses import replace

from benchmarks.bridging import BESIDE, BRIDGES, EMBEDDED, UPSTREAM, WAYS
from benchmarks.goals import (
    MET,
    MISSED,
    NEAR,
    Above,
    AtMost,
    OfLimit,
    OfRival,
    level,
    overlap,
    paired_speedup,
    speedup,
    verdict,
)
from benchmarks.kinds import BYTES, MEBIBYTES, REQUESTS, Bridged, Row
from benchmarks.loops import BEFORE, FOREIGN, LIMIT, OURS, has_foreign_transports, is_ours
from benchmarks.results import RETAKEN, Run, Series
from benchmarks.rows import ROWS

ABSENT = "-"
Line = list[str]


def judged_by_cpu(run: Run) -> Run:
    """The run as if all that counted were processor time: requests a second of it, microseconds
    of it. Rows whose processor time says nothing (memory, precision) stay as they are.
    """

    def judged(row: Row, series: Series) -> Series:
        if row.unit is BYTES or not series.usable or not all(series.cpu_us):
            return series
        values = [1e6 / cpu for cpu in series.cpu_us] if row.higher_is_better else series.cpu_us
        return replace(series, values=values or series.values)

    results = {
        row.id: {loop: judged(row, series) for loop, series in run.results[row.id].items()}
        for row in rows_of(run)
    }
    return replace(run, results=results)


def tables(run: Run) -> str:
    """The loops' table, and that of the ways to await Rust futures; those that have rows."""
    bridged = [isinstance(row, Bridged) for row in rows_of(run)]
    found = [] if bridged and all(bridged) else [table(run)]
    if any(bridged):
        found.append(bridge_table(run))
    return "\n\n".join(found)


def table(run: Run) -> str:
    """A row a line: every loop's median, our ratios to the best rival and to what was before, and
    the row's goal.
    """
    loops = list(run.loops)
    rated = OURS in loops and any(loop != BEFORE and not is_ours(loop) for loop in loops)
    moved = OURS in loops and BEFORE in loops
    limited = any(LIMIT in series for series in run.results.values())
    heads = ["row", *loops] + [LIMIT] * limited
    heads += [f"{OURS} / best rival"] * rated + [f"{OURS} / {BEFORE}"] * moved
    heads += ["goal"] * (OURS in loops)
    lines = [heads, ["---"] + ["---:"] * (len(heads) - 1)]
    for row in rows_of(run):
        if isinstance(row, Bridged):
            continue
        series = run.results[row.id]
        best = best_of(row, series, [loop for loop in loops if loop != BEFORE])
        line = [row.title]
        for loop in loops:
            cell = _cell(row, series.get(loop))
            line.append(f"**{cell}**" if loop == best else cell)
        line += [_cell(row, series.get(LIMIT))] * limited
        if rated:
            line.append(_ratio(row, series, OURS))
        if moved:
            line.append(_change(row, series))
        if OURS in loops:
            line.append(_goal(run, row, OURS))
        lines.append(line)
    return _markdown(lines)


def bridge_table(run: Run) -> str:
    """A row a line: every way's median, and for both of ours the ratio and the goal."""
    rows = [row for row in rows_of(run) if isinstance(row, Bridged)]
    ways = [way for way in WAYS if any(way in run.results[row.id] for row in rows)]
    ours = [way for way in (BESIDE, EMBEDDED) if way in ways]
    heads = ["Rust futures, awaited", *ways]
    for way in ours:
        heads += [f"{way.removeprefix(OURS).strip()} / best rival", "goal"]
    lines = [heads, ["---"] + ["---:"] * (len(heads) - 1)]
    for row in rows:
        series = run.results[row.id]
        best = best_of(row, series, ways)
        cells = {way: _cell(row, series.get(way)) for way in ways}
        line = [row.title, *(f"**{cells[way]}**" if way == best else cells[way] for way in ways)]
        for way in ours:
            takes_part = way in series
            line.append(_ratio(row, series, way) if takes_part else ABSENT)
            line.append(_goal(run, row, way) if takes_part else ABSENT)
        lines.append(line)
    return _markdown(lines)


def details(run: Run) -> str:
    """A row and a loop a line: latencies, processor time and memory of the servers."""
    heads = ["row", "loop", "value", "p50 us", "p99 us", "CPU us", "RSS MiB", "client busy"]
    lines = [heads, ["---", "---"] + ["---:"] * 6]
    for row in rows_of(run):
        for loop, series in run.results[row.id].items():
            if not series.usable or not (series.rss_mib or series.minimum):
                continue
            figures = (series.p50_us, series.p99_us, series.cpu_us, series.rss_mib)
            busy = f"{statistics.median(series.client_busy):.0%}" if series.client_busy else ABSENT
            cells = [_cell(row, series, cpu=False), *map(_median, figures), busy]
            lines.append([row.title, loop, *cells])
    return _markdown(lines)


def document(run: Run, *, by_cpu: bool = False) -> str:
    """All there is to read of a run, as a Markdown file."""
    parts = ["# Benchmarks", tables(run), legend(run, by_cpu=by_cpu)]
    if not by_cpu:
        parts += ["## By processor time", tables(judged_by_cpu(run))]
    failed = failures(run)
    if failed:
        parts += ["## Failed", "\n".join(f"- {failure}" for failure in failed)]
    parts += [
        "## Latency, processor time, memory",
        details(run),
        "Latencies are those that the load generator sees; processor time and memory those of the "
        "server's process, a request (of a bulk transfer, a MiB) and at the end. A load generator "
        "that is always busy is as slow as its server: there the processor time tells more.",
    ]
    return "\n\n".join(parts) + "\n"


def legend(run: Run, *, by_cpu: bool = False) -> str:
    versions = ", ".join(f"{name} {version}" for name, version in run.loops.items())
    machine = run.machine
    lines = [
        f"{machine['python']}, {machine['processor']} ({machine['cores']} cores), "
        f"{machine['kernel']}, {run.date}. {versions}.",
        f"Medians of {run.settings['rounds']:.0f} rounds, with half the span between the best and "
        "the worst round. Servers: requests a second (or what the row says) and, in brackets, "
        "microseconds of the server's processor time a request; more is better, save for memory. "
        "Other rows: microseconds an operation; less is better. Rows marked native use the "
        f"primitives of {OURS} on {OURS} and asyncio's own on the others.",
    ]
    if retaken := run.settings.get(RETAKEN):
        lines.append(
            f"{retaken:.0f} measurements were taken again, because the machine was slower before "
            "or after them than it can be."
        )
    if by_cpu:
        lines.append(
            "All of it in processor time: a second is one of the process that is measured."
        )
    if any(LIMIT in series for series in run.results.values()):
        lines.append(f"'{LIMIT}' is an epoll server in Rust without an interpreter.")
    if UPSTREAM in machine:
        lines.append(
            f"Rust futures are awaited through {UPSTREAM} {machine[UPSTREAM]} or through the "
            "bridge: fall-back and beside, a library of the stable ABI on asyncio's loop and on "
            "the installed one; embedded, on the loop that the extension has within itself. The "
            f"best rival is the best of {UPSTREAM}; 'more' is what a future may take longer than "
            "an empty coroutine."
        )
    if OURS in run.loops:
        lines.append(
            f"The ratio says how many times as fast as the best rival {OURS} is: the median of the "
            "rounds' ratios, because a round is disturbed for both; ≈ marks those where either is "
            "ahead in some round. Goals: a ratio to the best rival unless said otherwise; "
            f"{MET} met, {MISSED} missed, {NEAR} missed, but reached in some round."
        )
    if BEFORE in run.loops:
        lines.append(f"The ratio to {BEFORE} is the median of the rounds' ratios.")
    return "\n".join(lines)


def failures(run: Run) -> list[str]:
    return [
        f"{row.id}: {loop}: {series.error}"
        for row in rows_of(run)
        for loop, series in run.results[row.id].items()
        if series.error
    ]


def compare(old: Run, new: Run, loops: list[str]) -> str:
    """How the medians of ``loops`` moved; more than 1 means faster."""
    lines = [["row", "loop", "old", "new", "new / old"], ["---", "---", "---:", "---:", "---:"]]
    for row in rows_of(new):
        for loop in row.columns(loops) if isinstance(row, Bridged) else loops:
            before = old.results.get(row.id, {}).get(loop)
            after = new.results[row.id].get(loop)
            if before is None or after is None:
                continue
            change = ABSENT
            if before.usable and after.usable:
                ratio = speedup(after, before, row.higher_is_better)
                change = f"{ratio:.2f}x{' ≈' if overlap(after, before) else ''}"
            lines.append([row.title, loop, _cell(row, before), _cell(row, after), change])
    return _markdown(lines)


def value(row: Row, series: Series) -> str:
    if not series.usable:
        return "fails" if series.error else ABSENT
    median = series.median
    if row.unit is REQUESTS:
        return f"{median / 1000:.1f}k"
    if row.unit in (BYTES, MEBIBYTES):
        return f"{median:.0f}"
    return f"{median:.3f}" if median < 1 else f"{median:.2f}"


def rows_of(run: Run) -> list[Row]:
    return [row for row in ROWS if row.id in run.results]


def best_of(row: Row, series: dict[str, Series], candidates: list[str]) -> str | None:
    usable = [loop for loop in candidates if loop in series and series[loop].usable]
    if not usable:
        return None
    pick = max if row.higher_is_better else min
    return pick(usable, key=lambda loop: series[loop].median)


def best_rival(row: Row, series: dict[str, Series], column: str) -> str | None:
    """The loop that ``column`` is the least ahead of, or the most behind."""
    ours = (BEFORE, LIMIT, *BRIDGES)
    others = [loop for loop in series if loop not in ours and not is_ours(loop)]
    usable = [loop for loop in others if series[loop].usable]
    if not usable or not series[column].usable:
        return None
    return min(
        usable, key=lambda loop: paired_speedup(series[column], series[loop], row.higher_is_better)
    )


def _cell(row: Row, series: Series | None, *, cpu: bool = True) -> str:
    if series is None:
        return ABSENT
    text = value(row, series)
    if not series.usable:
        return text
    if len(series.values) > 1:
        text += f" ±{100 * series.spread:.0f}%"
    if cpu and series.cpu_us and row.unit in (REQUESTS, MEBIBYTES):
        text += f" [{statistics.median(series.cpu_us):.1f}]"
    if series.minimum:
        text += f" (least {min(series.minimum):.0f})"
    return text


def _ratio(row: Row, series: dict[str, Series], column: str) -> str:
    rival = best_rival(row, series, column)
    if rival is None:
        return ABSENT
    ours, best = series[column], series[rival]
    ratio = paired_speedup(ours, best, row.higher_is_better)
    mark = " ≈" if level(ours, best, row.higher_is_better) else ""
    return f"{ratio:.2f}x{mark} {WAYS[rival].of if rival in WAYS else rival}"


def _change(row: Row, series: dict[str, Series]) -> str:
    after, before = series[OURS], series[BEFORE]
    if not (after.usable and before.usable):
        return ABSENT
    return f"{paired_speedup(after, before, row.higher_is_better):.2f}x"


def _goal(run: Run, row: Row, column: str) -> str:
    goal, series = row.goal_of(column), run.results[row.id]
    if goal is None:
        return ABSENT
    ours, rival, limit = series[column], best_rival(row, series, column), series.get(LIMIT)
    best = series[rival] if rival else None
    base = run.results.get(goal.row, {}).get(column) if isinstance(goal, Above) else None
    found = verdict(goal, ours, best, limit, row.higher_is_better, base)
    if isinstance(goal, Above):
        aim = f"at most {goal.value:g} more"
    elif isinstance(goal, AtMost):
        aim = f"at most {goal.value:g}"
    elif isinstance(goal, OfLimit):
        reached = ""
        if found and limit is not None:
            reached = f"{paired_speedup(ours, limit, row.higher_is_better):.2f}, goal "
        aim = f"{reached}{goal.ratio:.2f} of the limit"
    else:
        aim = f"{goal.ratio:.2f}x"
    cell = f"{aim} {found or ABSENT}"
    if isinstance(goal, OfRival) and goal.alone is not None:
        cell += f", {_alone(row, series, column, goal.alone)}"
    return cell


def _alone(row: Row, series: dict[str, Series], column: str, ratio: float) -> str:
    own = {loop: one for loop, one in series.items() if not has_foreign_transports(loop)}
    rival = best_rival(row, own, column)
    best = own[rival] if rival else None
    found = verdict(OfRival(ratio), series[column], best, None, row.higher_is_better)
    return f"{ratio:.2f}x without {FOREIGN} {found or ABSENT}"


def _median(values: list[float]) -> str:
    return f"{statistics.median(values):.1f}" if values else ABSENT


def _markdown(lines: list[Line]) -> str:
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
