"""``StreamReader``: reading, its limit, and what ends it."""

from __future__ import annotations

import asyncio
import contextlib
import math
import random
import socket
import sys
from fractions import Fraction

import pytest

from support.recording import Reports, in_thread, reset


def test_reading_available_data(on_streams):
    async def scenario(reader, _writer, far):
        far.sendall(b"hello")
        assert await reader.read(100) == b"hello"
        far.sendall(b"abcdef")
        assert await reader.read(2) == b"ab"
        assert await reader.read(0) == b""
        assert await reader.read(100) == b"cdef"
        far.close()
        assert await reader.read(100) == b""
        assert reader.at_eof()

    on_streams(scenario)


def test_a_read_waits_for_data(on_streams):
    async def scenario(reader, _writer, far):
        task = asyncio.ensure_future(reader.read(100))
        await asyncio.sleep(0.005)
        assert not task.done()
        far.sendall(b"late")
        assert await task == b"late"

    on_streams(scenario)


def test_reading_to_the_end(on_streams):
    payload = random.Random(1).randbytes(3 << 20)

    async def scenario(reader, _writer, far):
        def send():
            far.sendall(payload)
            far.shutdown(socket.SHUT_WR)

        sending = asyncio.ensure_future(in_thread(send))
        assert await reader.read() == payload
        assert reader.at_eof()
        assert await reader.read() == b""
        await sending

    on_streams(scenario)


def test_reading_lines(on_streams):
    async def scenario(reader, _writer, far):
        far.sendall(b"one\ntwo\r\n\nfo")
        lines = [await reader.readline() for _ in range(3)]
        task = asyncio.ensure_future(reader.readline())
        await asyncio.sleep(0.005)
        assert not task.done()
        far.sendall(b"ur\nlast without end")
        far.shutdown(socket.SHUT_WR)
        lines += [await task, await reader.readline(), await reader.readline()]
        assert lines == [b"one\n", b"two\r\n", b"\n", b"four\n", b"last without end", b""]

    on_streams(scenario)


def test_a_stream_is_an_asynchronous_iterator_of_lines(on_streams):
    async def scenario(reader, _writer, far):
        far.sendall(b"a\nb\nc")
        far.shutdown(socket.SHUT_WR)
        assert [line async for line in reader] == [b"a\n", b"b\n", b"c"]

    on_streams(scenario)


def test_reading_exactly_so_much(on_streams):
    async def scenario(reader, _writer, far):
        far.sendall(b"abc")
        task = asyncio.ensure_future(reader.readexactly(5))
        await asyncio.sleep(0.005)
        assert not task.done()
        far.sendall(b"defg")
        assert await task == b"abcde"
        assert await reader.readexactly(0) == b""
        with pytest.raises(ValueError, match="can not be less than zero"):
            await reader.readexactly(-1)
        far.shutdown(socket.SHUT_WR)
        with pytest.raises(asyncio.IncompleteReadError) as caught:
            await reader.readexactly(3)
        assert (caught.value.partial, caught.value.expected) == (b"fg", 3)

    on_streams(scenario)


def test_reading_far_more_than_the_limit_exactly(on_streams):
    payload = random.Random(2).randbytes(1 << 20)

    async def scenario(reader, _writer, far):
        sending = asyncio.ensure_future(in_thread(far.sendall, payload * 2))
        assert await reader.readexactly(len(payload)) == payload
        assert await reader.readexactly(len(payload)) == payload
        await sending

    on_streams(scenario, limit=1000)


def test_reading_until_a_separator(on_streams):
    async def scenario(reader, _writer, far):
        far.sendall(b"key: value; rest--")
        assert await reader.readuntil(b": ") == b"key: "
        assert await reader.readuntil(b";") == b"value;"
        task = asyncio.ensure_future(reader.readuntil(b"--END--"))
        await asyncio.sleep(0.005)
        far.sendall(b"EN")
        await asyncio.sleep(0.005)
        far.sendall(b"D--after")
        assert await task == b" rest--END--"
        far.shutdown(socket.SHUT_WR)
        with pytest.raises(asyncio.IncompleteReadError) as caught:
            await reader.readuntil(b"!")
        assert caught.value.partial == b"after"
        with pytest.raises(ValueError, match="Separator"):
            await reader.readuntil(b"")

    on_streams(scenario)


@pytest.mark.skipif(sys.version_info < (3, 13), reason="several separators since Python 3.13")
def test_reading_until_one_of_several_separators(on_streams):
    async def scenario(reader, _writer, far):
        far.sendall(b"one;two,three")
        assert await reader.readuntil((b",", b";")) == b"one;"
        assert await reader.readuntil((b",", b";")) == b"two,"

    on_streams(scenario)


class Unbounded(int):
    """An integer that is more than any other, doubled or not."""

    def __mul__(self, other):
        return math.inf

    __rmul__ = __mul__


@pytest.mark.parametrize(
    "limit", [1e6, math.inf, 1 << 70, Fraction(10**6), Unbounded(1)], ids=lambda limit: f"{limit}"
)
def test_a_limit_that_is_only_compared_with(on_streams, limit):
    async def scenario(reader, writer, far):
        far.sendall(b"x" * 1000 + b"\n")
        assert len(await reader.readuntil(b"\n" if limit != 1 else b"x")) in (1001, 1)
        far.sendall(b"y" * 1000)
        while len(reader._buffer) < 1000:
            await asyncio.sleep(0.001)
        assert writer.transport.is_reading()

    on_streams(scenario, limit=limit)


