"""TLS transports: reading, read flow control, and every kind of protocol."""

from __future__ import annotations

import asyncio
import contextlib
import random
import ssl

import pytest

from support.recording import Recorder, Reports, in_thread
from tls.peers import OLDER_DESIGN, Buffered

pytestmark = pytest.mark.native_only(**OLDER_DESIGN)

MEGABYTE = 1 << 20
RECORD = 16 * 1024


async def a_few_turns():
    for _ in range(10):
        await asyncio.sleep(0.001)


def test_data_of_the_peer_arrives(on_tls, tls_version, certificates):
    async def scenario(_transport, protocol, peer):
        data = random.Random(2).randbytes(4 * MEGABYTE)
        sending = asyncio.ensure_future(in_thread(peer.send, data))
        await protocol.got(len(data))
        await sending
        assert protocol.received == data
        assert protocol.story == ["connection_made", "data_received"]

    on_tls(scenario, client_context=certificates.client_context(version=tls_version))


def test_a_record_that_comes_in_pieces_arrives_whole(on_tls):
    async def scenario(_transport, protocol, peer):
        data = random.Random(3).randbytes(RECORD)
        records = peer.records(data)
        for start in range(0, len(records), 1500):
            assert not protocol.received
            await in_thread(peer.sock.sendall, records[start : start + 1500])
            await a_few_turns()
        await protocol.got(len(data))
        assert protocol.received == data

    on_tls(scenario)


def test_records_that_come_together_arrive_together(on_tls):
    async def scenario(_transport, protocol, peer):
        await in_thread(peer.sock.sendall, b"".join(peer.records(b"part") for _ in range(20)))
        await protocol.got(80)
        assert protocol.calls == ["connection_made", "data_received"]

    on_tls(scenario)


def test_data_sent_with_the_end_of_the_handshake_comes_after_connection_made(
    on_tls, tls_version, certificates
):
    """The client's first record may sit in one packet with its Finished."""

    async def scenario(_transport, protocol, peer):
        await in_thread(peer.send, b"early")
        await protocol.got(5)
        assert protocol.calls == ["connection_made", "data_received"]

    context = certificates.client_context(version=tls_version)
    on_tls(scenario, server_side=True, client_context=context)


# --- pausing ---


def test_a_paused_transport_delivers_nothing_until_it_is_resumed(on_tls):
    async def scenario(transport, protocol, peer):
        assert transport.is_reading()
        transport.pause_reading()
        transport.pause_reading()
        assert not transport.is_reading()
        await in_thread(peer.send, b"held")
        await a_few_turns()
        assert not protocol.received
        transport.resume_reading()
        assert transport.is_reading()
        assert not protocol.received  # not from within the call
        transport.resume_reading()
        await protocol.got(4)
        assert protocol.calls == ["connection_made", "data_received"]

    on_tls(scenario)


def test_the_buffer_of_a_paused_transport_is_bounded(on_tls):
    async def scenario(transport, protocol, peer):
        transport.pause_reading()
        data = bytes(16 * MEGABYTE)
        sending = asyncio.ensure_future(in_thread(peer.send, data))
        while transport.get_read_buffer_size() < 256 * 1024:
            await asyncio.sleep(0.001)
        await a_few_turns()
        waiting = transport.get_read_buffer_size()
        assert waiting <= 512 * 1024
        await a_few_turns()
        assert transport.get_read_buffer_size() == waiting
        assert not sending.done()
        transport.resume_reading()
        await protocol.got(len(data))
        await sending
        assert transport.get_read_buffer_size() == 0

    on_tls(scenario)


