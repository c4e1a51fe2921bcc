"""Rows about uvloop: our side always, uvloop's where it is installed."""

from __future__ import annotations

import asyncio
import signal
import socket
import sys
import time

import pytest

from compatibility.rows import row
from support.recording import transport_pair

pytestmark = pytest.mark.native_only(reason="looks at our loop already")


async def is_a_transport(loop):
    transport, protocol, far = await transport_pair(loop)
    kind = isinstance(transport, asyncio.Transport)
    transport.abort()
    await protocol.lost()
    far.close()
    return kind


@row("`isinstance(transport, asyncio.Transport)`")
def test_ours_is_a_transport(ours):
    assert ours(is_a_transport)


def test_uvloops_is_none(uvloops):
    assert not uvloops(is_a_transport)


async def type_of_socket(loop):
    transport, protocol, far = await transport_pair(loop)
    sock = transport.get_extra_info("socket")
    assert sock.fileno() >= 0
    kind = type(sock)
    transport.abort()
    await protocol.lost()
    far.close()
    return kind


@row('`get_extra_info("socket")`')
def test_our_socket(ours):
    assert ours(type_of_socket) is asyncio.trsock.TransportSocket


def test_uvloops_socket(uvloops):
    assert uvloops(type_of_socket).__name__ == "PseudoSocket"


async def send_a_datagram(loop):
    near, far = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    with near, far:
        near.setblocking(False)
        far.send(b"x")
        data, _ = await loop.sock_recvfrom(near, 10)
        return data


@row("`sendfile`, `sock_sendfile`, `sock_recvfrom`, `sock_sendto`")
@pytest.mark.skipif(sys.version_info < (3, 11), reason="asyncio has them since CPython 3.11")
def test_our_datagram_calls(ours):
    assert ours(send_a_datagram) == b"x"


def test_uvloops_datagram_calls(uvloops):
    with pytest.raises(NotImplementedError):
        uvloops(send_a_datagram)


async def shortest(loop):
    """The shortest of many waits for 10.4 milliseconds, in seconds."""
    waits = []
    for _ in range(20):
        fired = loop.create_future()
        began = time.monotonic()
        loop.call_later(0.0104, fired.set_result, None)
        await fired
        waits.append(time.monotonic() - began)
    return min(waits)


@row("A timer may fire early")
def test_our_timers(ours):
    assert ours(shortest) >= 0.0104


def test_uvloops_timers(uvloops):
    assert uvloops(shortest) < 0.0104


def with_a_clock_of_its_own(loop):
    """Whether a timer of an hour fires when the loop's clock says that an hour has passed."""
    fired = []

    class Faster(type(loop)):
        ahead = 0.0

        def time(self):
            return super().time() + self.ahead

    faster = Faster()
    try:
        faster.call_later(3600, fired.append, True)
        faster.ahead = 4000.0
        began = time.monotonic()
        while not fired and time.monotonic() - began < 0.05:
            faster.call_soon(faster.stop)
            faster.run_forever()
    finally:
        faster.close()
    return bool(fired)


@row("A `time()` that is overridden")
def test_our_clock(ours):
    assert ours(with_a_clock_of_its_own)


def test_uvloops_clock(uvloops):
    assert not uvloops(with_a_clock_of_its_own)


async def length_of_a_long_datagram(loop):
    class Datagrams(asyncio.DatagramProtocol):
        def datagram_received(self, data, address):
            received.set_result(len(data))

    received = loop.create_future()
    near, far = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    near.setblocking(False)
    with far:
        far.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 20)
        size = 256 * 1024 - 10
        try:
            far.send(bytes(size))
        except OSError:
            pytest.skip("the kernel takes no datagram so long")
        transport, _ = await loop.create_datagram_endpoint(Datagrams, sock=near)
        cut = size - await received
        transport.abort()
        await asyncio.sleep(0.001)
    return cut


@row("A datagram of more than 256,000 bytes (over a Unix socket)")
def test_our_long_datagrams(ours):
    assert ours(length_of_a_long_datagram) == 0


def test_uvloops_long_datagrams(uvloops):
    assert uvloops(length_of_a_long_datagram) > 0


REGULAR_FILE = """
import asyncio, sys

async def main():
    with open(sys.executable, "rb", 0) as file:
        try:
            await asyncio.get_running_loop().connect_read_pipe(asyncio.Protocol, file)
        except ValueError as error:
            print(error)

run(main())
"""


@row("A regular file given to `connect_read_pipe`, `connect_write_pipe`")
def test_our_regular_files(both_programs):
    theirs, ours = both_programs(REGULAR_FILE)
    assert ours.stdout == theirs.stdout == "Pipe transport is for pipes/sockets only.\n"


def test_uvloops_regular_files(programs):
    pytest.importorskip("uvloop")
    done = type(programs)("from uvloop import run").run(REGULAR_FILE, check=False)
    assert done.returncode == -signal.SIGABRT
