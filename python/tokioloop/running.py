"""``run_forever``, and runs inside of a run.

asyncio refuses to run a loop from inside of a callback. Notebooks and some frameworks need it, and
``nest_asyncio`` rewrites asyncio for them. This loop can do it natively; it does where the program
has called ``nest_asyncio.apply()`` (or that of ``nest_asyncio2``), or asked for a loop that nests.
"""

from __future__ import annotations

import asyncio
import sys
import threading
from asyncio import base_events, events, tasks
from types import FrameType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ._hooks import HookedLoop
else:
    HookedLoop = object

_RUN_UNTIL_COMPLETE = base_events.BaseEventLoop.run_until_complete.__code__


class Running(HookedLoop):
    """The part of a loop that runs it."""

    #: nest_asyncio leaves a loop alone that has this: it would replace methods of the class.
    _nest_patched = True
    #: Whether runs of this loop may nest, whatever nest_asyncio says.
    _nests = False

    def run_forever(self) -> None:
        """Run the loop until ``stop()`` is called. As ``asyncio.loop.run_forever``.

        Raises ``RuntimeError`` if the loop is closed or running, if another loop is running in
        this thread, or if this thread is inside a tokio runtime. A loop that nests may be run
        while it, or another loop, is running in this thread.
        """
        self._check_closed()
        self._check_running()
        running = events._get_running_loop()
        if running is None:
            self._run_in(None)
        else:
            self._run_inside(running)

    def _run_in(self, outer_thread: int | None) -> None:
        old_hooks = sys.get_asyncgen_hooks()
        outer_loop = events._get_running_loop()
        self._set_coroutine_origin_tracking(self._debug)
        try:
            self._thread_id = threading.get_ident()
            sys.set_asyncgen_hooks(
                firstiter=self._asyncgen_firstiter_hook,
                finalizer=self._asyncgen_finalizer_hook,
            )
            events._set_running_loop(self)
            if self._overrides("_run_once"):
                while True:
                    self._run_once()
                    if self._stopping:
                        break
            else:
                self._run()
        finally:
            self._stopping = False
            self._thread_id = outer_thread
            events._set_running_loop(outer_loop)
            self._set_coroutine_origin_tracking(outer_loop is not None and outer_loop.get_debug())
            sys.set_asyncgen_hooks(*old_hooks)

    # -- a run inside of a run ----------------------------------------------------------------

    def _check_running(self) -> None:
        if self._may_nest():
            return
        super()._check_running()

    def _may_nest(self) -> bool:
        if not self._nests and not hasattr(asyncio, "_nest_patched"):
            return False
        # Not in another thread than the one that runs it.
        return self._thread_id in (None, threading.get_ident())

    def _run_inside(self, running: asyncio.AbstractEventLoop) -> None:
        """Run the loop while this thread runs a loop, this one or another."""
        own, outer = self._awaited()
        stops_outer = self._stopping
        task = _replace_current_task(running, None)
        try:
            while True:
                self._stopping = False
                self._run_in(self._thread_id)
                if own is None or own.done():
                    break
                if not any(future.done() for future in outer):
                    # The program stopped the loop: all of its runs, as with nest_asyncio.
                    stops_outer = True
                    break
                # The stop was that of an outer run, whose future is done by now. It has to wait.
        finally:
            _replace_current_task(running, task)
            self._stopping = stops_outer or any(future.done() for future in outer)

    def _awaited(self) -> tuple[asyncio.Future[Any] | None, list[asyncio.Future[Any]]]:
        """Return what the runs on the stack wait for: the innermost's future, and the others'.

        asyncio keeps these futures nowhere but in the variables of ``run_until_complete``.
        """
        own = None
        outer = []
        runs = 0
        frame: FrameType | None = sys._getframe()
        while frame is not None:
            if frame.f_code is _RUN_FOREVER and frame.f_locals["self"] is self:
                runs += 1
            elif frame.f_code is _RUN_UNTIL_COMPLETE and frame.f_locals["self"] is self:
                future = frame.f_locals["future"]
                if runs == 1:
                    own = future
                else:
                    outer.append(future)
            frame = frame.f_back
        return own, outer


_RUN_FOREVER = Running.run_forever.__code__


def _replace_current_task(
    loop: asyncio.AbstractEventLoop, task: asyncio.Task[Any] | None
) -> asyncio.Task[Any] | None:
    """Make another task, or none, the one that runs on a loop. Return the one before."""
    if sys.version_info >= (3, 12):
        return tasks._swap_current_task(loop, task)
    current: dict[asyncio.AbstractEventLoop, asyncio.Task[Any]] = vars(tasks)["_current_tasks"]
    before = current.pop(loop, None)
    if task is not None:
        current[loop] = task
    return before
