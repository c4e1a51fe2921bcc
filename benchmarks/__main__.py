"""The command line: ``python -m benchmarks``, with ``show`` and ``compare`` for kept results."""

from __future__ import annotations

import argparse
import subprocess
import sys
from dataclasses import asdict, replace
from datetime import datetime, timezone
from pathlib import Path

from benchmarks import bridging, charts, loops, progress, report, system
from benchmarks.kinds import Bridged, Row
from benchmarks.processes import ROOT, Failure
from benchmarks.results import RETAKEN, Results, Run
from benchmarks.rows import ROWS, select
from benchmarks.runner import Runner, Settings, build_loadgen, needs_load

FULL = Settings()
QUICK = Settings(rounds=2, seconds=0.3, warmup=0.1, repeats=1, scale=0.3)


def main(argv: list[str]) -> int:
    try:
        if argv[:1] == ["compare"]:
            return compare(argv[1:])
        if argv[:1] == ["show"]:
            return show(argv[1:])
        return run(argv)
    except (Failure, ValueError, OSError, subprocess.CalledProcessError) as error:
        print(f"benchmarks: {error}", file=sys.stderr)
        return 2


def run(argv: list[str]) -> int:
    args = run_parser().parse_args(argv)
    if args.list:
        for row in ROWS:
            print(f"{row.group:12} {row.id:26} {row.title}")
        return 0
    names = args.loops or list(loops.FACTORIES)
    available = available_loops(names, named=bool(args.loops))
    if not available:
        print("benchmarks: none of the loops can be imported", file=sys.stderr)
        return 2
    if args.before:
        available[loops.BEFORE] = str(args.before)
    rows = possible(select(args.rows), list(available))

    settings = chosen_settings(args)
    loadgen = args.loadgen
    if loadgen is None and any(needs_load(row) for row in rows):
        loadgen = build_loadgen()
    machine, extension = system.describe(), None
    if any(isinstance(row, Bridged) for row in rows):
        extension = bridging.build_extension()
        rows = without_opendal_unless_built(rows)
        machine[bridging.UPSTREAM] = bridging.upstream_version()
    runner = Runner(settings, system.choose_cores(), loadgen, extension, args.before)

    results: Results = {}
    interrupted = False
    with progress.show(runner.steps(rows, list(available))) as bar:
        try:
            runner.run(rows, list(available), results, bar)
        except KeyboardInterrupt:
            interrupted = True

    done = Run(
        date=datetime.now(timezone.utc).strftime("%Y-%m-%d"),
        machine=machine,
        loops=available,
        settings={**asdict(settings), RETAKEN: runner.retaken},
        results=results,
    )
    path = args.json or args.out / f"{stem()}.json"
    publish(done, path, by_cpu=args.by_cpu, with_charts=not args.no_charts)
    if interrupted:
        print("interrupted: the table is incomplete", file=sys.stderr)
        return 130
    # A rival that cannot do a row is a result; ours must do them all.
    ours = {loops.OURS, *bridging.BRIDGES}
    found = (series for row in results.values() for name, series in row.items() if name in ours)
    return 1 if any(series.error for series in found) else 0


def possible(rows: list[Row], names: list[str]) -> list[Row]:
    """The rows that this interpreter can do with these loops; says of the others why not."""
    found = []
    for row in rows:
        obstacle = row.obstacle()
        if obstacle is None and not row.columns(names):
            obstacle = "not for these loops"
        if obstacle is None:
            found.append(row)
        else:
            print(f"left out: {row.id}: {obstacle}", file=sys.stderr)
    return found


def without_opendal_unless_built(rows: list[Row]) -> list[Row]:
    """Not everywhere can an extension of others be had and compiled."""
    needing = [row for row in rows if isinstance(row, Bridged) and row.opendal]
    if needing:
        try:
            bridging.build_opendal()
        except Failure as failure:
            for row in needing:
                print(f"left out: {row.id}: {failure}", file=sys.stderr)
            return [row for row in rows if row not in needing]
    return rows


