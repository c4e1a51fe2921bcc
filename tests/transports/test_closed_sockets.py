"""A program closes the socket that a transport works with, and another file gets its number.

Neither may the transport act on that file, nor the file's own transport suffer when it ends.
"""

from __future__ import annotations

import asyncio
import errno
import os
import socket

import pytest

from support.recording import Recorder, blocking_pair, in_thread, transport_pair
from support.reused_numbers import pair_with


class Datagrams(Recorder, asyncio.DatagramProtocol):
    def __init__(self):
        super().__init__()
        self.errors = []

    def datagram_received(self, data, address):
        self.received += data
        self._note("datagram_received")

    def error_received(self, exc):
        self.errors.append(exc.errno)


def closed_under(transport):
    """Close the socket of a transport behind its back."""
    sock = transport.get_extra_info("socket")._sock
    fd = sock.fileno()
    sock.close()
    return fd


def taken_over(fd, *, kind=socket.SOCK_STREAM):
    """A stranger's connection whose first socket has the number ``fd``."""
    near, far = pair_with(fd, kind=kind)
    near.setblocking(False)
    far.settimeout(20)
    return near, far


def silent(sock):
    """Nothing has come, not even an end."""
    sock.setblocking(False)
    try:
        sock.recv(1)
    except BlockingIOError:
        return True
    finally:
        sock.settimeout(20)
    return False


def test_written_data_does_not_reach_the_new_file(loop):
    async def scenario():
        transport, protocol, far = await transport_pair(loop)
        near, other = taken_over(closed_under(transport))
        with far, near, other:
            transport.write(b"secret")
            error = await protocol.lost()
            assert error.errno == errno.EBADF
            assert silent(other)
            # It still works in both directions.
            other.sendall(b"x")
            assert near.recv(1) == b"x"
            near.sendall(b"y")
            assert other.recv(1) == b"y"

    loop.run_until_complete(scenario())


@pytest.mark.parametrize("way", ["close", "abort", "write_eof"])
def test_an_end_does_not_end_the_stranger(loop, way):
    async def scenario():
        transport, protocol, far = await transport_pair(loop)
        near, other = taken_over(closed_under(transport))
        with far, near, other:
            try:
                getattr(transport, way)()
            except OSError as error:
                assert way == "write_eof" and error.errno == errno.EBADF
                transport.close()
            await protocol.lost()
            assert silent(other)
            near.sendall(b"y")
            assert other.recv(1) == b"y"

    loop.run_until_complete(scenario())


@pytest.mark.native_only(reason="asyncio knows descriptors by their numbers alone")
@pytest.mark.parametrize("way", ["close", "abort", "write"])
def test_the_strangers_transport_outlives_it(loop, way):
    async def scenario():
        transport, protocol, far = await transport_pair(loop)
        near, other = taken_over(closed_under(transport))
        # A transport that is closing does not claim its number any more.
        second = Recorder()
        loop._disown_fd(near.fileno())
        strangers, _ = await loop.create_connection(lambda: second, sock=near)
        with far, other:
            getattr(transport, way)(*[b"secret"] * (way == "write"))
            await protocol.lost()
            other.sendall(b"hello")
            await second.got(5)
            strangers.write(b"world")
            assert await in_thread(other.recv, 100) == b"world"
            assert protocol.received == b""
            strangers.close()
            await second.lost()

    loop.run_until_complete(scenario())


@pytest.mark.native_only(reason="asyncio's selector stumbles over it in `abort()`")
def test_buffered_data_does_not_reach_the_new_file(loop):
    async def scenario():
        near, far = blocking_pair()
        protocol = Recorder()
        transport, _ = await loop.create_connection(lambda: protocol, sock=near)
        transport.write(bytes(32 << 20))
        stranger, other = taken_over(closed_under(transport))
        with far, stranger, other:
            transport.write(b"more")
            await asyncio.sleep(0.01)
            transport.abort()
            await protocol.lost()
            assert silent(other)

    loop.run_until_complete(scenario())


def test_a_descriptor_that_was_taken_out(loop):
    async def scenario():
        transport, protocol, far = await transport_pair(loop)
        fd = transport.get_extra_info("socket")._sock.detach()
        with far, socket.socket(fileno=fd) as sock:
            transport.write(b"not any more")
            assert (await protocol.lost()).errno == errno.EBADF
            assert silent(far)
            sock.sendall(b"its own")
            assert await in_thread(far.recv, 100) == b"its own"

    loop.run_until_complete(scenario())


