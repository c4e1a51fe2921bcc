"""Runs CPython's asyncio tests on every CPython from 3.10 to 3.15 that is here.

    make conformance
    make conformance CONFORMANCE_ARGS='--require 3.11,3.14 --root /path/to/another/debian'

For each interpreter: a virtual environment and a build folder of its own, kept for the next time;
the extension, built and installed as by a user (pip install); the tests; at the end a table.
Needs no more than the standard library of any Python it could test.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from xml.etree import ElementTree

PROJECT = Path(__file__).resolve().parents[2]
VERSIONS = ("3.10", "3.11", "3.12", "3.13", "3.14", "3.15")

# What an interpreter says of itself; fails where it cannot make a virtual environment.
INTRODUCTION = """
import ensurepip, importlib.util, platform, sys, venv
try:
    tests = importlib.util.find_spec("test.test_asyncio") is not None
except ImportError:
    tests = False
kind = f"{platform.python_implementation()} {sys.version_info[0]}.{sys.version_info[1]}"
print(kind, platform.python_version(), tests, sys.executable, sep="|")
"""


@dataclass(frozen=True)
class Interpreter:
    """A python that runs here, or inside another root folder."""

    version: str
    release: str
    path: str
    has_tests: bool
    root: Path | None

    def __str__(self) -> str:
        where = f" in {self.root}" if self.root else ""
        return f"CPython {self.release} ({self.path}{where})"


@dataclass
class Outcome:
    """A row of the table."""

    version: str
    verdict: str
    release: str = ""
    passed: int = 0
    skipped: int = 0
    expected: list[str] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)
    seconds: float = 0

    def is_good(self, required: bool) -> bool:
        return self.verdict == "ok" or (self.verdict in ABSENCES and not required)


MISSING = "missing"
WITHOUT_TESTS = "has no test.test_asyncio"
ABSENCES = (MISSING, WITHOUT_TESTS)


def inside(root: Path | None, command: list[str]) -> list[str]:
    """The command line that runs a command in the project, there or here."""
    return [str(PROJECT / ".ci" / "in-root"), str(root), *command] if root else command


def pyenv_folder() -> Path:
    if shutil.which("pyenv"):
        said = subprocess.run(["pyenv", "root"], capture_output=True, text=True).stdout.strip()
        if said:
            return Path(said)
    return Path(os.environ.get("PYENV_ROOT") or Path.home() / ".pyenv")


def candidates(version: str, roots: list[Path]) -> list[tuple[str, Path | None]]:
    """Where a python of this version may be, best first."""
    found: list[tuple[str, Path | None]] = []
    for root in roots:
        for folder in ("usr/local/bin", "usr/bin"):
            if (root / folder / f"python{version}").exists():
                found.append((f"/{folder}/python{version}", root))
    on_path = shutil.which(f"python{version}")
    if on_path:
        found.append((on_path, None))
    kept = (pyenv_folder() / "versions").glob(f"{version}.*/bin/python{version}")
    releases = [p for p in kept if re.fullmatch(r"\d+\.\d+\.\d+", p.parents[1].name)]
    releases.sort(key=lambda p: int(p.parents[1].name.rpartition(".")[2]), reverse=True)
    return found + [(str(path), None) for path in releases]


def find(version: str, roots: list[Path]) -> Interpreter | None:
    """The first python of this version that works, if possible one with CPython's tests."""
    second_best = None
    for path, root in candidates(version, roots):
        command = inside(root, [path, "-c", INTRODUCTION])
        asked = subprocess.run(command, capture_output=True, text=True, cwd=PROJECT)
        if asked.returncode:
            continue  # such as a pyenv shim of a version that is not switched on
        kind, release, tests, path = asked.stdout.strip().split("|")
        if kind != f"CPython {version}":
            continue
        interpreter = Interpreter(version, release, path, tests == "True", root)
        if interpreter.has_tests:
            return interpreter
        second_best = second_best or interpreter
    return second_best


def say(text: str) -> None:
    print(f"==> {text}", flush=True)


class Run:
    """One interpreter's environment, in a folder that its root, if any, can write to."""

    def __init__(self, interpreter: Interpreter, everything: bool) -> None:
        self.interpreter = interpreter
        self.everything = everything
        root = interpreter.root
        # As the interpreter sees it, and as we do.
        self.folder = Path("/var/lib/tokioloop" if root else PROJECT / "target" / "conformance")
        self.folder /= interpreter.version
        self.visible = root / self.folder.relative_to("/") if root else self.folder
        self.python = str(self.folder / "venv" / "bin" / "python")

    def command(self, *command: str) -> int:
        environment = {
            **os.environ,
            "CARGO_TARGET_DIR": str(self.folder / "build"),
            "PIP_DISABLE_PIP_VERSION_CHECK": "1",
            "PYTHONDONTWRITEBYTECODE": "1",
        }
        environment.pop("VIRTUAL_ENV", None)
        line = inside(self.interpreter.root, list(command))
        return subprocess.run(line, cwd=PROJECT, env=environment).returncode

    def prepare(self) -> str | None:
        """Make the environment, build and install the extension; say what could not be done."""
        mark = self.visible / "interpreter"
        if not mark.exists() or mark.read_text() != str(self.interpreter):
            say(f"{self.interpreter}: virtual environment")
            shutil.rmtree(self.visible, ignore_errors=True)
            self.visible.mkdir(parents=True)
            if self.command(self.interpreter.path, "-m", "venv", str(self.folder / "venv")):
                return "cannot make a virtual environment"
            mark.write_text(str(self.interpreter))
        say(f"{self.interpreter}: building and installing; takes a minute the first time")
        extra = "test" if self.everything else "conformance"
        if self.command(self.python, "-m", "pip", "install", "--quiet", f".[{extra}]"):
            return "does not build"
        return None

    def test(self, pytest_args: list[str]) -> Outcome:
        say(f"{self.interpreter}: {'all tests' if self.everything else 'CPython tests'}")
        report = self.visible / "report.xml"
        report.unlink(missing_ok=True)
        what = ["tests", "-m", "not slow"] if self.everything else ["tests/conformance"]
        started = time.monotonic()
        status = self.command(
            *(self.python, "-m", "pytest", *what, "-n", "auto", "-q", "-r", "fEX"),
            *("-p", "no:cacheprovider", f"--junitxml={self.folder / 'report.xml'}"),
            # A test that hangs may hang again in its clean-up, which pytest-timeout has no say in.
            *("-o", "faulthandler_timeout=180", "-o", "faulthandler_exit_on_timeout=true"),
            *pytest_args,
        )
        outcome = Outcome(self.interpreter.version, "ok", self.interpreter.release)
        outcome.seconds = time.monotonic() - started
        if report.exists():
            read_report(report, outcome)
        if status or outcome.failed:
            outcome.verdict = "FAILED"
        elif not outcome.passed:
            outcome.verdict = "FAILED: no test ran"
        return outcome


