"""Flow control: when a protocol is paused, and when it is resumed."""

from __future__ import annotations

import asyncio
import math
from fractions import Fraction

import pytest

from support.recording import Recorder, in_thread, read_all, read_exactly, transport_pair

KIB = 1024
# More than the kernel buffers for both ends of a connection together.
TOO_MUCH = 32 << 20


async def clogged(transport):
    """Write until the kernel takes no more, and forget what that did to the protocol."""
    protocol = transport.get_protocol()
    transport.write(bytes(TOO_MUCH))
    size = None
    while size != transport.get_write_buffer_size():
        size = transport.get_write_buffer_size()
        await asyncio.sleep(0.01)
    protocol.calls.clear()


def test_the_limits_are_those_of_asyncio(on_pair):
    async def scenario(transport, _protocol, _far):
        assert transport.get_write_buffer_limits() == (16 * KIB, 64 * KIB)
        assert transport.get_write_buffer_size() == 0

    on_pair(scenario)


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({}, (16 * KIB, 64 * KIB)),
        ({"high": 1000}, (250, 1000)),
        ({"low": 1000}, (1000, 4000)),
        ({"high": 1000, "low": 10}, (10, 1000)),
        ({"high": 1000, "low": 1000}, (1000, 1000)),
        ({"high": 0}, (0, 0)),
        ({"high": 0, "low": 0}, (0, 0)),
        ({"low": 0}, (0, 0)),
        # asyncio only compares with them.
        ({"high": 1e6}, (250_000.0, 1e6)),
        ({"low": 0.5}, (0.5, 2.0)),
        ({"high": math.inf, "low": 1}, (1, math.inf)),
        ({"high": 1 << 70}, (1 << 68, 1 << 70)),
        ({"low": 1 << 62}, (1 << 62, 1 << 64)),
        ({"high": Fraction(9, 2), "low": True}, (True, Fraction(9, 2))),
    ],
    ids=str,
)
def test_limits_complete_each_other(on_pair, given, expected):
    async def scenario(transport, _protocol, _far):
        assert transport.set_write_buffer_limits(**given) is None
        limits = transport.get_write_buffer_limits()
        assert limits == expected
        assert list(map(type, limits)) == list(map(type, expected))
        assert (transport._low_water, transport._high_water) == expected

    on_pair(scenario)


@pytest.mark.parametrize("high", [math.inf, 1 << 70, 1e30])
def test_a_limit_beyond_all_bounds_pauses_no_protocol(on_pair, high):
    async def scenario(transport, protocol, _far):
        transport.set_write_buffer_limits(high=high, low=0)
        transport.write(bytes(TOO_MUCH))
        await asyncio.sleep(0.01)
        assert "pause_writing" not in protocol.calls

    on_pair(scenario)


@pytest.mark.parametrize("high", [1000, 1000.5, Fraction(2001, 2)])
def test_a_limit_need_not_be_whole(on_pair, high):
    async def scenario(transport, protocol, _far):
        await clogged(transport)
        size = transport.get_write_buffer_size()
        transport.set_write_buffer_limits(high=size - 1000 + high, low=0)
        transport.write(b"x" * (1000 - 1))
        assert "pause_writing" not in protocol.calls
        transport.write(b"xx")
        assert "pause_writing" in protocol.calls or transport._protocol_paused

    on_pair(scenario)


@pytest.mark.parametrize(
    ("given", "error"),
    [
        ({"high": math.nan}, ValueError),
        ({"high": math.inf}, ValueError),  # a quarter of which is no number
        ({"high": "1000"}, TypeError),
        ({"low": "1000"}, TypeError),
        ({"high": 1000, "low": b""}, TypeError),
    ],
    ids=str,
)
def test_limits_that_do_not_compare_are_refused(on_pair, given, error):
    async def scenario(transport, _protocol, _far):
        with pytest.raises(error):
            transport.set_write_buffer_limits(**given)
        assert transport.get_write_buffer_limits() == (16 * KIB, 64 * KIB)

    on_pair(scenario)


@pytest.mark.parametrize(
    ("high", "low"), [(10, 11), (0, 1), (-1, None), (10, -1), (None, -1)], ids=str
)
def test_limits_that_make_no_sense_are_refused(on_pair, high, low):
    async def scenario(transport, _protocol, _far):
        with pytest.raises(ValueError, match=r"^high \(.*\) must be >= low \(.*\) must be >= 0$"):
            transport.set_write_buffer_limits(high, low)
        assert transport.get_write_buffer_limits() == (16 * KIB, 64 * KIB)

    on_pair(scenario)


