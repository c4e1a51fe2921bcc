"""Random scripts of streams: readers that wait, writers that drain, ends and cancels.

The native streams are compared with asyncio's, too: on the loop under test alone, as they would be
asyncio's own on the other. See `test_plain.py` for how to run more of them.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import importlib
import sys
from typing import NamedTuple

import pytest
from hypothesis import strategies as st

from differential.ends import CONTENT, HEAVY, LIMITS, connected_sockets, light
from differential.harness import CASES, compare, describe
from differential.tls import TIMEOUTS


class Streams(NamedTuple):
    link: str  # "native" behind it: the streams of the loop's package
    limits: tuple[int, int]  # of the readers
    steps: tuple


class StreamEnd:
    """A reader and a writer; what blocks is done by tasks, oldest first."""

    def __init__(self, stage, name):
        self.stage = stage
        self.name = name
        self.reader = self.writer = None
        self.sent = self.consumed = 0
        self.much = self.flushes = False
        self.peer = None
        self.tasks = []
        self.lines = []
        stage.ends.append(self)

    def connected(self, reader, writer):
        self.reader, self.writer = reader, writer

    def progress(self):
        # The buffer of a reader is seen by no other end: bytes may arrive within one look.
        if self.writer is None:
            return None
        unsent = None
        with contextlib.suppress(AttributeError):  # asyncio's TLS transport of 3.10, once lost
            unsent = self.writer.transport.get_write_buffer_size()
        return self.sent, self.consumed, len(self.reader._buffer), unsent

    def sending_much(self):
        """Whether the rest of a heavy write may still wait in the transport."""
        self.much = self.much and self.sent > self.peer.consumed
        return self.much

    @property
    def leaving(self):
        return self.writer.is_closing()

    def start(self, name, *args):
        self.tasks.append(self.stage.loop.create_task(self.wait(name, args)))

    async def wait(self, name, args):
        on = self.reader if hasattr(self.reader, name) else self.writer
        try:
            if name == "start_tls":
                result = await on.start_tls(args[0], server_hostname=args[1])
            else:
                result = await getattr(on, name)(*args)
        except asyncio.IncompleteReadError as error:
            result = f"incomplete: {self.take_in(error.partial)}"
        except (Exception, asyncio.CancelledError) as error:
            result = describe(error)
        if isinstance(result, bytes):
            result = self.take_in(result)
        self.stage.moves += 1
        self.lines.append(f"{self.name}.{name}{describe(args)}: {result}")

    def take_in(self, data):
        expected = CONTENT[self.consumed : self.consumed + len(data)]
        self.consumed += len(data)
        if data != expected:
            return "OTHER BYTES THAN WERE SENT"
        # How much of a heavy write still came before an end is the kernel's business.
        ending = self.leaving or self.peer.leaving
        return "many bytes" if ending and len(data) > 10_000 else f"{len(data)} bytes"

    def do(self, operation):
        name, *args = operation
        # asyncio's transport that had something to flush at its end forgets to note that end:
        # AttributeError: 'NoneType' object has no attribute 'call_soon'.
        if self.flushes and self.leaving:
            return
        try:
            result = getattr(self, f"do_{name}")(*args)
        except Exception as error:
            result = error
        if result is not None:
            self.lines.append(f"{self.name}.{name}: {describe(result)}")

    def places(self, sizes):
        # No empty lines: asyncio's transport keeps them in its buffer from 3.12 on.
        place = self.sent
        for size in sizes:
            yield place, size + 1
            place += size + 1

    def send(self, method, content, size):
        if size >= HEAVY:
            self.much = self.stage.much = self.flushes = True
        open_before = not (self.leaving or self.peer.leaving)
        method(content)
        self.sent += size if open_before else 0

    def do_write(self, size):
        self.send(self.writer.write, CONTENT[self.sent : self.sent + size], size)

    def do_writelines(self, sizes):
        parts = [CONTENT[place : place + size] for place, size in self.places(sizes)]
        self.send(self.writer.writelines, parts, sum(sizes) + len(sizes))

    def do_write_eof(self):
        self.writer.write_eof()

    def do_close(self):
        if not self.leaving:
            self.writer.close()

    def do_abort(self):
        self.writer.transport.abort()

    def do_limits(self, high, low):
        self.writer.transport.set_write_buffer_limits(high, low)

    def do_cancel(self):
        for task in self.tasks:
            if not task.done():
                task.cancel()
                return

    def take(self):
        lines, self.lines = self.lines, []
        waiting = sum(not task.done() for task in self.tasks)
        lines.append(
            f"{self.name}: {self.writer.is_closing()} {self.reader.at_eof()} "
            f"{describe(self.reader.exception())}, {waiting} waiting"
        )
        return lines


def streams_of(loop, script):
    """The module of the streams that a script is about."""
    if script.link.endswith("native") and type(loop).__module__.startswith("tokioloop"):
        return importlib.import_module("tokioloop.streams")
    return asyncio


async def connect(contexts, stage, script):
    loop = stage.loop
    streams, (link, *_) = streams_of(loop, script), script.link.split()
    near, far = connected_sockets("unix" if link == "unix" else "tcp")
    stage.connected(near, far)
    first, second = ends = [StreamEnd(stage, name) for name in "AB"]
    first.peer, second.peer = second, first
    reader = streams.StreamReader(limit=script.limits[1], loop=loop)
    protocol = streams.StreamReaderProtocol(reader, second.connected, loop=loop)
    client, server = {}, {}
    if link == "tls":
        client = {"ssl": contexts.client(), "server_hostname": "localhost", **TIMEOUTS}
        server = {"ssl": contexts.server(), **TIMEOUTS}
    opened, _ = await asyncio.gather(
        streams.open_connection(sock=near, limit=script.limits[0], **client),
        loop.connect_accepted_socket(lambda: protocol, far, **server),
    )
    first.connected(*opened)
    await stage.settle()
    stage.close_step("connect")
    return ends


async def play(contexts, stage, script):
    ends = await connect(contexts, stage, script)
    upgrades = 0
    for which, operations in script.steps:
        if which == "start_tls":
            upgrades += 1
            if (
                upgrades == 1
                and not any(end.leaving or end.reader.at_eof() for end in ends)
                and all(end.sent == end.peer.consumed for end in ends)
            ):
                ends[0].start("start_tls", contexts.client(), "localhost")
                ends[1].start("start_tls", contexts.server(), None)
                await stage.settle()
        else:
            for one in operations:
                if one[0] in WAITING:
                    ends[which].start(*one)
                else:
                    ends[which].do(one)
                if any(end.leaving for end in ends):
                    await stage.settle()
        await stage.settle()
        stage.close_step(f"{which}: {operations}")
    await stage.advance(61)
    for end in ends:
        with contextlib.suppress(AttributeError):  # see `StreamEnd.do`
            end.writer.transport.abort()
    await stage.settle()
    stage.close_step("aborted")
    for end in ends:
        for task in end.tasks:
            task.cancel()
        # One that is cancelled before it began has nothing to report.
        await asyncio.gather(*end.tasks, return_exceptions=True)


WAITING = {"read", "readline", "readexactly", "readuntil", "drain", "wait_closed"}
sizes = st.sampled_from([0, 1, 10, 100, 600])
reading = st.one_of(
    st.tuples(st.just("read"), st.sampled_from([1, 100, 600, 600, -1, 0])),
    st.tuples(st.just("readexactly"), st.sampled_from([0, 1, 100, 600, HEAVY])),
    st.just(("readline",)),
    st.just(("readuntil", b"\n")),
)
writing = st.one_of(
    st.tuples(st.just("write"), light),
    st.tuples(st.just("write"), light),
    st.tuples(st.just("write"), st.just(HEAVY)),
    st.tuples(st.just("writelines"), st.lists(sizes, max_size=3).map(tuple)),
    st.just(("drain",)),
)
rest = st.one_of(
    st.just(("close",)),
    st.just(("write_eof",)),
    st.just(("abort",)),
    st.just(("wait_closed",)),
    st.just(("cancel",)),
    st.just(("cancel",)),
    LIMITS.map(lambda drawn: ("limits", *drawn)),
)


def scripts(link):
    step = st.tuples(
        st.integers(0, 1),
        st.lists(st.one_of(reading, reading, writing, writing, rest), min_size=1, max_size=4).map(
            tuple
        ),
    )
    steps = [step] * 6
    if sys.version_info >= (3, 11):
        steps.append(st.just(("start_tls", ())))
    limit = st.sampled_from([65536, 65536, 1000, 100])
    return st.builds(
        Streams, st.just(link), st.tuples(limit, limit), st.lists(st.one_of(*steps), max_size=8)
    )


@pytest.mark.parametrize("link", CASES["streams"])
def test_readers_and_writers_do_the_same(loop_factory, contexts, link):
    compare(loop_factory, "streams", functools.partial(play, contexts), scripts(link))
