"""The chart of a run: a panel for each figure, sizes to the right, what a unit costs upwards."""

from __future__ import annotations

from math import ceil, floor, log10
from pathlib import Path
from typing import Any

from benchmarks.charts import COLORS
from benchmarks.growth.report import present, sizes_of, usable
from benchmarks.growth.scales import Figure, Scale
from benchmarks.kinds import BYTES, REQUESTS
from benchmarks.loops import LIMIT
from benchmarks.results import Run

ACROSS = 4
Lines = dict[str, dict[int, float]]


def panels(run: Run) -> list[tuple[Scale, Figure, Lines]]:
    """The figures that grow with something, and the cost at each size for each loop."""
    found = []
    for scale in present(run):
        for figure in scale.figures:
            names = [*run.loops, LIMIT]
            lines = {name: usable(figure, sizes_of(run, figure, name)) for name in names}
            lines = {name: costs for name, costs in lines.items() if costs}
            if any(len(costs) > 1 for costs in lines.values()):
                found.append((scale, figure, lines))
    return found


def axis(figure: Figure) -> str:
    if figure.unit is BYTES:
        return "bytes"
    if figure.latency:
        return "us by the clock"
    return "us of processor time" + (" a request" if figure.unit is REQUESTS else "")


def limits(panels: list[Lines]) -> tuple[float, float]:
    """The powers of ten around all values."""
    found = [cost for lines in panels for costs in lines.values() for cost in costs.values()]
    lowest, highest = (log10(edge(found, default=1.0)) for edge in (min, max))
    return 10.0 ** floor(lowest), 10.0 ** ceil(highest)


def draw(run: Run, path: Path) -> None:
    """Writes the chart, in the format of the path's suffix."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    drawn = panels(run)
    if not drawn:
        return
    down = ceil(len(drawn) / ACROSS)
    figure, grid = pyplot.subplots(
        down, ACROSS, figsize=(3.1 * ACROSS, 2.5 * down + 0.6), layout="constrained", squeeze=False
    )
    handles: dict[str, Any] = {}
    latencies = limits([lines for _, measured, lines in drawn if measured.latency])
    for axes, (scale, measured, lines) in zip(grid.flat, drawn, strict=False):
        for name, costs in lines.items():
            [handles[name]] = axes.plot(
                list(costs),
                list(costs.values()),
                color=COLORS.get(name),
                marker="o",
                markersize=3,
                linewidth=1.4,
                linestyle="--" if name == LIMIT else "-",
            )
        axes.set_xscale("log")
        if measured.latency:
            # All on one scale: the slowest of a thousand is of another order than half of them.
            axes.set_yscale("log")
            axes.set_ylim(latencies)
        else:
            axes.set_ylim(bottom=0)
        axes.minorticks_off()
        axes.set_title(f"{scale.title}: {measured.title}", fontsize=8)
        axes.set_ylabel(axis(measured), fontsize=7)
        axes.tick_params(labelsize=7)
        axes.spines[["top", "right"]].set_visible(False)
    for axes in grid.flat[len(drawn) :]:
        axes.set_axis_off()
    figure.legend(
        list(handles.values()),
        list(handles),
        loc="outside lower center",
        ncols=len(handles),
        fontsize=8,
        frameon=False,
    )
    figure.suptitle(f"What one costs as there are more, {run.machine['python']}", fontsize=10)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=150)
    pyplot.close(figure)
