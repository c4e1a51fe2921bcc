"""The native primitives and streams in the place of asyncio's, for programs that cannot be edited.

A name of an asyncio module is replaced only while it holds asyncio's own function: what another
library put there stays. In the same way ``switch_off`` leaves alone what another library put there
after ``switch_on``. A module that imported the name before (``from asyncio import sleep``) keeps
the function that it imported.
"""

from __future__ import annotations

import asyncio
import sys
from types import ModuleType
from typing import Any

from . import primitives, streams

#: By name: asyncio's function or class, and the native one.
_PAIRS: dict[str, tuple[Any, Any]] = {
    name: (getattr(theirs, name), getattr(ours, name))
    for theirs, ours in ((asyncio.tasks, primitives), (asyncio.streams, streams))
    for name in ours.__all__
}


def switch_on() -> None:
    """Put the native ones in the place of asyncio's. Calling it twice does no harm."""
    for name, (original, native) in _PAIRS.items():
        _replace(name, original, native)


def switch_off() -> None:
    """Put asyncio's own back. Calling it twice does no harm."""
    for name, (original, native) in _PAIRS.items():
        _replace(name, native, original)


def _replace(name: str, old: Any, new: Any) -> None:
    for module in _asyncio_modules():
        if vars(module).get(name) is old:
            setattr(module, name, new)


def _asyncio_modules() -> list[ModuleType]:
    """Return the package and its modules loaded so far; later ones import from these."""
    return [
        module
        for name, module in list(sys.modules.items())
        if isinstance(module, ModuleType) and name.partition(".")[0] == "asyncio"
    ]
