"""The event loops that are compared, and how to make one."""

from __future__ import annotations

import asyncio
import importlib
import importlib.metadata
import platform
import sys
from collections.abc import Callable
from types import ModuleType
from typing import cast

OURS = "tokioloop"
# A package that gives any loop other transports: `uvloop+aiofastnet` is uvloop with them.
FOREIGN = "aiofastnet"
OVER = f"+{FOREIGN}"
# The load generator's own server, in a column beside the loops.
LIMIT = "limit"
# Our loop as another environment has it: an earlier version, measured side by side with this one.
BEFORE = "before"
# The module that the rows of the group `bridge` import, and the loop that it has of its own.
EXTENSION = "bench_extension"
LIBRARY = "bench_library"
EXTENSIONS_LOOP = f"{EXTENSION}:new_event_loop"

# Column order of the table; ours comes last, beside the ratio.
FACTORIES = {
    "asyncio": "asyncio:SelectorEventLoop",
    f"asyncio{OVER}": f"asyncio:SelectorEventLoop{OVER}",
    "uvloop": "uvloop:new_event_loop",
    f"uvloop{OVER}": f"uvloop:new_event_loop{OVER}",
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
    """Returns the factory for a known name, or for any other ``module:callable``; either may end
    with ``+aiofastnet``.
    """
    if has_foreign_transports(spec):
        base = load(spec.removesuffix(OVER))
        try:
            package = importlib.import_module(FOREIGN)
        except ImportError as error:
            raise UnavailableLoop(f"{spec}: {error}") from error
        return lambda: cast(asyncio.AbstractEventLoop, package.patch_loop(base()))
    module_name, _, attribute = FACTORIES.get(spec, spec).partition(":")
    if not attribute:
        known = ", ".join(FACTORIES)
        raise UnavailableLoop(f"{spec}: neither one of {known} nor of the form module:callable")
    try:
        factory = getattr(importlib.import_module(module_name), attribute)
    except (ImportError, AttributeError) as error:
        raise UnavailableLoop(f"{spec}: {error}") from error
    return cast(LoopFactory, factory)


def has_foreign_transports(spec: str) -> bool:
    return spec.endswith(OVER)


def is_ours(spec: str) -> bool:
    return spec.removesuffix(OVER) == OURS


def hide_foreign_transports(spec: str) -> None:
    """Makes the package impossible to import in a process whose loop shall have its own transports.

    Some libraries (aiohttp from 3.15 on) use the package on any loop where they find it.
    """
    if not has_foreign_transports(spec):
        sys.modules[FOREIGN] = cast(ModuleType, None)


def version(spec: str) -> str:
    if has_foreign_transports(spec):
        package = importlib.metadata.version(FOREIGN)
        return f"{version(spec.removesuffix(OVER))} with {FOREIGN} {package}"
    module_name = FACTORIES.get(spec, spec).partition(":")[0]
    if module_name == "asyncio":
        return f"of CPython {platform.python_version()}"
    try:
        return importlib.metadata.version(module_name)
    except importlib.metadata.PackageNotFoundError:
        return "of unknown version"
