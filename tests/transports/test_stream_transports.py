"""Stream transports: writing, reading, and the ends of both directions."""

from __future__ import annotations

import asyncio
import random
import socket
import sys

import pytest

from support.recording import Recorder, Reports, in_thread, read_all

# More than the kernel buffers for both ends of a connection together.
TOO_MUCH = 32 << 20


# --- writing ---

BYTES_LIKE = "a bytes-like object"
if sys.version_info >= (3, 14):
    BYTES_LIKE = "a bytes, bytearray, or memoryview object"


@pytest.mark.parametrize(
    "data", [b"bytes", bytearray(b"bytearray"), memoryview(b"memoryview")], ids=["b", "ba", "mv"]
)
def test_any_bytes_can_be_written(on_pair, data):
    async def scenario(transport, _protocol, far):
        assert transport.write(data) is None
        assert await in_thread(far.recv, 100) == bytes(data)

    on_pair(scenario)


@pytest.mark.parametrize("data", ["text", 1, None, [b"list"], object])
def test_anything_else_cannot_be_written(on_pair, data):
    async def scenario(transport, _protocol, far):
        name = type(data).__name__
        with pytest.raises(TypeError, match=f"data argument must be {BYTES_LIKE}, not '{name}'"):
            transport.write(data)
        # The transport is none the worse for it.
        transport.write(b"fine")
        assert await in_thread(far.recv, 100) == b"fine"

    on_pair(scenario)


def test_writing_nothing_writes_nothing(on_pair):
    async def scenario(transport, protocol, far):
        transport.write(b"")
        transport.writelines([])
        assert transport.get_write_buffer_size() == 0
        transport.close()
        assert await in_thread(read_all, far) == b""
        await protocol.lost()

    on_pair(scenario)


@pytest.mark.native_only
def test_writing_lines_of_nothing_writes_nothing(on_pair):
    """The standard library since 3.12 is busy for ever with these; that is no model."""

    async def scenario(transport, protocol, far):
        transport.writelines([b"", b""])
        transport.close()
        assert await in_thread(read_all, far) == b""
        await protocol.lost()

    on_pair(scenario)


def test_lines_are_written_one_after_the_other(on_pair):
    async def scenario(transport, _protocol, far):
        assert transport.writelines([b"one,", bytearray(b"two,"), memoryview(b"three,")]) is None
        transport.writelines(part for part in (b"four,", b"five"))
        transport.close()
        assert await in_thread(read_all, far) == b"one,two,three,four,five"

    on_pair(scenario)


def test_lines_must_be_bytes(on_pair):
    async def scenario(transport, _protocol, _far):
        with pytest.raises(TypeError):
            transport.writelines(["text"])

    on_pair(scenario)


def test_a_buffer_changed_after_a_small_write_was_already_taken(on_pair):
    async def scenario(transport, _protocol, far):
        data = bytearray(b"original")
        transport.write(data)
        data[:] = b"mutated!"
        transport.write(memoryview(data)[:7])
        data[:] = b"????????"
        transport.close()
        assert await in_thread(read_all, far) == b"originalmutated"

    on_pair(scenario)


@pytest.mark.native_only
def test_a_buffer_changed_after_a_large_write_was_already_taken(on_pair):
    """The standard library keeps a view of the caller's buffer since 3.12; we take a copy."""

    async def scenario(transport, _protocol, far):
        data = bytearray(b"o") * TOO_MUCH
        transport.write(data)
        data[:] = bytes(len(data))
        data.clear()
        transport.close()
        received = await in_thread(read_all, far)
        assert len(received) == TOO_MUCH
        assert received.count(b"o") == TOO_MUCH

    on_pair(scenario)


@pytest.mark.parametrize("seed", range(3))
def test_writes_of_every_size_arrive_whole_and_in_order(on_pair, seed):
    rng = random.Random(seed)

    async def scenario(transport, protocol, far):
        reading = asyncio.ensure_future(in_thread(read_all, far))
        expected = bytearray()
        for _ in range(200):
            data = rng.randbytes(rng.choice((1, 10, 1000, 65_536, 200_000)))
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
        assert await protocol.lost() is None

    on_pair(scenario)


