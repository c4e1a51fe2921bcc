"""The command line: ``python -m benchmarks`` and ``python -m benchmarks compare OLD NEW``."""

from __future__ import annotations

import argparse
import subprocess
import sys
from dataclasses import asdict
from datetime import datetime, timezone
from pathlib import Path

from benchmarks import loops, progress, report, system
from benchmarks.results import Results, Run
from benchmarks.rows import ROWS, Echo, select
from benchmarks.runner import ROOT, Failure, Runner, Settings, build_loadgen

FULL = Settings()
QUICK = Settings(rounds=3, seconds=0.5, warmup=0.15, repeats=1)


def main(argv: list[str]) -> int:
    try:
        if argv[:1] == ["compare"]:
            return compare(argv[1:])
        return run(argv)
    except (Failure, ValueError, OSError, subprocess.CalledProcessError) as error:
        print(f"benchmarks: {error}", file=sys.stderr)
        return 2


def run(argv: list[str]) -> int:
    args = run_parser().parse_args(argv)
    if args.list:
        for row in ROWS:
            print(f"{row.id:20} {row.title}")
        return 0
    rows = select(args.rows)
    names = args.loops or list(loops.FACTORIES)
    available = available_loops(names, named=bool(args.loops))
    if not available:
        print("benchmarks: none of the loops can be imported", file=sys.stderr)
        return 2

    defaults = QUICK if args.quick else FULL
    settings = Settings(
        rounds=args.rounds or defaults.rounds,
        seconds=args.seconds or defaults.seconds,
        warmup=defaults.warmup,
        repeats=defaults.repeats,
    )
    cores = system.choose_cores()
    needs_load = any(isinstance(row, Echo) for row in rows)
    loadgen = build_loadgen() if needs_load else None

    results: Results = {}
    steps = len(rows) * len(available) * settings.rounds
    interrupted = False
    with progress.show(steps) as bar:
        try:
            Runner(settings, cores, loadgen).run(rows, list(available), results, bar)
        except KeyboardInterrupt:
            interrupted = True

    now = datetime.now(timezone.utc)
    done = Run(
        date=now.strftime("%Y-%m-%d"),
        machine=system.describe(),
        loops=available,
        settings=asdict(settings),
        results=results,
    )
    version = ".".join(map(str, sys.version_info[:2]))
    path = args.json or default_results() / f"{now:%Y%m%d-%H%M%S}-py{version}.json"
    done.save(path)
    print(report.table(done))
    print()
    print(report.legend(done))
    for failure in report.failures(done):
        print(f"failed: {failure}", file=sys.stderr)
    print(f"saved as {path}", file=sys.stderr)
    if interrupted:
        print("interrupted: the table is incomplete", file=sys.stderr)
        return 130
    # A rival that cannot do a row is a result; ours must do them all.
    ours = (series[loops.OURS] for series in results.values() if loops.OURS in series)
    return 1 if any(series.error for series in ours) else 0


def compare(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks compare", description="Compare two files of results."
    )
    parser.add_argument("old", type=Path)
    parser.add_argument("new", type=Path)
    parser.add_argument("--loops", type=words, help=f"default: {loops.OURS}; 'all' for each one")
    args = parser.parse_args(argv)
    old, new = Run.load(args.old), Run.load(args.new)
    chosen = args.loops or [loops.OURS]
    if chosen == ["all"]:
        chosen = [loop for loop in new.loops if loop in old.loops]
    print(report.compare(old, new, chosen))
    for label, run in (("old", old), ("new", new)):
        print(f"\n{label}: {run.date}, {run.machine['python']}, {run.machine['processor']}")
    return 0


def run_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks",
        description="Measure event loops side by side and print a Markdown table.",
        epilog="'python -m benchmarks compare OLD NEW' compares two files of results.",
    )
    parser.add_argument("--quick", action="store_true", help="a rough table in about two minutes")
    parser.add_argument("--rows", type=words, default=[], help="ids or patterns, with commas")
    parser.add_argument(
        "--loops",
        type=words,
        default=[],
        help=f"names with commas (default: {','.join(loops.FACTORIES)}), "
        "or module:callable for any other loop",
    )
    parser.add_argument("--rounds", type=positive, help=f"default: {FULL.rounds}")
    parser.add_argument("--seconds", type=float, help=f"an echo row's span ({FULL.seconds})")
    parser.add_argument("--json", type=Path, help="where to keep the results")
    parser.add_argument("--list", action="store_true", help="name the rows and stop")
    return parser


def words(text: str) -> list[str]:
    return [word.strip() for word in text.split(",") if word.strip()]


def positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError("must be at least 1")
    return number


def available_loops(names: list[str], *, named: bool) -> dict[str, str]:
    """Names and versions of the loops that can be imported; one asked for by name must be."""
    found = {}
    for name in names:
        try:
            loops.load(name)
        except loops.UnavailableLoop as error:
            if named:
                raise Failure(str(error)) from error
            print(f"left out: {error}", file=sys.stderr)
        else:
            found[name] = loops.version(name)
    return found


def default_results() -> Path:
    return ROOT / "benchmarks" / "results"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
