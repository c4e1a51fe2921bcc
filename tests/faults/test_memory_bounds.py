"""A peer cannot make us hold more than the marks of flow control allow."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import threading

import pytest

from faults.harness import (
    KIB,
    MIB,
    TOO_MUCH,
    Counted,
    Obedient,
    allocated,
    clog,
    descriptors,
    in_use,
    raw,
    until,
)
from support.recording import blocking_pair, fill, in_thread, read_all, transport_pair

pytestmark = pytest.mark.skipif(allocated() == 0, reason="only glibc's malloc can be asked")


@pytest.mark.parametrize("size", [100, 10 * KIB, 60 * KIB])
def test_a_peer_that_never_reads(loop, size):
    async def scenario():
        pairs = []
        for _ in range(20):
            near, far = blocking_pair()
            for sock in (near, far):
                # Small: the kernel's part is of no interest, and the test is quick.
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 64 * KIB)
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 64 * KIB)
            transport, protocol = await loop.create_connection(lambda: Obedient(size), sock=near)
            pairs.append((transport, protocol, far))
        before = in_use()
        for _ in range(5):
            await asyncio.sleep(0.001)
            for _, protocol, _ in pairs:
                protocol.write_on()
        held = in_use() - before
        for transport, protocol, far in pairs:
            assert protocol.paused
            high = transport.get_write_buffer_limits()[1]
            assert transport.get_write_buffer_size() <= high + size
            transport.abort()
            far.close()
        # Twice: a buffer may be larger than what is in it.
        assert held < 20 * 2 * (64 * KIB + size) + MIB

    loop.run_until_complete(scenario())


def test_a_peer_that_reads_a_little_now_and_then(loop):
    async def scenario():
        transport, protocol, far = await transport_pair(loop, Obedient(10 * KIB))
        before = in_use()
        with far:
            most = 0
            for _ in range(200):
                protocol.write_on()
                await in_thread(far.recv, 20 * KIB)
                most = max(most, in_use() - before)
                assert transport.get_write_buffer_size() <= 74 * KIB
            transport.abort()
        assert most < MIB

    loop.run_until_complete(scenario())


def test_the_memory_of_a_large_write_is_given_back_while_it_is_sent(loop):
    async def scenario():
        transport, _, far = await transport_pair(loop)
        with far:
            await asyncio.sleep(0)
            before = in_use()
            transport.write(bytes(TOO_MUCH))
            transport.close()
            assert len(await in_thread(lambda: len(read_all(far)) * b"x")) == TOO_MUCH
            await until(lambda: in_use() - before < MIB)

    loop.run_until_complete(scenario())


def flood(sock, total, piece):
    """Write so much to a peer, as fast as it takes it; how much it took before it was gone."""
    sent = 0
    try:
        while sent < total:
            sent += sock.send(piece)
    except OSError:
        pass
    return sent


def test_a_peer_that_writes_to_a_paused_reader(loop):
    async def scenario():
        transport, protocol, far = await transport_pair(loop, Counted())
        transport.pause_reading()
        await asyncio.sleep(0)
        before = in_use()
        far.setblocking(False)
        # What is sent stays in the kernel, which takes only so much.
        sent = fill(far.fileno())
        await asyncio.sleep(0.01)
        assert sent < TOO_MUCH
        assert protocol.size == 0
        assert in_use() - before < 512 * KIB
        transport.resume_reading()
        await until(lambda: protocol.size == sent)
        far.close()
        await protocol.lost()

    loop.run_until_complete(scenario())


def test_a_peer_that_writes_on_to_a_stream_that_is_not_read(loop):
    async def scenario():
        near, far = blocking_pair()
        reader, writer = await asyncio.open_connection(sock=near)
        before = in_use()
        flooding = asyncio.ensure_future(in_thread(flood, far, TOO_MUCH, bytes(64 * KIB)))
        await asyncio.sleep(0.1)
        assert not flooding.done()
        # Twice the limit of 64 KiB, and what one read may bring on top of it.
        assert in_use() - before < MIB
        size = 0
        while size < TOO_MUCH:
            size += len(await reader.read(256 * KIB))
        assert await flooding == TOO_MUCH
        far.close()
        writer.close()
        await writer.wait_closed()

    loop.run_until_complete(scenario())


def test_a_line_without_an_end(loop):
    async def scenario():
        near, far = blocking_pair()
        reader, writer = await asyncio.open_connection(sock=near)
        before = in_use()
        flooding = asyncio.ensure_future(in_thread(flood, far, TOO_MUCH, b"x" * 64 * KIB))
        with pytest.raises(ValueError, match="exceed the limit"):
            await reader.readline()
        assert in_use() - before < MIB
        writer.transport.abort()
        assert await flooding < TOO_MUCH
        far.close()

    loop.run_until_complete(scenario())


def test_a_child_that_writes_on_to_a_pipe_that_is_not_read(loop):
    async def scenario():
        before = in_use()
        process = await asyncio.create_subprocess_exec(
            "cat", "/dev/zero", stdout=asyncio.subprocess.PIPE
        )
        await asyncio.sleep(0.1)
        assert in_use() - before < MIB
        process.kill()
        while await process.stdout.read(MIB):
            pass
        assert await process.wait() == -signal.SIGKILL

    loop.run_until_complete(scenario())


def test_a_pipe_that_is_not_read(loop):
    async def scenario():
        reading, writing = os.pipe()
        transport, protocol = await loop.connect_write_pipe(
            lambda: Obedient(10 * KIB), raw(writing, "wb")
        )
        for _ in range(5):
            await asyncio.sleep(0.001)
            protocol.write_on()
        assert protocol.paused
        assert transport.get_write_buffer_size() <= 74 * KIB
        os.close(reading)
        transport.abort()
        await asyncio.sleep(0.001)

    loop.run_until_complete(scenario())


def test_datagrams_that_are_not_received(loop, tmp_path):
    async def scenario():
        receiver = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        receiver.bind(str(tmp_path / "receiver"))
        sender = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        sender.connect(str(tmp_path / "receiver"))
        sender.setblocking(False)

        class Sends(Obedient, asyncio.DatagramProtocol):
            def write_on(self):
                while not self.paused:
                    self.transport.sendto(bytes(KIB))
                    self.written += KIB

        transport, protocol = await loop.create_datagram_endpoint(lambda: Sends(KIB), sock=sender)
        for _ in range(5):
            await asyncio.sleep(0.001)
            protocol.write_on()
        assert protocol.paused
        assert transport.get_write_buffer_size() <= 65 * KIB
        receiver.close()
        transport.abort()
        await asyncio.sleep(0.001)

    loop.run_until_complete(scenario())


def test_a_flood_of_connections_that_say_nothing(loop):
    """A connection costs a few kilobytes, whatever it may once want to send."""

    async def scenario():
        accepted = []

        class Waits(asyncio.Protocol):
            def connection_made(self, transport):
                accepted.append(transport)

        server = await loop.create_server(Waits, "127.0.0.1", 0, backlog=500)
        clients = []
        await asyncio.sleep(0.001)  # a loop may make its clock when it is first needed
        before, files = in_use(), descriptors()
        for _ in range(300):
            clients.append(socket.create_connection(server.sockets[0].getsockname()))
        await until(lambda: len(accepted) == 300)
        assert in_use() - before < 300 * 8 * KIB
        for client in clients:
            client.close()
        await until(lambda: descriptors() == files)
        server.close()
        await server.wait_closed()

    loop.run_until_complete(scenario())


def test_calls_of_other_threads_are_run_and_released(loop):
    """A flood of calls from a thread: each batch is run before the next is looked at."""
    stop = threading.Event()
    calls = 0

    def call():
        nonlocal calls
        calls += 1

    def schedule():
        while not stop.is_set():
            # As many as asyncio would keep, too: a queue without bounds is the callers' affair.
            for _ in range(100):
                loop.call_soon_threadsafe(call)
            stop.wait(0.0001)

    async def scenario():
        thread = threading.Thread(target=schedule)
        thread.start()
        try:
            await until(lambda: calls > 1000)
            before = in_use()
            await until(lambda: calls > 20_000)
            assert in_use() - before < MIB
        finally:
            stop.set()
            thread.join()

    loop.run_until_complete(scenario())


def test_a_clogged_connection_is_all_given_back(loop):
    async def scenario():
        transport, protocol, far = await transport_pair(loop, Counted())
        await asyncio.sleep(0)
        before = in_use()
        await clog(transport, protocol)
        assert in_use() - before > TOO_MUCH // 2
        far.close()
        await protocol.lost()
        # The transport is still there; what it was to send is not.
        assert in_use() - before < MIB
        assert transport.get_write_buffer_size() == 0

    loop.run_until_complete(scenario())
