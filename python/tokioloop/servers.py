"""Connections of an ``asyncio.Server``, which the core adds and removes through these functions."""

from __future__ import annotations

import inspect
from asyncio import base_events
from typing import Any

#: From 3.12 on a server keeps its transports; before that it only counts them.
_SERVER_KEEPS_TRANSPORTS = (
    len(inspect.signature(base_events.Server._attach).parameters) > 1  # type: ignore[attr-defined]
)


def attach(server: Any, transport: Any) -> None:
    """Add a new connection to its server."""
    server._attach(*((transport,) if _SERVER_KEEPS_TRANSPORTS else ()))


def detach(server: Any, transport: Any) -> None:
    """Remove a lost connection from its server."""
    server._detach(*((transport,) if _SERVER_KEEPS_TRANSPORTS else ()))
