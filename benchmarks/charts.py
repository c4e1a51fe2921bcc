"""Charts of a run, one for each group of rows, as PNG and SVG.

matplotlib is imported where it draws: everything else works without it.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from benchmarks.bridging import BESIDE, EMBEDDED, FALL_BACK, UPSTREAM
from benchmarks.goals import speedup
from benchmarks.kinds import Row
from benchmarks.loops import BEFORE, LIMIT, OURS, OVER
from benchmarks.report import rows_of, value
from benchmarks.results import Run
from benchmarks.rows import GROUPS

COLORS = {
    "asyncio": "#9aa0a6",
    f"asyncio{OVER}": "#5f6368",
    "uvloop": "#f2b632",
    f"uvloop{OVER}": "#b07d0f",
    "rloop": "#7aa95c",
    "rsloop": "#5b8fb9",
    "zuvloop": "#9b6fb0",
    "zloop": "#c78a6a",
    OURS: "#d1495b",
    f"{OURS}{OVER}": "#8c2f39",
    BEFORE: "#e3a6ae",
    LIMIT: "#444444",
    f"{UPSTREAM} on asyncio": "#9aa0a6",
    f"{UPSTREAM} on uvloop": "#f2b632",
    f"{UPSTREAM} on {OURS}": "#7aa95c",
    FALL_BACK: "#e3a6ae",
    BESIDE: "#d1495b",
    EMBEDDED: "#8c2f39",
}
FORMATS = ("png", "svg")


def draw(run: Run, folder: Path) -> list[Path]:
    """Writes ``GROUP.png`` and ``GROUP.svg`` into ``folder``; returns what was written."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    folder.mkdir(parents=True, exist_ok=True)
    written = []
    for group, rows in _groups(run):
        columns = list(dict.fromkeys(c for row in rows for c in run.results[row.id]))
        # The limit comes last, also where only a later row has one.
        columns.sort(key=lambda column: column == LIMIT)
        base = "asyncio" if "asyncio" in columns else columns[0]
        thickness = 0.8 / len(columns)
        figure, axes = pyplot.subplots(
            figsize=(9, 1.2 + len(rows) * (0.25 + 0.2 * len(columns))), layout="constrained"
        )
        for number, column in enumerate(columns):
            bars = list(_bars(run, rows, column, base, number * thickness))
            drawn = axes.barh(
                [place for place, _, _ in bars],
                [length for _, length, _ in bars],
                height=thickness * 0.92,
                color=COLORS.get(column),
                label=column,
            )
            axes.bar_label(drawn, [text for _, _, text in bars], padding=3, fontsize=7)
        axes.set_yticks(
            [index + 0.4 - thickness / 2 for index in range(len(rows))],
            [row.title.replace("`", "") for row in rows],
            fontsize=8,
        )
        axes.invert_yaxis()
        axes.margins(x=0.12)
        axes.set_xlabel(f"times as fast as {base}; labels: {_units(rows)}", fontsize=8)
        axes.spines[["top", "right"]].set_visible(False)
        axes.legend(fontsize=8, loc="center left", bbox_to_anchor=(1.0, 0.5), frameon=False)
        axes.set_title(f"{group}, {run.machine['python']}", fontsize=10)
        for suffix in FORMATS:
            path = folder / f"{group}.{suffix}"
            figure.savefig(path, dpi=150)
            written.append(path)
        pyplot.close(figure)
    return written


def _groups(run: Run) -> Iterator[tuple[str, list[Row]]]:
    """Groups with their rows that have something to show."""
    for group in GROUPS:
        rows = [row for row in rows_of(run) if row.group == group]
        rows = [row for row in rows if any(s.usable for s in run.results[row.id].values())]
        if rows:
            yield group, rows


def _bars(
    run: Run, rows: list[Row], column: str, base: str, offset: float
) -> Iterator[tuple[float, float, str]]:
    """Place, length and label of a column's bar in each row."""
    for index, row in enumerate(rows):
        series = run.results[row.id].get(column)
        if series is None:
            continue
        against = run.results[row.id].get(base)
        if not series.usable:
            yield index + offset, 0.0, value(row, series)
        else:
            # Without the loop that all are compared with, all are as fast as themselves.
            other = against if against is not None and against.usable else series
            ratio = speedup(series, other, row.higher_is_better)
            yield index + offset, ratio, value(row, series)


def _units(rows: list[Row]) -> str:
    return ", ".join(dict.fromkeys(row.unit.name for row in rows))
