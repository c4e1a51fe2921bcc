"""``tokioloop.run``: ``asyncio.run`` on a :class:`tokioloop.Loop`."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from .loop import new_event_loop

_T = TypeVar("_T")


def run(
    main: Coroutine[Any, Any, _T],
    *,
    debug: bool | None = None,
    loop_factory: Callable[[], asyncio.AbstractEventLoop] | None = new_event_loop,
) -> _T:
    """Run the coroutine ``main`` on a new event loop, close the loop, and return the result.

    As ``asyncio.run``: the tasks that are left are cancelled, asynchronous generators and the
    default executor are shut down. ``debug`` sets the loop's debug mode; ``None`` leaves it to
    ``PYTHONASYNCIODEBUG`` and ``-X dev``. ``loop_factory`` creates the loop; ``None`` leaves that
    to the event loop policy.

    Raises what the coroutine raises, ``RuntimeError`` when called from a running event loop, and
    ``ValueError`` (``TypeError`` from CPython 3.14 on) if ``main`` is not a coroutine.
    """
    if asyncio._get_running_loop() is not None:
        raise RuntimeError("tokioloop.run() cannot be called from a running event loop")
    if sys.version_info >= (3, 11):
        with asyncio.Runner(debug=debug, loop_factory=loop_factory) as runner:
            return runner.run(main)
    return _run_without_runner(main, debug, loop_factory or asyncio.new_event_loop)


def _run_without_runner(
    main: Coroutine[Any, Any, _T],
    debug: bool | None,
    loop_factory: Callable[[], asyncio.AbstractEventLoop],
) -> _T:
    """Do what ``asyncio.run`` does on CPython 3.10, which has no ``asyncio.Runner``."""
    if not asyncio.iscoroutine(main):
        raise ValueError(f"a coroutine was expected, got {main!r}")
    loop = loop_factory()
    try:
        asyncio.set_event_loop(loop)
        if debug is not None:
            loop.set_debug(debug)
        return loop.run_until_complete(main)
    finally:
        try:
            _cancel_all_tasks(loop)
            loop.run_until_complete(loop.shutdown_asyncgens())
            loop.run_until_complete(loop.shutdown_default_executor())
        finally:
            asyncio.set_event_loop(None)
            loop.close()


def _cancel_all_tasks(loop: asyncio.AbstractEventLoop) -> None:
    tasks = asyncio.all_tasks(loop)
    if not tasks:
        return
    for task in tasks:
        task.cancel()
    loop.run_until_complete(asyncio.gather(*tasks, return_exceptions=True))
    for task in tasks:
        if not task.cancelled() and (error := task.exception()) is not None:
            loop.call_exception_handler(
                {
                    "message": "unhandled exception during asyncio.run() shutdown",
                    "exception": error,
                    "task": task,
                }
            )