def test_writes_from_the_callbacks_keep_their_order(on_pair):
    class Answers(Recorder):
        def connection_made(self, transport):
            super().connection_made(transport)
            transport.write(b"made;")

        def data_received(self, data):
            super().data_received(data)
            self.transport.write(b"got " + data + b";")

        def eof_received(self):
            super().eof_received()
            self.transport.write(b"end")

    async def scenario(_transport, protocol, far):
        far.sendall(b"data")
        await protocol.got(4)
        far.shutdown(socket.SHUT_WR)
        assert await in_thread(read_all, far) == b"made;got data;end"
        assert await protocol.lost() is None

    on_pair(scenario, Answers())


def test_a_written_word_leaves_before_the_loop_works_on(on_pair):
    """Batched or not, what was written must be under way while the loop is busy elsewhere."""

    async def scenario(transport, _protocol, far):
        transport.write(b"early")
        for _ in range(50):
            await asyncio.sleep(0)
        far.settimeout(0)
        assert far.recv(10) == b"early"

    on_pair(scenario)


# --- reading ---


def test_data_comes_as_bytes(on_pair):
    kinds = set()

    class Looks(Recorder):
        def data_received(self, data):
            kinds.add(type(data))
            super().data_received(data)

    async def scenario(_transport, protocol, far):
        far.sendall(b"small")
        await protocol.got(5)
        await in_thread(far.sendall, bytes(1 << 20))
        await protocol.got(5 + (1 << 20))

    on_pair(scenario, Looks())
    assert kinds == {bytes}


def test_received_data_stays_as_it_was(on_pair):
    """Kept chunks must not change when later reads use the same scratch space."""
    chunks = []

    class Keeps(Recorder):
        def data_received(self, data):
            chunks.append(data)
            super().data_received(data)

    payload = random.Random(5).randbytes(4 << 20)

    async def scenario(_transport, protocol, far):
        await in_thread(far.sendall, payload)
        await protocol.got(len(payload))

    on_pair(scenario, Keeps())
    assert b"".join(chunks) == payload


def test_reading_can_be_paused_and_resumed(on_pair):
    async def scenario(transport, protocol, far):
        assert transport.is_reading()
        transport.pause_reading()
        transport.pause_reading()
        assert not transport.is_reading()
        far.sendall(b"wait")
        await asyncio.sleep(0.01)
        assert protocol.received == b""
        transport.resume_reading()
        transport.resume_reading()
        assert transport.is_reading()
        await protocol.got(4)

    on_pair(scenario)


def test_reading_paused_in_data_received_stops_at_once(on_pair):
    class PausesAfterEach(Recorder):
        def data_received(self, data):
            super().data_received(data)
            self.transport.pause_reading()

    async def scenario(transport, protocol, far):
        for i in range(1, 4):
            far.sendall(b"x")
            await protocol.got(i)
            far.sendall(b"y" * 10)
            await asyncio.sleep(0.005)
            assert len(protocol.received) == i
            # Throw away what came while reading was paused.
            taken = transport.get_extra_info("socket")._sock.recv(100)
            assert taken == b"y" * 10
            transport.resume_reading()

    on_pair(scenario, PausesAfterEach())


def test_a_paused_transport_does_not_notice_the_end(on_pair):
    async def scenario(transport, protocol, far):
        transport.pause_reading()
        far.sendall(b"last words")
        far.shutdown(socket.SHUT_WR)
        await asyncio.sleep(0.01)
        assert protocol.calls == ["connection_made"]
        transport.resume_reading()
        await protocol.lost()
        assert protocol.received == b"last words"
        assert protocol.calls[-2:] == ["eof_received", "connection_lost"]

    on_pair(scenario)


