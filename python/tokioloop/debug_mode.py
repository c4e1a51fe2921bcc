"""asyncio's debug mode: where callbacks come from, slow ones, blocking sockets, new connections.

The core calls these functions by name, and only while the loop is in debug mode, or while a tool
has replaced ``asyncio.Handle._run``.
"""

from __future__ import annotations

import sys
import traceback
from asyncio import base_events, events, format_helpers
from asyncio.log import logger
from typing import Any


def extract_stack() -> traceback.StackSummary:
    """Return the stack of the Python code that called into the core, shortened as asyncio's."""
    return format_helpers.extract_stack(sys._getframe(1))


def handles_are_instrumented() -> bool:
    """Return True if ``asyncio.Handle._run`` is not asyncio's own function any more."""
    run: Any = events.Handle._run
    code = getattr(run, "__code__", None)
    # Another method tells where asyncio's code is from. (A wrapper may have the original's name.)
    return code is None or code.co_filename != events.Handle.cancel.__code__.co_filename


def log_if_slow(loop: Any, took: float, handle: Any) -> None:
    """Log a callback if it took ``took`` seconds; a transport's callbacks have no ``handle``."""
    if took < loop.slow_callback_duration:
        return
    if handle is None:
        logger.warning("Executing the callbacks of a transport took %.3f seconds", took)
        return
    text = base_events._format_handle(handle)  # type: ignore[attr-defined]
    # Through the module in which asyncio's own loop finds it: tests patch it there.
    slow = "Executing %s took %.3f seconds"
    base_events.logger.warning(slow, text, took)  # type: ignore[attr-defined]


def check_socket(loop: Any, sock: Any) -> None:
    """Make the checks that asyncio makes before a ``sock_*`` call.

    Raises ``TypeError`` for an ``ssl.SSLSocket``, ``ValueError`` for a blocking socket.
    """
    base_events._check_ssl_socket(sock)  # type: ignore[attr-defined]
    if loop.get_debug() and sock.gettimeout() != 0:
        raise ValueError("the socket must be non-blocking")


def log_accepted(server: Any, transport: Any) -> None:
    """Log a connection that a server accepted."""
    peer = transport.get_extra_info("peername")
    sock = transport.get_extra_info("socket")
    logger.debug("%r got a new connection from %r: %r", server, peer, sock)