def chosen_settings(args: argparse.Namespace) -> Settings:
    defaults = QUICK if args.quick else FULL
    return replace(
        defaults,
        rounds=args.rounds or defaults.rounds,
        seconds=args.seconds or defaults.seconds,
    )


def stem() -> str:
    version = ".".join(map(str, sys.version_info[:2]))
    return f"{datetime.now(timezone.utc):%Y%m%d-%H%M%S}-py{version}"


def publish(run: Run, path: Path, *, by_cpu: bool, with_charts: bool) -> None:
    """Prints the table and writes the files: JSON, Markdown and charts, side by side."""
    run.save(path)
    judged = report.judged_by_cpu(run) if by_cpu else run
    path.with_suffix(".md").write_text(report.document(judged, by_cpu=by_cpu))
    print_table(judged, by_cpu=by_cpu)
    written = [path.name, path.with_suffix(".md").name]
    if with_charts:
        try:
            folder = path.with_name(f"{path.stem}-charts")
            drawn = charts.draw(judged, folder)
            written.append(f"{folder.name}/ ({len(drawn)} files)")
        except ImportError as error:
            print(f"no charts: {error}", file=sys.stderr)
    print(f"saved in {path.parent}: {', '.join(written)}", file=sys.stderr)


def print_table(run: Run, *, by_cpu: bool) -> None:
    print(report.tables(run))
    print()
    print(report.legend(run, by_cpu=by_cpu), flush=True)
    for failure in report.failures(run):
        print(f"failed: {failure}", file=sys.stderr)


def show(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks show", description="Print the table of a file of results."
    )
    parser.add_argument("file", type=Path)
    add_by_cpu(parser)
    args = parser.parse_args(argv)
    run = Run.load(args.file)
    print_table(report.judged_by_cpu(run) if args.by_cpu else run, by_cpu=args.by_cpu)
    return 0


def compare(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks compare", description="Compare two files of results."
    )
    parser.add_argument("old", type=Path)
    parser.add_argument("new", type=Path)
    parser.add_argument("--loops", type=words, help=f"default: {loops.OURS}; 'all' for each one")
    add_by_cpu(parser)
    args = parser.parse_args(argv)
    old, new = Run.load(args.old), Run.load(args.new)
    if args.by_cpu:
        old, new = report.judged_by_cpu(old), report.judged_by_cpu(new)
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
        epilog="'python -m benchmarks compare OLD NEW' compares two files of results, "
        "'python -m benchmarks show FILE' prints the table of one.",
    )
    parser.add_argument("--quick", action="store_true", help="a rough table in a few minutes")
    parser.add_argument("--rows", type=words, default=[], help="ids, groups, patterns; with commas")
    parser.add_argument(
        "--loops",
        type=words,
        default=[],
        help=f"names with commas (default: {','.join(loops.FACTORIES)}), "
        "or module:callable for any other loop",
    )
    parser.add_argument(
        "--before",
        type=Path,
        metavar="PYTHON",
        help="the python of an environment with another build of tokioloop, for a column beside "
        "this one's",
    )
    parser.add_argument("--rounds", type=positive, help=f"default: {FULL.rounds}")
    parser.add_argument("--seconds", type=float, help=f"a server row's span ({FULL.seconds})")
    parser.add_argument(
        "--out", type=Path, default=default_results(), help="the folder for the results"
    )
    parser.add_argument("--json", type=Path, help="the file for the results; the others beside it")
    parser.add_argument("--no-charts", action="store_true", help="draw nothing")
    parser.add_argument("--loadgen", type=Path, help="a load generator that is built already")
    add_by_cpu(parser)
    parser.add_argument("--list", action="store_true", help="name the rows and stop")
    return parser


def add_by_cpu(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--by-cpu",
        action="store_true",
        help="judge by processor time, which a busy machine disturbs less",
    )


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
