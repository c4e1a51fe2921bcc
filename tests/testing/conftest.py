"""Loops with virtual time, and a watch that says that little real time passed."""

from __future__ import annotations

import asyncio
import contextlib
import time

import pytest

from testing.suites import Suites

#: Far less than the virtual times in these tests, and enough for a machine that is busy.
SOON = 5.0


@pytest.fixture
def loop_factory():
    """Loops with virtual time."""
    testing = pytest.importorskip("tokioloop.testing")
    return testing.new_event_loop


@pytest.fixture
def real_time():
    """A context manager that checks how many real seconds its body took."""

    @contextlib.contextmanager
    def check(at_least=0.0, less_than=SOON):
        began = time.monotonic()
        yield
        took = time.monotonic() - began
        assert at_least <= took < at_least + less_than

    return check


class AsyncioInVirtualTime(asyncio.SelectorEventLoop):
    """The standard library's loop, whose selector moves its clock instead of blocking."""

    def __init__(self):
        self.now = 0.0
        super().__init__()
        select = self._selector.select

        def jump(timeout):
            self.now += timeout or 0.0
            return select(0)

        self._selector.select = jump

    def time(self):
        return self.now


@pytest.fixture
def asyncio_loop():
    """asyncio's own loop in virtual time, to compare with."""
    loop = AsyncioInVirtualTime()
    yield loop
    loop.close()


@pytest.fixture
def suites(tmp_path):
    """A folder for test suites of users, with pytest to run them."""
    pytest.importorskip("tokioloop")
    return Suites(tmp_path)
