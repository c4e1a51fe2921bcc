"""What functions and coroutines that are not Python's own borrow from those that are."""

from __future__ import annotations

import asyncio
import inspect
import sys
from collections.abc import Callable
from typing import Any, TypeVar, cast

_Function = TypeVar("_Function", bound=Callable[..., Any])


def with_signature_of(original: _Function) -> Callable[[Callable[..., Any]], _Function]:
    """Give a function the signature of ``original``, which may differ between CPython's versions.

    Tools that inspect the running function and type checkers both see the parameters of
    ``original``; the function itself forwards those that it does not know.
    """

    def apply(function: Callable[..., Any]) -> _Function:
        function.__signature__ = inspect.signature(original)  # type: ignore[attr-defined]
        return cast("_Function", function)

    return apply


def as_coroutine_function(function: Any, original: Any, owner: str = "") -> None:
    """Make tools that inspect a native callable see a coroutine function like ``original``.

    A method is found in ``owner``, which ends with a dot.
    """
    function.__module__ = "tokioloop"
    function.__qualname__ = owner + original.__name__
    function.__signature__ = inspect.signature(original)
    function.__defaults__ = original.__defaults__
    # unittest.mock takes a marked callable without code for a function that is both: its mocks of
    # one method (`autospec`) then fail when they are called.
    function.__code__ = original.__code__
    # What asyncio.iscoroutinefunction() looks for, and from 3.12 on inspect.iscoroutinefunction().
    if hasattr(asyncio.coroutines, "_is_coroutine"):
        function._is_coroutine = asyncio.coroutines._is_coroutine
    if sys.version_info >= (3, 12):
        inspect.markcoroutinefunction(function)


async def nothing() -> None:
    """Do nothing.

    The core throws into this coroutine what its own coroutines do not catch: the exception that
    comes out is the one that this version of CPython raises.
    """
