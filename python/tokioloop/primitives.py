"""``sleep``, ``gather`` and ``run_coroutine_threadsafe``: asyncio's, native on this loop.

Each works on every event loop. On another loop, in debug mode, or where a program replaced a method
that the native function would bypass, it is asyncio's own function.
"""

from __future__ import annotations

import asyncio

from ._core import gather, run_coroutine_threadsafe, sleep
from .coroutines import as_coroutine_function

__all__ = ["gather", "run_coroutine_threadsafe", "sleep"]

as_coroutine_function(sleep, asyncio.sleep)
sleep.__doc__ = """Block for ``delay`` seconds, never less, then return ``result``. Coroutine.

    As ``asyncio.sleep``. A ``delay`` of zero or less lets the callbacks that are ready run once.
    Awaiting it raises ``TypeError`` if ``delay`` is not a number, ``ValueError`` if it is NaN.
    """