def test_the_read_limits(on_tls):
    async def scenario(transport, protocol, peer):
        assert transport.get_read_buffer_limits() == (64 * 1024, 256 * 1024)
        assert transport.get_read_buffer_size() == 0
        for high, low in ((1, 2), (-1, None), (0, 1), (1, -1)):
            with pytest.raises(ValueError, match=r"high \(-?\d\) must be >= low \(-?\d\) must be"):
                transport.set_read_buffer_limits(high, low)
        transport.set_read_buffer_limits(high=1000)
        assert transport.get_read_buffer_limits() == (250, 1000)
        transport.pause_reading()
        await in_thread(peer.send, bytes(MEGABYTE // 4))
        while not transport.get_read_buffer_size():
            await asyncio.sleep(0.001)
        transport.resume_reading()
        await protocol.got(MEGABYTE // 4)
        transport.set_read_buffer_limits(low=1000)
        assert transport.get_read_buffer_limits() == (1000, 4000)
        transport.set_read_buffer_limits()
        assert transport.get_read_buffer_limits() == (64 * 1024, 256 * 1024)

    on_tls(scenario)


@pytest.mark.native_only(reason="asyncio takes an empty buffer for one above a mark of 0")
def test_a_read_limit_of_zero_still_reads(on_tls):
    async def scenario(transport, protocol, peer):
        transport.set_read_buffer_limits(0)
        await in_thread(peer.send, b"one")
        await protocol.got(3)
        transport.pause_reading()
        await in_thread(peer.send, b"two")
        await a_few_turns()
        transport.resume_reading()
        await protocol.got(6)
        assert protocol.received == b"onetwo"

    on_tls(scenario)


def test_pausing_within_data_received_holds_back_the_rest(on_tls):
    class Sips(Recorder):
        def data_received(self, data):
            super().data_received(data)
            self.transport.pause_reading()

    async def scenario(transport, protocol, peer):
        data = random.Random(4).randbytes(4 * MEGABYTE)
        sending = asyncio.ensure_future(in_thread(peer.send, data))
        while len(protocol.received) < len(data):
            calls = len(protocol.calls)
            transport.resume_reading()
            await protocol.until(lambda seen=calls: len(protocol.calls) > seen)
            assert len(protocol.calls) == calls + 1
        await sending
        assert protocol.received == data

    on_tls(scenario, Sips())


def test_pausing_and_resuming_within_data_received(on_tls):
    class Hesitant(Recorder):
        def data_received(self, data):
            super().data_received(data)
            self.transport.pause_reading()
            self.transport.resume_reading()

    async def scenario(_transport, protocol, peer):
        data = random.Random(5).randbytes(2 * MEGABYTE)
        sending = asyncio.ensure_future(in_thread(peer.send, data))
        await protocol.got(len(data))
        await sending
        assert protocol.received == data

    on_tls(scenario, Hesitant())


def test_a_protocol_set_in_the_middle_of_much_data_gets_the_rest(on_tls):
    rest = Buffered(100_000)

    class Changes(Recorder):
        def data_received(self, data):
            super().data_received(data)
            self.transport.set_protocol(rest)
            self.transport.write(b"changed")

    async def scenario(transport, protocol, peer):
        rest.transport = transport
        data = random.Random(6).randbytes(MEGABYTE)
        sending = asyncio.ensure_future(in_thread(peer.send, data))
        await protocol.until(lambda: protocol.received)
        await rest.got(len(data) - len(protocol.received))
        await sending
        assert protocol.received + rest.received == data
        assert await in_thread(peer.recv_exactly, 7) == b"changed"
        transport.set_protocol(protocol)

    on_tls(scenario, Changes())


def test_an_abort_in_the_middle_of_much_data_is_the_end(on_tls):
    class Aborts(Recorder):
        def data_received(self, data):
            super().data_received(data)
            self.transport.abort()

    async def scenario(_transport, protocol, peer):
        data = random.Random(7).randbytes(MEGABYTE)
        with contextlib.suppress(OSError, ssl.SSLError):
            await in_thread(peer.send, data)
        await protocol.until(lambda: "connection_lost" in protocol.calls)
        assert protocol.story == ["connection_made", "data_received", "connection_lost"]
        assert data.startswith(protocol.received)

    on_tls(scenario, Aborts())


@pytest.mark.parametrize("notified", [True, False], ids=["close_notify", "plain end"])
def test_an_end_that_comes_while_paused_waits(on_tls, notified):
    async def scenario(transport, protocol, peer):
        transport.pause_reading()
        await in_thread(peer.sock.sendall, peer.records(b"last words"))
        if notified:
            await in_thread(peer.sock.sendall, peer.close_notify())
        peer.sock.close()
        await a_few_turns()
        assert protocol.calls == ["connection_made"]
        transport.resume_reading()
        assert await protocol.lost() is None
        assert protocol.received == b"last words"
        assert protocol.calls == [
            "connection_made",
            "data_received",
            "eof_received",
            "connection_lost",
        ]

    on_tls(scenario)


@pytest.mark.native_only(reason="asyncio waits for a resume_reading() that is never called")
def test_closing_while_an_end_waits_behind_a_pause(on_tls):
    async def scenario(transport, protocol, peer):
        transport.pause_reading()
        await in_thread(peer.send, b"never read")
        peer.sock.close()
        await a_few_turns()
        transport.close()
        assert await protocol.lost() is None
        assert not protocol.received

    on_tls(scenario)


# --- BufferedProtocol ---


@pytest.mark.parametrize("size", [1, 7, 1000, RECORD - 1, RECORD, RECORD + 1, MEGABYTE])
def test_a_buffered_protocol_with_a_buffer_of_any_size(on_tls, size):
    async def scenario(_transport, protocol, peer):
        data = random.Random(6).randbytes(min(3 * MEGABYTE, 3000 * size))
        sending = asyncio.ensure_future(in_thread(peer.send, data))
        await protocol.got(len(data))
        await sending
        assert protocol.received == data
        assert all(hint >= 0 for hint in protocol.hints)

    on_tls(scenario, Buffered(size))


@pytest.mark.native_only(reason="asyncio reads on into a copy of what is no memoryview")
def test_a_buffered_protocol_may_give_a_bytearray(on_tls):
    class Plain(Buffered):
        def get_buffer(self, sizehint):
            super().get_buffer(sizehint)
            return self._buffer

    async def scenario(_transport, protocol, peer):
        await in_thread(peer.sock.sendall, peer.records(b"one") + peer.records(b"two"))
        await protocol.got(6)
        assert protocol.received == b"onetwo"

    on_tls(scenario, Plain(1000))


def test_pausing_within_buffer_updated_holds_back_the_rest(on_tls):
    class Sips(Buffered):
        def buffer_updated(self, count):
            super().buffer_updated(count)
            self.transport.pause_reading()

    async def scenario(transport, protocol, peer):
        data = random.Random(7).randbytes(100_000)
        await in_thread(peer.send, data)
        while len(protocol.received) < len(data):
            calls = len(protocol.calls)
            transport.resume_reading()
            await protocol.until(lambda seen=calls: len(protocol.calls) > seen)
            await asyncio.sleep(0)
            assert len(protocol.calls) == calls + 1
        assert protocol.received == data

    on_tls(scenario, Sips(5000))


@pytest.mark.native_only(reason="asyncio loses what a small buffer had no room for")
@pytest.mark.parametrize("notified", [True, False], ids=["close_notify", "plain end"])
def test_a_small_buffer_loses_nothing_when_the_peer_ends(on_tls, notified):
    async def scenario(_transport, protocol, peer):
        data = random.Random(8).randbytes(50_000)
        records = peer.records(data)
        await in_thread(peer.sock.sendall, records + (peer.close_notify() if notified else b""))
        peer.sock.close()
        assert await protocol.lost() is None
        assert protocol.received == data
        assert protocol.story == [
            "connection_made",
            "data_received",
            "eof_received",
            "connection_lost",
        ]

    on_tls(scenario, Buffered(100))


def test_an_empty_buffer_is_taken_for_the_end(on_tls):
    async def scenario(_transport, protocol, peer):
        await protocol.called("eof_received")
        await in_thread(peer.recv)
        await in_thread(peer.unwrap)
        assert await protocol.lost() is None

    on_tls(scenario, Buffered(0))


@pytest.mark.parametrize("wrong", [None, b"read-only", "text"], ids=["None", "bytes", "str"])
def test_an_object_that_is_no_writable_buffer_ends_the_connection(on_tls, loop, wrong):
    class Wrong(Buffered):
        broken = False

        def get_buffer(self, sizehint):
            return wrong if self.broken else super().get_buffer(sizehint)

    reports = Reports(loop)

    async def scenario(_transport, protocol, peer):
        protocol.broken = True
        await in_thread(peer.send, b"data")
        loss = await protocol.lost()
        assert isinstance(loss, (TypeError, BufferError))
        assert reports.only()["exception"] is loss
        assert reports.only()["message"] == "Fatal error on SSL protocol"

    on_tls(scenario, Wrong(100))


# --- set_protocol ---


def test_switching_between_kinds_of_protocols_in_the_middle(on_tls):
    async def scenario(transport, first, peer):
        buffered, small, plain = Buffered(MEGABYTE), Buffered(3), Recorder()
        reader = asyncio.StreamReader()
        streamed = asyncio.StreamReaderProtocol(reader)
        await in_thread(peer.send, b"first")
        await first.got(5)
        for protocol in (buffered, plain, small):
            transport.set_protocol(protocol)
            assert transport.get_protocol() is protocol
            await in_thread(peer.send, b"and more of it")
            await protocol.got(14)
            assert protocol.received == b"and more of it"
            assert protocol.story == ["data_received"]
        transport.set_protocol(streamed)
        await in_thread(peer.send, b"line\n")
        assert await reader.readline() == b"line\n"
        transport.set_protocol(first)
        await in_thread(peer.send, b"last")
        await first.got(9)
        assert first.received == b"firstlast"

    on_tls(scenario)


@pytest.mark.parametrize("size", [3, MEGABYTE])
def test_switching_within_data_received_loses_nothing(on_tls, size):
    class Hands(Recorder):
        def data_received(self, data):
            super().data_received(data)
            self.transport.set_protocol(following)

    following = Buffered(size)

    async def scenario(transport, protocol, peer):
        transport.pause_reading()
        data = random.Random(9).randbytes(600_000 if size > 3 else 100_000)
        await in_thread(peer.send, data[:-1])
        await a_few_turns()
        transport.resume_reading()
        await protocol.got(1)
        await in_thread(peer.send, data[-1:])
        await following.got(len(data) - len(protocol.received))
        assert protocol.received + following.received == data
        assert protocol.calls == ["connection_made", "data_received"]
        transport.set_protocol(protocol)  # which gets the loss then

    on_tls(scenario, Hands())


def test_switching_within_buffer_updated_loses_nothing(on_tls):
    class Hands(Buffered):
        def buffer_updated(self, count):
            super().buffer_updated(count)
            self.transport.set_protocol(following)

    following = Recorder()

    async def scenario(transport, protocol, peer):
        data = random.Random(10).randbytes(10_000)
        await in_thread(peer.send, data)
        await following.got(len(data) - 10)
        assert protocol.received == data[:10]
        assert following.received == data[10:]
        transport.set_protocol(protocol)

    on_tls(scenario, Hands(10))


@pytest.mark.native_only(reason="asyncio keeps the end of the handshake back, and both sides wait")
def test_a_pause_in_connection_made_holds_back_the_data(on_tls):
    class Careful(Recorder):
        def connection_made(self, transport):
            super().connection_made(transport)
            transport.pause_reading()

    async def scenario(transport, protocol, peer):
        await in_thread(peer.send, b"patience")
        await a_few_turns()
        assert not protocol.received
        # A pause is for reading: what is written leaves.
        transport.write(b"written")
        assert await in_thread(peer.recv_exactly, 7) == b"written"
        transport.resume_reading()
        await protocol.got(8)

    on_tls(scenario, Careful())
