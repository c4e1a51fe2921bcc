"""``run_forever``, and runs inside of a run.

asyncio refuses to run a loop from inside of a callback. Notebooks and some frameworks need it, and
``nest_asyncio`` rewrites asyncio for them. This loop can do it natively; it does where the program
has called ``nest_asyncio.apply()`` (or that of ``nest_asyncio2``), or asked for a loop that nests.
"""

from __future__ import annotations

import asyncio
import sys
import threading
from asyncio import events, futures, tasks
from collections.abc import Awaitable, Generator
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from ._hooks import HookedLoop
else:
    HookedLoop = object

_T = TypeVar("_T")


class _Run:
    """A run of a loop: for ever, or until ``future`` is done."""

    __slots__ = ("future", "stopped")

    def __init__(self, future: asyncio.Future[Any] | None = None) -> None:
        self.future = future
        #: The loop was stopped because the future is done. Each future does that once.
        self.stopped = False

    def end(self, future: asyncio.Future[Any]) -> None:
        """Stop the loop; the callback of the future."""
        if not future.cancelled() and isinstance(
            future.exception(), (SystemExit, KeyboardInterrupt)
        ):
            return  # It has left the run already.
        self.stopped = True
        futures._get_loop(future).stop()  # type: ignore[attr-defined]


class Running(HookedLoop):
    """The part of a loop that runs it."""

    #: nest_asyncio leaves a loop alone that has this: it would replace methods of the class.
    _nest_patched = True
    #: Whether runs of this loop may nest, whatever nest_asyncio says.
    _nests = False
    #: The runs of this loop that are on the stack, the innermost last.
    _runs: tuple[_Run, ...] = ()
    #: The run of `run_until_complete`, until `run_forever` begins it.
    _next_run: _Run | None = None

    def run_forever(self) -> None:
        """Run the loop until ``stop()`` is called. As ``asyncio.loop.run_forever``.

        Raises ``RuntimeError`` if the loop is closed or running, if another loop is running in
        this thread, or if this thread is inside a tokio runtime. A loop that nests may be run
        while it, or another loop, is running in this thread.
        """
        self._check_closed()
        self._check_running()
        run, self._next_run = self._next_run or _Run(), None
        outer = self._runs
        try:
            self._runs = (*outer, run)
            # A forked child may be in a run of its parent's, and has no running loop.
            if outer or events._get_running_loop() is not None:
                self._run_inside(run, outer)
            else:
                self._begin_and_run()
        finally:
            self._runs = outer

    def run_until_complete(self, future: Generator[Any, None, _T] | Awaitable[_T]) -> _T:
        """Run the loop until a future is done, and return its result or raise its exception.

        As ``asyncio.loop.run_until_complete``: ``future`` may be any awaitable; a coroutine becomes
        a task.

        Raises ``RuntimeError`` where :meth:`run_forever` does, and if the loop is stopped before
        the future is done.
        """
        self._check_closed()
        self._check_running()
        is_new = not asyncio.isfuture(future)
        # (typeshed lacks generators, which are awaitable where types.coroutine made them.)
        awaited: asyncio.Future[_T] = asyncio.ensure_future(future, loop=self)  # type: ignore[arg-type]
        if is_new:
            # Where the task is not done this method raises an error, so the task need not log one.
            awaited._log_destroy_pending = False  # type: ignore[attr-defined]
        run = _Run(awaited)
        awaited.add_done_callback(run.end)
        try:
            self._next_run = run
            self.run_forever()
        except BaseException:
            if is_new and awaited.done() and not awaited.cancelled():
                # Raised by the loop: no code has the task, to retrieve the exception from it.
                awaited.exception()
            raise
        finally:
            self._next_run = None
            awaited.remove_done_callback(run.end)
        if not awaited.done():
            raise RuntimeError("Event loop stopped before Future completed.")
        return awaited.result()

    def _begin_and_run(self) -> None:
        old_hooks = sys.get_asyncgen_hooks()
        outer_loop, outer_thread = events._get_running_loop(), self._thread_id
        self._set_coroutine_origin_tracking(self._debug)
        try:
            self._thread_id = threading.get_ident()
            sys.set_asyncgen_hooks(
                firstiter=self._asyncgen_firstiter_hook,
                finalizer=self._asyncgen_finalizer_hook,
            )
            events._set_running_loop(self)
            self._run(self._run_once if self._overrides("_run_once") else None)
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

    def _run_inside(self, run: _Run, outer: tuple[_Run, ...]) -> None:
        """Run the loop while this thread runs a loop, this one or another."""
        stops_outer = self._stopping
        running = events._get_running_loop()
        if running is None:
            events._set_running_loop(self)
        task = _replace_current_task(running or self, None)
        try:
            while True:
                self._stopping = False
                running_on = [each for each in outer if not each.stopped]
                self._begin_and_run()
                if run.stopped:
                    break
                if any(each.stopped for each in running_on):
                    # The future of an outer run is done. That run has to wait for this one.
                    continue
                # The program stopped the loop. As with nest_asyncio: one `run_forever`, or all
                # runs that wait for a future.
                stops_outer = stops_outer or run.future is not None
                if run.future is None or not run.future.done():
                    break
                # The stop of the future is on its way, and must not reach another run.
        finally:
            _replace_current_task(running or self, task)
            events._set_running_loop(running)
            self._stopping = stops_outer or (len(outer) > 0 and outer[-1].stopped)


def _replace_current_task(
    loop: asyncio.AbstractEventLoop, task: asyncio.Task[Any] | None
) -> asyncio.Task[Any] | None:
    """Make another task, or none, the one that runs on a loop. Return the one before."""
    if sys.version_info >= (3, 12):
        if task is None and tasks.current_task(loop) is None:
            # CPython 3.12.1 raises KeyError for none in the place of none.
            return None
        return tasks._swap_current_task(loop, task)
    current: dict[asyncio.AbstractEventLoop, asyncio.Task[Any]] = vars(tasks)["_current_tasks"]
    before = current.pop(loop, None)
    if task is not None:
        current[loop] = task
    return before
