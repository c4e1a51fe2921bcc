"""Runs a script on the loop under test and on the standard library's, and compares.

A script is what Hypothesis made: a named tuple whose ``repr`` makes it again. ``play(stage,
script)`` performs it step by step and, after each step, waits until nothing moves any more
(`Stage.settle`), in the loop or in the kernel: what happens is then decided by the script and
not by timing. The clock of both loops stands still but for `Stage.advance`, so that time-outs
cost nothing.

When two recordings differ the script runs some more times on both loops. If it comes out the same
now, it leaves something to chance: in the kernel, or in a loop. Such scripts pass, but they must
stay the rare exception (`UNDECIDED`).
"""

from __future__ import annotations

import asyncio
import fcntl
import gc
import itertools
import logging
import os
import re
import selectors
import socket
import struct
import sys
import time
from termios import FIONREAD, TIOCOUTQ

from hypothesis import HealthCheck, Phase, given, settings

# What the tests run on, and how many scripts on each. `test_budget.py` adds them up.
CASES = {
    "plain": ["tcp", "unix"],
    "tls": ["tcp 1.2", "tcp 1.3", "unix 1.3"],
    "start_tls": ["tcp", "unix"],
    "handshakes": ["client 1.2", "client 1.3", "server 1.2", "server 1.3"],
    "streams": ["tcp", "unix", "tls", "tcp native", "unix native", "tls native"],
    "scheduling": [""],
    "datagrams": ["udp", "unix"],
}
SCRIPTS = {
    "plain": 300,
    "tls": 200,
    "start_tls": 200,
    "handshakes": 200,
    "streams": 130,
    "scheduling": 300,
    "datagrams": 100,
}
# With DIFFERENTIAL_SCRIPTS=n each test runs n new scripts (they take a
# while: --timeout 0); --hypothesis-seed=n makes such a run repeatable.
MORE = int(os.environ.get("DIFFERENTIAL_SCRIPTS", "0"))
REPEATS = 5  # of a script whose recordings differ
UNDECIDED = 0.01  # how many scripts of a test may leave something to chance

# What only the standard library says, of errors of its own: a script that comes to it has nothing
# more to compare.
DEFECTS = (
    # start_tls() on a connection whose protocol was paused: it is resumed unpaused.
    "protocol.resume_writing() failed AssertionError()",
    # start_tls() on a connection that was closed meanwhile gives None.
    "start_tls, with no transport: done",
    # A TLS transport that was closed twice, or is lost, has forgotten what its methods need.
    "'NoneType' object has no attribute '",
    # Before 3.12 TLS within TLS cannot be aborted.
    "SSLProtocol._abort() takes 1 positional argument but 2 were given",
)

RESET = "ConnectionResetError(104, 'Connection reset by peer')"
FIN_WAIT1, CLOSED = 4, 7
GOING = {1, FIN_WAIT1, 5}  # ESTABLISHED, FIN_WAIT1, FIN_WAIT2: does not know the peer's end
TICKS_UNMOVED = 5
STUCK = 1  # seconds until bytes that should arrive are taken for lost
ENDLESS = 20  # seconds


def queued(fd, which):
    """Bytes that wait in a socket: to be read, or to be taken by the other side."""
    return int.from_bytes(fcntl.ioctl(fd, which, b"\0\0\0\0"), sys.byteorder)


class Connection:
    """What the kernel reports of a TCP connection (``struct tcp_info``, Linux 4.19)."""

    def __init__(self, sock):
        info = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 216)
        self.state = info[0]
        (self.received,) = struct.unpack_from("Q", info, 128)
        (self.unsent,) = struct.unpack_from("I", info, 144)
        sent, again = struct.unpack_from("2Q", info, 200)
        self.sent = sent - again


