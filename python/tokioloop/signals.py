"""``add_signal_handler``, and the wake-up descriptor of the process while there are handlers."""

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

#: Where signals are read, and where the interpreter writes them.
Pair = tuple[socket.socket, socket.socket]


def _ignore(signum: int, frame: FrameType | None) -> None:
    """Makes the interpreter write the signal's number to the wake-up descriptor."""


class Displaced:
    """The wake-up descriptor that was there before, while the loop's own is.

    It is known again by its file: whoever has it may close it, and its number be another's.
    """

    def __init__(self, fd: int) -> None:
        self.fd = fd
        self._file = file_of(fd)

    def is_there(self) -> bool:
        return self._file is not None and file_of(self.fd) == self._file

    def pass_on(self, signals: bytes) -> None:
        """As the interpreter would have written them."""
        if self.is_there():
            with contextlib.suppress(OSError):
                os.write(self.fd, signals)


def file_of(fd: int) -> tuple[int, int] | None:
    """What tells a socket or a pipe from all others; ``None`` if nothing has this number."""
    try:
        status = os.fstat(fd)
    except OSError:
        return None
    return status.st_dev, status.st_ino


#: The pairs of this process's loops, with the process that made them: a forked child has copies
#: of its parent's. Kept here until the interpreter writes elsewhere, also where a Ctrl-C comes
#: between: else it would write into whatever gets the number next.
_own_pairs: dict[tuple[int, int] | None, tuple[int, Pair]] = {}
#: Those of loops that were closed outside of the main thread, and what they had displaced. One of
#: them may be the wake-up descriptor.
_left_open: list[tuple[Pair, Displaced | None]] = []


def is_own(file: tuple[int, int] | None) -> bool:
    """Whether this is an end of a pair that a loop of this very process made."""
    return file in _own_pairs and _own_pairs[file][0] == os.getpid()


def is_inherited(file: tuple[int, int] | None) -> bool:
    """Whether a loop of a process that this one was forked from made it."""
    return file in _own_pairs and not is_own(file)


class SignalHandling(HookedLoop):
    """Owns a socket pair that the interpreter writes signal numbers to, while there are handlers.

    Then it is the process's wake-up descriptor, and the one that was there before gets the numbers
    from the loop. Without handlers the loop leaves that alone, as asyncio's does: a signal that
    lands on the loop's thread ends its sleep.

    A Ctrl-C may end each method between any two of its lines; the next call of it then does what
    is left to do.
    """

    _signal_pair: Pair | None = None
    _displaced: Displaced | None = None

    def _take_wakeup_fd(self) -> None:
        """Raises ``ValueError`` outside of the main thread of the main interpreter."""
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
            # A full pair means that the loop is woken anyway.
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
                # No loop reads there. What that loop had displaced gets its signals from this one.
                previous, self._displaced = -1, displaced
            _disown(left)
            _close(left)
        # A number that was closed may be one of the pair's by now, and what the parent's loop has
        # is no business of its child's.
        file = file_of(previous)
        if file is not None and file not in map(_file_of_end, pair) and not is_inherited(file):
            self._displaced = Displaced(previous)

    def _give_wakeup_fd_back(self) -> None:
        """There are no signal handlers any more."""
        pair, displaced = self._signal_pair, self._displaced
        if pair is None:
            return
        before = displaced.fd if displaced is not None and displaced.is_there() else -1
        if not _replace_wakeup_fd(pair[1].fileno(), before):
            # The interpreter would write into whatever gets the number next.
            self._remove_reader(pair[0].fileno())
            _left_open.append((pair, displaced))
            self._signal_pair = self._displaced = None
            return
        if is_own(_file_of_end(pair[1])):
            # The displaced descriptor gets what is in the pair. A handler that was cancelled may be
            # the last one: then this method is called again from in there.
            self._read_signals_from(pair[0])
        if self._signal_pair is pair:
            self._end_pair(pair)

    def _end_pair(self, pair: Pair) -> None:
        """Close a pair that the interpreter does not write to any more."""
        self._remove_reader(pair[0].fileno())
        _disown(pair)
        self._signal_pair = self._displaced = None
        _close(pair)

    def _read_signals(self) -> None:
        if self._signal_pair is not None:
            self._read_signals_from(self._signal_pair[0])

    def _read_signals_from(self, reading: socket.socket) -> None:
        with contextlib.suppress(BlockingIOError, InterruptedError):
            # A handler that was cancelled is removed, and may be the last one.
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
            if not self._signal_handlers:
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
    """Put ``before`` in the place of ``fd``, unless that was replaced; whether it could."""
    try:
        current = signal.set_wakeup_fd(before)
    except (ValueError, OSError):
        # That one is closed, or blocks by now.
        try:
            current = signal.set_wakeup_fd(-1)
        except ValueError:
            # Only the main thread can.
            return False
    if current != fd:
        # Somebody else took it meanwhile: it stays theirs.
        with contextlib.suppress(ValueError, OSError):
            signal.set_wakeup_fd(current)
    return True
