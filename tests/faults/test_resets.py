"""Peers that reset the connection, or just vanish, at every moment of its life."""

from __future__ import annotations

import asyncio
import signal
import socket

import pytest

from faults.harness import KIB, clog, endure, rests, until
from support.recording import (
    Recorder,
    blocking_pair,
    in_thread,
    read_exactly,
    reset,
    transport_pair,
)


class Serving:
    """A server whose protocols are recorders, and blocking clients of it."""

    async def __aenter__(self):
        self.protocols = []
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(self._protocol, "127.0.0.1", 0)
        self.address = self._server.sockets[0].getsockname()
        return self

    def _protocol(self):
        self.protocols.append(Recorder())
        return self.protocols[-1]

    async def __aexit__(self, *_exc):
        self._server.close()
        for protocol in self.protocols:
            await protocol.lost()
        await self._server.wait_closed()


def test_a_peer_that_resets_before_it_is_accepted(loop):
    async def fault():
        async with Serving() as server:
            # Blocking: the loop has no chance to accept before the reset.
            for _ in range(5):
                reset(socket.create_connection(server.address))
            with socket.create_connection(server.address):
                await until(lambda: len(server.protocols) >= 6)
        # The kernel hands over what was reset in the queue: the first read reports it.
        assert all(protocol.losses == 1 for protocol in server.protocols)
        resets = [protocol.loss for protocol in server.protocols if protocol.loss is not None]
        assert all(isinstance(loss, ConnectionResetError) for loss in resets)
        assert len(resets) == 5

    assert not endure(loop, fault)


def test_a_peer_that_resets_in_the_middle_of_a_message(loop):
    async def fault():
        _, protocol, far = await transport_pair(loop)
        far.sendall(b"half a mess")
        await protocol.got(11)
        reset(far)
        assert isinstance(await protocol.lost(), ConnectionResetError)
        assert protocol.story == ["connection_made", "data_received", "connection_lost"]

    assert not endure(loop, fault)


def test_a_peer_that_resets_while_much_is_to_be_sent_to_it(loop):
    async def fault():
        transport, protocol, far = await transport_pair(loop)
        await clog(transport, protocol)
        reset(far)
        assert isinstance(await protocol.lost(), ConnectionResetError)
        assert protocol.losses == 1
        transport.write(b"into the void")
        assert transport.get_write_buffer_size() == 0

    assert not endure(loop, fault, rounds=12)


def test_a_peer_that_resets_while_the_rest_is_flushed(loop):
    async def fault():
        transport, protocol, far = await transport_pair(loop)
        await clog(transport, protocol)
        transport.close()
        reset(far)
        assert isinstance(await protocol.lost(), (ConnectionResetError, BrokenPipeError))
        assert protocol.losses == 1

    assert not endure(loop, fault, rounds=12)


def test_a_peer_that_resets_a_half_closed_connection(loop):
    async def fault():
        transport, protocol, far = await transport_pair(loop, Recorder(keep_open_at_eof=True))
        far.shutdown(socket.SHUT_WR)
        await protocol.called("eof_received")
        reset(far)
        # The peer reads no more: the first write reports it, or at the latest the second.
        while not protocol.losses:
            transport.write(b"anybody?")
            await asyncio.sleep(0)
        assert isinstance(protocol.loss, (ConnectionResetError, BrokenPipeError))

    assert not endure(loop, fault)


def test_a_peer_that_resets_after_we_have_half_closed(loop):
    async def fault():
        transport, protocol, far = await transport_pair(loop)
        transport.write_eof()
        assert await in_thread(far.recv, 10) == b""
        reset(far)
        assert isinstance(await protocol.lost(), ConnectionResetError)

    assert not endure(loop, fault)


def test_a_peer_that_resets_while_reading_is_paused(loop):
    async def fault():
        transport, protocol, far = await transport_pair(loop)
        transport.pause_reading()
        await asyncio.sleep(0)
        reset(far)
        await asyncio.sleep(0.005)
        assert protocol.story == ["connection_made"]
        transport.resume_reading()
        assert isinstance(await protocol.lost(), ConnectionResetError)

    assert not endure(loop, fault)


def test_a_reset_that_a_paused_reader_has_not_seen_costs_nothing(loop):
    async def scenario():
        transport, protocol, far = await transport_pair(loop)
        transport.pause_reading()
        await asyncio.sleep(0)
        reset(far)
        await rests()
        transport.abort()
        await protocol.lost()

    loop.run_until_complete(scenario())


def test_a_peer_that_resets_while_the_protocol_is_in_data_received(loop):
    class Answers(Recorder):
        def data_received(self, data):
            super().data_received(data)
            reset(self.far)
            for _ in range(4):
                self.transport.write(b"answer" * KIB)

    async def fault():
        near, far = blocking_pair()
        protocol = Answers()
        protocol.far = far
        await loop.create_connection(lambda: protocol, sock=near)
        far.sendall(b"question")
        assert isinstance(await protocol.lost(), (ConnectionResetError, BrokenPipeError))
        assert protocol.losses == 1

    assert not endure(loop, fault)