def describe(value):
    """An exception or a result as text that does not change from run to run."""
    if isinstance(value, BaseException):
        text = f"{type(value).__name__}{value.args!r}"
    else:
        text = repr(value)
    # Where in OpenSSL's binding, and which object: of no interest here.
    return re.sub(r"<[^<>]*>", "<...>", re.sub(r"\(_ssl\.c:\d+\)", "(_ssl.c)", text))


class Stage:
    """Where a script is performed: a loop, its clock, and what has been seen."""

    def __init__(self, loop):
        self.loop = loop
        self.now = 1000.0
        self.moves = 0
        self.much = False  # whether anything heavy was written
        self._sockets, self._tcp = (), False
        self.recording = []
        self.lines = []
        self.ends = []
        self._near, self._far = socket.socketpair()
        self._near.setblocking(False)
        self._ticked = None
        loop.time = lambda: self.now
        loop.set_exception_handler(self._reported)
        loop.add_reader(self._near, self._tick)

    def _reported(self, _loop, context):
        message = context["message"].split("\n")[0]
        if message.startswith("Exception in callback"):
            message = "Exception in callback"  # asyncio names its own method, or the protocol's
        self.note("reported", message, describe(context.get("exception")))

    def note(self, *words):
        self.moves += 1
        self.lines.append(" ".join(map(str, words)))

    def _tick(self):
        self._near.recv(100)
        if not self._ticked.done():
            self._ticked.set_result(None)

    async def look(self):
        """One look of the loop at its descriptors, with all that follows from it."""
        self._ticked = self.loop.create_future()
        self._far.send(b".")
        await self._ticked

    def connected(self, near, far):
        """The two sockets whose connection the script is about."""
        self._sockets = near, far
        self._tcp = near.family == socket.AF_INET

    def _kernel(self):
        """What is under way in the kernel: numbers that change, and whether bytes still fly."""
        numbers = [
            None if (fd := sock.fileno()) < 0 else (queued(fd, FIONREAD), queued(fd, TIOCOUTQ))
            for sock in self._sockets
        ]
        if not self._tcp or not self._sockets:
            return numbers, False
        known = [
            None if each is None else Connection(sock)
            for sock, each in zip(self._sockets, numbers, strict=True)
        ]
        flying = False
        for (own, near), (other, far) in itertools.permutations(zip(known, numbers, strict=True)):
            if own is None or own.state == CLOSED:
                continue
            # Where something waits to be read, what comes after it makes no difference.
            if other is None:
                flying |= near[0] == 0 and own.state in GOING
            else:
                under_way = own.unsent > 0 or own.sent > other.received or own.state == FIN_WAIT1
                # The rest of a large write waits in the loop until the kernel learns that what
                # it sent has arrived.
                under_way |= near[1] > 0 and any(end.sending_much() for end in self.ends)
                flying |= far[0] == 0 and under_way
        return numbers + [each and (each.state, each.received) for each in known], flying

    async def settle(self):
        """Go on until nothing moves."""
        still, last, since = 0, None, time.monotonic()
        start = since
        while True:
            await self.look()
            numbers, flying = self._kernel()
            current = self.moves, numbers, [end.progress() for end in self.ends]
            if current != last:
                still, last, since = 0, current, time.monotonic()
                if since - start > ENDLESS:
                    raise TimeoutError(f"moves for ever: {self.lines[-5:]}")
                continue
            still += 1
            if still >= TICKS_UNMOVED and (not flying or time.monotonic() - since > STUCK):
                return

    async def advance(self, seconds):
        self.now += seconds
        await self.settle()

    def close_step(self, title):
        """Everything since the last step belongs to ``title``."""
        if len(self.ends) > 1:
            self.lines.sort()  # reports and logs of two ends
        lines = [line for end in self.ends for line in end.take()] + self.lines
        self.lines = []
        self.recording.append((title, lines))

    def decided(self, line):
        """A line without what the kernel decides: how a reset shows when much was under way."""
        if self.much:
            line = line.replace("BrokenPipeError(32, 'Broken pipe')", RESET)
        return line

    def dispose(self):
        self.loop.remove_reader(self._near)
        self._near.close()
        self._far.close()


