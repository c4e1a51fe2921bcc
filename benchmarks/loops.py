"""The event loops that are compared, and how to make one."""

from __future__ import annotations

import asyncio
import importlib
import importlib.metadata
import platform
from collections.abc import Callable
from typing import cast

OURS = "tokioloop"
# The load generator's own server, in a column beside the loops.
LIMIT = "limit"
# Our loop as another environment has it: an earlier version, measured side by side with this one.
BEFORE = "before"
# The module that the rows of the group `bridge` import, and the loop that it has of its own.
EXTENSION = "bench_extension"
EXTENSIONS_LOOP = f"{EXTENSION}:new_event_loop"

# Column order of the table; ours comes last, beside the ratio.
FACTORIES = {
    "asyncio": "asyncio:SelectorEventLoop",
    "uvloop": "uvloop:new_event_loop",
    "rloop": "rloop:new_event_loop",
    "rsloop": "rsloop:new_event_loop",
    "zuvloop": "zuvloop:new_event_loop",
    "zloop": "zloop:new_event_loop",
    OURS: f"{OURS}:new_event_loop",
}
# The packages whose primitives are native to a loop.
PACKAGES = {OURS: OURS, EXTENSIONS_LOOP: f"{EXTENSION}.{OURS}"}

LoopFactory = Callable[[], asyncio.AbstractEventLoop]


class UnavailableLoop(Exception):
    """A loop this interpreter cannot import; the text says why."""


def load(spec: str) -> LoopFactory:
    """Returns the factory for a known name, or for any other ``module:callable``."""
    module_name, _, attribute = FACTORIES.get(spec, spec).partition(":")
    if not attribute:
        known = ", ".join(FACTORIES)
        raise UnavailableLoop(f"{spec}: neither one of {known} nor of the form module:callable")
    try:
        factory = getattr(importlib.import_module(module_name), attribute)
    except (ImportError, AttributeError) as error:
        raise UnavailableLoop(f"{spec}: {error}") from error
    return cast(LoopFactory, factory)


def version(spec: str) -> str:
    module_name = FACTORIES.get(spec, spec).partition(":")[0]
    if module_name == "asyncio":
        return f"of CPython {platform.python_version()}"
    try:
        return importlib.metadata.version(module_name)
    except importlib.metadata.PackageNotFoundError:
        return "of unknown version"
