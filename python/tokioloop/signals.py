"""``add_signal_handler``, and the process's wake-up descriptor, which the loop takes for it."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import inspect
import os
import signal
import socket
from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from types import FrameType

    from typing_extensions import TypeVarTuple, Unpack

    from ._hooks import HookedLoop

    _Ts = TypeVarTuple("_Ts")
else:
    HookedLoop = object

#: The end that the loop reads signals from, and the end that the interpreter writes them to.
Pair = tuple[socket.socket, socket.socket]


def _ignore(signum: int, frame: FrameType | None) -> None:
    """Do nothing: with a handler the interpreter writes the signal to the wake-up descriptor."""


class Displaced:
    """The wake-up descriptor that the loop's own has replaced.

    It is recognized by its file: its owner may close it, and another file may get its number.
    """

    def __init__(self, fd: int) -> None:
        self.fd = fd
        self._file = file_of(fd)

    def is_open(self) -> bool:
        """Return True if the number still belongs to the same file."""
        return self._file is not None and file_of(self.fd) == self._file

    def pass_on(self, signals: bytes) -> None:
        """Write signal numbers as the interpreter would have."""
        if self.is_open():
            with contextlib.suppress(OSError):
                os.write(self.fd, signals)


def file_of(fd: int) -> tuple[int, int] | None:
    """Return what identifies a socket or a pipe, ``None`` if no open file has this number."""
    try:
        status = os.fstat(fd)
    except OSError:
        return None
    return status.st_dev, status.st_ino


#: The pairs of loops by their files, with the id of the process that made them: a forked child
#: has copies of its parent's. A pair is kept here until the interpreter writes elsewhere, even if a
#: Ctrl-C interrupts its loop: if it were closed, the interpreter would write into the file that
#: gets its number next.
_own_pairs: dict[tuple[int, int] | None, tuple[int, Pair]] = {}
#: The pairs of loops that were closed outside of the main thread, and what each had displaced. One
#: of them may be the wake-up descriptor.
_left_open: list[tuple[Pair, Displaced | None]] = []


def is_own(file: tuple[int, int] | None) -> bool:
    """Return True if the file is an end of a pair that a loop of this process made."""
    return file in _own_pairs and _own_pairs[file][0] == os.getpid()


def is_inherited(file: tuple[int, int] | None) -> bool:
    """Return True if the file is an end of a pair that a parent process's loop made."""
    return file in _own_pairs and not is_own(file)


