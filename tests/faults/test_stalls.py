"""Peers that say nothing, or take nothing: waiting for them costs no processor time."""

from __future__ import annotations

import asyncio
import os
import socket

import pytest

from faults.harness import KIB, clog, endure, pipe, rests
from support.recording import Recorder, blocking_pair, fill, in_thread, read_all, transport_pair


@pytest.fixture
def stalled(loop):
    """Run ``scenario``, which returns what to do once the process has been seen to rest."""

    def run(scenario):
        async def whole():
            finish = await scenario()
            await rests()
            await finish()

        loop.run_until_complete(whole())

    return run


def ended(transport, protocol, far):
    async def finish():
        far.close()
        transport.abort()
        await protocol.lost()

    return finish


def test_an_idle_connection(loop, stalled):
    async def scenario():
        return ended(*await transport_pair(loop))

    stalled(scenario)


def test_a_peer_that_has_half_closed(loop, stalled):
    async def scenario():
        transport, protocol, far = await transport_pair(loop, Recorder(keep_open_at_eof=True))
        far.shutdown(socket.SHUT_WR)
        await protocol.called("eof_received")
        return ended(transport, protocol, far)

    stalled(scenario)


def test_a_connection_that_we_have_half_closed(loop, stalled):
    async def scenario():
        transport, protocol, far = await transport_pair(loop)
        transport.write_eof()
        return ended(transport, protocol, far)

    stalled(scenario)


def test_a_connection_that_both_have_half_closed(loop, stalled):
    async def scenario():
        transport, protocol, far = await transport_pair(loop, Recorder(keep_open_at_eof=True))
        far.shutdown(socket.SHUT_WR)
        await protocol.called("eof_received")
        transport.write_eof()
        return ended(transport, protocol, far)

    stalled(scenario)


def test_a_paused_reader_with_data_waiting(loop, stalled):
    async def scenario():
        transport, protocol, far = await transport_pair(loop)
        transport.pause_reading()
        far.sendall(b"x" * KIB)
        return ended(transport, protocol, far)

    stalled(scenario)


def test_a_paused_reader_whose_peer_has_closed(loop, stalled):
    async def scenario():
        transport, protocol, far = await transport_pair(loop)
        transport.pause_reading()
        far.sendall(b"x" * KIB)
        far.close()
        return ended(transport, protocol, far)

    stalled(scenario)


def test_a_full_write_buffer(loop, stalled):
    async def scenario():
        transport, protocol, far = await transport_pair(loop)
        await clog(transport, protocol)
        return ended(transport, protocol, far)

    stalled(scenario)


def test_a_full_write_buffer_of_a_closing_transport(loop, stalled):
    async def scenario():
        transport, protocol, far = await transport_pair(loop)
        await clog(transport, protocol)
        transport.close()
        return ended(transport, protocol, far)

    stalled(scenario)


def test_a_full_write_buffer_whose_peer_has_half_closed(loop, stalled):
    async def scenario():
        transport, protocol, far = await transport_pair(loop, Recorder(keep_open_at_eof=True))
        await clog(transport, protocol)
        far.shutdown(socket.SHUT_WR)
        await protocol.called("eof_received")
        return ended(transport, protocol, far)

    stalled(scenario)


def test_a_full_write_buffer_with_a_paused_reader_and_data_waiting(loop, stalled):
    async def scenario():
        transport, protocol, far = await transport_pair(loop)
        transport.pause_reading()
        await clog(transport, protocol)
        far.sendall(b"x" * KIB)
        return ended(transport, protocol, far)

    stalled(scenario)


def test_sock_calls_that_wait(loop, stalled):
    async def scenario():
        near, far = blocking_pair()
        fill(near.fileno())
        waiting = [
            asyncio.ensure_future(loop.sock_recv(near, 10)),
            asyncio.ensure_future(loop.sock_sendall(near, b"x")),
        ]
        await asyncio.sleep(0)

        async def finish():
            for task in waiting:
                task.cancel()
            await asyncio.wait(waiting)
            near.close()
            far.close()

        return finish

    stalled(scenario)


def test_a_cancelled_sock_recv_with_data_waiting(loop, stalled):
    async def scenario():
        near, far = blocking_pair()
        task = asyncio.ensure_future(loop.sock_recv(near, 10))
        await asyncio.sleep(0)
        task.cancel()
        far.sendall(b"for nobody")

        async def finish():
            assert await loop.sock_recv(near, 10) == b"for nobody"
            near.close()
            far.close()

        return finish

    stalled(scenario)


