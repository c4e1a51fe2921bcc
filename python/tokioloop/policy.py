"""The event loop policy, and its installation for a whole process."""

from __future__ import annotations

import asyncio
import warnings
from typing import TYPE_CHECKING

from .accelerate import switch_off, switch_on
from .loop import Loop

if TYPE_CHECKING:
    from asyncio import DefaultEventLoopPolicy as _DefaultEventLoopPolicy
else:
    # Deprecated from 3.14 on: the look-up alone warns.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        _DefaultEventLoopPolicy = asyncio.DefaultEventLoopPolicy


class EventLoopPolicy(_DefaultEventLoopPolicy):
    """asyncio's default event loop policy, whose event loops are :class:`tokioloop.Loop`.

    As ``asyncio.DefaultEventLoopPolicy``, which CPython deprecates from 3.14 on.
    """

    _loop_factory = Loop


#: The policy that `install` replaced; ``None`` stands for asyncio's default.
_before: asyncio.AbstractEventLoopPolicy | None = None


def _set_policy(policy: asyncio.AbstractEventLoopPolicy | None) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        asyncio.set_event_loop_policy(policy)


def _current_policy() -> asyncio.AbstractEventLoopPolicy | None:
    """Return the policy that was set, if any. Asking asyncio would create the default one."""
    return getattr(asyncio.events, "_event_loop_policy", None)


def install(*, accelerate: bool = False) -> None:
    """Make asyncio create a :class:`tokioloop.Loop` wherever it creates an event loop.

    The same as ``asyncio.set_event_loop_policy(tokioloop.EventLoopPolicy())``, without the
    deprecation warning of CPython 3.14 and later. Calling it twice does no harm.

    It does not reach loops that exist already, loops that a program creates by name
    (``asyncio.Runner(loop_factory=...)``, ``uvloop.run``, uvicorn from 0.36 on), nor Pythons that
    this process starts without forking, such as the workers of ``multiprocessing``'s ``spawn`` and
    ``forkserver``: these have to call it themselves. ``python -m tokioloop`` does reach them.

    If ``accelerate`` is true, ``asyncio.sleep``, ``asyncio.gather``,
    ``asyncio.run_coroutine_threadsafe`` and asyncio's streams (``StreamReader``, ``StreamWriter``,
    ``open_connection``, ``start_server`` and the two for Unix sockets) become tokioloop's for all
    code that looks them up in asyncio's modules from now on. What another library put in their
    place stays.
    """
    global _before
    current = _current_policy()
    if not isinstance(current, EventLoopPolicy):
        _before = current
        _set_policy(EventLoopPolicy())
    if accelerate:
        switch_on()


def uninstall() -> None:
    """Restore the event loop policy and asyncio's names as :func:`install` found them.

    A policy or a function that was set after :func:`install` stays. Does nothing if
    :func:`install` was not called.
    """
    global _before
    switch_off()
    if isinstance(_current_policy(), EventLoopPolicy):
        _set_policy(_before)
    _before = None