class SignalHandling(HookedLoop):
    """The loop's signal handlers.

    While there are handlers the loop owns a socket pair, whose writing end is the process's wake-up
    descriptor: the interpreter writes the numbers of signals to it. The loop passes them on to the
    descriptor that it replaced. Without handlers the loop leaves the wake-up descriptor alone, as
    asyncio's loop does: a signal that lands on the loop's thread ends its sleep.

    A Ctrl-C may interrupt each method between any two of its lines. The next call of the method
    then does the rest.
    """

    _signal_pair: Pair | None = None
    _displaced: Displaced | None = None

    def _take_wakeup_fd(self) -> None:
        """Make the loop's pair the wake-up descriptor.

        Raises ``ValueError`` outside of the main thread of the main interpreter.
        """
        fresh = self._signal_pair is None
        pair = self._signal_pair or socket.socketpair()
        self._signal_pair = pair
        for end in pair:
            end.setblocking(False)
            _own_pairs.setdefault(_file_of_end(end), (os.getpid(), pair))
        reading, writing = pair
        if not self._watched(reading.fileno()):
            self._add_reader(reading.fileno(), self._read_signals)
        try:
            # If the pair is full the loop wakes anyway.
            previous = signal.set_wakeup_fd(writing.fileno(), warn_on_full_buffer=False)
        except (ValueError, OSError):
            if fresh:
                self._end_pair(pair)
            raise
        if not fresh:
            return
        while _left_open:
            left, displaced = _left_open.pop()
            if previous == left[1].fileno():
                # No loop reads there any more: this loop passes signals on to what that one had
                # displaced.
                previous, self._displaced = -1, displaced
            _disown(left)
            _close(left)
        # If the previous descriptor was closed the pair may have got its number. A descriptor of
        # the parent process's loop gets no signals from its child.
        file = file_of(previous)
        if file is not None and file not in map(_file_of_end, pair) and not is_inherited(file):
            self._displaced = Displaced(previous)

    def _give_wakeup_fd_back(self) -> None:
        """Restore the wake-up descriptor, after the last signal handler was removed."""
        pair, displaced = self._signal_pair, self._displaced
        if pair is None:
            return
        before = displaced.fd if displaced is not None and displaced.is_open() else -1
        if not _replace_wakeup_fd(pair[1].fileno(), before):
            # If it were closed the interpreter would write into the file that gets its number next.
            self._remove_reader(pair[0].fileno())
            _left_open.append((pair, displaced))
            self._signal_pair = self._displaced = None
            return
        if is_own(_file_of_end(pair[1])):
            # The displaced descriptor gets the signals that are in the pair. This may remove the
            # last handler, if it was cancelled, and so call this method again.
            self._read_signals_from(pair[0])
        if self._signal_pair is pair:
            self._end_pair(pair)

    def _end_pair(self, pair: Pair) -> None:
        """Close a pair that the interpreter no longer writes to."""
        self._remove_reader(pair[0].fileno())
        _disown(pair)
        self._signal_pair = self._displaced = None
        _close(pair)

    def _read_signals(self) -> None:
        if self._signal_pair is not None:
            self._read_signals_from(self._signal_pair[0])

    def _read_signals_from(self, reading: socket.socket) -> None:
        with contextlib.suppress(BlockingIOError, InterruptedError):
            # A handler that was cancelled is removed; if it was the last one the pair is closed.
            while reading.fileno() >= 0 and (signals := reading.recv(4096)):
                if self._displaced is not None:
                    self._displaced.pass_on(signals)
                for number in signals:
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
        """Schedule ``callback(*args)`` whenever the process receives the signal ``sig``.

        As ``asyncio.loop.add_signal_handler``. It replaces the signal's handler, if there is one.

        Raises ``TypeError`` if ``callback`` is a coroutine or ``sig`` is not an ``int``,
        ``ValueError`` if there is no such signal, and ``RuntimeError`` if the signal cannot be
        caught, if the loop is closed, and outside of the main thread.
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
            # The kernel restarts the system calls that it can: fewer of them fail with EINTR.
            signal.siginterrupt(sig, False)
        except OSError as error:
            if replaced is None:
                del self._signal_handlers[sig]
            else:
                self._signal_handlers[sig] = replaced
            if not self._signal_handlers:
                self._give_wakeup_fd_back()
            if error.errno == errno.EINVAL:
                raise RuntimeError(f"sig {sig} cannot be caught") from error
            raise

    def remove_signal_handler(self, sig: int) -> bool:
        """Restore the default handling of the signal ``sig``.

        Return True if a handler was removed, False if there was none. As
        ``asyncio.loop.remove_signal_handler``. Raises ``TypeError`` if ``sig`` is not an ``int``,
        ``ValueError`` if there is no such signal, ``RuntimeError`` if the signal cannot be caught.
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
        if not self._signal_handlers:
            self._give_wakeup_fd_back()
        return True


def _file_of_end(end: socket.socket) -> tuple[int, int] | None:
    return file_of(end.fileno())


def _disown(pair: Pair) -> None:
    for end in pair:
        _own_pairs.pop(_file_of_end(end), None)


def _close(pair: Pair) -> None:
    for end in pair:
        end.close()


def _replace_wakeup_fd(fd: int, before: int) -> bool:
    """Make ``before`` the wake-up descriptor if ``fd`` is it.

    Return False outside of the main thread, where it cannot be changed.
    """
    try:
        current = signal.set_wakeup_fd(before)
    except (ValueError, OSError):
        # `before` is closed, or is blocking by now.
        try:
            current = signal.set_wakeup_fd(-1)
        except ValueError:
            # Only the main thread can change it.
            return False
    if current != fd:
        # Another library has set one of its own since: it stays.
        with contextlib.suppress(ValueError, OSError):
            signal.set_wakeup_fd(current)
    return True
