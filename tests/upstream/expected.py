"""Tests that fail on this loop and pass on asyncio's, by suite: the test, and why.

Each looks into a part of asyncio's loop that is private. Any other failure is a bug of this loop.
"""

from __future__ import annotations

from collections.abc import Mapping

REPLACED = (
    "It replaces asyncio.BaseTransport.get_extra_info, and the transports of asyncio have no "
    "method of their own in its place (those over TLS do)."
)

EXPECTED: Mapping[str, Mapping[str, str]] = {
    "websockets": {
        f"tests/asyncio/test_connection.py::{side}ConnectionTests::test_{name}_address": REPLACED
        for side in ("Client", "Server")
        for name in ("local", "remote")
    },
}
