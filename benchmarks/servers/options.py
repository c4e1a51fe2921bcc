"""What every server is given."""

from __future__ import annotations

import asyncio
import importlib
import socket
import ssl
from collections.abc import Awaitable, Callable
from typing import Any, NamedTuple

from benchmarks.loops import PACKAGES

BACKLOG = 1024
CHUNK = 256 * 1024


class Place(NamedTuple):
    """Where to serve, and over what."""

    listener: socket.socket
    tls: ssl.SSLContext | None = None
    start_server: Callable[..., Awaitable[object]] = asyncio.start_server


def start_server_of(loop: str, *, native: bool) -> Any:
    """asyncio's ``start_server``, or the one that a loop's package offers in its place."""
    if native and loop in PACKAGES:
        return importlib.import_module(PACKAGES[loop]).start_server
    return asyncio.start_server


def tls_context(certificate: str, key: str) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    return context