class LogToStage(logging.Handler):
    def __init__(self, stage):
        super().__init__(logging.WARNING)
        self.stage = stage

    def emit(self, record):
        self.stage.note("logged", describe(record.getMessage()))


def perform(loop_factory, play, script):
    """Run a script on a new loop: its recording, a list of (step, what was seen)."""
    loop = loop_factory()
    stage = Stage(loop)
    logger = logging.getLogger("asyncio")
    handler = LogToStage(stage)
    logger.addHandler(handler)
    logger.propagate = False
    try:
        loop.run_until_complete(play(stage, script))
        stage.close_step("the end")
    finally:
        logger.removeHandler(handler)
        logger.propagate = True
        stage.dispose()
        loop.close()
        del loop.time  # a cycle with the stage
    return [
        # Amounts that chance decided are known only now.
        (title, [stage.decided(line() if callable(line) else line) for line in lines])
        for title, lines in stage.recording
    ]


def asyncio_loop():
    return asyncio.SelectorEventLoop(selectors.EpollSelector())


def shows_a_defect(recording):
    lines = "\n".join(line for _, lines in recording for line in lines)
    return any(defect in lines for defect in DEFECTS)


class Comparison:
    """Compares scripts one by one, and counts them."""

    def __init__(self, loop_factory, name, play):
        self.loop_factory = loop_factory
        self.name = name
        self.play = play
        self.scripts = 0
        self.undecided = []

    def check(self, script):
        expected = perform(asyncio_loop, self.play, script)
        got = perform(self.loop_factory, self.play, script)
        self.scripts += 1
        if got == expected or shows_a_defect(expected):
            return
        others = [expected, *(perform(asyncio_loop, self.play, script) for _ in range(REPEATS))]
        if got in others or any(
            perform(self.loop_factory, self.play, script) in others for _ in range(REPEATS)
        ):
            self.undecided.append(script)
            return
        raise AssertionError(side_by_side(script, expected, got))

    def conclude(self):
        """At the end of a test: the scripts were really run, and they decide what happens."""
        wanted = MORE or SCRIPTS[self.name]
        assert self.scripts >= wanted, f"only {self.scripts} of {wanted} scripts were run"
        allowed = max(2, wanted * UNDECIDED)
        assert len(self.undecided) <= allowed, "\n\n".join(map(repr, self.undecided))


def compare(loop_factory, name, play, scripts, pinned=()):
    """Runs a test's share of scripts on both loops, after those that are ``pinned``."""
    comparison = Comparison(loop_factory, name, play)

    for script in pinned:
        comparison.check(script)

    # The same scripts each time, unless more are asked for.
    @settings(
        max_examples=MORE or SCRIPTS[name],
        derandomize=not MORE,
        database=None,
        deadline=None,
        print_blob=False,
        phases=(Phase.explicit, Phase.generate, Phase.shrink),
        suppress_health_check=list(HealthCheck),
    )
    @given(scripts)
    def run(script):
        comparison.check(script)

    run()
    gc.collect()  # what is left unclosed says so to the test that left it (see `conftest.py`)
    comparison.conclude()


def side_by_side(script, expected, got):
    """The script, so that it can be run again, and both recordings with marked differences."""
    rows = [
        "The recordings differ. The script, to be pinned (see `compare`) or run again:",
        "",
        repr(script),
        "",
        f"  {'asyncio':<70} | this loop",
    ]
    for (title, left), (other, right) in itertools.zip_longest(
        expected, got, fillvalue=("(no such step)", [])
    ):
        rows.append(f"--- {title}" + (f" | {other}" if title != other else ""))
        for one, two in itertools.zip_longest(left, right, fillvalue=""):
            rows.append(f"{' ' if one == two else '!'} {one:<70} | {two}")
    return "\n".join(rows)
