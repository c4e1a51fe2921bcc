"""What the native core leaves to Python: it runs once an error, or in debug mode."""

from __future__ import annotations

import asyncio
import inspect
import sys
import traceback
from asyncio import base_events, format_helpers
from asyncio.log import logger
from typing import Any

_FORMAT_TAKES_DEBUG = (
    "debug" in inspect.signature(format_helpers._format_callback_source).parameters
)
#: From 3.12 on a server keeps its transports, before it only counts them.
_SERVER_KEEPS_TRANSPORTS = (
    len(inspect.signature(base_events.Server._attach).parameters) > 1  # type: ignore[attr-defined]
)


def report_callback_error(loop: Any, handle: Any, error: BaseException) -> None:
    """As ``asyncio.Handle._run`` reports a callback that raised."""
    debug = {"debug": loop.get_debug()} if _FORMAT_TAKES_DEBUG else {}
    callback = format_helpers._format_callback_source(handle._callback, handle._args, **debug)
    context = {
        "message": f"Exception in callback {callback}",
        "exception": error,
        "handle": handle,
    }
    if handle._source_traceback:
        context["source_traceback"] = handle._source_traceback
    loop.call_exception_handler(context)


def describe_handle(handle: Any) -> str:
    """The text of ``repr(handle)``, as asyncio writes it."""
    if handle._repr is not None:
        return str(handle._repr)
    info = asyncio.Handle._repr_info(handle)  # type: ignore[attr-defined]
    if isinstance(handle, asyncio.TimerHandle):
        info.insert(2 if handle._cancelled else 1, f"when={handle.when()}")
    return f"<{' '.join(info)}>"


def extract_stack() -> traceback.StackSummary:
    """The stack of who called into the core, without what is uninteresting."""
    return format_helpers.extract_stack(sys._getframe(1))


def run_in_debug(loop: Any, handle: Any) -> None:
    """Runs a handle, known as the loop's current one, and logs it if it was slow."""
    try:
        loop._current_handle = handle
        started = loop.time()
        handle._run()
        took = loop.time() - started
        if took >= loop.slow_callback_duration:
            text = base_events._format_handle(handle)  # type: ignore[attr-defined]
            # By the name that asyncio's own loop uses, which is where tests patch it.
            slow = "Executing %s took %.3f seconds"
            base_events.logger.warning(slow, text, took)  # type: ignore[attr-defined]
    finally:
        loop._current_handle = None
        # A task's exception keeps this frame: through the handle it would keep the task, too.
        del handle


def log_if_slow(loop: Any, took: float) -> None:
    """The same for a transport's callbacks, which have no handle."""
    if took >= loop.slow_callback_duration:
        logger.warning("Executing the callbacks of a transport took %.3f seconds", took)


def check_socket(loop: Any, sock: Any) -> None:
    """asyncio's checks before a ``sock_*`` call."""
    base_events._check_ssl_socket(sock)  # type: ignore[attr-defined]
    if loop.get_debug() and sock.gettimeout() != 0:
        raise ValueError("the socket must be non-blocking")


async def nothing() -> None:
    """A coroutine for what is thrown into one that has nothing to catch it."""


def attach(server: Any, transport: Any) -> None:
    server._attach(*((transport,) if _SERVER_KEEPS_TRANSPORTS else ()))


def detach(server: Any, transport: Any) -> None:
    server._detach(*((transport,) if _SERVER_KEEPS_TRANSPORTS else ()))


def log_fatal(transport: Any, message: str, error: BaseException) -> None:
    logger.debug("%r: %s", transport, message, exc_info=error)


def log_accepted(server: Any, transport: Any) -> None:
    peer = transport.get_extra_info("peername")
    sock = transport.get_extra_info("socket")
    logger.debug("%r got a new connection from %r: %r", server, peer, sock)
