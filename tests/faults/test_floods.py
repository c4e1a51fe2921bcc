"""Peers that send without end: others are served in between, counted in iterations."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket

import pytest

from faults.harness import KIB, Counts, endure, flooding, raw, served_fairly, until
from support.recording import Recorder, blocking_pair, in_thread, read_exactly, transport_pair


@pytest.mark.parametrize("size", [1, 64 * KIB])
def test_a_flood_of_bytes(loop, size):
    async def scenario():
        near, far = blocking_pair()
        transport, protocol = await loop.create_connection(Counts, sock=near)
        message = bytes(size)
        async with flooding(lambda: far.sendall(message)):
            await until(lambda: protocol.calls > 10)
            before = protocol.calls
            await served_fairly(lambda: protocol.calls)
            # And the flood is not starved either.
            await until(lambda: protocol.calls > before)
            transport.abort()
            far.shutdown(socket.SHUT_RDWR)
        far.close()

    loop.run_until_complete(scenario())


def test_ten_floods(loop):
    async def scenario():
        pairs = [blocking_pair() for _ in range(10)]
        protocols = []
        for near, _ in pairs:
            _, protocol = await loop.create_connection(Counts, sock=near)
            protocols.append(protocol)

        def send():
            for _, far in pairs:
                far.sendall(bytes(16 * KIB))

        async with flooding(send):
            await until(lambda: all(protocol.calls > 2 for protocol in protocols))
            await served_fairly(lambda: sum(p.calls for p in protocols), most=1000)
            for protocol, (_, far) in zip(protocols, pairs, strict=True):
                protocol.transport.abort()
                far.shutdown(socket.SHUT_RDWR)
        for _, far in pairs:
            far.close()
        await asyncio.sleep(0)

    loop.run_until_complete(scenario())


def test_a_flood_over_a_unix_socket_never_finds_it_empty(loop):
    """Faster than TCP: a transport that reads until nothing is left never comes to an end."""

    async def scenario():
        near, far = socket.socketpair()
        near.setblocking(False)
        transport, protocol = await loop.create_connection(Counts, sock=near)
        message = bytes(32 * KIB)
        async with flooding(lambda: far.sendall(message)):
            await until(lambda: protocol.calls > 10)
            await served_fairly(lambda: protocol.calls)
            transport.abort()
            far.shutdown(socket.SHUT_RDWR)
        far.close()
        await asyncio.sleep(0)

    loop.run_until_complete(scenario())


def test_a_flood_through_a_pipe(loop):
    async def scenario():
        reading, writing = os.pipe()
        transport, protocol = await loop.connect_read_pipe(Counts, raw(reading, "rb"))
        message = bytes(4 * KIB)
        async with flooding(lambda: os.write(writing, message)):
            await until(lambda: protocol.calls > 10)
            await served_fairly(lambda: protocol.calls)
            transport.close()
            # The writer's pipe breaks once the reader is closed.
        os.close(writing)

    loop.run_until_complete(scenario())


def test_a_flood_of_connections(loop):
    """A backlog of them is accepted at once; the next batch waits for a later iteration."""
    made, lost = [], []

    class Leaves(asyncio.Protocol):
        def connection_made(self, transport):
            made.append(None)
            transport.abort()

        def connection_lost(self, exc):
            lost.append(None)

    async def scenario():
        server = await loop.create_server(Leaves, "127.0.0.1", 0, backlog=20)
        address = server.sockets[0].getsockname()

        def connect():
            with contextlib.suppress(ConnectionError), socket.create_connection(address) as sock:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")

        def hung_up_on():
            with socket.create_connection(address) as sock, contextlib.suppress(ConnectionError):
                assert sock.recv(1) == b""

        async with flooding(connect):
            await until(lambda: len(made) > 10)
            await served_fairly(lambda: len(made), most=200)
        await in_thread(hung_up_on)  # nobody is left in the queue before it
        server.close()
        await server.wait_closed()
        await until(lambda: len(lost) == len(made))

    loop.run_until_complete(scenario())


def test_a_flood_that_answers_itself(loop):
    """Two of our own connections that throw a ball back and forth as fast as the loop can."""

    class Throws(Counts):
        def data_received(self, data):
            super().data_received(data)
            self.transport.write(data)

    async def scenario():
        left, right = socket.socketpair()
        first, protocol = await loop.create_connection(Throws, sock=left)
        second, _ = await loop.create_connection(Throws, sock=right)
        first.write(b"ball")
        await until(lambda: protocol.calls > 100)
        await served_fairly(lambda: protocol.calls)
        first.abort()
        second.abort()
        await asyncio.sleep(0.001)

    loop.run_until_complete(scenario())


def test_callbacks_that_schedule_themselves_without_end(loop):
    iterations = 0

    def again():
        nonlocal iterations
        iterations += 1
        handle[0] = loop.call_soon(again)

    async def scenario():
        # Asked between batches: the kernel is looked at every 32 callbacks at the latest.
        await served_fairly(lambda: iterations, most=1000)
        before, fired = iterations, loop.create_future()
        loop.call_later(0, fired.set_result, None)
        await fired
        assert iterations - before <= 100

    handle = [loop.call_soon(again)]
    loop.run_until_complete(scenario())
    handle[0].cancel()


def test_tiny_writes_of_ours_without_end(loop):
    """Millions of one-byte writes to a reader that keeps up are neither lost nor hoarded."""

    async def fault():
        transport, protocol, far = await transport_pair(loop)
        with far:
            for _ in range(20):
                for _ in range(500):
                    transport.write(b"x")
                assert transport.get_write_buffer_size() <= 64 * KIB
                assert await in_thread(read_exactly, far, 500) == b"x" * 500
            transport.close()
            await protocol.lost()

    assert not endure(loop, fault, rounds=12)


def test_a_message_that_comes_byte_by_byte(loop):
    async def fault():
        _, protocol, far = await transport_pair(loop)
        with far:
            for i in range(200):
                far.sendall(b"%d" % (i % 10))
                await asyncio.sleep(0)
            await protocol.got(200)
            assert bytes(protocol.received) == b"0123456789" * 20
        await protocol.lost()

    assert not endure(loop, fault, rounds=16)


def test_pausing_and_resuming_in_every_callback(loop):
    class Toggles(Recorder):
        def data_received(self, data):
            super().data_received(data)
            self.transport.pause_reading()
            asyncio.get_running_loop().call_soon(self.transport.resume_reading)

    async def fault():
        _, protocol, far = await transport_pair(loop, Toggles())
        with far:
            for _ in range(50):
                far.sendall(b"x" * 100)
                await asyncio.sleep(0)
            await protocol.got(5000)
        await protocol.lost()

    assert not endure(loop, fault)
