"""A pytest plugin that runs each test again and again, and counts what a repetition leaves behind.

    PYTHONPATH=tests/machines python3.11-dbg -m pytest -p repetitions tests/event_loop

It works as ``python -m test -R 3:3`` does for CPython's own tests: a few repetitions warm up, each
further one is measured, and what grows in every one of them is a leak. A test under suspicion is
repeated more often before it fails, because a table that grows now and then is none.

A debug build of CPython counts references (``sys.gettotalrefcount``); the other counts exist on
every build. Tests that run a program of their own have nothing to count here and are deselected.
"""

from __future__ import annotations

import gc
import os
import re
import sys
import threading
from array import array
from collections import Counter
from itertools import pairwise

import malloc
import pytest
from _pytest.runner import runtestprotocol

WARM_UP = 3
# How often a test under suspicion is measured before it fails.
CONFIRMED_BY = 8


def settle():
    """Drop what waits for the collector or lies in a cache."""
    sys._clear_type_cache()
    re.purge()  # patterns with a name of a temporary file are others each time
    for _ in range(3):
        gc.collect()


KINDS = ("descriptors", "threads", "blocks", "references", "malloc")
total_references = getattr(sys, "gettotalrefcount", int)


def count_into(row):
    """Write what this process holds into a row of numbers, which itself takes no new memory."""
    row[4] = malloc.bytes_handed_out()
    row[0] = len(os.listdir("/proc/self/fd"))
    row[1] = threading.active_count()
    row[2] = sys.getallocatedblocks()
    row[3] = total_references()


def types_held():
    return Counter(
        f"{type(each).__module__}.{type(each).__qualname__}" for each in gc.get_objects()
    )


def growth(rows):
    """The kinds that grew between any two rows that follow each other, and by how much at least."""
    least = {
        kind: min(after[at] - before[at] for before, after in pairwise(rows))
        for at, kind in enumerate(KINDS)
    }
    # Malloc rounds up and moves its bins; a leaked object has more than that.
    return {kind: by for kind, by in least.items() if by > (31 if kind == "malloc" else 0)}


class Repetitions:
    def __init__(self, measured):
        self._measured = measured
        self._has_run = None

    def run(self, item):
        """Run a test once, as pytest does, and forget all that pytest keeps of it."""
        fixtures = [each for some in item._fixtureinfo.name2fixturedefs.values() for each in some]
        known = [len(each._finalizers) for each in fixtures]
        # The parent in the place of the next test: only what belongs to the test is torn down.
        reports = runtestprotocol(item, log=False, nextitem=item.parent)
        item._report_sections.clear()
        if self._has_run is item:
            # A fixture of the session notes each test that used it, to tear it down before itself.
            for each, length in zip(fixtures, known, strict=True):
                del each._finalizers[length:]
        self._has_run = item
        outcomes = {report.outcome for report in reports}
        return "failed" not in outcomes and "skipped" not in outcomes

    def measure(self, item, times):
        rows = [array("q", [0] * len(KINDS)) for _ in range(times + 1)]
        for row in rows:
            if not self.run(item):
                return {}
            settle()
            count_into(row)
        return growth(rows)

    def leak(self, item):
        """What one more run of this test leaves behind, as text; empty if nothing."""
        for _ in range(WARM_UP):
            if not self.run(item):
                return ""
        if not self.measure(item, self._measured):
            return ""
        found = self.measure(item, CONFIRMED_BY)
        if not found:
            return ""
        before = types_held()
        for _ in range(CONFIRMED_BY):
            self.run(item)
        settle()
        more = types_held() - before
        kinds = ", ".join(f"{kind} +{by}" for kind, by in sorted(found.items()))
        objects = ", ".join(
            f"{name} +{count}" for name, count in more.most_common(12) if count >= CONFIRMED_BY
        )
        return f"each repetition left behind: {kinds}; tracked objects in {CONFIRMED_BY}: {objects}"

    def pytest_runtestloop(self):
        # pytest's own objects need not be gone through in each of the many collections.
        gc.collect()
        gc.freeze()

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_protocol(self, item, nextitem):
        hook = item.ihook
        hook.pytest_runtest_logstart(nodeid=item.nodeid, location=item.location)
        leak = self.leak(item)
        for report in runtestprotocol(item, log=False, nextitem=nextitem):
            if report.when == "call" and report.passed and leak:
                report.outcome = "failed"
                report.longrepr = leak
            hook.pytest_runtest_logreport(report=report)
        hook.pytest_runtest_logfinish(nodeid=item.nodeid, location=item.location)
        return True


def pytest_addoption(parser):
    parser.addoption(
        "--measured", type=int, default=3, help="repetitions measured, after three that warm up"
    )


def pytest_configure(config):
    config.pluginmanager.register(Repetitions(config.getoption("--measured")))


def pytest_collection_modifyitems(config, items):
    """Leave out what runs elsewhere (in processes of its own), only once, or leaks without us."""
    kept, dropped = [], []
    for item in items:
        marked = item.get_closest_marker("slow") or item.get_closest_marker("leaks_in_cpython")
        once = marked or "programs" in getattr(item, "fixturenames", ())
        (dropped if once else kept).append(item)
    if dropped:
        config.hook.pytest_deselected(items=dropped)
        items[:] = kept
