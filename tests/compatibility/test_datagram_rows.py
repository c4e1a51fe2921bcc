"""Rows about datagram endpoints."""

from __future__ import annotations

import asyncio
import socket
import sys

import pytest

from compatibility.rows import row

pytestmark = pytest.mark.native_only(reason="looks at both loops already")


class Datagrams(asyncio.DatagramProtocol):
    def __init__(self):
        self.received = []
        self.lost = asyncio.get_running_loop().create_future()

    def datagram_received(self, data, address):
        self.received.append((data, address))

    def connection_lost(self, exc):
        self.lost.set_result(exc)


async def endpoint(loop, protocol=Datagrams):
    return await loop.create_datagram_endpoint(protocol, local_addr=("127.0.0.1", 0))


async def until(condition):
    deadline = asyncio.get_running_loop().time() + 20
    while not condition():
        assert asyncio.get_running_loop().time() < deadline
        await asyncio.sleep(0.001)


async def closed(transport, protocol):
    transport.abort()
    await protocol.lost


@row("Type of datagram transports")
def test_types(both):
    async def look(loop):
        transport, protocol = await endpoint(loop)
        kinds = type(transport).__name__, isinstance(transport, asyncio.DatagramTransport)
        # asyncio's is one from 3.12 on, and was a Transport before.
        await closed(transport, protocol)
        return *kinds, isinstance(transport, asyncio.Transport)

    theirs, ours = both(look)
    later = sys.version_info >= (3, 12)
    assert theirs[:2] == ("_SelectorDatagramTransport", later)
    assert ours == ("DatagramTransport", True, True)


@row("Datagrams before the loop looks at its other descriptors")
def test_datagrams_before_a_reader(both):
    async def look(loop):
        near, far = socket.socketpair()

        class Notes(Datagrams):
            def datagram_received(self, data, address):
                super().datagram_received(data, address)
                if len(self.received) == 1:
                    far.send(b"x")

        transport, protocol = await endpoint(loop, Notes)
        seen = []
        with near, far, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:

            def readable():
                seen.append(len(protocol.received))
                loop.remove_reader(near)

            loop.add_reader(near, readable)
            for _ in range(60):
                sender.sendto(b"x", transport.get_extra_info("sockname"))
            await until(lambda: seen)
        await closed(transport, protocol)
        return seen[0]

    theirs, ours = both(look)
    assert theirs <= 2
    # One system call takes 16; the reader is called with the batch after those.
    assert 1 <= ours <= 17


@row("The address of datagrams from one peer")
def test_addresses(both):
    async def look(loop):
        transport, protocol = await endpoint(loop)
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
            for _ in range(2):
                sender.sendto(b"x", transport.get_extra_info("sockname"))
            await until(lambda: len(protocol.received) == 2)
        (_, first), (_, second) = protocol.received
        await closed(transport, protocol)
        assert first == second
        return first is second

    assert both(look) == [False, True]


@row("`get_write_buffer_size()` of a datagram transport, 3.13 before its correction")
def test_the_size_of_the_write_buffer(both, tmp_path):
    header = 8 if sys.version_info >= (3, 13) else 0

    async def look(loop):
        path = str(tmp_path / type(loop).__name__)
        receiver = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        receiver.bind(path)
        receiver.setblocking(False)
        sender = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        sender.connect(path)
        sender.setblocking(False)
        transport, protocol = await loop.create_datagram_endpoint(Datagrams, sock=sender)
        while transport.get_write_buffer_size() == 0:
            transport.sendto(bytes(1000))
        for _ in range(4):
            transport.sendto(bytes(1000))
        full = transport.get_write_buffer_size()
        taken = 0
        for _ in range(2000):
            try:
                receiver.recv(2000)
                taken += 1
            except BlockingIOError:
                await asyncio.sleep(0)
        empty = transport.get_write_buffer_size()
        await closed(transport, protocol)
        receiver.close()
        return full, empty

    theirs, ours = both(look)
    assert ours == (5 * (1000 + header), 0)
    # Before its correction 3.13 takes the data off again, and leaves the headers.
    assert theirs in [ours, (5 * 1008, 5 * 8)]
