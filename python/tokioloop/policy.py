"""The event loop policy, and putting it in place for a whole process."""

from __future__ import annotations

import asyncio
import warnings
from typing import TYPE_CHECKING

from .accelerate import switch_off, switch_on
from .loop import Loop

if TYPE_CHECKING:
    from asyncio import DefaultEventLoopPolicy as _DefaultEventLoopPolicy
else:
    # Deprecated from 3.14 on, where merely looking it up warns.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        _DefaultEventLoopPolicy = asyncio.DefaultEventLoopPolicy


class EventLoopPolicy(_DefaultEventLoopPolicy):
    """asyncio's default policy, with :class:`tokioloop.Loop` as the loop it makes."""

    _loop_factory = Loop


#: The policy that was there before ours; ``None`` stands for asyncio's default.
_before: asyncio.AbstractEventLoopPolicy | None = None


def _set_policy(policy: asyncio.AbstractEventLoopPolicy | None) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        asyncio.set_event_loop_policy(policy)


def _current_policy() -> asyncio.AbstractEventLoopPolicy | None:
    """The policy that somebody set. (Asking asyncio would make the default one.)"""
    return getattr(asyncio.events, "_event_loop_policy", None)


def install(*, accelerate: bool = False) -> None:
    """Make every event loop that asyncio creates from now on a tokioloop one.

    Same as ``asyncio.set_event_loop_policy(tokioloop.EventLoopPolicy())``, without the
    deprecation warning of CPython 3.14 and later. Calling it twice does no harm.

    With ``accelerate``, asyncio's ``sleep``, ``gather`` and ``run_coroutine_threadsafe`` become
    :func:`tokioloop.sleep`, :func:`tokioloop.gather` and
    :func:`tokioloop.run_coroutine_threadsafe`, for all code that asks the asyncio modules for them
    from now on. What somebody else put in their place is left alone.
    """
    global _before
    current = _current_policy()
    if not isinstance(current, EventLoopPolicy):
        _before = current
        _set_policy(EventLoopPolicy())
    if accelerate:
        switch_on()


def uninstall() -> None:
    """Give asyncio its own functions and the policy back that were there before :func:`install`.

    A policy or a function that somebody else set meanwhile stays. Does nothing to what was not
    installed.
    """
    global _before
    switch_off()
    if isinstance(_current_policy(), EventLoopPolicy):
        _set_policy(_before)
    _before = None
