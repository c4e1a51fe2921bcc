"""TLS transports: writing and write flow control."""

from __future__ import annotations

import array
import asyncio
import logging
import random

import pytest

from support.recording import Recorder, Reports, in_thread
from tls.peers import OLDER_DESIGN, tls_pair

MEGABYTE = 1 << 20
# More than the kernel buffers for both ends of a connection together.
TOO_MUCH = 32 * MEGABYTE


@pytest.mark.parametrize(
    "data", [b"bytes", bytearray(b"bytearray"), memoryview(b"memoryview")], ids=["b", "ba", "mv"]
)
def test_any_bytes_can_be_written(on_tls, data):
    async def scenario(transport, _protocol, peer):
        assert transport.write(data) is None
        assert await in_thread(peer.recv) == bytes(data)

    on_tls(scenario)


@pytest.mark.parametrize("data", ["text", 1, None, [b"list"], object, array.array("b", b"array")])
def test_anything_else_cannot_be_written(on_tls, data):
    async def scenario(transport, _protocol, peer):
        expected = f"data: expecting a bytes-like instance, got {type(data).__name__}"
        with pytest.raises(TypeError, match=expected):
            transport.write(data)
        # The transport is none the worse for it.
        transport.write(b"fine")
        assert await in_thread(peer.recv) == b"fine"

    on_tls(scenario)


@pytest.mark.parametrize("nothing", [b"", bytearray(), memoryview(b"")])
def test_writing_nothing_writes_nothing(on_tls, nothing):
    async def scenario(transport, protocol, peer):
        transport.write(nothing)
        transport.writelines([])
        transport.writelines([nothing, nothing])
        assert transport.get_write_buffer_size() == 0
        transport.write(b"something")
        transport.close()
        assert await in_thread(peer.recv_all) == b"something"
        await in_thread(peer.unwrap)
        assert await protocol.lost() is None

    on_tls(scenario)


def test_lines_are_written_one_after_the_other(on_tls):
    async def scenario(transport, _protocol, peer):
        assert transport.writelines([b"one,", bytearray(b"two,"), memoryview(b"three,")]) is None
        transport.writelines(part for part in (b"four,", b"", b"five"))
        transport.writelines([array.array("b", b",six")])
        expected = b"one,two,three,four,five,six"
        assert await in_thread(peer.recv_exactly, len(expected)) == expected

    on_tls(scenario)


@pytest.mark.native_only(reason="asyncio ends the connection, or not until it comes to that line")
def test_lines_must_be_bytes_or_none_of_them_leaves(on_tls):
    async def scenario(transport, _protocol, peer):
        with pytest.raises(TypeError):
            transport.writelines([b"good", "bad"])
        with pytest.raises(TypeError):
            transport.writelines(None)
        transport.write(b"fine")
        assert await in_thread(peer.recv) == b"fine"

    on_tls(scenario)


def test_a_buffer_changed_after_a_write_was_already_taken(on_tls):
    async def scenario(transport, _protocol, peer):
        data = bytearray(b"original")
        transport.write(data)
        data[:] = b"mutated!"
        transport.write(memoryview(data)[:7])
        data.clear()
        assert await in_thread(peer.recv_exactly, 15) == b"originalmutated"

    on_tls(scenario)


@pytest.mark.parametrize("seed", range(3))
def test_writes_of_every_size_arrive_whole_and_in_order(on_tls, tls_version, certificates, seed):
    rng = random.Random(seed)

    async def scenario(transport, protocol, peer):
        reading = asyncio.ensure_future(in_thread(peer.recv_all))
        expected = bytearray()
        for _ in range(200):
            data = rng.randbytes(rng.choice((1, 10, 1000, 16_384, 16_385, 65_536, 200_000)))
            expected += data
            if rng.random() < 0.3:
                cut = rng.randrange(len(data) + 1)
                transport.writelines([data[:cut], memoryview(data)[cut:]])
            else:
                transport.write(data)
            if rng.random() < 0.2:
                await asyncio.sleep(0)
        transport.close()
        assert await reading == expected
        await in_thread(peer.unwrap)
        assert await protocol.lost() is None

    on_tls(scenario, client_context=certificates.client_context(version=tls_version))


def test_writes_from_the_callbacks_keep_their_order(on_tls):
    class Answers(Recorder):
        def connection_made(self, transport):
            super().connection_made(transport)
            transport.write(b"made;")

        def data_received(self, data):
            super().data_received(data)
            self.transport.write(b"got " + data + b";")

    async def scenario(transport, _protocol, peer):
        await in_thread(peer.send, b"it")
        expected = b"made;got it;"
        assert await in_thread(peer.recv_exactly, len(expected)) == expected

    on_tls(scenario, Answers())


