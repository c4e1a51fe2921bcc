"""Descriptors of Rust's that the running loop watches."""

from __future__ import annotations

import asyncio
import gc
import os
import socket
import threading

import pytest

from bridge.builds import Loops, soon
from bridge.conftest import KINDS

BIG = bytes(range(256)) * (1 << 12)  # 1 MiB


def pair(rust):
    ours, theirs = socket.socketpair()
    theirs.setblocking(False)
    return rust.Descriptor(ours.detach()), theirs


@pytest.mark.parametrize("apart", [False, True], ids=["awaited", "spawned"])
def test_reading(on, rust, apart):
    async def main():
        ours, theirs = pair(rust)
        with theirs:
            assert ours.try_read() is None
            for number in range(50):
                reading = asyncio.ensure_future(ours.read(100, apart=apart))
                await asyncio.sleep(0)
                theirs.send(b"number %d" % number)
                assert bytes(await soon(reading)) == b"number %d" % number
            theirs.send(b"left")
            assert ours.try_read() == 4
            theirs.close()
            assert bytes(await soon(ours.read(100))) == b""
        ours.close(False)

    on.run(main)


def test_reading_and_writing_at_once(on, rust):
    async def main():
        ours, theirs = pair(rust)
        loop = asyncio.get_running_loop()
        with theirs:
            reading = asyncio.ensure_future(ours.read(100))
            writing = asyncio.ensure_future(ours.write(BIG))
            received = bytearray()
            while len(received) < len(BIG):
                received += await soon(loop.sock_recv(theirs, 10_000))
            assert received == BIG
            await soon(writing)
            assert not reading.done()
            theirs.send(b"at last")
            assert bytes(await soon(reading)) == b"at last"
        ours.close(False)

    on.run(main)


def test_several_wait_for_the_same(on, rust):
    async def main():
        ours, theirs = pair(rust)
        with theirs:
            readings = [asyncio.ensure_future(ours.read(1)) for _ in range(5)]
            await asyncio.sleep(0)
            theirs.send(b"abcde")
            received = await soon(asyncio.gather(*readings))
            assert b"".join(sorted(map(bytes, received))) == b"abcde"
        ours.close(False)

    on.run(main)


def test_a_cancelled_wait_leaves_the_next(on, rust):
    async def main():
        ours, theirs = pair(rust)
        with theirs:
            reading = asyncio.ensure_future(ours.ready())
            await asyncio.sleep(0)
            reading.cancel()
            await asyncio.wait([reading])
            theirs.send(b"for the next")
            assert bytes(await soon(ours.read(100))) == b"for the next"
        ours.close(False)

    on.run(main)


@pytest.mark.parametrize("apart", [False, True], ids=["here", "another thread"])
def test_dropping_ends_the_registration_and_closes(on, rust, apart):
    """In that order: the number may belong to somebody else as soon as it is closed."""

    async def main():
        ours, theirs = pair(rust)
        loop = asyncio.get_running_loop()
        with theirs:
            reading = asyncio.ensure_future(ours.read(10))
            for _ in range(5):
                await asyncio.sleep(0)
            reading.cancel()
            await asyncio.wait([reading])
            ours.close(apart)
            # The peer sees the end: the descriptor is closed.
            assert await soon(loop.sock_recv(theirs, 10)) == b""

    on.run(main)


@pytest.mark.parametrize("on", KINDS, indirect=True)  # uvloop looks at Python's sockets alone
def test_a_descriptor_of_a_transports_is_refused(on, rust):
    async def main():
        loop = asyncio.get_running_loop()
        left, right = socket.socketpair()
        with right:
            transport, _ = await loop.create_connection(asyncio.Protocol, sock=left)
            ours = rust.Descriptor(left.fileno())
            with pytest.raises(RuntimeError, match="is used by transport"):
                await soon(ours.read(10))
            transport.abort()
            await asyncio.sleep(0)
            # The transport has closed the number, which is not to be closed twice.
            os.dup2(right.fileno(), ours.fileno())
            ours.close(False)
            await asyncio.sleep(0)

    on.run(main)


def test_a_loop_without_descriptors(rust, on):
    class Refusing(asyncio.SelectorEventLoop):
        def add_reader(self, *_):
            raise NotImplementedError

    async def main():
        ours, theirs = pair(rust)
        with theirs, pytest.raises(NotImplementedError):
            await soon(ours.read(10))
        ours.close(False)

    Loops("asyncio", Refusing).run(main)


def test_a_loop_that_is_closed_ends_the_waits(on, rust):
    loop = on.factory()

    async def begin():
        ours, theirs = pair(rust)
        waiting = ours.waits()
        for _ in range(5):
            await asyncio.sleep(0)
        return ours, theirs, waiting

    ours, theirs, waiting = loop.run_until_complete(begin())
    with theirs:
        loop.close()
        gc.collect()
        assert waiting.result(30) == "NotConnected"
        ours.close(False)


def test_threads_drop_descriptors_while_the_loop_reads(on, rust):
    async def main():
        for _ in range(30):
            ours, theirs = pair(rust)
            with theirs:
                reading = asyncio.ensure_future(ours.read(10, apart=True))
                await asyncio.sleep(0)
                theirs.send(b"x")
                thread = threading.Thread(target=ours.close, args=(True,))
                thread.start()
                # Nothing, where the thread was faster than a future that has not been polled yet.
                assert bytes(await soon(reading)) in (b"x", b"")
                thread.join()

    on.run(main)


def test_no_loop(rust, on):
    left, right = socket.socketpair()
    with right, pytest.raises(RuntimeError, match="no running event loop"):
        rust.Descriptor(left.detach())
