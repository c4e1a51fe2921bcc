"""Enough scripts are compared each time the tests run."""

from __future__ import annotations

from differential.harness import CASES, SCRIPTS


def test_at_least_two_thousand_scripts_are_compared():
    # Each test fails by itself if it ran fewer than this says (`Comparison.conclude`).
    assert sum(SCRIPTS[name] * len(cases) for name, cases in CASES.items()) >= 2000