@pytest.mark.native_only(reason="asyncio reads the name when it makes the transport")
def test_a_name_is_not_the_strangers(loop):
    async def scenario():
        protocol = Recorder()
        server = await loop.create_server(lambda: protocol, "127.0.0.1", 0)
        with socket.create_connection(server.sockets[0].getsockname()) as far:
            while protocol.transport is None:
                await asyncio.sleep(0.001)
            transport = protocol.transport
            stranger, other = taken_over(closed_under(transport))
            with stranger, other:
                assert transport.get_extra_info("sockname") is None
            transport.abort()
            far.close()
        server.close()
        await asyncio.sleep(0.01)

    loop.run_until_complete(scenario())


def test_datagrams_do_not_leave_through_the_stranger(loop):
    async def scenario():
        transport, protocol = await loop.create_datagram_endpoint(
            Datagrams, local_addr=("127.0.0.1", 0)
        )
        with socket.socket(type=socket.SOCK_DGRAM) as listening:
            listening.bind(("127.0.0.1", 0))
            listening.settimeout(20)
            fd = closed_under(transport)
            stranger = socket.socket(type=socket.SOCK_DGRAM)
            if stranger.fileno() != fd:
                os.dup2(stranger.fileno(), fd)
                stranger.close()
                stranger = socket.socket(fileno=fd)
            with stranger:
                transport.sendto(b"secret", listening.getsockname())
                assert protocol.errors == [errno.EBADF]
                assert silent(listening)
                transport.close()
                await protocol.lost()
                stranger.sendto(b"its own", listening.getsockname())
                assert listening.recv(100) == b"its own"

    loop.run_until_complete(scenario())


def test_a_listening_socket_that_is_closed(loop):
    """A client that connects to the new listener belongs to the new listener."""

    async def scenario():
        server = await loop.create_server(Recorder, "127.0.0.1", 0)
        listening = server.sockets[0]._sock
        fd = listening.fileno()
        loop._remove_reader(fd)  # as asyncio requires, before
        listening.close()
        stranger = socket.socket()
        if stranger.fileno() != fd:
            os.dup2(stranger.fileno(), fd)
            stranger.close()
            stranger = socket.socket(fileno=fd)
        with stranger:
            stranger.bind(("127.0.0.1", 0))
            stranger.listen()
            stranger.settimeout(20)
            with socket.create_connection(stranger.getsockname()):
                await asyncio.sleep(0.01)
                stranger.accept()[0].close()

    loop.run_until_complete(scenario())


class Asked(socket.socket):
    """One that is asked for its number, and counts."""

    def fileno(self):
        return super().fileno()


def test_a_class_of_sockets_of_its_own(loop):
    async def scenario():
        near, far = blocking_pair()
        mine = Asked(fileno=near.detach())
        mine.setblocking(False)
        transport, protocol = await loop.create_connection(Recorder, sock=mine)
        with far:
            transport.write(b"x")
            assert await in_thread(far.recv, 1) == b"x"
            far.sendall(b"y")
            await protocol.got(1)
            stranger, other = taken_over(closed_under(transport))
            with stranger, other:
                transport.write(b"secret")
                assert (await protocol.lost()).errno == errno.EBADF
                assert silent(other)

    loop.run_until_complete(scenario())


def turned_deaf(loop, deafen):
    """An endpoint whose first datagram has ``deafen(sock)`` called, while others wait."""

    class Deafens(Datagrams):
        def datagram_received(self, data, address):
            super().datagram_received(data, address)
            if len(self.received) == 1:
                deafen(self.transport.get_extra_info("socket")._sock)

    async def scenario():
        transport, protocol = await loop.create_datagram_endpoint(
            Deafens, local_addr=("127.0.0.1", 0)
        )
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as far:
            for _ in range(8):
                far.sendto(b"x", transport.get_extra_info("sockname"))
            await protocol.called("datagram_received")
            await asyncio.sleep(0.02)
            transport.abort()
            assert await protocol.lost() is None
        return protocol

    return loop.run_until_complete(scenario())


def test_a_protocol_that_closes_its_socket_gets_no_more_callbacks(loop):
    protocol = turned_deaf(loop, socket.socket.close)
    assert protocol.received == b"x"
    assert protocol.errors == []


@pytest.mark.native_only(reason="asyncio asks the detached socket again and again")
def test_a_protocol_that_detaches_its_socket_gets_no_more_callbacks(loop):
    detached = []
    protocol = turned_deaf(loop, lambda sock: detached.append(sock.detach()))
    os.close(*detached)
    assert protocol.received == b"x"
    assert protocol.errors == []


@pytest.mark.parametrize("kind", ["file", "socket"])
def test_another_file_in_the_place_of_an_endpoints_socket(loop, kind):
    """The error of receiving from it is reported once at most."""

    def deafen(sock):
        is_file = kind == "file"
        other = os.open(os.devnull, os.O_RDWR) if is_file else socket.socket().detach()
        os.dup2(other, sock.fileno())
        os.close(other)

    assert len(turned_deaf(loop, deafen).errors) <= 1
