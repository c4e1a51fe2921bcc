"""Child processes: started by ``subprocess.Popen``, watched and reaped through a pidfd.

The code that reaps a child and the code that signals it must agree on whether it was reaped:
otherwise a signal could reach another process that got the same pid. Here both use the pidfd, in
the loop's thread, and the child is reaped under the lock that ``Popen.wait()`` itself takes.
"""

from __future__ import annotations

import contextlib
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
    import asyncio

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
    """asyncio's transport of a child process, which also watches and reaps its child."""

    _proc: subprocess.Popen[bytes]
    _loop: ProcessHandling
    #: Open until the child is reaped; ``None`` if a thread waits for the child instead.
    _pidfd: int | None = None
    #: Done once the child is reaped; made only if the transport's creation failed.
    _reaped: asyncio.Future[None] | None = None

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
        try:
            self._watch()
        except OSError:
            # The kernel has no pidfds, forbids them, or the process has no descriptors left.
            self._watch_in_thread()

    def _watch(self) -> None:
        if not hasattr(os, "pidfd_open"):
            raise OSError("this Python was built without pidfds")
        pidfd = os.pidfd_open(self._proc.pid)
        try:
            # Fails if the kernel cannot wait through a pidfd, or if other code has reaped the child
            # already, so that another process may have its pid.
            os.waitid(os.P_PIDFD, pidfd, os.WEXITED | os.WNOHANG | os.WNOWAIT)
            self._loop._add_reader(pidfd, self._exited)
        except BaseException:
            os.close(pidfd)
            raise
        self._pidfd = pidfd
        self._loop._children.add(self)

    def _watch_in_thread(self) -> None:
        threading.Thread(
            target=_wait_in_thread,
            args=(self._loop, self, self._proc.pid),
            name=f"asyncio-waitpid-{next(_thread_numbers)}",
            daemon=True,
        ).start()

    def _unwatch(self) -> None:
        pidfd, self._pidfd = self._pidfd, None
        if pidfd is not None:
            self._loop._children.discard(self)
            self._loop._remove_reader(pidfd)
            os.close(pidfd)

    def _exited(self) -> None:
        """Reap the child: its pidfd is readable, or a wait for it has returned."""
        returncode = self._reap()
        self._unwatch()
        if returncode is None:
            # A debugger traces the child and gets its status first. The pidfd does not show when it
            # has done so; a wait does.
            self._watch_in_thread()
        else:
            # After the data that its pipes have in this iteration.
            self._loop.call_soon(self._process_exited, returncode)

    def _reap(self, *, blocking: bool = True) -> int | None:
        """Return the exit status of a dead child, ``None`` if it is alive.

        A thread in ``Popen.wait()`` holds the lock until the child is dead, and sets
        ``returncode`` before it releases it. For a child that may be alive, do not block on it.
        """
        proc = self._proc
        lock = proc._waitpid_lock  # type: ignore[attr-defined]
        if not lock.acquire(blocking):
            return None
        try:
            if proc.returncode is None:
                pidfd = self._pidfd
                kind, number = (os.P_PID, proc.pid) if pidfd is None else (os.P_PIDFD, pidfd)
                try:
                    end = os.waitid(kind, number, os.WEXITED | os.WNOHANG)
                except ChildProcessError:
                    logger.warning(_UNKNOWN_CHILD if pidfd is None else _STATUS_TAKEN, proc.pid)
                    proc.returncode = _UNKNOWN_STATUS
                else:
                    if end is not None:
                        normal = end.si_code == os.CLD_EXITED
                        proc.returncode = end.si_status if normal else -end.si_status
            return proc.returncode
        finally:
            lock.release()

    async def _wait_until_reaped(self) -> None:
        """Wait for a child whose protocol was never connected to its transport.

        asyncio's ``_wait()`` also waits for the protocol's ``connection_lost``, which is never
        called then.
        """
        if self._returncode is None:
            self._reaped = self._loop.create_future()
            await self._reaped

    def _process_exited(self, returncode: int) -> None:
        try:
            super()._process_exited(returncode)
        finally:
            if self._reaped is not None and not self._reaped.done():
                self._reaped.set_result(None)

    def send_signal(self, signal: int) -> None:
        self._check_proc()
        if self._pidfd is None:
            self._proc.send_signal(signal)
        else:
            with contextlib.suppress(ProcessLookupError):
                signals.pidfd_send_signal(self._pidfd, signal)

    def close(self) -> None:
        if not self._closed and self._proc is not None:
            # asyncio is about to ask `Popen`, which reports success for a child that other code
            # reaped.
            self._reap(blocking=False)
        super().close()


def _wait_in_thread(loop: HookedLoop, transport: ProcessTransport, pid: int) -> None:
    """Block until a child is dead; the loop's thread reaps it."""
    with contextlib.suppress(ChildProcessError):
        os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
    try:
        loop.call_soon_threadsafe(transport._exited)
    except RuntimeError:
        logger.warning("Loop %r that handles pid %r is closed", loop, pid)
        transport._reap()


class ProcessHandling(HookedLoop):
    """The loop's child processes: starts them, and keeps those that are watched."""

    _children: set[ProcessTransport]

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

    def _leave_children(self) -> None:
        """Stop watching all children, as a part of ``close()``."""
        for transport in list(self._children):
            transport._unwatch()
