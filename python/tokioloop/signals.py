"""Signals: the wake-up descriptor while the loop runs, and ``add_signal_handler``."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import inspect
import signal
import socket
import sys
import threading
import warnings
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from types import FrameType

    from typing_extensions import TypeVarTuple, Unpack

    from ._hooks import HookedLoop

    _Ts = TypeVarTuple("_Ts")
else:
    HookedLoop = object


def _ignore(signum: int, frame: FrameType | None) -> None:
    """Makes the interpreter write the signal's number to the wake-up descriptor."""


class SignalHandling(HookedLoop):
    """Owns a socket pair that the interpreter writes signal numbers to.

    It is the process's wake-up descriptor while this loop runs in the main thread (so that a
    signal ends the loop's sleep, whichever thread it lands on) and while there are signal
    handlers; else whatever was there before is.
    """

    _signal_pair: tuple[socket.socket, socket.socket] | None = None
    _previous_wakeup_fd: int | None = None
    _running_in_main_thread = False

    @contextlib.contextmanager
    def _listening_to_signals(self) -> Iterator[None]:
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        self._running_in_main_thread = True
        # Refused where Python was started by another thread than `threading` believes: a program
        # that embeds it. No signal is ours to handle then.
        with contextlib.suppress(ValueError):
            self._take_wakeup_fd()
        try:
            yield
        finally:
            self._running_in_main_thread = False
            self._give_wakeup_fd_back()

    def _take_wakeup_fd(self) -> None:
        """Raises ``ValueError`` outside of the main thread of the main interpreter."""
        if self._signal_pair is None:
            reading, writing = socket.socketpair()
            reading.setblocking(False)
            writing.setblocking(False)
            self._signal_pair = reading, writing
            self._add_reader(reading.fileno(), self._read_signals)
        fd = self._signal_pair[1].fileno()
        # A full pair means that the loop is woken anyway.
        previous = signal.set_wakeup_fd(fd, warn_on_full_buffer=False)
        if previous != fd:
            self._previous_wakeup_fd = previous

    def _give_wakeup_fd_back(self) -> None:
        if self._running_in_main_thread or self._signal_handlers:
            return
        previous, self._previous_wakeup_fd = self._previous_wakeup_fd, None
        if previous is None or self._signal_pair is None:
            return
        with contextlib.suppress(ValueError, OSError):
            current = signal.set_wakeup_fd(previous)
            if current != self._signal_pair[1].fileno():
                # Somebody else took it meanwhile: it stays theirs.
                signal.set_wakeup_fd(current)

    def _read_signals(self) -> None:
        if self._signal_pair is None:
            return
        with contextlib.suppress(BlockingIOError, InterruptedError):
            while data := self._signal_pair[0].recv(4096):
                for number in data:
                    self._handle_signal(number)

    def _handle_signal(self, sig: int) -> None:
        handle = self._signal_handlers.get(sig)
        if handle is None:
            return
        if handle.cancelled():
            self.remove_signal_handler(sig)
        else:
            self.call_soon(handle._run)

    def add_signal_handler(
        self, sig: int, callback: Callable[[Unpack[_Ts]], object], *args: Unpack[_Ts]
    ) -> None:
        """Call ``callback(*args)`` in the loop when the process gets the signal.

        As ``asyncio.loop.add_signal_handler``. Replaces the signal's handler, if it has one.

        Raises ``TypeError`` for a coroutine or what is no signal number, ``ValueError`` for a
        signal that does not exist, ``RuntimeError`` for one that cannot be caught, outside of the
        main thread, and if the loop is closed.
        """
        if asyncio.iscoroutine(callback) or inspect.iscoroutinefunction(callback):
            raise TypeError("coroutines cannot be used with add_signal_handler()")
        self._check_signal(sig)
        self._check_closed()
        try:
            self._take_wakeup_fd()
        except (ValueError, OSError) as error:
            raise RuntimeError(str(error)) from error
        replaced = self._signal_handlers.get(sig)
        self._signal_handlers[sig] = asyncio.Handle(callback, args, self, None)
        try:
            signal.signal(sig, _ignore)
            # Restart what can be: fewer calls fail with EINTR.
            signal.siginterrupt(sig, False)
        except OSError as error:
            if replaced is None:
                del self._signal_handlers[sig]
            else:
                self._signal_handlers[sig] = replaced
            self._give_wakeup_fd_back()
            if error.errno == errno.EINVAL:
                raise RuntimeError(f"sig {sig} cannot be caught") from error
            raise

    def remove_signal_handler(self, sig: int) -> bool:
        """Give the signal its default handling back; whether there was a handler.

        As ``asyncio.loop.remove_signal_handler``. Raises ``TypeError`` for what is no signal
        number, ``ValueError`` for a signal that does not exist.
        """
        self._check_signal(sig)
        try:
            del self._signal_handlers[sig]
        except KeyError:
            return False
        default = signal.default_int_handler if sig == signal.SIGINT else signal.SIG_DFL
        try:
            signal.signal(sig, default)
        except OSError as error:
            if error.errno == errno.EINVAL:
                raise RuntimeError(f"sig {sig} cannot be caught") from error
            raise
        self._give_wakeup_fd_back()
        return True

    def _stop_signal_handling(self) -> None:
        """Part of ``close()``."""
        if sys.is_finalizing():
            if self._signal_handlers:
                warnings.warn(
                    f"Closing the loop {self!r} on interpreter shutdown stage, "
                    f"skipping signal handlers removal",
                    ResourceWarning,
                    stacklevel=3,
                    source=self,
                )
                self._signal_handlers.clear()
        else:
            for sig in list(self._signal_handlers):
                self.remove_signal_handler(sig)
        if self._signal_pair is not None:
            reading, writing = self._signal_pair
            self._remove_reader(reading.fileno())
            self._give_wakeup_fd_back()
            self._signal_pair = None
            reading.close()
            writing.close()
