"""Measures each fault: descriptors, memory, processor time, and service to other clients."""

from __future__ import annotations

import asyncio
import collections
import contextlib
import ctypes
import gc
import os
import sys
import threading
import time

from support.recording import Recorder, in_thread

KIB = 1024
MIB = 1024 * KIB
# More than the kernel buffers for both ends of a connection together.
TOO_MUCH = 32 * MIB


# --- what the process holds ---


class Mallinfo(ctypes.Structure):
    _fields_ = [
        (name, ctypes.c_size_t)
        for name in (
            *("arena", "ordblks", "smblks", "hblks", "hblkhd"),
            *("usmblks", "fsmblks", "uordblks", "fordblks", "keepcost"),
        )
    ]


LIBC = ctypes.CDLL(None)
if hasattr(LIBC, "mallinfo2"):
    LIBC.mallinfo2.restype = Mallinfo


def descriptors():
    """How many descriptors the process has (one of them reads the listing)."""
    return len(os.listdir("/proc/self/fd"))


def allocated():
    """Bytes that malloc handed out: the core's memory, OpenSSL's, and Python's larger objects."""
    if not hasattr(LIBC, "mallinfo2"):
        return 0
    info = LIBC.mallinfo2()
    return info.uordblks + info.hblkhd


def in_use():
    """Bytes in use, as malloc counts them; what is small enough for Python's own pools aside."""
    return allocated() + sys.getallocatedblocks() * 100


def held():
    """What the process holds: Python's blocks of up to 512 bytes, and what malloc handed out."""
    # Names that attributes were asked for by stay in the interpreter's cache of methods.
    if hasattr(sys, "_clear_internal_caches"):
        sys._clear_internal_caches()
    else:
        sys._clear_type_cache()
    for _ in range(3):
        gc.collect()
    return sys.getallocatedblocks(), allocated()


# --- whom it serves ---


class Bystander(asyncio.Protocol):
    """A well-behaved client of an echo server on the same loop; counts the answers it gets."""

    def __init__(self):
        self.answers = 0
        self._left = 0
        self._done = None

    def connection_made(self, transport):
        self._transport = transport

    def data_received(self, data):
        self.answers += 1
        self._left -= 1
        if self._left > 0:
            self._transport.write(data)
        elif not self._done.done():
            self._done.set_result(None)

    def connection_lost(self, exc):
        if self._done is not None and not self._done.done():
            self._done.set_exception(exc or ConnectionError("the echo server hung up"))

    async def is_served(self, times=3):
        """So many round trips, one after the other."""
        self._left = times
        self._done = asyncio.get_running_loop().create_future()
        self._transport.write(b"ping")
        await asyncio.wait_for(self._done, 30)


class Echo(asyncio.Protocol):
    def __init__(self):
        self.lost = asyncio.get_running_loop().create_future()

    def connection_made(self, transport):
        self.transport = transport

    def data_received(self, data):
        self.transport.write(data)

    def connection_lost(self, exc):
        self.lost.set_result(None)


@contextlib.asynccontextmanager
async def bystander():
    loop = asyncio.get_running_loop()
    echo = Echo()
    server = await loop.create_server(lambda: echo, "127.0.0.1", 0)
    address = server.sockets[0].getsockname()
    transport, protocol = await loop.create_connection(Bystander, *address)
    try:
        yield protocol
    finally:
        transport.close()
        await asyncio.wait_for(echo.lost, 30)
        server.close()
        await server.wait_closed()


# --- the run ---


async def until(condition, timeout=20):
    """Check again and again: for conditions that no callback reports."""
    deadline = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        await asyncio.sleep(0.001)


