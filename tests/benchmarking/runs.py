"""Runs made up for the tests of the benchmarks' own arithmetic."""

from benchmarks.results import Run, Series

MACHINE = {"processor": "a processor", "cores": "2", "kernel": "Linux", "python": "CPython 3.14.0"}
SETTINGS = {"rounds": 3}


def series(*values, **more):
    return Series(values=list(values), **more)


def make_run(results):
    loops = {"asyncio": "of CPython", "uvloop": "1.0", "tokioloop": "0.1"}
    return Run("2026-01-01", MACHINE, loops, SETTINGS, results)
