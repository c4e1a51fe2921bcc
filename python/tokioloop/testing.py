"""Virtual time for the tests of programs that use asyncio.

    import asyncio, tokioloop.testing

    with asyncio.Runner(loop_factory=tokioloop.testing.new_event_loop) as runner:
        runner.run(main())    # an hour of asyncio.sleep() takes a millisecond

``docs/testing-your-program.md`` is the guide, also for pytest.

The core calls ``_before_blocking`` where any other loop would block. The loop then first asks for
events once more, without blocking. If no callback became ready, then:

- Something real is outstanding: the loop blocks as any other does, at most until the next timer.
  Its clock runs meanwhile, and stands still again when the block is over.
- Otherwise the clock jumps to the next timer.
- There is no timer: nothing inside of the program can ever happen again, which is an error.

So computing takes no time on this clock, and only a program that waits for something real sees
times that depend on the machine.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import sys
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from concurrent.futures import Executor
from typing import TYPE_CHECKING, Any, TypeVar

from .loop import Loop
from .waiting_tasks import describe

if TYPE_CHECKING:
    from typing_extensions import TypeVarTuple, Unpack

    from .processes import ProcessTransport

    _Ts = TypeVarTuple("_Ts")

__all__ = ["DeadlockError", "VirtualTimeLoop", "new_event_loop"]

_T = TypeVar("_T")

#: Where AnyIO defines its worker threads, which no executor knows.
_ANYIO = "anyio._backends._asyncio"


class DeadlockError(RuntimeError):
    """All tasks wait for each other, or for something that no code can do any more.

    Its text has the stack of each task.
    """


def _check_times(start: float, threshold: float | None) -> None:
    if not math.isfinite(start):
        raise ValueError(f"start must be finite, not {start!r}")
    if threshold is not None and not threshold >= 0:
        raise ValueError(f"autojump_threshold must be None or at least 0, not {threshold!r}")


class VirtualTimeLoop(Loop):
    """A :class:`tokioloop.Loop` whose clock jumps to the next timer instead of blocking.

    ``start`` is what :meth:`time` returns first, in seconds. If ``autojump`` is false the clock
    never jumps: it runs in real time while the loop blocks.

    While a descriptor is watched, or a transport or a listener is open, the loop waits for it in
    real time. ``autojump_threshold`` limits that: once nothing has happened for so many real
    seconds, the clock jumps; until then it stands still. ``None`` sets no limit. A threshold does
    not apply to jobs of executors, child processes, Rust futures and :meth:`hold`.

    Raises ``ValueError`` if ``start`` is not finite or ``autojump_threshold`` is negative or NaN.
    """

    def __init__(
        self,
        *,
        start: float = 0.0,
        autojump: bool = True,
        autojump_threshold: float | None = None,
    ) -> None:
        try:
            _check_times(start, autojump_threshold)
        except BaseException:
            self._closed = True  # so that no unclosed loop is reported
            raise
        self._now = float(start)
        self._autojump = autojump
        self._threshold = math.inf if autojump_threshold is None else float(autojump_threshold)
        self._holds = 0
        self._holds_lock = threading.Lock()
        self._jobs: list[asyncio.Future[Any]] = []
        self._processes: weakref.WeakSet[ProcessTransport] = weakref.WeakSet()
        #: How many callbacks had run when the loop was last about to block.
        self._ran = -1
        #: Real time at which the present block began, and the clock's time that it may run to.
        self._blocked: tuple[float, float] | None = None
        #: Real seconds for which no callback ran, while the clock stood still.
        self._silence = 0.0
        super().__init__()
        self._use_virtual_time()

    def time(self) -> float:
        """Return the time of the loop's clock in seconds, a ``float``.

        It changes only while the loop waits. As ``asyncio.loop.time``.
        """
        return self._now

    @contextlib.contextmanager
    def hold(self) -> Iterator[None]:
        """Keep the clock from jumping: something real is outstanding that the loop cannot know.

        A context manager for any thread, for instance around the work of a thread that will call
        ``call_soon_threadsafe``. Meanwhile the clock runs in real time while the loop waits, and no
        :class:`DeadlockError` is raised. Holds may overlap. asyncio has no counterpart.
        """
        with self._holds_lock:
            self._holds += 1
        try:
            yield
        finally:
            with self._holds_lock:
                self._holds -= 1
            # A loop that blocks in another thread looks at what is outstanding again.
            self._write_to_self()

    # -- what the core calls ------------------------------------------------------------------

    def _before_blocking(self, ran: int) -> float | None:
        """Decide what follows, once no callback is ready; ``ran`` counts all that ran so far.

        Return for how many real seconds to block at most, ``None`` for no limit. Zero asks for
        events without blocking, and then runs the timers that are due.
        """
        if ran != self._ran:
            # The callbacks may have made something happen that the kernel can report already.
            self._ran, self._silence = ran, 0.0
            return 0.0
        __tracebackhide__ = True  # for pytest: a deadlock is not here
        deadline = self._next_timer()
        if deadline is None:
            deadline = math.inf
        if deadline <= self._now:
            return 0.0
        io = self._awaits_io()
        if self._awaits_more() or (io and self._threshold == math.inf):
            return self._block(deadline - self._now, deadline)
        if io and self._silence < self._threshold:
            return self._block(self._threshold - self._silence, self._now)
        if deadline == math.inf:
            if io or self._signal_handlers:
                return self._block(math.inf, self._now)
            raise self._deadlock()
        self._now = deadline
        return 0.0

    def _block(self, seconds: float, until: float) -> float | None:
        self._blocked = time.monotonic(), until
        return None if seconds == math.inf else seconds

    def _after_blocking(self) -> None:
        """Account for the real time that the loop was blocked."""
        if self._blocked is not None:
            (began, until), self._blocked = self._blocked, None
            took = time.monotonic() - began
            self._silence += took
            # Not further: each timer runs at its own time, however late the kernel woke the loop.
            self._now = min(self._now + took, until)

    def _awaits_io(self) -> bool:
        """Return True if a descriptor is watched, or a transport or a listener is open."""
        descriptors, sources, _ = self._outstanding()
        # The loop's own end of the pair that signals come through is always watched.
        return descriptors > (self._signal_pair is not None) or sources > 0

    def _awaits_more(self) -> bool:
        """Return True if a thread, a process or a Rust future is known to be at work."""
        if not self._autojump or self._holds or self._outstanding()[2]:
            return True
        self._jobs = [job for job in self._jobs if not job.done()]
        if self._jobs or any(process.get_returncode() is None for process in self._processes):
            return True
        return _ANYIO in sys.modules and any(
            getattr(thread, "loop", None) is self and thread not in thread.idle_workers
            for thread in threading.enumerate()
            if type(thread).__module__ == _ANYIO and hasattr(thread, "idle_workers")
        )

    def _deadlock(self) -> DeadlockError:
        tasks = asyncio.all_tasks(self)
        return DeadlockError(
            "Deadlock: no callback is ready, no timer is set, and nothing real is outstanding that "
            f"could wake a task (the loop's time is {self._now!r} s)\n"
            + (describe(tasks) or "The loop has no tasks.")
        )

    # -- what is outstanding ------------------------------------------------------------------

    def run_in_executor(
        self,
        executor: Executor | None,
        func: Callable[[Unpack[_Ts]], _T],
        *args: Unpack[_Ts],
    ) -> asyncio.Future[_T]:
        """Call ``func(*args)`` in a thread or process of an executor, and return a future of it.

        As ``asyncio.loop.run_in_executor``; the clock does not jump until the future is done.
        """
        future = super().run_in_executor(executor, func, *args)
        self._jobs.append(future)
        return future

    async def shutdown_default_executor(self, *args: Any, **options: Any) -> None:
        """Wait until the threads of the default executor have ended. Coroutine.

        As ``asyncio.loop.shutdown_default_executor``, time-out included, which is real time here.
        """
        with self.hold():
            await super().shutdown_default_executor(*args, **options)

    async def _make_subprocess_transport(self, *args: Any, **options: Any) -> ProcessTransport:
        transport = await super()._make_subprocess_transport(*args, **options)
        self._processes.add(transport)
        return transport


def new_event_loop(
    *,
    start: float = 0.0,
    autojump: bool = True,
    autojump_threshold: float | None = None,
) -> VirtualTimeLoop:
    """Create and return a loop whose clock jumps to the next timer instead of blocking.

    Pass it as ``loop_factory`` to ``asyncio.Runner``, and from CPython 3.12 on to ``asyncio.run``.
    The parameters are those of :class:`VirtualTimeLoop`. As ``asyncio.new_event_loop``.
    """
    return VirtualTimeLoop(start=start, autojump=autojump, autojump_threshold=autojump_threshold)
