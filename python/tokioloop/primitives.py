"""``sleep``, ``gather`` and ``run_coroutine_threadsafe``: asyncio's, native on this loop.

Each works on every event loop: on another one, in debug mode, or where somebody replaced what it
would go past, it is asyncio's own function.
"""

from __future__ import annotations

import asyncio
import inspect
import sys
from typing import Any

from ._core import gather, run_coroutine_threadsafe, sleep

__all__ = ["gather", "run_coroutine_threadsafe", "sleep"]


def _as_coroutine_function(function: Any, original: Any) -> None:
    """Has a callable pass for ``original``, a coroutine function, to who inspects it."""
    function.__module__ = "tokioloop"
    function.__name__ = function.__qualname__ = original.__name__
    function.__signature__ = inspect.signature(original)
    function.__defaults__ = original.__defaults__
    # What asyncio.iscoroutinefunction() looks for, and from 3.12 on inspect.iscoroutinefunction().
    if hasattr(asyncio.coroutines, "_is_coroutine"):
        function._is_coroutine = asyncio.coroutines._is_coroutine
    if sys.version_info >= (3, 12):
        inspect.markcoroutinefunction(function)


_as_coroutine_function(sleep, asyncio.sleep)
sleep.__doc__ = """Wait ``delay`` seconds, never less, then give ``result``; as ``asyncio.sleep``.

    A ``delay`` of nothing or less lets the others that are ready run once. Awaiting it raises
    ``ValueError`` if ``delay`` is NaN and ``TypeError`` if it is no number.
    """