def test_writing_more_than_the_peer_takes_pauses_once(on_pair):
    async def scenario(transport, protocol, _far):
        transport.write(bytes(TOO_MUCH))
        # At once, so that a drain() right after the write waits.
        assert protocol.calls == ["connection_made", "pause_writing"]
        transport.write(bytes(TOO_MUCH))
        await asyncio.sleep(0.01)
        assert protocol.calls == ["connection_made", "pause_writing"]
        assert TOO_MUCH < transport.get_write_buffer_size() <= 2 * TOO_MUCH

    on_pair(scenario)


def test_writing_resumes_once_the_peer_has_taken_enough(on_pair):
    async def scenario(transport, protocol, far):
        sizes = []
        resume = protocol.resume_writing
        protocol.resume_writing = lambda: (
            sizes.append(transport.get_write_buffer_size()),
            resume(),
        )
        transport.write(bytes(TOO_MUCH))
        reading = asyncio.ensure_future(in_thread(read_all, far))
        await protocol.called("resume_writing")
        # By then the buffer is down to the low mark.
        assert sizes[0] <= 16 * KIB
        transport.close()
        assert len(await reading) == TOO_MUCH
        await protocol.lost()
        assert protocol.calls == [
            "connection_made",
            "pause_writing",
            "resume_writing",
            "connection_lost",
        ]

    on_pair(scenario)


def test_data_that_the_kernel_takes_does_not_pause(on_pair):
    async def scenario(transport, protocol, far):
        for _ in range(20):
            transport.write(bytes(10 * KIB))
            assert len(await in_thread(read_exactly, far, 10 * KIB)) == 10 * KIB
        assert protocol.calls == ["connection_made"]
        assert transport.get_write_buffer_size() == 0

    on_pair(scenario)


def test_the_high_mark_itself_does_not_pause_but_one_byte_more_does(on_pair):
    async def scenario(transport, protocol, _far):
        transport.set_write_buffer_limits(high=4 * TOO_MUCH)
        await clogged(transport)
        size = transport.get_write_buffer_size()
        transport.set_write_buffer_limits(high=size + 10)
        transport.write(b"x" * 10)
        assert protocol.calls == []
        transport.write(b"x")
        assert protocol.calls == ["pause_writing"]

    on_pair(scenario)


def test_the_buffer_counts_every_byte_not_yet_sent(on_pair):
    async def scenario(transport, _protocol, _far):
        await clogged(transport)
        size = transport.get_write_buffer_size()
        transport.write(b"x" * 100)
        assert transport.get_write_buffer_size() == size + 100
        transport.write(b"")
        assert transport.get_write_buffer_size() == size + 100
        for _ in range(10):
            transport.write(b"y")
        assert transport.get_write_buffer_size() == size + 110

    on_pair(scenario)


def test_a_high_limit_lets_more_be_buffered(on_pair):
    async def scenario(transport, protocol, _far):
        transport.set_write_buffer_limits(high=4 * TOO_MUCH)
        transport.write(bytes(TOO_MUCH))
        transport.write(bytes(TOO_MUCH))
        assert protocol.calls == ["connection_made"]
        transport.write(bytes(3 * TOO_MUCH))
        assert protocol.calls == ["connection_made", "pause_writing"]

    on_pair(scenario)


def test_lowering_the_limit_below_the_buffered_size_pauses_at_once(on_pair):
    async def scenario(transport, protocol, _far):
        transport.set_write_buffer_limits(high=4 * TOO_MUCH)
        transport.write(bytes(TOO_MUCH))
        assert protocol.calls == ["connection_made"]
        transport.set_write_buffer_limits(high=KIB)
        assert protocol.calls == ["connection_made", "pause_writing"]

    on_pair(scenario)


def test_a_limit_of_zero_pauses_for_any_byte_and_resumes_for_none(on_pair):
    async def scenario(transport, protocol, far):
        transport.set_write_buffer_limits(high=0)
        transport.write(bytes(TOO_MUCH))
        assert protocol.calls == ["connection_made", "pause_writing"]
        sizes = []
        resume = protocol.resume_writing
        protocol.resume_writing = lambda: (
            sizes.append(transport.get_write_buffer_size()),
            resume(),
        )
        reading = asyncio.ensure_future(in_thread(read_exactly, far, TOO_MUCH))
        await protocol.called("resume_writing")
        assert sizes == [0]
        await reading

    on_pair(scenario)