def test_a_peer_that_closes_with_our_bytes_unread(loop):
    async def fault():
        transport, protocol, far = await transport_pair(loop)
        transport.write(b"never read")
        assert await in_thread(far.recv, 1, socket.MSG_PEEK) == b"n"
        far.close()  # the kernel resets: something is lost
        assert isinstance(await protocol.lost(), ConnectionResetError)

    assert not endure(loop, fault)


def test_a_peer_that_resets_in_the_middle_of_sock_sendall_and_sock_recv(loop):
    async def fault():
        near, far = blocking_pair()
        with near:
            sending = asyncio.ensure_future(loop.sock_sendall(near, bytes(32 << 20)))
            receiving = asyncio.ensure_future(loop.sock_recv(near, 100))
            await asyncio.sleep(0.001)
            reset(far)
            outcomes = await asyncio.gather(sending, receiving, return_exceptions=True)
        # The kernel reports the reset once: the second call finds a broken pipe, or the end.
        assert isinstance(outcomes[0], (ConnectionResetError, BrokenPipeError))
        assert outcomes[1] == b"" or isinstance(outcomes[1], ConnectionResetError)

    assert not endure(loop, fault, rounds=12)


def test_streams_whose_peer_resets(loop):
    async def fault():
        near, far = blocking_pair()
        reader, writer = await asyncio.open_connection(sock=near)
        far.sendall(b"no end of line")
        reading = asyncio.ensure_future(reader.readline())
        writer.write(bytes(32 << 20))
        draining = asyncio.ensure_future(writer.drain())
        await asyncio.sleep(0.001)
        reset(far)
        for waiting in (reading, draining):
            with pytest.raises(ConnectionResetError):
                await waiting
        with pytest.raises(ConnectionResetError):
            await writer.drain()
        writer.close()
        with pytest.raises(ConnectionResetError):
            await writer.wait_closed()

    assert not endure(loop, fault, rounds=12)


def test_a_server_that_resets_every_connection(loop):
    async def fault():
        server = socket.create_server(("127.0.0.1", 0))
        with server:
            transport, protocol = await loop.create_connection(Recorder, *server.getsockname())
            accepted, _ = server.accept()
            transport.write(b"hello")
            reset(accepted)
            assert isinstance(await protocol.lost(), ConnectionResetError)

    assert not endure(loop, fault)


def test_a_server_that_goes_away_while_connections_are_made(loop):
    async def fault():
        server = socket.create_server(("127.0.0.1", 0), backlog=50)
        address = server.getsockname()
        connecting = [
            asyncio.ensure_future(loop.create_connection(Recorder, *address)) for _ in range(10)
        ]
        await asyncio.sleep(0)
        server.close()
        for outcome in await asyncio.gather(*connecting, return_exceptions=True):
            if isinstance(outcome, tuple):
                # Connected in time, and reset with the queue of the server.
                assert isinstance(await outcome[1].lost(), ConnectionResetError)
            else:
                assert isinstance(outcome, (ConnectionRefusedError, ConnectionResetError))

    assert not endure(loop, fault)


@pytest.mark.parametrize("handling", ["SIG_IGN", "SIG_DFL"])
@pytest.mark.native_only(
    when=True, reason="asyncio sends without MSG_NOSIGNAL: where SIGPIPE is not ignored, it dies"
)
def test_writing_to_a_closed_peer_raises_no_signal(programs, handling):
    source = f"""
import asyncio, signal, socket

signal.signal(signal.SIGPIPE, signal.{handling})

async def main():
    near, far = socket.socketpair()
    loop = asyncio.get_running_loop()
    lost = loop.create_future()

    class Protocol(asyncio.Protocol):
        def eof_received(self):
            return True

        def connection_lost(self, exc):
            lost.set_result(exc)

    transport, _ = await loop.create_connection(Protocol, sock=near)
    far.close()
    await asyncio.sleep(0.01)
    while not lost.done():
        transport.write(b"anybody?")
        await asyncio.sleep(0)
    print(type(await lost).__name__)

    near, far = socket.socketpair()
    near.setblocking(False)
    far.close()
    try:
        await loop.sock_sendall(near, b"anybody?")
    except OSError as error:
        print(type(error).__name__)
    near.close()

run(main())
"""
    done = programs.run(source, check=False)
    assert done.returncode != -signal.SIGPIPE
    assert done.stdout.split() == ["BrokenPipeError", "BrokenPipeError"], done.stderr


def test_the_rest_of_a_message_is_delivered_before_the_end(loop):
    async def fault():
        transport, protocol, far = await transport_pair(loop)
        with far:
            transport.write(b"x" * 100)
            transport.close()
            assert await in_thread(read_exactly, far, 100) == b"x" * 100
            assert await protocol.lost() is None

    assert not endure(loop, fault)
