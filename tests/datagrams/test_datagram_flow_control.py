"""Datagrams that the kernel does not take, and floods."""

from __future__ import annotations

import asyncio
import concurrent.futures
import socket

import pytest

from datagrams.recorders import HEADER, LOCAL, DatagramRecorder, Echo, miscounted, name_of
from support.recording import listener

# --- flow control ---


class Crowded:
    """A Unix socket whose queue of datagrams is full, and a path to it."""

    def __init__(self, path):
        self.path = str(path)
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.sock.bind(self.path)
        self.sock.setblocking(False)

    def drain(self):
        received = []
        while True:
            try:
                received.append(self.sock.recv(1 << 20))
            except BlockingIOError:
                return received

    async def take(self, wanted):
        """Receives so many, letting the loop run whenever there are none."""
        received = []
        while len(received) < wanted:
            received += self.drain()
            await asyncio.sleep(0.001)
        return received


@pytest.fixture
def crowded(tmp_path):
    crowded = Crowded(tmp_path / "crowded")
    yield crowded
    crowded.sock.close()


def fill(transport, address=None, data=b"x"):
    """Send until something is buffered; how many the kernel took."""
    for count in range(100_000):
        transport.sendto(data, address)
        if transport.get_write_buffer_size():
            return count
    raise AssertionError("the kernel takes everything")


@miscounted
@pytest.mark.parametrize("connected", [True, False])
def test_data_that_the_kernel_does_not_take_is_buffered(run, endpoint, crowded, connected):
    async def scenario():
        remote = {"remote_addr": crowded.path} if connected else {}
        client, protocol = await endpoint(family=socket.AF_UNIX, local_addr=None, **remote)
        address = None if connected else crowded.path
        taken = fill(client, address)
        changing = bytearray(b"abc")
        client.sendto(changing, address)
        changing[:] = b"def"
        assert client.get_write_buffer_size() == 1 + 3 + 2 * HEADER
        assert await crowded.take(taken + 2) == [b"x"] * (taken + 1) + [b"abc"]
        await asyncio.sleep(0.01)
        assert client.get_write_buffer_size() == 0
        assert protocol.calls == ["connection_made"]
        client.sendto(b"after", address)
        assert crowded.drain() == [b"after"]

    run(scenario)


def test_an_unconnected_sender_waits_for_a_queue_that_others_filled(run, endpoint, crowded):
    async def scenario():
        client, _ = await endpoint(family=socket.AF_UNIX, local_addr=crowded.path + "-client")
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as other:
            other.setblocking(False)
            try:
                for _ in range(100_000):
                    other.sendto(b"other", crowded.path)
            except BlockingIOError:
                pass
            client.sendto(b"mine", crowded.path)
            assert client.get_write_buffer_size() > 0
            await asyncio.sleep(0.01)
            assert set(crowded.drain()) == {b"other"}
            assert await crowded.take(1) == [b"mine"]

    run(scenario)


@miscounted
def test_the_protocol_is_paused_and_resumed(run, endpoint, crowded):
    async def scenario():
        client, protocol = await endpoint(family=socket.AF_UNIX, remote_addr=crowded.path)
        client.set_write_buffer_limits(high=100, low=50)
        assert client.get_write_buffer_limits() == (50, 100)
        taken = fill(client)
        sent = taken + 1
        while "pause_writing" not in protocol.calls:
            assert client.get_write_buffer_size() <= 100
            client.sendto(b"y" * 10)
            sent += 1
        assert client.get_write_buffer_size() > 100
        await crowded.take(sent)
        await protocol.called("resume_writing")
        assert protocol.calls == ["connection_made", "pause_writing", "resume_writing"]

    run(scenario)


def test_the_limits_are_checked(run, endpoint):
    async def scenario():
        transport, _ = await endpoint(local_addr=LOCAL)
        assert transport.get_write_buffer_limits() == (16384, 65536)
        with pytest.raises(ValueError):
            transport.set_write_buffer_limits(high=1, low=2)
        assert transport.get_write_buffer_size() == 0

    run(scenario)