def test_pausing_and_resuming_alternate(on_pair):
    """A producer that obeys: never paused or resumed twice in a row."""
    rounds = 20

    class Producer(Recorder):
        def connection_made(self, transport):
            super().connection_made(transport)
            self.paused = False
            self.left = rounds
            self.most = 0
            self.go_on()

        def go_on(self):
            while not self.paused and self.left:
                self.left -= 1
                self.transport.write(bytes(8 << 20))
                self.most = max(self.most, self.transport.get_write_buffer_size())
            if not self.left:
                self.transport.close()

        def pause_writing(self):
            super().pause_writing()
            self.paused = True

        def resume_writing(self):
            super().resume_writing()
            self.paused = False
            self.go_on()

    async def scenario(_transport, protocol, far):
        def count():
            total = 0
            while chunk := far.recv(1 << 20):
                total += len(chunk)
            return total

        assert await in_thread(count) == rounds * (8 << 20)
        await protocol.lost()
        signals = [name for name in protocol.calls if name.endswith("_writing")]
        assert signals[::2] == ["pause_writing"] * len(signals[::2])
        assert signals[1::2] == ["resume_writing"] * len(signals[1::2])
        # Obedience keeps the buffer at one write and the mark, however long it goes on.
        assert protocol.most <= (8 << 20) + 64 * KIB

    on_pair(scenario, Producer())


def test_lines_pause_like_a_single_write(on_pair):
    async def scenario(transport, protocol, _far):
        transport.write(bytes(TOO_MUCH))
        size = transport.get_write_buffer_size()
        transport.writelines([b"x" * 1000] * 10)
        assert transport.get_write_buffer_size() <= size + 10_000
        assert protocol.calls == ["connection_made", "pause_writing"]

    on_pair(scenario)


def test_aborting_while_paused_does_not_resume(on_pair):
    async def scenario(transport, protocol, _far):
        transport.write(bytes(TOO_MUCH))
        transport.abort()
        await protocol.lost()
        assert protocol.calls == ["connection_made", "pause_writing", "connection_lost"]

    on_pair(scenario)


def test_a_transport_that_waits_for_room_goes_on_reading(on_pair):
    async def scenario(transport, protocol, far):
        far.send(b"before")
        await protocol.got(6)
        await clogged(transport)
        far.send(b"meanwhile")
        await protocol.got(15)
        left = transport.get_write_buffer_size()
        assert left > 0
        received = await in_thread(read_exactly, far, TOO_MUCH)
        assert received == bytes(TOO_MUCH)
        assert transport.get_write_buffer_size() == 0
        far.send(b"after")
        await protocol.got(20)
        # Once more, now that the reactor knows that the transport writes.
        await clogged(transport)
        far.send(b"again")
        await protocol.got(25)
        await in_thread(read_exactly, far, TOO_MUCH)
        assert protocol.received == b"beforemeanwhileafteragain"

    on_pair(scenario)


def test_data_that_was_there_when_the_kernel_took_no_more_is_read(on_pair):
    async def scenario(transport, protocol, far):
        far.send(b"before")
        await protocol.got(6)
        transport.pause_reading()
        far.send(b"meanwhile")
        await clogged(transport)
        assert protocol.received == b"before"
        transport.resume_reading()
        await protocol.got(15)
        assert protocol.received == b"beforemeanwhile"

    on_pair(scenario)


def test_a_paused_reader_holds_the_sender_back(loop):
    """Pausing one end must reach the other: the sender's buffer fills instead of ours."""

    async def scenario():
        transport, protocol, far = await transport_pair(loop)
        with far:
            transport.pause_reading()
            far.setblocking(False)
            sent = 0
            for _ in range(5):
                try:
                    while True:
                        sent += far.send(bytes(1 << 16))
                except BlockingIOError:
                    await asyncio.sleep(0.01)
            assert protocol.received == b""
            assert sent < TOO_MUCH
            transport.resume_reading()
            await protocol.got(sent)
            transport.close()
            await protocol.lost()
        assert len(protocol.received) == sent

    loop.run_until_complete(scenario())
