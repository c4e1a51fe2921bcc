"""Readers and protocols of streams that a program replaced, derived or feeds by hand."""

from __future__ import annotations

import asyncio

from support.recording import blocking_pair

# --- what is not exactly the standard's reader or protocol takes the ordinary road ---


def connect_with(loop, reader, protocol_class):
    near, far = blocking_pair()
    protocol = protocol_class(reader, loop=loop)
    transport, _ = loop.run_until_complete(loop.create_connection(lambda: protocol, sock=near))
    return transport, protocol, far


def test_a_reader_of_ones_own_is_fed_through_feed_data(loop):
    class Counts(asyncio.StreamReader):
        fed = eofs = 0

        def feed_data(self, data):
            self.fed += len(data)
            super().feed_data(data)

        def feed_eof(self):
            self.eofs += 1
            super().feed_eof()

    reader = Counts(loop=loop)
    transport, _, far = connect_with(loop, reader, asyncio.StreamReaderProtocol)

    async def scenario():
        with far:
            far.sendall(b"hello\n")
            assert await reader.readline() == b"hello\n"
        assert await reader.read() == b""
        transport.close()
        await asyncio.sleep(0.005)

    loop.run_until_complete(scenario())
    # The end is fed twice: when it is received, and when the connection is lost.
    assert (reader.fed, reader.eofs) == (6, 2)


def test_feed_data_replaced_on_one_reader_is_used(loop):
    reader = asyncio.StreamReader(loop=loop)
    feed, fed = reader.feed_data, []
    reader.feed_data = lambda data: (fed.append(data), feed(data.upper()))
    transport, _, far = connect_with(loop, reader, asyncio.StreamReaderProtocol)

    async def scenario():
        with far:
            far.sendall(b"quiet\n")
            assert await reader.readline() == b"QUIET\n"
        transport.close()
        await asyncio.sleep(0.005)

    loop.run_until_complete(scenario())
    assert fed == [b"quiet\n"]


def test_a_protocol_of_ones_own_sees_every_callback(loop):
    calls = []

    class Notes(asyncio.StreamReaderProtocol):
        def connection_made(self, transport):
            calls.append("made")
            super().connection_made(transport)

        def data_received(self, data):
            calls.append(data)
            super().data_received(data)

        def eof_received(self):
            calls.append("eof")
            return super().eof_received()

        def connection_lost(self, exc):
            calls.append(exc)
            super().connection_lost(exc)

    reader = asyncio.StreamReader(loop=loop)
    transport, _, far = connect_with(loop, reader, Notes)

    async def scenario():
        with far:
            far.sendall(b"hello")
            assert await reader.read(10) == b"hello"
        assert await reader.read(10) == b""
        transport.close()
        await asyncio.sleep(0.005)

    loop.run_until_complete(scenario())
    assert calls == ["made", b"hello", "eof", None]


def test_data_fed_by_hand_comes_in_order_with_data_received(on_streams):
    async def scenario(reader, _writer, far):
        reader.feed_data(b"by hand,")
        far.sendall(b"from the peer,")
        await asyncio.sleep(0.01)
        reader.feed_data(b"by hand again")
        assert await reader.read(100) == b"by hand,from the peer,by hand again"

    on_streams(scenario)
