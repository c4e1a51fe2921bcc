"""The ends of a scripted connection: protocols that write down their callbacks.

Amounts are what keeps a script decided. A write is either light (a few hundred bytes: the
kernel takes it whole) or heavy (it fills the kernel's buffers and goes over any high-water mark
below `NEVER`), so that it never depends on the kernel's mood whether a writer is paused.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import random
import socket
from typing import Any, NamedTuple

from hypothesis import strategies as st

from differential.harness import describe

# Large enough that what the kernel does not take, nor a TLS connection whose application has
# paused it (256 KiB and what it read last), is more than the default high-water mark.
HEAVY = 800_000
LIGHT = (0, 1, 10, 100, 600)
LIGHT_TOTAL = 30_000
NEVER = 1_000_000_000
# Of a sending end; see `connect`.
SEND_BUFFER, RECEIVE_BUFFER, SEGMENT = 8192, 32768, 2048
UNIX_SEND_BUFFER = 32768

# What is sent: lines of up to 200 bytes, so that streams find something to split at.
_random = random.Random(0)
CONTENT = b"".join(
    _random.randbytes(_random.randrange(200)).replace(b"\n", b".") + b"\n" for _ in range(12_000)
)
CONTENT *= 24  # more than any script sends


class Spec(NamedTuple):
    """How an end behaves by itself."""

    buffer: int = 0  # the size of a BufferedProtocol's buffer; 0: a Protocol
    keep_open: bool = False  # what eof_received returns
    reactions: tuple[tuple[str, tuple[Any, ...]], ...] = ()  # (callback, operations), once


class Script(NamedTuple):
    link: str
    ends: tuple[Spec, Spec]
    steps: tuple[Any, ...]


class Ear:
    """What both kinds of protocol have in common."""

    def __init__(self, end, name=""):
        self.end = end
        self.name = name

    def connection_made(self, transport):
        self.end.transport = transport
        self.end.called(f"{self.name}connection_made")

    def eof_received(self):
        # asyncio reports it again each time reading is resumed after the end.
        if not self.end.ended:
            self.end.ended = True
            if not self.end.spec.keep_open:
                self.end.look_what_is_left(closing=True)
            self.end.called(f"{self.name}eof_received")
        return self.end.spec.keep_open

    def pause_writing(self):
        self.end.flow.append("pause_writing")
        self.end.react("pause_writing")

    def resume_writing(self):
        self.end.flow.append("resume_writing")
        self.end.react("resume_writing")

    def connection_lost(self, exc):
        self.end.lost = True
        if exc is not None:
            self.end.look_what_is_left()
        self.end.called(f"{self.name}connection_lost", describe(exc))


class DataEar(Ear, asyncio.Protocol):
    def data_received(self, data):
        self.end.received_bytes(self, data)


class BufferEar(Ear, asyncio.BufferedProtocol):
    buffer = None

    def get_buffer(self, sizehint):
        if self.buffer is None:
            self.buffer = bytearray(self.end.spec.buffer or 4096)
        return memoryview(self.buffer)

    def buffer_updated(self, nbytes):
        self.end.received_bytes(self, self.buffer[:nbytes])


class End:
    """One end: its transport, the callbacks it got, what it did."""

    def __init__(self, stage, name, spec, secure=False):
        self.stage = stage
        self.name = name
        self.spec = spec
        self.secure = secure
        self.reactions = dict(spec.reactions)
        self.ears = 0
        self.ear = (BufferEar if spec.buffer else DataEar)(self)
        self.transport = None
        self.peer = None
        self.lines = []
        self.flow = []
        self.asides = []
        self.sent = self.received = 0
        self.much = False
        self.ended = self.lost = self.wrote_eof = False
        self.gone_with_much = self.closed_with_much = False
        stage.ends.append(self)

    # -- callbacks ----------------------------------------------------------------------------

    def called(self, name, *details):
        total = self.received
        words = " ".join([f"{self.name} {name}", *details])
        self.lines.append(lambda: f"{words}, after {self.amount(total)}")
        self.stage.moves += 1
        self.react(name.lstrip("0123456789."))

    def received_bytes(self, ear, data):
        expected = CONTENT[self.received : self.received + len(data)]
        self.received += len(data)
        self.stage.moves += 1
        line = f"{self.name} {ear.name}data_received"
        if data != expected:
            line += " OTHER BYTES THAN WERE SENT"
        # How bytes are cut into calls is the kernel's business.
        if self.lines[-1:] != [line]:
            self.lines.append(line)
        self.react("data_received")

    def amount(self, total):
        """How many bytes, unless they depended on how many the kernel held at the time."""
        peer = self.peer
        if peer.gone_with_much or (peer.closed_with_much and self.sent > peer.received):
            return "some bytes"
        return f"{total} bytes"

    def react(self, name):
        for operation in self.reactions.pop(name, ()):
            if operation == ("raise",):
                self.lines.append(f"{self.name} {name} raises")
                raise ZeroDivisionError(name)
            # Whether a write from here still finds the other side depends on which came first.
            if "write" not in operation[0] or not self.peer.leaving:
                # Between the calls of data_received nothing must show how many there were.
                self.do(operation, self.asides if name == "data_received" else self.lines)

    # -- what it does -------------------------------------------------------------------------

    def do(self, operation, lines=None):
        name, *args = operation
        if self.transport is None:
            return
        # asyncio's transport that had something to flush at its end forgets to note that end:
        # AttributeError: 'NoneType' object has no attribute 'call_soon'.
        if self.lost and self.closed_with_much:
            return
        try:
            result = getattr(self, f"do_{name}")(*args)
        except Exception as error:
            result = error
        if result is not None:
            lines = self.lines if lines is None else lines
            lines.append(f"{self.name}.{name}: {describe(result)}")

    def _content(self, size):
        content = CONTENT[self.sent : self.sent + size]
        return (bytes, bytearray, memoryview)[size % 3](content)

    def do_write(self, size):
        self._send(self.transport.write, [size], lambda parts: parts[0])

    def do_writelines(self, sizes):
        # No empty lines: asyncio's transport keeps them in its buffer from 3.12 on.
        self._send(self.transport.writelines, [size + 1 for size in sizes], list)

    def _send(self, method, sizes, arrange):
        offsets = itertools.accumulate(sizes, initial=self.sent)
        parts = [
            (bytes, bytearray, memoryview)[size % 3](CONTENT[offset : offset + size])
            for offset, size in zip(offsets, sizes, strict=False)
        ]
        if sum(sizes) > LIGHT_TOTAL:
            self.much = self.stage.much = True
        # Data without a receiver, or written after the end, does not count.
        counts = not (self.leaving or self.peer.lost)
        self.sent += sum(sizes) if counts else 0
        try:
            method(arrange(parts))
        except Exception:
            self.sent -= sum(sizes) if counts else 0
            raise

    def do_write_text(self):
        self.transport.write("text")

    def do_write_eof(self):
        self.transport.write_eof()
        self.wrote_eof = True

    def do_can_write_eof(self):
        return self.transport.can_write_eof()

    def do_pause_reading(self):
        self.transport.pause_reading()

    def do_resume_reading(self):
        self.transport.resume_reading()

    def do_limits(self, high, low):
        self.transport.set_write_buffer_limits(high, low)
        return self.transport.get_write_buffer_limits()

    def do_set_protocol(self, buffered):
        self.ears += 1
        self.ear = (BufferEar if buffered else DataEar)(self, f"{self.ears}.")
        self.transport.set_protocol(self.ear)

    def do_close(self):
        # A second close() makes asyncio's TLS transport forget what it needs to answer.
        if self.secure and self.transport.is_closing():
            return
        # Where the peer's end waits behind a pause, asyncio waits for a resume_reading() for ever.
        if self.secure and not self.transport.is_reading() and self.peer_may_be_gone():
            return
        self.look_what_is_left(closing=True)
        self.transport.close()

    def peer_may_be_gone(self):
        return not isinstance(self.peer, End) or self.peer.leaving or self.peer.lost

    def do_abort(self):
        self.look_what_is_left()
        self.transport.abort()

    def look_what_is_left(self, closing=False):
        if self.sent - self.peer.received > LIGHT_TOTAL:
            if closing:
                self.closed_with_much = True
            else:
                self.gone_with_much = True

    # -- what is to be compared ---------------------------------------------------------------

    def take(self):
        """What happened since the last time, and the state now."""
        lines, self.lines = self.lines, []
        # Apart from the rest: reading and writing go on side by side.
        lines += [f"{self.name} {call}" for call in self.flow] + self.asides
        self.flow, self.asides = [], []
        transport, total = self.transport, self.received
        if transport is None:
            return lines
        state = []
        for question in ("is_closing", "is_reading", "get_write_buffer_limits"):
            try:
                answer = getattr(transport, question)()
            except Exception as error:
                answer = error
            state.append(describe(answer))
        reading = not self.lost and state[1] == "True"
        lines.append(
            lambda: f"{self.name} is {' '.join(state)} {self.amount(total) if reading else ''}"
        )
        return lines

    def progress(self):
        return self.sent, self.received

    def sending_much(self):
        """Whether the rest of a heavy write may still wait in the transport."""
        self.much = self.much and self.sent > self.peer.received
        return self.much

    @property
    def leaving(self):
        return self.lost or (self.transport is not None and self.transport.is_closing())


def tune(sock):
    """Buffers of known sizes (see `HEAVY`)."""
    unix = sock.family == socket.AF_UNIX
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, UNIX_SEND_BUFFER if unix else SEND_BUFFER)
    if not unix:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BUFFER)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)


def connected_sockets(link):
    """The two sockets of a connection."""
    if link == "unix":
        near, far = socket.socketpair()
    else:
        with socket.socket() as server:
            near = socket.socket()
            for sock in (server, near):
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BUFFER)
                # A window that holds less than two segments makes the kernel wait for a timer.
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG, SEGMENT)
            server.bind(("127.0.0.1", 0))
            server.listen()
            near.connect(server.getsockname())
            far, _ = server.accept()
    for sock in (near, far):
        sock.setblocking(False)
        tune(sock)
    return near, far


async def perform_burst(stage, ends, which, operations):
    """The operations of one end in a row, without a pause as long as both ends are there.

    While one end is gone and the other may not know, each write is followed by its consequence:
    asyncio's writes leave one by one, ours together.
    """
    end = ends[which]
    for operation in operations:
        if end.secure and operation[0] in ENDING:
            await stage.settle()  # what was written has consequences at the other end, too
        end.do(operation)
        if any(one.leaving for one in ends):
            await stage.settle()
    await stage.settle()


async def leave(stage, ends):
    """Ends the connection, whatever is left of it."""
    for end in ends:
        if end.transport is not None and not end.lost:
            end.reactions = {}
            # asyncio's transport that had something to flush at its end forgets to note that end.
            with contextlib.suppress(AttributeError):
                end.do_abort()
    await stage.settle()


# -- what Hypothesis draws from -------------------------------------------------------------------

LIMITS = st.sampled_from(
    [(None, None), (1000, None), (20_000, 100), (NEVER, None), (None, 2000), (10, 20), (100, 1)]
)
light = st.sampled_from(LIGHT)
_harmless = [
    st.tuples(st.just("write"), light),
    st.tuples(st.just("write"), light),
    st.tuples(st.just("writelines"), st.lists(light, max_size=3).map(tuple)),
    st.just(("pause_reading",)),
    st.just(("resume_reading",)),
    st.just(("resume_reading",)),
]
_rare = [
    st.tuples(st.just("limits"), LIMITS).map(lambda drawn: ("limits", *drawn[1])),
    st.tuples(st.just("set_protocol"), st.booleans()),
    st.just(("write_text",)),
    st.just(("can_write_eof",)),
]
_ending = [st.just(("write_eof",)), st.just(("close",)), st.just(("abort",))]
heavy = st.tuples(st.sampled_from(["write", "writelines"]), st.integers(HEAVY, HEAVY + 30_000)).map(
    lambda drawn: drawn if drawn[0] == "write" else ("writelines", (5, drawn[1], 5))
)
operation = st.one_of(*_harmless, *_harmless, *_rare, *_ending)
with_heavy = st.one_of(*_harmless, *_rare, *_ending, heavy, heavy, heavy)
# A writer that goes on although it is paused: with TLS, what is written first has left for
# the transport below, and only what comes after it counts.
pressed = st.tuples(LIMITS, heavy, st.one_of(_harmless[0], heavy)).map(
    lambda drawn: (("limits", *drawn[0]), *drawn[1:])
)
CALLBACKS = ("connection_made", "data_received", "eof_received", "connection_lost")


ENDING = {"write_eof", "close", "abort", "raise"}


def writes(one):
    return "write" in one[0] and one[0] != "write_eof"


def decided(script):
    """The script without the reactions that would race with those of the other end."""

    def does(spec, which):
        return any(which(one) for _, operations in spec.reactions for one in operations)

    def ends_by_reaction(spec):
        return does(spec, lambda one: one[0] in ENDING)

    def harmless(spec, other, callback, one):
        # While reading is paused asyncio keeps the end of the handshake back.
        if (callback, one[0], " " in script.link) == ("connection_made", "pause_reading", True):
            return False
        # How the bytes of two callbacks are cut into calls of data_received.
        if one[0] == "pause_reading":
            return not does(other, writes)
        # Whether the kernel has room again for more than is far below any high-water mark.
        if callback == "resume_writing" and writes(one):
            return one[0] == "write" and one[1] <= 10 and not ends_by_reaction(other)
        # Whether they come before the other side's end.
        if writes(one):
            return not ends_by_reaction(other)
        # Whether the other side's handshake comes before this end.
        return callback != "connection_made" or one[0] not in ENDING or " " not in script.link

    return script._replace(
        ends=tuple(
            spec._replace(
                reactions=tuple(
                    (name, tuple(one for one in operations if harmless(spec, other, name, one)))
                    for name, operations in spec.reactions
                )
            )
            for spec, other in zip(script.ends, script.ends[::-1], strict=True)
        )
    )


def specs(reaction, callbacks=CALLBACKS, buffers=(0, 0, 1000, 65536)):
    reactions = st.dictionaries(
        st.sampled_from(callbacks),
        st.lists(reaction, min_size=1, max_size=2).map(tuple),
        max_size=2,
    ).map(lambda drawn: tuple(drawn.items()))
    return st.builds(Spec, st.sampled_from(buffers), st.booleans(), reactions)


def bursts(operations):
    """One end, and what it does in a row."""
    return st.tuples(st.integers(0, 1), st.lists(operations, min_size=1, max_size=4).map(tuple))


def scripts(link, extra_steps=(), max_size=8):
    """Scripts for both ends of a connection: light ones, and some with heavy writes.

    Where much is under way, nothing ends in the middle of it by a callback.
    """
    links = st.just(link) if isinstance(link, str) else st.sampled_from(link)

    def build(spec, step):
        steps = st.lists(st.one_of(step, step, step, *extra_steps), min_size=1, max_size=max_size)
        return st.builds(Script, links, st.tuples(spec, spec), steps.map(tuple)).map(decided)

    reaction = st.one_of(operation, st.just(("raise",)))
    calm = st.one_of(*_harmless)
    return st.one_of(
        build(specs(reaction), bursts(operation)),
        build(
            specs(calm, (*CALLBACKS, "pause_writing", "resume_writing")),
            st.one_of(bursts(with_heavy), st.tuples(st.integers(0, 1), pressed)),
        ),
    )