def test_a_write_leaves_without_a_running_loop(loop, certificates):
    """As over plain TCP: a write between two runs of the loop must not wait for the next."""
    pair = loop.run_until_complete(tls_pair(loop, certificates))
    pair.client.transport.write(b"between")
    loop.run_until_complete(pair.server.got(7))
    assert pair.server.received == b"between"
    loop.run_until_complete(pair.end())


def test_write_eof_is_not_possible(on_tls):
    async def scenario(transport, _protocol, peer):
        assert transport.can_write_eof() is False
        with pytest.raises(NotImplementedError):
            transport.write_eof()
        transport.write(b"still open")
        assert await in_thread(peer.recv) == b"still open"

    on_tls(scenario)


# --- after the end ---


@pytest.mark.native_only(**OLDER_DESIGN)
def test_writes_after_close_are_dropped_and_warned_of_in_the_end(on_tls, caplog):
    async def scenario(transport, protocol, peer):
        transport.write(b"before")
        transport.close()
        with caplog.at_level(logging.WARNING, "asyncio"):
            for _ in range(5):
                transport.write(b"after")
            assert not caplog.records
            transport.write(b"after")
            transport.writelines([b"after", b"after"])
        assert caplog.messages == ["SSL connection is closed"] * 2
        assert await in_thread(peer.recv_all) == b"before"
        await in_thread(peer.unwrap)
        await protocol.lost()

    on_tls(scenario)


@pytest.mark.native_only(**OLDER_DESIGN)
def test_writes_after_the_loss_are_dropped_and_warned_of_in_the_end(on_tls, caplog):
    async def scenario(transport, protocol, _peer):
        transport.abort()
        await protocol.lost()
        with caplog.at_level(logging.WARNING, "asyncio"):
            for _ in range(4):
                transport.write(b"after")
            assert not caplog.records
            transport.write(b"after")
        assert caplog.messages == ["SSL connection is closed"]
        with pytest.raises(TypeError, match="data: expecting a bytes-like instance, got str"):
            transport.write("text")

    on_tls(scenario)


# --- flow control ---