def test_a_stream_reader_that_is_full(loop, stalled):
    async def scenario():
        near, far = blocking_pair()
        reader, writer = await asyncio.open_connection(sock=near, limit=KIB)
        far.setblocking(False)
        await asyncio.sleep(0.01)
        # The reader takes twice its limit and pauses; the rest stays in the kernel.
        fill(far.fileno())
        await asyncio.sleep(0.01)
        far.setblocking(True)

        async def finish():
            assert len(await reader.readexactly(2 * KIB)) == 2 * KIB
            far.close()
            writer.transport.abort()
            await writer.wait_closed()

        return finish

    stalled(scenario)


# --- pipes ---


class PipeRecorder(Recorder):
    """Also a pipe's protocol."""


def test_a_pipe_that_is_not_read(loop, stalled):
    async def scenario():
        reading, writing = pipe()
        transport, protocol = await loop.connect_write_pipe(PipeRecorder, writing)
        await clog(transport, protocol)
        return ended(transport, protocol, reading)

    stalled(scenario)


def test_a_pipe_that_is_not_written_to(loop, stalled):
    async def scenario():
        reading, writing = pipe()
        transport, protocol = await loop.connect_read_pipe(PipeRecorder, reading)

        async def finish():
            writing.close()
            await protocol.lost()

        assert not transport.is_closing()
        return finish

    stalled(scenario)


def test_a_paused_pipe_whose_writer_is_gone(loop, stalled):
    async def scenario():
        reading, writing = pipe()
        transport, protocol = await loop.connect_read_pipe(PipeRecorder, reading)
        transport.pause_reading()
        writing.write(b"last words")
        writing.close()
        return resumed(transport, protocol)

    def resumed(transport, protocol):
        async def finish():
            transport.resume_reading()
            await protocol.lost()
            assert protocol.received == b"last words"

        return finish

    stalled(scenario)


def test_a_child_that_neither_reads_nor_writes_nor_ends(loop, stalled):
    async def scenario():
        process = await asyncio.create_subprocess_exec(
            "sleep", "60", stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE
        )
        process.stdin.write(bytes(1 << 20))
        await asyncio.sleep(0.01)

        async def finish():
            process.kill()
            await process.wait()
            with pytest.raises((BrokenPipeError, ConnectionResetError)):
                await process.stdin.drain()
            process.stdin.close()
            assert await process.stdout.read() == b""

        return finish

    stalled(scenario)


def test_a_child_that_has_ended_while_a_grandchild_holds_its_pipes(loop, stalled):
    async def scenario():
        process = await asyncio.create_subprocess_shell(
            "sleep 60 & echo $!", stdout=asyncio.subprocess.PIPE
        )
        grandchild = int(await process.stdout.readline())

        async def finish():
            os.kill(grandchild, 9)
            assert await process.wait() == 0
            assert await process.stdout.read() == b""

        return finish

    stalled(scenario)


# --- datagrams ---


class Datagrams(asyncio.DatagramProtocol):
    def __init__(self):
        self.lost = asyncio.get_running_loop().create_future()
        self.errors = []

    def error_received(self, exc):
        self.errors.append(exc)

    def connection_lost(self, exc):
        self.lost.set_result(exc)


def test_datagrams_that_are_not_received(loop, stalled, tmp_path):
    async def scenario():
        # Unix datagrams have flow control: the sender waits for room.
        receiver = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        receiver.bind(str(tmp_path / "receiver"))
        sender = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        sender.connect(str(tmp_path / "receiver"))
        sender.setblocking(False)
        transport, protocol = await loop.create_datagram_endpoint(Datagrams, sock=sender)
        while transport.get_write_buffer_size() == 0:
            transport.sendto(bytes(KIB))

        async def finish():
            receiver.close()
            transport.abort()
            assert await protocol.lost is None

        return finish

    stalled(scenario)


# --- stalls that end ---


def test_a_stalled_peer_that_comes_back_gets_everything(loop):
    async def fault():
        transport, protocol, far = await transport_pair(loop)
        transport.write(bytes(8 << 20))
        await asyncio.sleep(0.002)
        transport.close()
        assert len(await in_thread(read_all, far)) == 8 << 20
        far.close()
        assert await protocol.lost() is None

    assert not endure(loop, fault)


def test_stalled_peers_do_not_hold_up_others(loop):
    async def fault():
        clogged = [await transport_pair(loop) for _ in range(10)]
        for transport, protocol, _ in clogged:
            transport.write(bytes(1 << 20))
            transport.write(bytes(8 << 20))
            await protocol.called("pause_writing")
        transport, protocol, far = await transport_pair(loop)
        with far:
            far.sendall(b"served?")
            await protocol.got(7)
            transport.abort()
            await protocol.lost()
        for transport, protocol, far in clogged:
            assert transport.get_write_buffer_size() > 0
            far.close()
            transport.abort()
            await protocol.lost()

    assert not endure(loop, fault, rounds=6)
