"""How the outcomes of a suite on three loops are judged."""

from __future__ import annotations

import importlib
import sys
from collections import Counter
from pathlib import Path

import pytest

FOLDER = Path(__file__).parent
MODULES = [path.stem for path in FOLDER.glob("*.py") if not path.stem.startswith("test_")]


@pytest.fixture
def upstream(monkeypatch):
    """The program's module, which imports the others of its folder by their bare names."""
    monkeypatch.syspath_prepend(str(FOLDER))
    for name in MODULES:
        monkeypatch.delitem(sys.modules, name, raising=False)
    yield importlib.import_module("run")
    for name in MODULES:
        sys.modules.pop(name, None)


class Bench:
    """A suite whose tests have ended already: for each loop what each run of it brings."""

    def __init__(self, upstream, **runs):
        self.suite = next(suite for suite in upstream.SUITES if suite.name == "janus")
        self._make, self._runs = upstream.Run, runs
        self.asked = []

    def run(self, loop, names=(), timeout=None):
        self.asked.append((loop, tuple(names), timeout))
        outcomes = self._runs[loop].pop(0)
        stopped = outcomes.pop("stopped", False)
        return self._make(outcomes, Counter({f"{loop}.Loop": 1}), 10.0, stopped)


def judged(upstream, **runs):
    bench = Bench(upstream, **runs)
    return bench, upstream.check(bench)


def test_what_fails_each_time_fails_alone(upstream):
    bench, verdict = judged(
        upstream,
        asyncio=[{"one": "passed", "two": "failed"}, {"one": "passed"}, {"one": "passed"}],
        tokioloop=[{"one": "failed", "two": "failed"}, {"one": "failed"}, {"one": "failed"}],
        uvloop=[{"one": "passed", "two": "passed"}],
    )
    assert verdict.alone == {"tokioloop": {"one"}, "uvloop": set()}
    # Three times: on each loop by turns, and only that test.
    again = [(loop, names) for loop, names, _ in bench.asked if names]
    assert again == [("asyncio", ("one",)), ("tokioloop", ("one",))] * 2
    assert upstream.surprises(verdict, {}) == ["one fails on this loop alone"]
    assert upstream.surprises(verdict, {"one": "a reason"}) == []


@pytest.mark.parametrize("loop", ["asyncio", "tokioloop"])
def test_what_fails_now_and_then_does_not_fail_alone(upstream, loop):
    second = {"asyncio": {"one": "passed"}, "tokioloop": {"one": "failed"}}
    # On one loop the second run goes the other way.
    second[loop] = {"one": "failed" if loop == "asyncio" else "passed"}
    _, verdict = judged(
        upstream,
        asyncio=[{"one": "passed"}, second["asyncio"]],
        tokioloop=[{"one": "failed"}, second["tokioloop"]],
        uvloop=[{"one": "passed"}],
    )
    assert verdict.alone["tokioloop"] == set()


def test_a_test_that_did_not_run_fails_alone(upstream):
    everything = {"one": "passed", "two": "passed", "three": "skipped"}
    _, verdict = judged(
        upstream,
        asyncio=[dict(everything), {"two": "passed"}, {"two": "passed"}],
        tokioloop=[{"one": "passed"}, {}, {}],
        uvloop=[dict(everything)],
    )
    assert verdict.alone["tokioloop"] == {"two"}


def test_a_suite_that_was_stopped_is_not_tried_again(upstream, capsys):
    bench, verdict = judged(
        upstream,
        asyncio=[{"one": "passed", "two": "passed"}],
        tokioloop=[{"one": "passed", "two": "passed"}],
        uvloop=[{"one": "passed", "stopped": True}],
    )
    assert verdict.alone == {"tokioloop": set(), "uvloop": {"two"}}
    assert len(bench.asked) == 3
    assert "janus on uvloop: stopped after 10 s" in capsys.readouterr().out
    # Two minutes and three times what asyncio took, for the others.
    assert [timeout for _, _, timeout in bench.asked] == [upstream.TIMEOUT, 150, 150]


@pytest.mark.parametrize(
    ("outcomes", "surprising"),
    [
        ({"one": "passed"}, True),  # It was mended: the list is out of date.
        ({"two": "passed"}, True),  # It has another name now, or is gone.
        ({"one": "failed"}, False),  # asyncio fails it here as well.
        ({"one": "skipped"}, False),
    ],
)
def test_what_is_listed_must_fail(upstream, outcomes, surprising):
    _, verdict = judged(
        upstream,
        asyncio=[dict(outcomes)],
        tokioloop=[dict(outcomes)],
        uvloop=[dict(outcomes)],
    )
    found = upstream.surprises(verdict, {"one": "a reason"})
    assert found == (["one is expected to fail, and does not"] if surprising else [])


def test_the_table_counts_what_passed_and_what_failed_alone(upstream):
    _, verdict = judged(
        upstream,
        asyncio=[{"one": "passed", "two": "skipped"}],
        tokioloop=[{"one": "passed", "two": "skipped"}],
        uvloop=[{"one": "failed", "stopped": True}],
    )
    head, row, together = upstream.table([verdict]).splitlines()
    suite = f"{verdict.suite.name} {verdict.suite.version}"
    assert row.split() == [*suite.split(), *("2", "1", "1", "0", "0", "1")]
    assert together.split() == ["together", *("2", "1", "1", "0", "0", "1")]
    assert len(head) == len(row) == len(together)


def test_the_list_of_expected_failures_names_suites_that_are_run(upstream):
    assert upstream.EXPECTED.keys() <= {suite.name for suite in upstream.SUITES}
