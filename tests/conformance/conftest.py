"""Registers what CPython's own tests cannot pass on tokioloop, strictly."""

import pytest

from conformance.cpython import expected_failure


def pytest_collection_modifyitems(config, items):
    if config.getoption("--loop") == "asyncio":
        return
    for item in items:
        case = getattr(item, "cls", None)
        if not hasattr(case, "cpython_origin"):
            continue
        reason, tried = expected_failure(*case.cpython_origin, item.name, case.accelerated)
        if reason is not None:
            item.add_marker(pytest.mark.xfail(reason=reason, strict=True, run=tried))