def endure(loop, fault, *, rounds=24, parts=8, most=128):
    """Run ``await fault()`` again and again, and return how often what was reported.

    After each time another connection must be served as if nothing had happened. Descriptors must
    return to what they were after each part of the run, and memory must do so after one of them:
    a pool that fills up costs something in some parts, a leak in every part. ``most`` is what a
    round may cost of malloc's memory, in bytes (a TLS context, for one, remembers its sessions).
    """
    reports = collections.Counter()
    loop.set_exception_handler(lambda _loop, context: reports.update([context["message"]]))

    async def run():
        async with bystander() as other:

            async def part():
                for _ in range(rounds):
                    await fault()
                    await other.is_served()

            # What is made once and kept is made now; handles are kept by the hundred.
            for _ in range(2000):
                loop.call_soon(abs, 0)
            await part()
            before, now = descriptors(), held()
            for _ in range(parts):
                await part()
                await until(lambda: descriptors() <= before)
                last, now = now, held()
                growths.append([b - a for a, b in zip(last, now, strict=True)])
                # A leak of one object with its dict and a value would be more.
                if growths[-1][0] < rounds and growths[-1][1] < rounds * most:
                    return
            raise AssertionError(f"every {rounds} rounds leave (blocks, bytes): {growths}")

    growths = []
    try:
        loop.run_until_complete(run())
    finally:
        loop.set_exception_handler(None)
    return reports


async def rests(seconds=0.3):
    """Assert that the process sleeps for so long: nothing is tried again and again."""
    burnt = []
    # A loop that spins does so in every try; a collection of garbage spoils only one.
    for _ in range(3):
        before = time.process_time()
        await asyncio.sleep(seconds)
        burnt.append(time.process_time() - before)
        if burnt[-1] < seconds / 10:
            return
    raise AssertionError(f"processor time in {seconds} s of waiting, three tries: {burnt}")


async def clog(transport, protocol):
    """Write until the peer's buffers are full and the protocol is paused."""
    transport.write(bytes(TOO_MUCH))
    await protocol.called("pause_writing")
    size = None
    while size != transport.get_write_buffer_size():
        size = transport.get_write_buffer_size()
        await asyncio.sleep(0.01)


class Counted(Recorder):
    """A recorder that keeps only how much it received."""

    def __init__(self, **options):
        super().__init__(**options)
        self.size = 0
        self.reads = 0

    def data_received(self, data):
        self.size += len(data)
        self.reads += 1
        self._note("data_received")
        del self.calls[-1]


# --- peers ---


def raw(file, mode):
    """An unbuffered file, whose owner becomes a transport."""
    return open(file, mode, 0)


def pipe():
    reading, writing = os.pipe()
    return raw(reading, "rb"), raw(writing, "wb")


class Obedient(asyncio.Protocol):
    """Writes as long as it may."""

    def __init__(self, size):
        self._message = bytes(size)
        self.paused = False
        self.written = 0

    def connection_made(self, transport):
        self.transport = transport

    def write_on(self):
        while not self.paused:
            self.transport.write(self._message)
            self.written += len(self._message)

    def pause_writing(self):
        self.paused = True

    def resume_writing(self):
        self.paused = False


@contextlib.asynccontextmanager
async def flooding(send):
    """Call ``send()`` again and again in a thread of its own, until it fails or the block ends."""
    stop = threading.Event()

    def run():
        with contextlib.suppress(OSError):
            while not stop.is_set():
                send()

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        # Not from this thread: what is under way may need the loop to come to an end.
        await in_thread(thread.join)


class Counts(asyncio.Protocol):
    """Counts what it is called with, and forgets it."""

    def __init__(self):
        self.calls = 0

    def connection_made(self, transport):
        self.transport = transport

    def data_received(self, data):
        self.calls += 1


async def served_fairly(calls, answers=50, most=100):
    """Answers that another connection gets during a flood: how many calls lie between two."""
    async with bystander() as other:
        await other.is_served()
        gaps = []
        for _ in range(answers):
            before = calls()
            await other.is_served(1)
            gaps.append(calls() - before)
    # A round trip takes a handful of iterations, in each of which every peer is read from once.
    assert max(gaps) <= most, gaps
    return gaps
