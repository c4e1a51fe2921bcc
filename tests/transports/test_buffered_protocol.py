"""BufferedProtocol: data goes where the protocol says."""

from __future__ import annotations

import asyncio
import random
import socket

import pytest

from support.recording import Recorder, Reports, in_thread, read_all, transport_pair


class Buffered(asyncio.BufferedProtocol):
    """Offers a buffer of a fixed size, and keeps what arrives in it."""

    _note = Recorder._note
    until = Recorder.until
    called = Recorder.called
    got = Recorder.got
    lost = Recorder.lost
    connection_made = Recorder.connection_made
    eof_received = Recorder.eof_received
    connection_lost = Recorder.connection_lost
    pause_writing = Recorder.pause_writing
    resume_writing = Recorder.resume_writing

    def __init__(self, size=1000, kind=bytearray):
        Recorder.__init__(self)
        self.offered = kind(size) if kind is bytearray else kind(bytearray(size))
        self.hints = []
        self.counts = []

    def get_buffer(self, sizehint):
        self.hints.append(sizehint)
        return self.offered

    def buffer_updated(self, nbytes):
        self.counts.append(nbytes)
        self.received += bytes(self.offered[:nbytes])
        self._note("buffer_updated")


@pytest.fixture
def reports(loop):
    return Reports(loop)


@pytest.mark.parametrize("kind", [bytearray, memoryview])
def test_data_arrives_in_the_buffer(loop, kind):
    async def scenario():
        transport, protocol, far = await transport_pair(loop, Buffered(100, kind))
        with far:
            far.sendall(b"hello")
            await protocol.got(5)
            assert bytes(protocol.received) == b"hello"
            assert protocol.counts == [5]
            far.close()
            assert await protocol.lost() is None
        assert protocol.calls == [
            "connection_made",
            "buffer_updated",
            "eof_received",
            "connection_lost",
        ]
        assert isinstance(protocol.hints[0], int)
        assert transport.is_closing()

    loop.run_until_complete(scenario())


@pytest.mark.parametrize("size", [1, 7, 1000, 300_000])
def test_more_than_fits_comes_in_pieces(loop, size):
    payload = random.Random(size).randbytes(min(size * 500, 4_000_000))

    async def scenario():
        transport, protocol, far = await transport_pair(loop, Buffered(size))
        with far:
            await in_thread(far.sendall, payload)
            await protocol.got(len(payload))
            assert protocol.received == payload
            assert max(protocol.counts) <= size
            transport.close()
            await protocol.lost()

    loop.run_until_complete(scenario())


def test_get_buffer_is_called_before_every_read(loop):
    class Fresh(Buffered):
        def get_buffer(self, sizehint):
            super().get_buffer(sizehint)
            self.offered = bytearray(10)
            return memoryview(self.offered)[:4]

    async def scenario():
        transport, protocol, far = await transport_pair(loop, Fresh())
        with far:
            far.sendall(b"abcdefghij")
            await protocol.got(10)
            assert protocol.received == b"abcdefghij"
            assert protocol.counts == [4, 4, 2]
            assert len(protocol.hints) >= 3
            transport.close()
            await protocol.lost()

    loop.run_until_complete(scenario())


def test_the_buffer_is_free_again_after_the_read(loop):
    """A bytearray can be resized only while no view of it exists."""

    class Resizes(Buffered):
        def buffer_updated(self, nbytes):
            super().buffer_updated(nbytes)
            self.offered.extend(b"more room")

    async def scenario():
        transport, protocol, far = await transport_pair(loop, Resizes())
        with far:
            for i in range(1, 4):
                far.sendall(b"x")
                await protocol.got(i)
            transport.close()
            await protocol.lost()
        assert len(protocol.offered) == 1000 + 3 * len(b"more room")

    loop.run_until_complete(scenario())


def test_reading_can_be_paused_from_the_callback(loop):
    class Pauses(Buffered):
        def buffer_updated(self, nbytes):
            super().buffer_updated(nbytes)
            self.transport.pause_reading()

    async def scenario():
        transport, protocol, far = await transport_pair(loop, Pauses(2))
        with far:
            far.sendall(b"abcdef")
            for expected in (b"ab", b"abcd", b"abcdef"):
                await protocol.got(len(expected))
                await asyncio.sleep(0.005)
                assert protocol.received == expected
                transport.resume_reading()
            transport.close()
            await protocol.lost()

    loop.run_until_complete(scenario())


def fatal(context, protocol, message):
    assert context["message"] == message
    assert context["transport"] is protocol.transport
    assert context["protocol"] is protocol
    assert context["exception"] is protocol.loss


@pytest.mark.parametrize("name", ["get_buffer", "buffer_updated"])
def test_an_error_of_the_protocol_ends_the_connection(loop, reports, name):
    def callback(_self, _argument):
        raise ValueError("trouble")

    async def scenario():
        protocol = type("Raises", (Buffered,), {name: callback})()
        _, _, far = await transport_pair(loop, protocol)
        with far:
            far.sendall(b"x")
            assert str(await protocol.lost()) == "trouble"
        fatal(reports.only(), protocol, f"Fatal error: protocol.{name}() call failed.")

    loop.run_until_complete(scenario())