def test_a_large_write_pauses_and_resumes_the_protocol(on_tls):
    async def scenario(transport, protocol, peer):
        data = random.Random(1).randbytes(TOO_MUCH)
        transport.write(data[: TOO_MUCH // 2])
        transport.write(data[TOO_MUCH // 2 :])
        assert "pause_writing" in protocol.calls
        assert transport.get_write_buffer_size() > 512 * 1024
        received = await in_thread(peer.recv_exactly, len(data))
        assert received == data
        await protocol.called("resume_writing")
        assert protocol.calls == ["connection_made", "pause_writing", "resume_writing"]
        assert transport.get_write_buffer_size() == 0

    on_tls(scenario)


@pytest.mark.native_only(**OLDER_DESIGN)
def test_the_write_limits_are_larger_than_those_of_tcp(on_tls):
    async def scenario(transport, _protocol, _peer):
        assert transport.get_write_buffer_limits() == (128 * 1024, 512 * 1024)
        transport.set_write_buffer_limits(high=1000)
        assert transport.get_write_buffer_limits() == (250, 1000)
        transport.set_write_buffer_limits(low=1000)
        assert transport.get_write_buffer_limits() == (1000, 4000)
        transport.set_write_buffer_limits(2000, 1500)
        assert transport.get_write_buffer_limits() == (1500, 2000)
        for high, low in ((1, 2), (-1, None), (0, 1), (1, -1)):
            with pytest.raises(ValueError, match=r"high \(-?\d\) must be >= low \(-?\d\) must be"):
                transport.set_write_buffer_limits(high, low)
        assert transport.get_write_buffer_limits() == (1500, 2000)
        transport.set_write_buffer_limits()
        assert transport.get_write_buffer_limits() == (128 * 1024, 512 * 1024)

    on_tls(scenario)


@pytest.mark.native_only(**OLDER_DESIGN)
def test_new_limits_apply_to_data_buffered_already(on_tls):
    async def scenario(transport, protocol, peer):
        transport.set_write_buffer_limits(high=2 * TOO_MUCH)
        # The transport below takes the first of it whole, the second waits above.
        for _ in range(2):
            transport.write(bytes(TOO_MUCH // 2))
        assert protocol.calls == ["connection_made"]
        waiting = transport.get_write_buffer_size()
        assert waiting >= TOO_MUCH // 2
        transport.set_write_buffer_limits(high=waiting)
        assert protocol.calls == ["connection_made", "pause_writing"]
        transport.set_write_buffer_limits(high=4 * waiting, low=waiting)
        assert protocol.calls == ["connection_made", "pause_writing", "resume_writing"]
        assert len(await in_thread(peer.recv_exactly, TOO_MUCH)) == TOO_MUCH

    on_tls(scenario)


@pytest.mark.native_only(reason="asyncio takes an empty buffer for one above a mark of 0")
def test_a_limit_of_zero_pauses_while_anything_is_buffered(on_tls):
    async def scenario(transport, protocol, peer):
        transport.set_write_buffer_limits(0)
        assert transport.get_write_buffer_limits() == (0, 0)
        for _ in range(3):
            transport.write(b"small")
            assert await in_thread(peer.recv_exactly, 5) == b"small"
        assert protocol.calls == ["connection_made"]
        reading = asyncio.ensure_future(in_thread(peer.recv_exactly, TOO_MUCH + 1))
        transport.write(bytes(TOO_MUCH))
        transport.write(b".")
        assert protocol.calls == ["connection_made", "pause_writing"]
        assert len(await reading) == TOO_MUCH + 1
        await protocol.called("resume_writing")

    on_tls(scenario)


def test_drain_waits_for_a_slow_reader(loop, certificates):
    """The streams' `drain` bounds what waits in the transport."""
    most = []

    async def serve(reader, writer):
        with pytest.raises(asyncio.IncompleteReadError):
            await reader.readexactly(TOO_MUCH + 1)
        writer.close()
        done.set()

    async def main():
        server = await asyncio.start_server(
            serve, "127.0.0.1", 0, ssl=certificates.server_context()
        )
        _reader, writer = await asyncio.open_connection(
            *server.sockets[0].getsockname(), ssl=certificates.client_context()
        )
        for _ in range(TOO_MUCH // MEGABYTE):
            writer.write(bytes(MEGABYTE))
            most.append(writer.transport.get_write_buffer_size())
            await writer.drain()
        writer.close()
        await done.wait()
        await writer.wait_closed()
        server.close()
        await server.wait_closed()

    done = asyncio.Event()
    loop.run_until_complete(main())
    assert max(most) < 4 * MEGABYTE


def test_a_protocol_may_write_on_in_resume_writing(on_tls):
    class Flood(Recorder):
        left = 6

        def write_on(self):
            known = len(self.calls)
            while self.left and "pause_writing" not in self.calls[known:]:
                self.left -= 1
                self.transport.write(bytes(8 * MEGABYTE))

        def resume_writing(self):
            super().resume_writing()
            self.write_on()

    async def scenario(_transport, protocol, peer):
        total = protocol.left * 8 * MEGABYTE
        protocol.write_on()
        assert protocol.left
        assert len(await in_thread(peer.recv_exactly, total)) == total
        assert protocol.left == 0

    on_tls(scenario, Flood())


@pytest.mark.native_only(**OLDER_DESIGN)
def test_data_written_in_pause_writing_comes_behind_all_lines(on_tls):
    class Adds(Recorder):
        def pause_writing(self):
            super().pause_writing()
            self.transport.write(b"added")

    async def scenario(transport, protocol, peer):
        transport.write(bytes(TOO_MUCH))
        lines = [bytes([number]) * MEGABYTE for number in range(3)]
        transport.writelines(lines)
        assert "pause_writing" in protocol.calls
        data = await in_thread(peer.recv_exactly, TOO_MUCH + 3 * MEGABYTE + 5)
        assert data[TOO_MUCH:] == b"".join(lines) + b"added"

    on_tls(scenario, Adds())


def test_two_that_answer_without_end_both_go_on_reading(on_tls_pair):
    """Neither obeys flow control: what each writes must not keep it from reading."""

    class Answers(Recorder):
        def data_received(self, data):
            super().data_received(data)
            if len(self.received) < 2 * TOO_MUCH:
                self.transport.write(data)

    async def scenario(client, server):
        for end in (client, server):
            end.transport.write(bytes(TOO_MUCH))
        for end in (client, server):
            await end.got(2 * TOO_MUCH)

    on_tls_pair(scenario, Answers(), Answers())


def test_methods_that_have_nothing_to_say_give_none(on_tls):
    async def scenario(transport, protocol, _peer):
        assert transport.write(b"word") is None
        assert transport.writelines([b"word"]) is None
        assert transport.pause_reading() is None
        assert transport.resume_reading() is None
        assert transport.set_write_buffer_limits(high=10) is None
        assert transport.set_protocol(transport.get_protocol()) is None
        assert transport.abort() is None
        await protocol.lost()

    on_tls(scenario)


def test_a_view_of_bytes_that_do_not_lie_in_a_row_ends_the_connection(loop, on_tls):
    reports = Reports(loop)

    async def scenario(transport, protocol, _peer):
        transport.write(memoryview(b"gaps")[::2])
        assert isinstance(await protocol.lost(), BufferError)
        assert reports.only()["message"] == "Fatal error on SSL protocol"

    on_tls(scenario)
