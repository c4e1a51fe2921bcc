"""Datagrams without end, without content, without a receiver."""

from __future__ import annotations

import asyncio
import socket

import pytest

from faults.harness import KIB, endure, flooding, served_fairly, until


class Counts(asyncio.DatagramProtocol):
    def __init__(self):
        self.datagrams = 0
        self.errors = []
        self.lost = False

    def datagram_received(self, data, address):
        self.datagrams += 1

    def error_received(self, error):
        self.errors.append(error)

    def connection_lost(self, error):
        self.lost = True


@pytest.mark.parametrize("data", [b"", b"x" * KIB], ids=["empty", "full"])
def test_a_flood(loop, data):
    async def scenario():
        transport, protocol = await loop.create_datagram_endpoint(
            Counts, local_addr=("127.0.0.1", 0)
        )
        address = transport.get_extra_info("sockname")
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
            async with flooding(lambda: sender.sendto(data, address)):
                await until(lambda: protocol.datagrams > 10)
                # Several may be taken in an iteration, but their number is bounded.
                await served_fairly(lambda: protocol.datagrams, most=1000)
        transport.close()
        await until(lambda: protocol.lost)

    loop.run_until_complete(scenario())


def test_a_flood_that_is_paused_and_closed_in_the_middle(loop):
    class ClosesItself(Counts):
        def connection_made(self, transport):
            self.transport = transport

        def datagram_received(self, data, address):
            super().datagram_received(data, address)
            if self.datagrams == 10:
                self.transport.close()

    async def fault():
        transport, protocol = await loop.create_datagram_endpoint(
            ClosesItself, local_addr=("127.0.0.1", 0)
        )
        address = transport.get_extra_info("sockname")
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
            for _ in range(100):
                sender.sendto(b"", address)
            await until(lambda: protocol.lost)
        assert protocol.datagrams == 10

    assert not endure(loop, fault, rounds=12)


def test_no_peer_at_the_other_end(loop):
    async def fault():
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as reserved:
            # Not where other tests bind theirs: the number is free again from here on.
            reserved.bind(("127.0.0.97", 0))
            address = reserved.getsockname()
        transport, protocol = await loop.create_datagram_endpoint(Counts, remote_addr=address)
        for i in range(5):
            transport.sendto(b"anybody?")
            await until(lambda i=i: len(protocol.errors) > i)
        assert all(isinstance(error, ConnectionRefusedError) for error in protocol.errors)
        # It is an error of a datagram, not of the endpoint.
        assert not transport.is_closing()
        transport.close()
        await until(lambda: protocol.lost)

    assert not endure(loop, fault)


def test_a_datagram_too_long_to_send(loop):
    async def fault():
        transport, protocol = await loop.create_datagram_endpoint(
            Counts, remote_addr=("127.0.0.1", 9)
        )
        transport.sendto(bytes(70 * KIB))
        await until(lambda: protocol.errors)
        assert "Message too long" in str(protocol.errors[0])
        transport.close()
        await until(lambda: protocol.lost)

    assert not endure(loop, fault)


def test_a_receiver_that_goes_away_with_datagrams_waiting(loop, tmp_path):
    path = str(tmp_path / "receiver")

    async def fault():
        receiver = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        receiver.bind(path)
        sender = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        sender.connect(path)
        sender.setblocking(False)
        transport, protocol = await loop.create_datagram_endpoint(Counts, sock=sender)
        while transport.get_write_buffer_size() == 0:
            transport.sendto(bytes(KIB))
        receiver.close()
        (tmp_path / "receiver").unlink()
        await until(lambda: protocol.errors)
        transport.abort()
        await until(lambda: protocol.lost)

    assert not endure(loop, fault, rounds=8)
