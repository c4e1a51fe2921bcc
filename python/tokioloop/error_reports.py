"""The reports of errors that the core leaves to Python: asyncio's texts, written once an error.

The core calls these functions by name.
"""

from __future__ import annotations

import asyncio
import inspect
import socket
from asyncio import format_helpers
from asyncio.log import logger
from typing import Any

_FORMAT_TAKES_DEBUG = (
    "debug" in inspect.signature(format_helpers._format_callback_source).parameters
)


def report_callback_error(loop: Any, handle: Any, error: BaseException) -> None:
    """Report a callback that raised, as ``asyncio.Handle._run`` does."""
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
    """Return the text of ``repr(handle)``, as asyncio writes it."""
    if handle._repr is not None:
        return str(handle._repr)
    info = asyncio.Handle._repr_info(handle)  # type: ignore[attr-defined]
    if isinstance(handle, asyncio.TimerHandle):
        info.insert(2 if handle._cancelled else 1, f"when={handle.when()}")
    return f"<{' '.join(info)}>"


def log_fatal(transport: Any, message: str, error: BaseException) -> None:
    """Log the ``OSError`` that ends a transport, as asyncio does in debug mode."""
    logger.debug("%r: %s", transport, message, exc_info=error)


def connect_call_failed(number: int, family: int, host: str, port: int | str | None) -> OSError:
    """Return the error of a connection to a literal address, in asyncio's words."""
    address: tuple[Any, ...] = (host, int(port or 0))
    if family == socket.AF_INET6:
        address += (0, 0)
    return OSError(number, f"Connect call failed {address}")
