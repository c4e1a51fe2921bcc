"""Child processes: started by ``subprocess.Popen``, watched and reaped through a pidfd.

The core watches and reaps (``src/processes/``), where the kernel has pidfds; else a thread waits.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import itertools
import os
import signal as signals
import subprocess
import sys
import threading
from asyncio import base_subprocess
from asyncio.log import logger
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from . import _core
    from ._hooks import HookedLoop
else:
    HookedLoop = object

#: The exit status that is reported for a child which other code reaped, and asyncio's texts for it.
_UNKNOWN_STATUS = 255
_UNKNOWN_CHILD = "Unknown child process pid %d, will report returncode 255"
_STATUS_TAKEN = (
    "child process pid %d exit status already read:  will report returncode 255"
    if sys.version_info >= (3, 12)  # since then asyncio uses pidfds as well
    else _UNKNOWN_CHILD
)

_thread_numbers = itertools.count()


class ProcessTransport(base_subprocess.BaseSubprocessTransport):
    """asyncio's transport of a child process, whose child the loop watches and reaps."""

    _proc: subprocess.Popen[bytes]
    _loop: ProcessHandling
    #: Reaps the child; ``None`` until it was started.
    _watcher: _core.ChildWatcher | None = None

    def _start(
        self,
        args: Any,
        shell: bool,
        stdin: Any,
        stdout: Any,
        stderr: Any,
        bufsize: int,
        **options: Any,
    ) -> None:
        self._proc = subprocess.Popen(
            args,
            shell=shell,
            stdin=stdin,
            stdout=stdout,
            stderr=stderr,
            universal_newlines=False,
            bufsize=bufsize,
            **options,
        )
        self._watcher = self._loop._watch_child(self, self._proc)
        if self._watcher.fileno() < 0:
            # The kernel has no pidfds, forbids them, or the process has no descriptors left.
            self._watch_in_thread()

    def _watch_in_thread(self) -> None:
        threading.Thread(
            target=_wait_in_thread,
            args=(self._loop, self._watcher, self._proc.pid, contextvars.copy_context()),
            name=f"asyncio-waitpid-{next(_thread_numbers)}",
            daemon=True,
        ).start()

    def _status_taken(self) -> int:
        """Log that other code has reaped the child, and return what is reported as its status."""
        text = _UNKNOWN_CHILD if self._pidfd() < 0 else _STATUS_TAKEN
        logger.warning(text, self._proc.pid)
        return _UNKNOWN_STATUS

    def _pidfd(self) -> int:
        return -1 if self._watcher is None else self._watcher.fileno()

    async def _wait_until_reaped(self) -> None:
        """Wait for a child whose protocol was never connected to its transport.

        asyncio's ``_wait()`` also waits for the protocol's ``connection_lost``, which is never
        called then.
        """
        if self._returncode is None and self._watcher is not None:
            reaped = self._loop.create_future()
            if self._watcher.notify(reaped):
                await reaped
            else:
                await asyncio.sleep(0)  # the transport hears of it in this iteration

    def send_signal(self, signal: int) -> None:
        self._check_proc()
        pidfd = self._pidfd()
        if pidfd < 0:
            self._proc.send_signal(signal)
        else:
            with contextlib.suppress(ProcessLookupError):
                signals.pidfd_send_signal(pidfd, signal)

    # Those of `Popen`, which asyncio calls, ask the kernel first, and report success for a child
    # that other code reaped.
    def terminate(self) -> None:
        self.send_signal(signals.SIGTERM)

    def kill(self) -> None:
        self.send_signal(signals.SIGKILL)

    def close(self) -> None:
        if not self._closed and self._watcher is not None:
            # asyncio is about to ask `Popen`, which reports success for a child that other code
            # reaped.
            self._watcher.reap()
        super().close()


def _wait_in_thread(
    loop: HookedLoop, watcher: _core.ChildWatcher, pid: int, context: contextvars.Context
) -> None:
    """Block until a child is dead; the loop's thread reaps it."""
    with contextlib.suppress(ChildProcessError):
        os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
    try:
        loop.call_soon_threadsafe(watcher.ended, context=context)
    except RuntimeError:
        logger.warning("Loop %r that handles pid %r is closed", loop, pid)
        watcher.reap()


class ProcessHandling(HookedLoop):
    """The loop's child processes: starts them."""

    async def _make_subprocess_transport(
        self,
        protocol: asyncio.SubprocessProtocol,
        args: Any,
        shell: bool,
        stdin: Any,
        stdout: Any,
        stderr: Any,
        bufsize: int,
        extra: Any = None,
        **options: Any,
    ) -> ProcessTransport:
        waiter = self.create_future()
        transport = ProcessTransport(
            self,
            protocol,
            args,
            shell,
            stdin,
            stdout,
            stderr,
            bufsize,
            waiter=waiter,
            extra=extra,
            **options,
        )
        try:
            await waiter
        except (SystemExit, KeyboardInterrupt):
            raise
        except BaseException:
            transport.close()
            await transport._wait_until_reaped()
            raise
        return transport