def test_an_empty_buffer_is_an_error(loop, reports):
    async def scenario():
        protocol = Buffered(0)
        _, _, far = await transport_pair(loop, protocol)
        with far:
            far.sendall(b"x")
            error = await protocol.lost()
            assert isinstance(error, RuntimeError)
            assert str(error) == "get_buffer() returned an empty buffer"
        fatal(reports.only(), protocol, "Fatal error: protocol.get_buffer() call failed.")

    loop.run_until_complete(scenario())


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (None, "Fatal error: protocol.get_buffer() call failed."),
        (b"read-only", "Fatal read error on socket transport"),
        ("text", "Fatal read error on socket transport"),
    ],
    ids=repr,
)
def test_an_object_that_is_no_writable_buffer_is_an_error(loop, reports, answer, message):
    class Wrong(Buffered):
        def get_buffer(self, _sizehint):
            return answer

    async def scenario():
        protocol = Wrong()
        _, _, far = await transport_pair(loop, protocol)
        with far:
            far.sendall(b"x")
            assert isinstance(await protocol.lost(), (TypeError, BufferError))
        fatal(reports.only(), protocol, message)

    loop.run_until_complete(scenario())


def test_an_error_at_the_end_ends_the_connection(loop, reports):
    class Raises(Buffered):
        def eof_received(self):
            raise ValueError("trouble")

    async def scenario():
        protocol = Raises()
        _, _, far = await transport_pair(loop, protocol)
        with far:
            far.shutdown(socket.SHUT_WR)
            assert str(await protocol.lost()) == "trouble"
        fatal(reports.only(), protocol, "Fatal error: protocol.eof_received() call failed.")

    loop.run_until_complete(scenario())


def test_a_plain_protocol_can_hand_over_to_a_buffered_one_and_back(loop):
    first, second, third = Recorder(), Buffered(), Recorder()

    async def scenario():
        transport, _, far = await transport_pair(loop, first)
        with far:
            for protocol, data in ((first, b"one"), (second, b"two"), (third, b"three")):
                protocol.transport = transport
                transport.set_protocol(protocol)
                far.sendall(data)
                await protocol.got(len(data))
            transport.close()
            await third.lost()
        assert (first.received, second.received, third.received) == (b"one", b"two", b"three")

    loop.run_until_complete(scenario())


def test_handing_over_within_a_callback(loop):
    second = Buffered()

    class HandsOver(Recorder):
        def data_received(self, data):
            super().data_received(data)
            self.transport.set_protocol(second)
            self.transport.write(b"go on")

    async def scenario():
        transport, first, far = await transport_pair(loop, HandsOver())
        second.transport = transport
        with far:
            far.sendall(b"first")
            assert await in_thread(far.recv, 100) == b"go on"
            far.sendall(b"second")
            await second.got(6)
            transport.close()
            await second.lost()
        assert (first.received, second.received) == (b"first", b"second")

    loop.run_until_complete(scenario())


def test_a_buffered_protocol_writes_like_any_other(loop):
    async def scenario():
        transport, protocol, far = await transport_pair(loop, Buffered())
        with far:
            transport.write(b"w" * (32 << 20))
            transport.close()
            assert len(await in_thread(read_all, far)) == 32 << 20
            await protocol.lost()
        assert protocol.calls == [
            "connection_made",
            "pause_writing",
            "resume_writing",
            "connection_lost",
        ]

    loop.run_until_complete(scenario())


def test_a_buffered_protocol_may_serve(loop):
    class Echo(Buffered):
        def buffer_updated(self, nbytes):
            super().buffer_updated(nbytes)
            self.transport.write(self.offered[:nbytes])

    payload = random.Random(7).randbytes(1_000_000)
    protocol = Echo(4096)

    def ask(address):
        with socket.create_connection(address) as client:
            client.sendall(payload)
            client.shutdown(socket.SHUT_WR)
            return read_all(client)

    async def scenario():
        server = await loop.create_server(lambda: protocol, "127.0.0.1", 0)
        address = server.sockets[0].getsockname()
        # The client reads only after it has sent everything: the echo has to wait somewhere.
        assert await in_thread(ask, address) == payload
        await protocol.lost()
        server.close()
        await server.wait_closed()

    loop.run_until_complete(scenario())


@pytest.mark.parametrize("way", ["close", "abort"])
def test_a_get_buffer_that_ends_the_connection_is_still_filled(loop, way):
    class Ends(Buffered):
        def get_buffer(self, sizehint):
            getattr(self.transport, way)()
            return super().get_buffer(sizehint)

    async def scenario():
        protocol = Ends()
        _, _, far = await transport_pair(loop, protocol)
        with far:
            far.sendall(b"hello")
            assert await protocol.lost() is None
        assert bytes(protocol.received) == b"hello"
        assert protocol.calls == ["connection_made", "buffer_updated", "connection_lost"]

    loop.run_until_complete(scenario())


def test_a_get_buffer_that_sets_another_protocol(loop, reports):
    """The buffer is filled, and it is the other one that is called."""

    class Passes(Buffered):
        def get_buffer(self, sizehint):
            self.transport.set_protocol(self.next)
            return super().get_buffer(sizehint)

    async def scenario(following):
        protocol = Passes()
        protocol.next = following
        transport, _, far = await transport_pair(loop, protocol)
        with far:
            far.sendall(b"hello")
            if isinstance(following, Buffered):
                await following.called("buffer_updated")
                assert following.counts == [5]
                transport.abort()
            assert (await following.lost() is None) == isinstance(following, Buffered)
        assert bytes(protocol.offered[:5]) == b"hello"
        assert protocol.counts == []

    loop.run_until_complete(scenario(Buffered()))
    assert reports.contexts == []
    loop.run_until_complete(scenario(Recorder()))
    message = "Fatal error: protocol.buffer_updated() call failed."
    assert [context["message"] for context in reports.contexts] == [message]
