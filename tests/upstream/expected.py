"""Tests that fail on this loop and pass on asyncio's, by suite: the test, and why.

Each looks into a part of asyncio's loop that is private. Any other failure is a bug of this loop.
"""

from __future__ import annotations

from collections.abc import Mapping

EXPECTED: Mapping[str, Mapping[str, str]] = {}
