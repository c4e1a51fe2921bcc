"""Both ends of a TLS connection act at random in each of their callbacks."""

from __future__ import annotations

import asyncio
import random

import pytest

from support.recording import Reports
from tls.peers import HOST

STEPS = 150


class End:
    """One end: what it wrote, what it got, and the protocols that alternate for it."""

    def __init__(self, rng, loop):
        self.rng = rng
        self.sent = bytearray()
        self.received = bytearray()
        self.transport = None
        self.ended_by_us = False
        self.losses = []
        self.lost = loop.create_future()
        self.in_callback = 0
        self.protocols = [Plain(self), Whole(self), Small(self)]

    def connected(self, transport):
        self.transport = transport
        self.act()

    def act(self, most=2):
        """A few random calls of the transport."""
        if self.in_callback > 3:
            return  # a callback within a callback within a callback will do
        self.in_callback += 1
        for _ in range(self.rng.randrange(most + 1)):
            self.rng.choice(ACTIONS)(self)
        self.in_callback -= 1

    def write(self):
        data = self.rng.randbytes(self.rng.choice((0, 1, 100, 16_384, 70_000, 700_000)))
        if len(self.sent) < 4_000_000 and not self.transport.is_closing():
            self.sent += data
            kind = self.rng.choice((bytes, bytearray, memoryview))
            self.transport.write(kind(data))

    def write_lines(self):
        lines = [self.rng.randbytes(self.rng.randrange(1000)) for _ in range(5)]
        if not self.transport.is_closing():
            self.sent += b"".join(lines)
            self.transport.writelines(lines)

    def pause(self):
        self.transport.pause_reading()

    def resume(self):
        self.transport.resume_reading()

    def switch(self):
        self.transport.set_protocol(self.rng.choice(self.protocols))

    def limit_writing(self):
        self.transport.set_write_buffer_limits(self.rng.choice((None, 0, 1000, 1_000_000)))

    def limit_reading(self):
        self.transport.set_read_buffer_limits(self.rng.choice((None, 0, 1000, 1_000_000)))

    def look(self):
        assert self.transport.get_write_buffer_size() >= 0
        assert self.transport.get_read_buffer_size() >= 0
        assert repr(self.transport)

    def end(self):
        if self.rng.random() < 0.02:
            self.ended_by_us = True
            self.rng.choice((self.transport.close, self.transport.abort))()


ACTIONS = (
    *(End.write, End.write, End.write_lines, End.pause, End.resume, End.resume, End.switch),
    *(End.limit_writing, End.limit_reading, End.look, End.end),
)


class Base:
    def __init__(self, end):
        self.end = end

    def connection_made(self, transport):
        self.end.connected(transport)

    def eof_received(self):
        self.end.act()

    def pause_writing(self):
        self.end.act()

    def resume_writing(self):
        self.end.act()

    def connection_lost(self, exc):
        self.end.losses.append(exc)
        self.end.act()
        self.end.lost.set_result(None)


class Plain(Base, asyncio.Protocol):
    def data_received(self, data):
        self.end.received += data
        self.end.act()


class Whole(Base, asyncio.BufferedProtocol):
    SIZE = 300_000

    def get_buffer(self, sizehint):
        self.end.act()
        self.buffer = bytearray(self.SIZE)
        return memoryview(self.buffer)

    def buffer_updated(self, count):
        self.end.received += self.buffer[:count]
        self.end.act()


class Small(Whole):
    SIZE = 1000


@pytest.mark.native_only(reason="asyncio's state machine trips over calls from its own callbacks")
@pytest.mark.parametrize("seed", range(100))
def test_no_data_is_lost_unless_an_end_drops_it(loop, certificates, seed):
    rng = random.Random(seed)
    reports = Reports(loop)

    async def main():
        client, server = End(rng, loop), End(rng, loop)
        listening = await loop.create_server(
            lambda: rng.choice(server.protocols),
            "127.0.0.1",
            0,
            ssl=certificates.server_context(),
        )
        await loop.create_connection(
            lambda: rng.choice(client.protocols),
            *listening.sockets[0].getsockname(),
            ssl=certificates.client_context(),
            server_hostname=HOST,
        )
        while server.transport is None:
            await asyncio.sleep(0)
        ends = [client, server]
        for _ in range(STEPS):
            rng.choice(ends).act()
            await asyncio.sleep(rng.choice((0, 0, 0, 0.001)))
        undisturbed = not (client.ended_by_us or server.ended_by_us)
        # Neither end aborts any more; all that was written must come.
        for end in ends:
            end.in_callback = 99
            end.transport.resume_reading()
        if undisturbed:

            async def all_has_come():
                while (client.received, server.received) != (server.sent, client.sent):
                    await asyncio.sleep(0.001)

            await asyncio.wait_for(all_has_come(), 20)
        for end in ends:
            end.transport.close()
            end.transport.resume_reading()
        await asyncio.wait_for(asyncio.gather(client.lost, server.lost), 20)
        for end, other in (ends, ends[::-1]):
            assert len(end.losses) == 1
            assert other.sent.startswith(end.received)
        listening.close()
        await listening.wait_closed()

    loop.run_until_complete(main())
    assert reports.contexts == []
