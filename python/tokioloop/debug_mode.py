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
    """Return the stack of the Python code that called into the core, shortened as asyncio's.

    It is empty in a thread that runs no Python code, such as an extension's.
    """
    caller = sys._getframe().f_back
    return format_helpers.extract_stack(caller) if caller else traceback.StackSummary()


def handles_are_instrumented() -> bool:
    """Return True if ``asyncio.Handle._run``, or its code, is not asyncio's own any more."""
    return not is_asyncios_own(events.Handle._run, events.Handle.cancel)


def is_asyncios_own(method: Any, other: Any) -> bool:
    """Return True if a method of asyncio's is as asyncio's module has it.

    ``other``, a method of the same module, tells where asyncio's code is from: a wrapper may have
    the original's name. Code that a tool put into the method itself (ddtrace does) may name the
    module, too, but has functions among its constants, which a compiler never puts there.
    """
    code = getattr(method, "__code__", None)
    if code is None or code.co_filename != other.__code__.co_filename:
        return False
    return not any(callable(constant) for constant in code.co_consts)


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
