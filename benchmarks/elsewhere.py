"""Runs the benchmarks inside another Linux's root folder, on a CPython that is not here.

    make bench BENCH_ROOT=DIR
    python -m benchmarks.elsewhere DIR --python 3.14 --out FOLDER -- --quick

The root folder is one that ``.ci/newer-python`` and ``make conformance`` work with (debootstrap
made it). tokioloop and the rivals are installed there in an environment that is kept for the next
time. Needs root, and no more than the standard library.
"""

from __future__ import annotations

import argparse
import importlib
import shutil
import sys
from pathlib import Path
from typing import Any

from benchmarks.bridging import fetch_crates
from benchmarks.processes import ROOT, Failure
from benchmarks.runner import build_loadgen


def everywhere() -> Any:
    """The module that finds interpreters in root folders and builds for them."""
    sys.path.append(str(ROOT / "tests" / "conformance"))
    return importlib.import_module("everywhere")


def run(root: Path, version: str, out: Path, module: str, bench_args: list[str]) -> int:
    tools = everywhere()
    interpreter = tools.find(version, [root])
    if interpreter is None or interpreter.root is None:
        raise Failure(f"no CPython {version} in {root}")
    place = tools.Run(interpreter, everything=False)
    # Beside the environment of the tests, which must not wait for a measurement, or change it.
    place.folder = place.folder.with_name(f"bench-{version}")
    place.visible = root / place.folder.relative_to("/")
    place.python = str(place.folder / "venv" / "bin" / "python")

    loadgen = build_loadgen()  # here: the project, and so the binary, is seen in there too
    fetch_crates()  # for the extension, which is built in there
    problem = place.prepare()
    if problem:
        raise Failure(f"{interpreter}: {problem}")
    tools.say(f"{interpreter}: installing the rivals")
    if place.command(place.python, "-m", "benchmarks.install"):
        raise Failure("cannot install the rivals")
    tools.say(f"{interpreter}: benchmarks; leave the machine alone meanwhile")
    results = place.visible / "results"
    shutil.rmtree(results, ignore_errors=True)
    inside = str(place.folder / "results")
    status: int = place.command(
        *(place.python, "-m", module, "--loadgen", str(loadgen), "--out", inside),
        *bench_args,
    )
    if results.is_dir():
        out.mkdir(parents=True, exist_ok=True)
        for file in sorted(results.iterdir()):
            if file.is_dir():
                shutil.copytree(file, out / file.name, dirs_exist_ok=True)
            else:
                shutil.copy2(file, out)
        tools.say(f"The results are in {out}")
    return status


def main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.elsewhere",
        description="Run the benchmarks inside another Linux's root folder.",
        epilog="What follows '--' is for the benchmarks themselves.",
    )
    parser.add_argument("root", type=Path, help="the root folder")
    parser.add_argument("--python", default="3.14", help="the CPython in it (default: 3.14)")
    parser.add_argument("--out", type=Path, default=ROOT / "benchmarks" / "results")
    parser.add_argument(
        "--module",
        choices=("benchmarks", "benchmarks.growth"),
        default="benchmarks",
        help="what is run (default: all rows)",
    )
    cut = argv.index("--") if "--" in argv else len(argv)
    args = parser.parse_args(argv[:cut])
    try:
        return run(args.root.resolve(), args.python, args.out, args.module, argv[cut + 1 :])
    except Failure as error:
        print(f"benchmarks: {error}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
