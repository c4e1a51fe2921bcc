"""The event loop policy, and putting it in place for a whole process."""

from __future__ import annotations

import asyncio
import warnings
from typing import TYPE_CHECKING

from tokioloop.loop import Loop

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


def _set_policy(policy: EventLoopPolicy | None) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        asyncio.set_event_loop_policy(policy)


def install() -> None:
    """Make every event loop that asyncio creates from now on a tokioloop one.

    Same as ``asyncio.set_event_loop_policy(tokioloop.EventLoopPolicy())``, without the
    deprecation warning of CPython 3.14 and later. Calling it twice does no harm.
    """
    _set_policy(EventLoopPolicy())


def uninstall() -> None:
    """Give asyncio its own default policy back."""
    _set_policy(None)
