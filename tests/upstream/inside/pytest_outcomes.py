"""A pytest plugin: the suite runs on the tested loop, and its outcomes are written down."""

from __future__ import annotations

import outcomes
import pytest

outcomes.set_loop()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        # AnyIO's tests ask for debug mode, in which much of the loop is asyncio's own code.
        backend = getattr(item, "callspec", None) and item.callspec.params.get("anyio_backend")
        if isinstance(backend, tuple):
            backend[1].pop("debug", None)


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    if report.when == "call" or report.outcome != "passed":
        outcomes.note(report.nodeid, report.outcome)
