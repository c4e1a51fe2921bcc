"""The command line: ``python -m benchmarks.growth``, with ``show`` for kept results."""

from __future__ import annotations

import argparse
import importlib.util
import subprocess
import sys
from dataclasses import asdict, replace
from datetime import datetime, timezone
from pathlib import Path

from benchmarks import loops, progress, system
from benchmarks.__main__ import available_loops, default_results, positive, stem, words
from benchmarks.growth import chart, report
from benchmarks.growth.runner import GrowthRunner
from benchmarks.growth.scales import SCALES, Scale, fitted, open_files, select
from benchmarks.processes import Failure
from benchmarks.results import Results, Run
from benchmarks.runner import Settings, build_loadgen

# Many short rounds: what else the machine's host does lasts for a part of a second, and hits few.
FULL = Settings(rounds=5, seconds=0.5, warmup=0.15)
QUICK = Settings(rounds=1, seconds=0.3, warmup=0.1)
# Of the newer rivals the best that this interpreter can have, after those that all know.
KNOWN, NEWER = ("asyncio", "uvloop"), ("zuvloop", "rloop")


def main(argv: list[str]) -> int:
    try:
        return show(argv[1:]) if argv[:1] == ["show"] else run(argv)
    except (Failure, ValueError, OSError, subprocess.CalledProcessError) as error:
        print(f"benchmarks: {error}", file=sys.stderr)
        return 2


def run(argv: list[str]) -> int:
    args = parser().parse_args(argv)
    scales = possible(select(args.rows), quick=args.quick, files=open_files())
    available = available_loops(args.loops, named=True) if args.loops else default_loops()
    defaults = QUICK if args.quick else FULL
    settings = replace(
        defaults,
        rounds=args.rounds or defaults.rounds,
        seconds=args.seconds or defaults.seconds,
    )
    loadgen = args.loadgen or build_loadgen()
    runner = GrowthRunner(settings, system.choose_cores(), loadgen)
    results: Results = {}
    interrupted = False
    with progress.show(runner.measurements(scales, list(available))) as bar:
        try:
            runner.measure(scales, list(available), results, bar)
        except KeyboardInterrupt:
            interrupted = True
    done = Run(
        date=datetime.now(timezone.utc).strftime("%Y-%m-%d"),
        machine=system.describe(),
        loops=available,
        settings=asdict(settings),
        results=results,
    )
    path = args.json or args.out / f"growth-{stem()}.json"
    done.save(path)
    publish(done, path)
    if interrupted:
        print("interrupted: the tables are incomplete", file=sys.stderr)
        return 130
    ours = (row[loops.OURS] for row in results.values() if loops.OURS in row)
    return 1 if any(series.error for series in ours) else 0


def possible(scales: list[Scale], *, quick: bool, files: int) -> list[Scale]:
    """What this interpreter can measure; says of the rest why not."""
    found = []
    for scale in scales:
        missing = [name for name in scale.needs if importlib.util.find_spec(name) is None]
        if missing:
            print(f"left out: {scale.id}: not installed: {', '.join(missing)}", file=sys.stderr)
            continue
        found.append(fitted(scale, quick=quick, files=files))
        fewer = max(found[-1].sizes)
        if scale.files and not quick and fewer < max(scale.sizes):
            reason = f"this process may have {files:,} open files"
            print(f"{scale.id}: {fewer:,} at most: {reason}", file=sys.stderr)
    return found


def default_loops() -> dict[str, str]:
    newer = available_loops(list(NEWER), named=False)
    best = dict(list(newer.items())[:1])
    return {
        **available_loops(list(KNOWN), named=False),
        **best,
        **available_loops([loops.OURS], named=True),
    }


def publish(run: Run, path: Path) -> None:
    """Prints the tables, and writes them and the chart beside the JSON."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.with_suffix(".md").write_text(report.document(run))
    print(report.tables(run))
    print()
    print(report.legend(run), flush=True)
    for failure in report.failures(run):
        print(f"failed: {failure}", file=sys.stderr)
    try:
        chart.draw(run, path.with_suffix(".svg"))
    except ImportError as error:
        print(f"no chart: {error}", file=sys.stderr)
    print(f"saved in {path.parent}: {path.stem}", file=sys.stderr)


def show(argv: list[str]) -> int:
    shown = argparse.ArgumentParser(
        prog="python -m benchmarks.growth show",
        description="Print the tables of files of results; several are taken for one run.",
    )
    shown.add_argument("files", type=Path, nargs="+")
    shown.add_argument("--json", type=Path, help="keep that run here, with tables and chart")
    args = shown.parse_args(argv)
    run = report.merged([Run.load(file) for file in args.files])
    if args.json:
        run.save(args.json)
        publish(run, args.json)
    else:
        print(f"{report.tables(run)}\n\n{report.legend(run)}")
    return 0


def parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.growth",
        description="Measure what a timer, a callback, a connection, a handshake and a child cost "
        "as there are more of them.",
        epilog="'python -m benchmarks.growth show FILE...' prints the tables of kept results.",
    )
    ids = ",".join(scale.id for scale in SCALES)
    parser.add_argument("--quick", action="store_true", help="smaller sizes, one short round")
    parser.add_argument("--rows", type=words, default=[], help=f"with commas (default: {ids})")
    parser.add_argument("--loops", type=words, default=[], help="names with commas")
    parser.add_argument("--rounds", type=positive, help=f"default: {FULL.rounds}")
    parser.add_argument("--seconds", type=float, help=f"a server's span ({FULL.seconds})")
    parser.add_argument(
        "--out", type=Path, default=default_results(), help="the folder for the results"
    )
    parser.add_argument("--json", type=Path, help="the file for the results; the others beside it")
    parser.add_argument("--loadgen", type=Path, help="a load generator that is built already")
    return parser


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
