"""A pytest plugin that has LeakSanitizer look for memory that nothing refers to any more.

Loaded by ``make test-asan``. Asked at the end of a process, LeakSanitizer would report what CPython
never frees; asked at the end of the tests, while all that lives can still be reached, it reports
what was lost. The report goes where AddressSanitizer's go.
"""

from __future__ import annotations

import ctypes
import gc

import pytest


def pytest_sessionfinish(session):
    if hasattr(session.config, "workerinput") or not session.config.getoption("numprocesses", None):
        for _ in range(3):
            gc.collect()
        if ctypes.CDLL(None).__lsan_do_recoverable_leak_check():
            session.exitstatus = pytest.ExitCode.TESTS_FAILED
