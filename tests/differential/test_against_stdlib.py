"""The same random script on this loop and on the standard library's tells the same story.

A script is a list of operations on the two ends of one connection. Both ends write down what
they are told; afterwards the stories of both loops are compared, callback by callback and byte
by byte. Only what asyncio leaves open is left out of the comparison: how a stream of bytes is
cut into calls of data_received, how often a writer is paused and resumed, and whether a dead
connection is noticed within the write or just after it.
"""

from __future__ import annotations

import asyncio
import random
import socket
import zlib

import pytest
from recording import blocking_pair

SCRIPTS = 200


class End(asyncio.Protocol):
    """One end of the connection, and its story so far."""

    def __init__(self, keep_open_at_eof):
        self.story = []
        self.told = 0
        self.paused = False
        self.keep_open_at_eof = keep_open_at_eof
        self.transport = None
        self.lost = False

    def note(self, *event):
        self.told += 1
        self.story.append(event)

    def connection_made(self, transport):
        self.transport = transport
        self.note("connection_made")

    def data_received(self, data):
        self.told += 1
        if self.story[-1][0] != "data":
            self.story.append(("data", 0, 0))
        _, size, checksum = self.story[-1]
        self.story[-1] = "data", size + len(data), zlib.crc32(data, checksum)

    def eof_received(self):
        # The standard library tells it again each time reading is resumed after the end.
        if ("eof_received",) not in self.story:
            self.note("eof_received")
        return self.keep_open_at_eof

    def pause_writing(self):
        assert not self.paused, "paused twice in a row"
        self.paused = True

    def resume_writing(self):
        assert self.paused, "resumed without a pause"
        self.paused = False

    def connection_lost(self, exc):
        self.lost = True
        self.note("connection_lost", type(exc).__name__)


def write_script(rng):
    """A random list of (operation, end, argument), with nothing left to chance when it runs."""
    script = []
    for _ in range(rng.randrange(3, 16)):
        end = rng.randrange(2)
        operation = rng.choices(
            ("write", "writelines", "pause", "resume", "settle", "eof", "close", "abort"),
            (30, 15, 12, 14, 15, 6, 4, 4),
        )[0]
        sizes = [
            rng.choice((0, 1, 100, 5000, 70_000, 300_000)) + rng.randrange(50)
            for _ in range(rng.randrange(1, 4))
        ]
        # What ends something meets a connection at rest, and is waited for: otherwise the
        # story would depend on how far the kernel has come.
        if operation in ("eof", "close", "abort"):
            script += [("settle", end, None), (operation, end, None), ("settle", end, None)]
        else:
            script.append((operation, end, sizes))
    last = rng.randrange(2)
    script += [("resume", 0, None), ("resume", 1, None), ("settle", 0, None)]
    return [*script, (rng.choice(("close", "abort", "eof")), last, None), ("settle", 0, None)]


def perform(operation, end, sizes, rng):
    transport = end.transport
    if operation == "pause":
        transport.pause_reading()
    elif operation == "resume":
        transport.resume_reading()
    elif operation == "write":
        transport.write(rng.randbytes(sizes[0]))
    elif operation == "writelines" and not transport.is_closing():
        transport.writelines([rng.randbytes(size + 1) for size in sizes])
    elif operation == "eof":
        transport.write_eof()
    elif operation in ("close", "abort"):
        getattr(transport, operation)()


async def settle(ends):
    """Let the loop work until nobody has anything new to tell."""
    quiet, before = 0, None
    while quiet < 4:
        # A turn with a wait in it: both ends are in this loop, and all their data is local.
        await asyncio.sleep(0.001)
        now = [
            (end.told, end.transport.get_write_buffer_size(), end.transport.is_closing())
            for end in ends
        ]
        quiet = quiet + 1 if now == before else 0
        before = now


async def act(seed, script):
    loop = asyncio.get_running_loop()
    rng = random.Random(seed)
    sockets = socket.socketpair() if rng.random() < 0.3 else blocking_pair()
    ends = [End(rng.random() < 0.5) for _ in range(2)]
    for end, sock in zip(ends, sockets, strict=True):
        await loop.create_connection(lambda end=end: end, sock=sock)
    for operation, which, sizes in script:
        end = ends[which]
        if operation == "settle":
            await settle(ends)
        elif not end.lost:
            try:
                perform(operation, end, sizes, rng)
            except RuntimeError:
                end.note("raised", operation)
            except OSError:
                pass  # a dead connection may show itself at once, or only to a later turn
            if any(end.transport.is_closing() for end in ends):
                await settle(ends)
            end.note("is", end.transport.is_closing(), end.transport.is_reading())
    for end in ends:
        end.note("at last", end.lost, end.transport.is_closing(), end.transport.is_reading())
        if not end.lost:
            end.transport.abort()
    while not all(end.lost for end in ends):
        await asyncio.sleep(0.001)
    return [end.story for end in ends]


def stories(loop_factory, seed, script):
    loop = loop_factory()
    reported = []
    loop.set_exception_handler(lambda _loop, context: reported.append(context["message"]))
    try:
        told = loop.run_until_complete(asyncio.wait_for(act(seed, script), 60))
    finally:
        loop.close()
    return told, reported


@pytest.mark.parametrize("first", range(0, SCRIPTS, 10))
def test_the_same_script_tells_the_same_story(loop_factory, first):
    for seed in range(first, first + 10):
        script = write_script(random.Random(seed))
        expected = stories(asyncio.SelectorEventLoop, seed, script)
        got = stories(loop_factory, seed, script)
        assert got == expected, f"seed {seed}: {script}"