@pytest.mark.parametrize("limit", [-1, -(1 << 70), -0.5, 10, 10.5, True])
def test_more_than_twice_the_limit_pauses(on_streams, limit):
    async def scenario(reader, writer, far):
        reader._limit = limit
        far.sendall(b"x" * 22)
        while not reader._paused:
            await asyncio.sleep(0.001)
        assert not writer.transport.is_reading()

    on_streams(scenario)


def test_a_limit_that_is_no_number_never_pauses(on_streams):
    async def scenario(reader, writer, far):
        reader._limit = math.nan
        far.sendall(b"x" * 100_000)
        while len(reader._buffer) < 100_000:
            await asyncio.sleep(0.001)
        assert writer.transport.is_reading()

    on_streams(scenario)


def test_a_limit_that_cannot_be_compared_with_ends_the_connection(loop, on_streams):
    reports = Reports(loop)

    async def scenario(reader, _writer, far):
        reader._limit = "22"
        far.sendall(b"x")
        with pytest.raises(TypeError):
            while await reader.read(1):
                pass

    with contextlib.suppress(TypeError):  # which `wait_closed` raises again
        on_streams(scenario)
    assert reports.only()["message"] == "Fatal error: protocol.data_received() call failed."


def test_data_after_the_end_is_an_error(loop, on_streams):
    """`feed_data` asserts that there was no `feed_eof` before."""
    reports = Reports(loop)

    async def scenario(reader, writer, far):
        reader.feed_eof()
        far.sendall(b"x")
        while not writer.is_closing():
            await asyncio.sleep(0.001)
        assert not reader._buffer

    with contextlib.suppress(AssertionError):  # which `wait_closed` raises again
        on_streams(scenario)
    assert isinstance(reports.only()["exception"], AssertionError)


def test_a_line_too_long_for_the_limit(on_streams):
    async def scenario(reader, _writer, far):
        far.sendall(b"x" * 50 + b"\nshort\n")
        await asyncio.sleep(0.005)
        with pytest.raises(ValueError, match="Separator is found, but chunk is longer than limit"):
            await reader.readline()
        # The long line is thrown away, and the next one is fine.
        assert await reader.readline() == b"short\n"

    on_streams(scenario, limit=20)


def test_a_separator_too_far_for_the_limit(on_streams):
    async def scenario(reader, _writer, far):
        far.sendall(b"x" * 50)
        await asyncio.sleep(0.005)
        with pytest.raises(asyncio.LimitOverrunError, match="Separator is not found") as caught:
            await reader.readuntil(b"\n")
        assert 0 < caught.value.consumed <= 50
        # Nothing is lost: it can be read in another way.
        assert await reader.readexactly(50) == b"x" * 50

    on_streams(scenario, limit=20)


def test_two_readers_at_once_are_refused(on_streams):
    async def scenario(reader, _writer, far):
        task = asyncio.ensure_future(reader.read(10))
        await asyncio.sleep(0)
        with pytest.raises(RuntimeError, match="another coroutine is already waiting"):
            await reader.readline()
        far.sendall(b"data")
        assert await task == b"data"

    on_streams(scenario)


def test_a_cancelled_read_loses_nothing(on_streams):
    async def scenario(reader, _writer, far):
        for cancelled in (reader.read(10), reader.readline(), reader.readexactly(10)):
            with pytest.raises(asyncio.TimeoutError):
                await asyncio.wait_for(cancelled, 0.005)
        far.sendall(b"first\nsecond\n")
        assert await reader.readline() == b"first\n"
        assert await reader.readline() == b"second\n"

    on_streams(scenario)


def test_a_reset_is_raised_by_every_read(on_streams):
    async def scenario(reader, writer, far):
        task = asyncio.ensure_future(reader.read(10))
        await asyncio.sleep(0)
        reset(far)
        with pytest.raises(ConnectionResetError):
            await task
        assert isinstance(reader.exception(), ConnectionResetError)
        with pytest.raises(ConnectionResetError):
            await reader.readline()
        writer.write(b"x")
        with pytest.raises(ConnectionResetError):
            await writer.drain()

    on_streams(scenario)


@pytest.mark.parametrize("seed", range(3))
def test_a_mix_of_reads_gets_every_byte_in_order(on_streams, seed):
    rng = random.Random(seed)
    payload = bytes(rng.choice(b"abc\n") for _ in range(200_000))

    def send(far):
        at = 0
        while at < len(payload):
            size = rng.choice((1, 100, 5000, 60_000))
            far.sendall(payload[at : at + size])
            at += size
        far.shutdown(socket.SHUT_WR)

    async def scenario(reader, _writer, far):
        choose = random.Random(seed + 100)
        sending = asyncio.ensure_future(in_thread(send, far))
        received = bytearray()
        while not reader.at_eof():
            way = choose.randrange(4)
            if way == 0:
                received += await reader.readline()
            elif way == 1:
                received += await reader.read(choose.randrange(1, 10_000))
            else:
                ask = reader.readexactly(777) if way == 2 else reader.readuntil(b"\n")
                try:
                    received += await ask
                except asyncio.IncompleteReadError as exc:
                    received += exc.partial
        assert received == payload
        await sending

    on_streams(scenario)
