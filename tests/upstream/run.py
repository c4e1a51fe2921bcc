"""Runs other people's suites on this loop, on asyncio's and on uvloop, and compares test by test.

    run.py [--folder FOLDER] [SUITE ...]

Sources of pinned releases are downloaded and unpacked, and each suite has a virtual environment of
its own (in FOLDER, which is used again, or in a temporary one). A test that passes on asyncio's
loop and not on another one is tried again on both, because suites have tests that fail when the
machine is busy; if it fails each time, it fails there alone.

What fails on this loop alone must be listed in `expected.py`, with the reason, and what is listed
there must fail: anything else ends with exit status 1.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from expected import EXPECTED
from suites import SUITES, Suite
from workbench import TIMEOUT, Run, Workbench

#: How often a test is tried that passes on asyncio's loop and fails on another one.
TRIES = 3
OTHERS = ("tokioloop", "uvloop")


@dataclass
class Verdict:
    suite: Suite
    runs: dict[str, Run] = field(default_factory=dict)
    #: For each loop but asyncio's, the tests that fail there alone.
    alone: dict[str, set[str]] = field(default_factory=dict)

    def lines(self) -> list[str]:
        row = [f"{self.suite.name} {self.suite.version}", str(len(self.runs["asyncio"].outcomes))]
        row += [str(run.passed) for run in self.runs.values()]
        row += [str(len(self.alone[loop])) for loop in OTHERS]
        return row


def failing_alone(theirs: Run, ours: Run) -> set[str]:
    """The tests that pass on asyncio's loop, and fail on ours, or do not even run."""
    return {
        name
        for name, outcome in theirs.outcomes.items()
        if outcome == "passed" and ours.outcomes.get(name, "missing") in ("failed", "missing")
    }


def check(bench: Workbench) -> Verdict:
    verdict = Verdict(bench.suite)
    timeout = TIMEOUT
    for loop in ("asyncio", *OTHERS):
        run = verdict.runs[loop] = bench.run(loop, timeout=timeout)
        made = ", ".join(f"{count} {name}" for name, count in run.loops.items())
        print(f"  {bench.suite.name} on {loop}: {run.passed} passed; loops: {made}", flush=True)
        if run.stopped:
            print(f"  {bench.suite.name} on {loop}: stopped after {run.seconds:.0f} s")
        # Where tests hang until their own limit, the suite would take hours.
        timeout = min(TIMEOUT, 120 + 3 * verdict.runs["asyncio"].seconds)
    for loop in OTHERS:
        failing = failing_alone(verdict.runs["asyncio"], verdict.runs[loop])
        for _ in range(1, TRIES):
            # What hung would hang again.
            if failing and not verdict.runs[loop].stopped:
                again = bench.run("asyncio", sorted(failing)), bench.run(loop, sorted(failing))
                failing &= failing_alone(*again)
        verdict.alone[loop] = failing
        for name in sorted(failing):
            print(f"  fails on {loop} alone: {name}")
    return verdict


def surprises(verdict: Verdict, expected: Mapping[str, str]) -> list[str]:
    """What differs from the list of expected failures."""
    failing = verdict.alone["tokioloop"]
    ran = verdict.runs["asyncio"].outcomes
    return [
        *(f"{name} fails on this loop alone" for name in sorted(failing - expected.keys())),
        *(
            f"{name} is expected to fail, and does not"
            for name in sorted(expected.keys() - failing)
            if ran.get(name) == "passed" or name not in ran
        ),
    ]


def table(verdicts: list[Verdict]) -> str:
    head = ("suite", "tests", "asyncio", *OTHERS, "alone here", "alone on uvloop")
    rows = [head, *(verdict.lines() for verdict in verdicts)]
    total = [sum(int(row[column]) for row in rows[1:]) for column in range(1, len(head))]
    rows.append(["together", *map(str, total)])
    widths = [max(len(row[column]) for row in rows) for column in range(len(head))]
    return "\n".join(
        "  ".join(
            cell.rjust(width) if column else cell.ljust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        for row in rows
    )


def main() -> int:
    names = [suite.name for suite in SUITES]
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("suites", nargs="*", metavar="SUITE", help=", ".join(names))
    parser.add_argument("--folder", type=Path, help="for sources, environments and logs; kept")
    options = parser.parse_args()
    if unknown := set(options.suites) - set(names):
        parser.error(f"no such suite: {', '.join(sorted(unknown))}")
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary) if options.folder is None else options.folder.resolve()
        verdicts, surprising = [], []
        for suite in SUITES:
            if suite.name in (options.suites or names):
                verdicts.append(check(Workbench(folder, suite)))
                surprising += surprises(verdicts[-1], EXPECTED.get(suite.name, {}))
    print(f"\n{table(verdicts)}\n")
    for line in surprising:
        print(line)
    return int(bool(surprising))


if __name__ == "__main__":
    sys.exit(main())