def read_report(path: Path, outcome: Outcome) -> None:
    """Count what pytest's JUnit report says of each test."""
    for case in ElementTree.parse(path).iter("testcase"):
        name = f"{case.get('classname', '').rpartition('.')[2]}.{case.get('name')}"
        skipped = case.find("skipped")
        if case.find("failure") is not None or case.find("error") is not None:
            outcome.failed.append(name)
        elif skipped is None:
            outcome.passed += 1
        elif skipped.get("type") == "pytest.xfail":
            outcome.expected.append(name)
        else:
            outcome.skipped += 1


def examine(version: str, args: argparse.Namespace) -> Outcome:
    interpreter = find(version, args.root)
    if interpreter is None:
        return Outcome(version, MISSING)
    if not interpreter.has_tests:
        return Outcome(version, WITHOUT_TESTS, interpreter.release)
    run = Run(interpreter, args.all)
    problem = run.prepare()
    if problem:
        return Outcome(version, f"FAILED: {problem}", interpreter.release)
    return run.test(args.pytest_args)


def print_table(outcomes: list[Outcome], required: list[str]) -> None:
    print(f"\n{'CPython':10}{'passed':>8}{'skipped':>9}{'expected':>10}{'failed':>8}{'time':>8}")
    for outcome in outcomes:
        name = outcome.release or outcome.version
        if not outcome.seconds:
            wanted = ", but it is required" if not outcome.is_good(True) else ""
            wanted = wanted if outcome.version in required else ""
            print(f"{name:10}{outcome.verdict}{wanted}")
            continue
        counts = (outcome.passed, outcome.skipped, len(outcome.expected), len(outcome.failed))
        passed, skipped, expected, failed = counts
        figures = f"{passed:8}{skipped:9}{expected:10}{failed:8}{outcome.seconds:7.0f}s"
        print(f"{name:10}{figures}  {outcome.verdict}")
        for title, tests in (("expected", outcome.expected), ("failed", outcome.failed)):
            for test in tests:
                print(f"{'':10}  {title}: {test}")


def parse(argv: list[str]) -> argparse.Namespace:
    def versions(text: str) -> list[str]:
        named = [word for word in text.replace(",", " ").split() if word]
        unknown = set(named) - set(VERSIONS)
        if unknown:
            raise argparse.ArgumentTypeError(f"not among {', '.join(VERSIONS)}: {unknown}")
        return named

    def root(text: str) -> Path:
        if not Path(text, "usr").is_dir():
            raise argparse.ArgumentTypeError(f"not a root folder: {text}")
        return Path(text).resolve()

    parser = argparse.ArgumentParser(
        prog="everywhere.py",
        description="Run CPython's asyncio tests on every CPython from 3.10 to 3.15 that is here.",
    )
    parser.add_argument(
        "--only", type=versions, default=list(VERSIONS), metavar="3.11,3.14", help="try only these"
    )
    parser.add_argument(
        "--require", type=versions, default=[], metavar="3.11", help="fail if these cannot be run"
    )
    parser.add_argument(
        "--root",
        type=root,
        action="append",
        default=[],
        metavar="DIR",
        help="look inside this root folder (made by debootstrap) too; needs root; may be repeated",
    )
    parser.add_argument("--all", action="store_true", help="run all tests, save the slow ones")
    parser.add_argument("--list", action="store_true", help="say what would be run, run nothing")
    parser.add_argument("pytest_args", nargs="*", help="options for pytest, after --")
    return parser.parse_args(argv)


def main(argv: list[str]) -> int:
    args = parse(argv)
    chosen = [version for version in VERSIONS if version in {*args.only, *args.require}]
    if args.list:
        found = {version: find(version, args.root) for version in chosen}
        for version, interpreter in found.items():
            without = "" if interpreter is None or interpreter.has_tests else f", {WITHOUT_TESTS}"
            print(f"{version}: {interpreter or MISSING}{without}")
        usable = {version for version, found in found.items() if found and found.has_tests}
        return int(not usable.issuperset(args.require))
    outcomes = [examine(version, args) for version in chosen]
    print_table(outcomes, args.require)
    if not any(outcome.passed for outcome in outcomes):
        print("\nNo interpreter ran the tests.")
        return 1
    return int(not all(outcome.is_good(outcome.version in args.require) for outcome in outcomes))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
