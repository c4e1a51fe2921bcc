"""Streams and files over TLS."""

from __future__ import annotations

import asyncio
import random
import re

import pytest

from support.recording import in_thread
from tls.peers import secure

MEGABYTE = 1 << 20


async def reader_of(loop, certificates, reader):
    """A stream's reader fed by a `Peer`."""
    protocol = asyncio.StreamReaderProtocol(reader)
    return await secure(loop, certificates, protocol)


async def finish(transport, protocol, peer):
    peer.sock.close()
    transport.abort()
    # Not `_closed`: what it holds differs between versions.
    await asyncio.sleep(0.01)


def run_with_reader(loop, certificates, make_reader, scenario):
    async def main():
        reader = make_reader()
        transport, protocol, peer = await reader_of(loop, certificates, reader)
        try:
            await scenario(reader, transport, peer)
        finally:
            await finish(transport, protocol, peer)

    loop.run_until_complete(main())


def test_a_reader_gets_lines_of_any_length(loop, certificates):
    async def scenario(reader, _transport, peer):
        rng = random.Random(1)
        lines = [rng.randbytes(rng.choice((0, 10, 20_000))).replace(b"\n", b"") for _ in range(50)]
        data = b"".join(line + b"\n" for line in lines)
        sending = asyncio.ensure_future(in_thread(peer.send, data))
        for line in lines:
            assert await reader.readline() == line + b"\n"
        await sending

    run_with_reader(loop, certificates, asyncio.StreamReader, scenario)


def test_a_derived_reader_gets_the_data_that_it_is_fed(loop, certificates):
    class Derived(asyncio.StreamReader):
        fed = b""

        def feed_data(self, data):
            self.fed += data
            super().feed_data(data)

    async def scenario(reader, _transport, peer):
        await in_thread(peer.send, b"line\n")
        assert await reader.readline() == b"line\n"
        assert reader.fed == b"line\n"

    run_with_reader(loop, certificates, Derived, scenario)


def test_a_reader_patched_in_the_middle(loop, certificates):
    fed = []

    async def scenario(reader, _transport, peer):
        await in_thread(peer.send, b"one\n")
        assert await reader.readline() == b"one\n"
        original = reader.feed_data
        reader.feed_data = lambda data: (fed.append(data), original(data))
        await in_thread(peer.send, b"two\n")
        assert await reader.readline() == b"two\n"

    run_with_reader(loop, certificates, asyncio.StreamReader, scenario)
    assert fed == [b"two\n"]


def test_a_reader_that_is_not_emptied_pauses_the_transport(loop, certificates):
    async def scenario(reader, transport, peer):
        data = bytes(16 * MEGABYTE)
        sending = asyncio.ensure_future(in_thread(peer.send, data))
        while transport.is_reading():
            await asyncio.sleep(0.001)
        await asyncio.sleep(0.05)
        # One reading goes over the limit, no more.
        assert len(reader._buffer) <= MEGABYTE
        assert not sending.done()
        assert await reader.readexactly(len(data)) == data
        await sending
        assert transport.is_reading()

    run_with_reader(loop, certificates, lambda: asyncio.StreamReader(limit=1000), scenario)


def test_a_line_over_the_limit(loop, certificates):
    async def scenario(reader, _transport, peer):
        await in_thread(peer.send, bytes(500) + b"\nnext\n")
        with pytest.raises(ValueError, match="Separator is found, but chunk is longer than limit"):
            await reader.readline()
        assert await reader.readline() == b"next\n"

    run_with_reader(loop, certificates, lambda: asyncio.StreamReader(limit=100), scenario)


@pytest.mark.parametrize("notified", [True, False], ids=["close_notify", "plain end"])
def test_the_end_of_a_stream(loop, certificates, notified):
    async def scenario(reader, _transport, peer):
        await in_thread(peer.send, b"rest")
        if notified:
            await in_thread(peer.sock.sendall, peer.close_notify())
        peer.sock.close()
        assert await reader.read() == b"rest"
        assert reader.at_eof()
        assert await reader.read() == b""

    run_with_reader(loop, certificates, asyncio.StreamReader, scenario)


def test_a_reset_is_raised_to_the_reader(loop, certificates):
    async def scenario(reader, _transport, peer):
        await in_thread(peer.sock.sendall, b"no record of TLS at all")
        with pytest.raises(OSError, match=r"(?i)wrong.version|record|packet"):
            await reader.read()

    run_with_reader(loop, certificates, asyncio.StreamReader, scenario)


# --- files ---


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(random.Random(2).randbytes(3 * MEGABYTE))
    with path.open("rb") as opened:
        yield opened


def test_sendfile_reads_and_writes(loop, on_tls, file):
    async def scenario(transport, protocol, peer):
        transport.write(b"head,")
        sending = asyncio.ensure_future(loop.sendfile(transport, file))
        data = await in_thread(peer.recv_exactly, 5 + 3 * MEGABYTE)
        assert await sending == 3 * MEGABYTE
        file.seek(0)
        assert data == b"head," + file.read()
        assert file.tell() == 3 * MEGABYTE
        assert transport.get_protocol() is protocol
        transport.write(b"tail")
        assert await in_thread(peer.recv_exactly, 4) == b"tail"
        await in_thread(peer.send, b"answer")
        await protocol.got(6)

    on_tls(scenario)


def test_sendfile_of_a_part(loop, on_tls, file):
    async def scenario(transport, _protocol, peer):
        assert await loop.sendfile(transport, file, 100, 200) == 200
        file.seek(100)
        assert await in_thread(peer.recv_exactly, 200) == file.read(200)

    on_tls(scenario)


def test_sendfile_without_the_fallback(loop, on_tls, file):
    async def scenario(transport, _protocol, peer):
        expected = (
            f"fallback is disabled and native sendfile is not supported for transport {transport!r}"
        )
        with pytest.raises(RuntimeError, match=re.escape(expected)):
            await loop.sendfile(transport, file, fallback=False)
        transport.write(b"nothing of it")
        assert await in_thread(peer.recv) == b"nothing of it"

    on_tls(scenario)


def test_sendfile_on_a_closing_transport(loop, on_tls, file):
    async def scenario(transport, protocol, _peer):
        transport.abort()
        with pytest.raises(RuntimeError, match="Transport is closing"):
            await loop.sendfile(transport, file)
        await protocol.lost()

    on_tls(scenario)
