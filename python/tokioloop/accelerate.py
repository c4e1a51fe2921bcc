"""The native primitives in the place of asyncio's, for programs that cannot be edited.

Where an asyncio module's name holds asyncio's own function, ours is put there; what somebody else
put there stays. The same the other way round: what somebody replaced after us is not taken back.
Who imported a name before (``from asyncio import sleep``) keeps what they have.
"""

from __future__ import annotations

import asyncio
import sys
from types import ModuleType
from typing import Any

from . import primitives

#: By name: asyncio's function, and ours.
_PAIRS: dict[str, tuple[Any, Any]] = {
    name: (getattr(asyncio.tasks, name), getattr(primitives, name)) for name in primitives.__all__
}


def switch_on() -> None:
    """Put ours where asyncio's own are. Calling it twice does no harm."""
    for name, (theirs, ours) in _PAIRS.items():
        _replace(name, theirs, ours)


def switch_off() -> None:
    """Put asyncio's own where ours are. Calling it twice does no harm."""
    for name, (theirs, ours) in _PAIRS.items():
        _replace(name, ours, theirs)


def _replace(name: str, old: Any, new: Any) -> None:
    for module in _asyncio_modules():
        if vars(module).get(name) is old:
            setattr(module, name, new)


def _asyncio_modules() -> list[ModuleType]:
    """The package and those of its modules that are loaded; later ones take from these."""
    return [
        module
        for name, module in list(sys.modules.items())
        if isinstance(module, ModuleType) and name.partition(".")[0] == "asyncio"
    ]
