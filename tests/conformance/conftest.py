"""Registers what CPython's own tests cannot pass on tokioloop, strictly."""

import pytest

from .cpython import expected_failure


def pytest_collection_modifyitems(config, items):
    if config.getoption("--loop") == "asyncio":
        return
    for item in items:
        origin = getattr(getattr(item, "cls", None), "cpython_origin", None)
        if origin is None:
            continue
        reason, tried = expected_failure(*origin, item.name)
        if reason is not None:
            item.add_marker(pytest.mark.xfail(reason=reason, strict=True, run=tried))