def test_close_sends_buffered_data(run, endpoint, crowded):
    async def scenario():
        client, protocol = await endpoint(family=socket.AF_UNIX, remote_addr=crowded.path)
        taken = fill(client)
        client.close()
        assert client.is_closing()
        client.sendto(b"late, but sent")
        await asyncio.sleep(0.01)
        assert protocol.losses == 0
        assert await crowded.take(taken + 2) == [b"x"] * (taken + 1) + [b"late, but sent"]
        assert await protocol.lost() is None

    run(scenario)


def test_abort_drops_buffered_data(run, endpoint, crowded):
    async def scenario():
        client, protocol = await endpoint(family=socket.AF_UNIX, remote_addr=crowded.path)
        taken = fill(client)
        client.abort()
        assert await protocol.lost() is None
        assert len(crowded.drain()) == taken

    run(scenario)


def test_an_error_of_a_buffered_datagram_does_not_hold_up_the_next(run, endpoint, crowded):
    async def scenario():
        client, protocol = await endpoint(
            family=socket.AF_UNIX, local_addr=crowded.path + "-client"
        )
        taken = fill(client, crowded.path)
        client.sendto(b"lost", crowded.path + "-nobody")
        client.sendto(b"next", crowded.path)
        assert (await crowded.take(taken + 2))[-1] == b"next"
        assert [type(error) for error in protocol.errors] == [FileNotFoundError]

    run(scenario)


# --- under load ---


def test_a_flood_starves_no_other(loop, run, endpoint):
    class Answers(asyncio.Protocol):
        def connection_made(self, transport):
            self.transport = transport

        def data_received(self, data):
            self.transport.write(data)

    async def scenario():
        server, received = await endpoint(local_addr=LOCAL)
        senders = [(await endpoint(remote_addr=name_of(server)))[0] for _ in range(4)]

        def flood():
            nonlocal flooding
            # Each round tops the queue up: the server never finds it empty.
            for sender in senders:
                for _ in range(25):
                    sender.sendto(b"flood")
            flooding = loop.call_soon(flood)

        flooding = loop.call_soon(flood)
        ticks = 0

        def tick():
            nonlocal ticks, ticking
            ticks += 1
            ticking = loop.call_later(0.001, tick)

        ticking = loop.call_later(0.001, tick)
        with listener() as sock:
            tcp = await loop.create_server(Answers, sock=sock)
            reader, writer = await asyncio.open_connection(*sock.getsockname())
            for number in range(20):
                writer.write(b"%d\n" % number)
                assert await reader.readline() == b"%d\n" % number
            while ticks < 20:
                await asyncio.sleep(0)
            assert received.datagrams
            writer.close()
            await writer.wait_closed()
            tcp.close()
            await tcp.wait_closed()
        flooding.cancel()
        ticking.cancel()

    run(scenario)


def test_two_floods_share_the_loop(loop, run, endpoint):
    async def scenario():
        ends = [await endpoint(local_addr=LOCAL) for _ in range(2)]
        with socket.socket(type=socket.SOCK_DGRAM) as peer:
            for number in range(100):
                for transport, _ in ends:
                    peer.sendto(b"%d" % number, name_of(transport))
            await ends[0][1].count(100)
            await ends[1][1].count(100)
        for _, protocol in ends:
            assert protocol.contents == [b"%d" % number for number in range(100)]

    run(scenario)


def test_endpoints_in_several_threads(loop_factory):
    async def echo():
        loop = asyncio.get_running_loop()
        server, _ = await loop.create_datagram_endpoint(Echo, local_addr=LOCAL)
        client, answers = await loop.create_datagram_endpoint(
            DatagramRecorder, remote_addr=name_of(server)
        )
        for number in range(300):
            client.sendto(b"%d" % number)
            await answers.count(number + 1)
        for transport in (server, client):
            protocol = transport.get_protocol()
            transport.close()
            await protocol.lost()
        return answers.contents

    def work(_):
        loop = loop_factory()
        try:
            return loop.run_until_complete(echo())
        finally:
            loop.close()

    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        for contents in pool.map(work, range(4)):
            assert contents == [b"%d" % number for number in range(300)]