def test_a_closing_transport_neither_reads_nor_resumes(on_pair):
    async def scenario(transport, protocol, far):
        transport.write(bytes(TOO_MUCH))
        transport.close()
        assert not transport.is_reading()
        transport.resume_reading()
        transport.pause_reading()
        far.sendall(b"too late")
        await asyncio.sleep(0.01)
        assert protocol.received == b""

    on_pair(scenario)


# --- ends of file ---


def test_half_closing_leaves_the_other_half_open(on_pair):
    async def scenario(transport, protocol, far):
        assert transport.can_write_eof() is True
        transport.write(b"question")
        assert transport.write_eof() is None
        transport.write_eof()
        assert await in_thread(read_all, far) == b"question"
        assert not transport.is_closing()
        far.sendall(b"answer")
        await protocol.got(6)
        far.close()
        assert await protocol.lost() is None

    on_pair(scenario)


def test_half_closing_delivers_everything_first(on_pair):
    async def scenario(transport, protocol, far):
        transport.write(b"z" * TOO_MUCH)
        transport.write_eof()
        received = await in_thread(read_all, far)
        assert len(received) == TOO_MUCH
        far.sendall(b"thanks")
        await protocol.got(6)

    on_pair(scenario)


def test_writing_after_half_closing_is_an_error(on_pair):
    async def scenario(transport, _protocol, _far):
        transport.write_eof()
        with pytest.raises(RuntimeError, match=r"Cannot call write\(\) after write_eof\(\)"):
            transport.write(b"more")

    on_pair(scenario)


def test_the_peers_half_close_can_be_answered(on_pair):
    async def scenario(transport, protocol, far):
        far.sendall(b"question")
        far.shutdown(socket.SHUT_WR)
        await protocol.called("eof_received")
        await asyncio.sleep(0.005)
        assert not transport.is_closing()
        transport.write(b"answer")
        transport.close()
        assert await in_thread(read_all, far) == b"answer"
        assert await protocol.lost() is None
        assert protocol.story == [
            "connection_made",
            "data_received",
            "eof_received",
            "connection_lost",
        ]

    on_pair(scenario, Recorder(keep_open_at_eof=True))


def test_the_end_is_reported_once_while_half_open(on_pair):
    async def scenario(_transport, protocol, far):
        far.shutdown(socket.SHUT_WR)
        await protocol.called("eof_received")
        await asyncio.sleep(0.02)
        assert protocol.calls.count("eof_received") == 1

    on_pair(scenario, Recorder(keep_open_at_eof=True))


def test_the_peers_close_closes(on_pair):
    async def scenario(transport, protocol, far):
        far.close()
        assert await protocol.lost() is None
        assert protocol.story == ["connection_made", "eof_received", "connection_lost"]
        assert transport.is_closing()

    on_pair(scenario)


def test_closing_at_the_end_still_delivers_written_data(on_pair):
    async def scenario(transport, protocol, far):
        transport.write(b"w" * TOO_MUCH)
        far.shutdown(socket.SHUT_WR)
        await protocol.called("eof_received")
        received = await in_thread(read_all, far)
        assert len(received) == TOO_MUCH
        assert await protocol.lost() is None

    on_pair(scenario)


def test_methods_that_have_nothing_to_say_give_none(on_pair):
    async def scenario(transport, _protocol, _far):
        assert transport.write(b"word") is None
        assert transport.writelines([b"word"]) is None
        assert transport.pause_reading() is None
        assert transport.resume_reading() is None
        assert transport.set_write_buffer_limits(high=10) is None
        assert transport.set_protocol(transport.get_protocol()) is None
        assert transport.close() is None
        assert transport.abort() is None

    on_pair(scenario)


def test_a_view_of_bytes_that_do_not_lie_in_a_row_ends_the_connection(loop, on_pair):
    reports = Reports(loop)

    async def scenario(transport, protocol, far):
        transport.write(memoryview(b"gaps")[::2])
        assert isinstance(await protocol.lost(), BufferError)
        assert reports.only()["message"] == "Fatal write error on socket transport"
        assert await in_thread(read_all, far) == b""

    on_pair(scenario)
